//! The least that any replicated log has to do, on this machine: a leader receives what a client has in flight, writes
//! and syncs it, two followers receive, write and sync it too, and the client hears of it when the leader and one
//! follower are done. Blocking sockets and plain files, nothing is encoded, checked, applied or delivered. What a
//! broker stays below it is what its work costs.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use super::{
    cpu,
    load::{Measured, histogram, micros},
};
use crate::cli::{CliError, remote::parse_duration};

/// Each file is written from its beginning again when it has this size: the space is there, and is used again.
const FILE: u64 = 64 << 20;
const FOLLOWERS: usize = 2;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct FloorArgs {
    /// Bytes of each message
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    size: u32,
    /// Messages that wait for their ack at a time
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    in_flight: u32,
    /// How long to measure
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    duration: Duration,
    /// Where the three files go: on the disk that is to be measured
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// Measures. Blocks.
pub fn run(args: &FloorArgs) -> Result<Measured, CliError> {
    let dir = args.dir.join(format!("liminal-floor-{}", std::process::id()));
    let failed = |error: io::Error| CliError::failed(format!("cannot measure in {}: {error}", args.dir.display()));
    fs::create_dir(&dir).map_err(failed)?;
    let measured = measure(args, &dir);
    fs::remove_dir_all(&dir).map_err(failed)?;
    measured.map_err(failed)
}

fn measure(args: &FloorArgs, dir: &Path) -> io::Result<Measured> {
    let size = args.size as usize;
    let mut followers = Vec::new();
    for follower in 0..FOLLOWERS {
        let (near, far) = pair()?;
        let disk = Disk::create(&dir.join(format!("follower-{follower}")))?;
        thread::spawn(move || follow(far, disk));
        followers.push(near);
    }
    let (mut client, served) = pair()?;
    let disk = Disk::create(&dir.join("leader"))?;
    thread::spawn(move || lead(served, disk, followers));

    let mut latency = histogram();
    let payload = vec![b'x'; size * args.in_flight as usize];
    let (meter, begun) = (cpu::Meter::start(&[]), Instant::now());
    let (mut messages, mut answer) = (0, [0; 8]);
    while begun.elapsed() < args.duration {
        let sent = Instant::now();
        client.write_all(&(payload.len() as u64).to_le_bytes())?;
        client.write_all(&payload)?;
        client.read_exact(&mut answer)?;
        latency.saturating_record_n(micros(sent.elapsed()), u64::from(args.in_flight));
        messages += u64::from(args.in_flight);
    }
    Ok(Measured {
        messages,
        latency,
        errors: 0,
        last_error: None,
        took: begun.elapsed(),
        // One process plays all parts.
        server_cpu: meter.read(&[]).1,
        client_cpu: None,
        server_rss: Vec::new(),
    })
}

/// Two ends of a loopback connection that sends at once.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}

/// A file whose space is there already, so that a sync has no metadata to write.
struct Disk {
    file: File,
    offset: u64,
}

impl Disk {
    fn create(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let zeros = vec![0; 1 << 20];
        (0..FILE >> 20).try_for_each(|_| file.write_all(&zeros))?;
        file.sync_all()?;
        Ok(Self { file, offset: 0 })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.offset + bytes.len() as u64 > FILE {
            self.offset = 0;
        }
        self.file.write_all_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        self.file.sync_data()
    }
}

/// The next batch: its length, and it.
fn receive<'a>(from: &mut TcpStream, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
    let mut len = [0; 8];
    from.read_exact(&mut len)?;
    buffer.resize(usize::try_from(u64::from_le_bytes(len)).map_err(io::Error::other)?, 0);
    from.read_exact(buffer)?;
    Ok(buffer)
}

/// Ends with its connection.
fn follow(mut leader: TcpStream, mut disk: Disk) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let batch = receive(&mut leader, &mut buffer)?;
        disk.append(batch)?;
        leader.write_all(&[0; 8])?;
    }
}

/// Ends with its client.
fn lead(mut client: TcpStream, mut disk: Disk, mut followers: Vec<TcpStream>) -> io::Result<()> {
    let (sender, done) = mpsc::sync_channel(16);
    for follower in &followers {
        let (mut follower, sender) = (follower.try_clone()?, sender.clone());
        thread::spawn(move || {
            let mut answer = [0; 8];
            let mut batches = 0_u64;
            while follower.read_exact(&mut answer).is_ok() && sender.send(batches).is_ok() {
                batches += 1;
            }
        });
    }
    let mut buffer = Vec::new();
    for batch in 0_u64.. {
        let bytes = receive(&mut client, &mut buffer)?;
        for follower in &mut followers {
            follower.write_all(&(bytes.len() as u64).to_le_bytes())?;
            follower.write_all(bytes)?;
        }
        disk.append(bytes)?;
        // The first follower that has it makes a majority.
        while done.recv().map_err(io::Error::other)? < batch {}
        client.write_all(&[0; 8])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_synced_before_it_is_answered_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let args = FloorArgs { size: 10, in_flight: 3, duration: Duration::from_millis(50), dir: dir.path().into() };
        let measured = run(&args).unwrap();
        assert!(measured.messages >= 3 && measured.messages.is_multiple_of(3));
        assert_eq!(measured.latency.len(), measured.messages);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
