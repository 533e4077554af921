//! The thread that writes and syncs: it takes all units that have gathered, writes them in one piece, syncs once, and
//! then tells their writers. So a busy log syncs for many at once, and an idle one at once. A caller that may wait for
//! the disk does the same for its own unit, where that takes less time than two threads take to wake each other.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::{super::LogPosition, format::SegmentHeader, index::Index, pending::Pending};
use crate::meter::Histogram;

/// A file is reserved ahead in steps of this size, so that most syncs need not record a new length.
const RESERVE: u64 = 4 << 20;
/// The buffer for writing keeps at most this capacity.
const BUFFER: usize = 2 << 20;

/// Nobody waits for a disk that needs longer: there, waking a thread is nothing.
const QUICK: Duration = Duration::from_millis(1);

/// How a file's data is made durable.
pub type Sync = Arc<dyn Fn(&File) -> io::Result<()> + Send + std::marker::Sync>;

/// What the log's callers and its thread share.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) work: Condvar,
    /// How long it took to make what was written durable.
    pub(super) syncs: Histogram,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) index: Index,
    /// Number of the segment that the next unit goes to, and where in it.
    pub(super) segment: u64,
    pub(super) offset: u64,
    /// The newest unit.
    pub(super) seq: u64,
    /// How far everything is on disk: in which segment, and up to where; `u64::MAX` is its end.
    pub(super) durable: (u64, u64),
    /// A commit mark that the next unit takes along.
    pub(super) unsaved: Option<LogPosition>,
    pub(super) pending: Vec<Pending>,
    /// Somebody writes and syncs: nobody else may until that is done and told.
    pub(super) writing: bool,
    pub(super) pace: Pace,
    /// Segments to delete once what is pending is durable.
    pub(super) obsolete: Vec<u64>,
    /// The first write or sync that failed.
    pub(super) failure: Option<String>,
    /// The thread ends when nothing is pending.
    pub(super) closing: bool,
}

/// How fast the disk is, and how busy.
#[derive(Clone, Copy, Default)]
pub(super) struct Pace {
    /// When the newest write ended, and how long it took.
    newest: Option<(Instant, Duration)>,
}

impl Pace {
    /// Whether the disk is quick and idle for more than half of the time. A busy one is left to the thread, which
    /// writes and syncs for all that gathers meanwhile.
    pub(super) fn is_quick(self) -> bool {
        self.newest.is_some_and(|(ended, took)| took < QUICK && ended.elapsed() >= took)
    }
}

impl State {
    /// Whether all units before are durable and their writers told.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && !self.writing
    }
}

pub(super) struct Writer {
    dir: PathBuf,
    shared: Arc<Shared>,
    sync: Sync,
    /// The segment that is written to.
    active: Option<Active>,
    /// The newest unit on disk.
    durable: u64,
    buffer: Vec<u8>,
}

struct Active {
    header: SegmentHeader,
    file: Arc<File>,
    written: u64,
    reserved: u64,
}

/// The thread.
pub(super) fn run(writer: &Mutex<Writer>) {
    let shared = writer.lock().shared.clone();
    loop {
        let (pending, obsolete) = {
            let mut state = shared.state.lock();
            while state.writing || state.pending.is_empty() && !state.closing {
                shared.work.wait(&mut state);
            }
            if state.pending.is_empty() {
                return;
            }
            state.writing = true;
            (std::mem::take(&mut state.pending), std::mem::take(&mut state.obsolete))
        };
        writer.lock().write_all(pending, &obsolete);
    }
}

impl Writer {
    pub(super) fn new(dir: PathBuf, shared: Arc<Shared>, sync: Sync, durable: u64) -> Self {
        Self { dir, shared, sync, active: None, durable, buffer: Vec::new() }
    }

    /// Writes units, tells their writers, and lets the next one write.
    pub(super) fn write_all(&mut self, pending: Vec<Pending>, obsolete: &[u64]) {
        let begun = Instant::now();
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.write(&pending, &mut buffer);
        self.buffer = buffer;
        let ended = Instant::now();
        match &result {
            Ok(()) => self.delete(obsolete),
            Err(error) => {
                self.shared.state.lock().failure.get_or_insert_with(|| error.to_string());
            }
        }
        for Pending { on_durable, .. } in pending {
            let Some(on_durable) = on_durable else { continue };
            on_durable(result.as_ref().copied().map_err(|error| io::Error::new(error.kind(), error.to_string())));
        }
        let mut state = self.shared.state.lock();
        state.writing = false;
        state.pace = Pace { newest: Some((ended, ended - begun)) };
        if !state.pending.is_empty() || state.closing {
            self.shared.work.notify_one(); // when it was not the thread that wrote
        }
    }

    fn write(&mut self, pending: &[Pending], buffer: &mut Vec<u8>) -> io::Result<()> {
        if let Some(first) = &self.shared.state.lock().failure {
            return Err(failed_before(first));
        }
        let mut rest = pending;
        while let Some(first) = rest.first() {
            let (now, later) = rest.split_at(rest.iter().take_while(|next| next.segment == first.segment).count());
            self.write_segment(now, buffer)?;
            rest = later;
        }
        Ok(())
    }

    /// Writes units of one segment and syncs.
    fn write_segment(&mut self, pending: &[Pending], buffer: &mut Vec<u8>) -> io::Result<()> {
        let (Some(first), Some(last)) = (pending.first(), pending.last()) else { return Ok(()) };
        if self.active.as_ref().is_none_or(|active| active.header.number != first.segment) {
            self.begin(first.segment)?;
        }
        let Some(active) = &mut self.active else { return Err(io::Error::other("no segment is open")) };
        buffer.clear();
        for Pending { unit, .. } in pending {
            unit.encode(active.header.salt, self.durable, buffer)?;
        }
        let end = first.offset + buffer.len() as u64;
        if end > active.reserved {
            active.reserved = end.next_multiple_of(RESERVE);
            reserve(&active.file, active.reserved)?;
        }
        active.file.write_all_at(buffer, first.offset)?;
        active.written = end;
        let begun = Instant::now();
        (self.sync)(&active.file)?;
        self.shared.syncs.since(begun);
        self.durable = last.unit.seq;
        if buffer.capacity() > BUFFER {
            *buffer = Vec::new();
        }
        let mut state = self.shared.state.lock();
        state.durable = (first.segment, end);
        state.index.written(pending, &active.file, self.durable);
        Ok(())
    }

    /// Ends the present segment and begins the next one.
    fn begin(&mut self, number: u64) -> io::Result<()> {
        if let Some(active) = self.active.take() {
            active.file.set_len(active.written)?;
            (self.sync)(&active.file)?;
        }
        let (header, file) = create(&self.dir, number)?;
        self.active = Some(Active { header, file: Arc::new(file), written: 0, reserved: 0 });
        Ok(())
    }

    fn delete(&self, obsolete: &[u64]) {
        for number in obsolete {
            // What stays is deleted after the next start.
            if let Err(error) = fs::remove_file(path(&self.dir, *number)) {
                tracing::warn!(%error, number, "cannot delete a file of the log that is not needed any more");
            }
        }
    }
}

pub(super) fn failed_before(first: &str) -> io::Error {
    io::Error::other(format!("the log failed earlier and takes no more writes: {first}"))
}

/// The file of a segment.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.log"))
}

/// Makes a segment's file. It has its name only when its header is durable, so a file without one is damaged.
fn create(dir: &Path, number: u64) -> io::Result<(SegmentHeader, File)> {
    use std::hash::{BuildHasher as _, Hasher as _};
    let salt = std::hash::RandomState::new().build_hasher().finish();
    let header = SegmentHeader { number, salt };
    let new = dir.join("next");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&new)?;
    file.write_all_at(&header.encode(), 0)?;
    file.sync_all()?;
    fs::rename(&new, path(dir, number))?;
    File::open(dir)?.sync_all()?;
    Ok((header, file))
}

/// Makes room in a file. Where the file system cannot, writing makes it.
fn reserve(file: &File, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
