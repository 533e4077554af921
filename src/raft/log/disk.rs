//! The log on disk, on the `raft-log` crate.
//!
//! `raft-log` appends records (each with a checksum) to chunk files in memory order and hands them to a worker thread,
//! which writes and syncs whatever has gathered and then calls back in order. When a write or a sync fails, its worker
//! stops for good: the callbacks of that batch get the error and every later request fails. We remember the first
//! error as well, so that a later call says what happened and not merely that the worker is gone.
//!
//! A record that ends early at the end of the last chunk is an interrupted write and is cut off at open; a record
//! whose checksum is wrong is corruption, and the open fails. A torn write whose tail was filled with zeros by the
//! file system looks like the latter: then the node refuses to start rather than guess.

use std::{
    io::{self, Read, Write},
    ops::Range,
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use raft_log::{
    Callback, Config, RaftLog,
    api::raft_log_writer::RaftLogWriter as _,
    codeq::{Decode, Encode},
};

use super::{LogBounds, LogEntry, LogPosition, LogStore, OnDurable, StoredVote};

/// Size at which a file of the log is closed and the next one begun.
const CHUNK_BYTES: usize = 64 << 20;
/// Buffer for reading a file back at open.
const READ_BUFFER: usize = 1 << 20;
/// A record that claims to be larger is corrupt.
const MAX_PAYLOAD: u64 = 1 << 30;

/// A [`LogStore`] in a directory.
pub struct DiskLog {
    /// None once it is closed: its files are released even while somebody still holds the log.
    log: Mutex<Option<RaftLog<DiskTypes>>>,
    failure: Failure,
}

/// The first write or sync that failed.
type Failure = Arc<Mutex<Option<String>>>;

impl DiskLog {
    /// Opens the log in a directory that exists, or makes one. Blocks. `cache_bytes` of the newest entries are kept
    /// in memory.
    ///
    /// # Errors
    /// When another process uses the directory, or a file is corrupt: the error names it.
    pub fn open(dir: &Path, cache_bytes: usize) -> io::Result<Self> {
        let mut config = Config::new(dir.display());
        config.wal.chunk_max_size = Some(CHUNK_BYTES);
        config.wal.read_buffer_size = Some(READ_BUFFER);
        config.wal.truncate_incomplete_record = Some(true);
        // Every request is flushed as soon as the worker is free: batches form while it is busy.
        config.wal.flush_batch_wait = Some(Duration::ZERO);
        config.log_cache_capacity = Some(cache_bytes);
        let log = RaftLog::open(Arc::new(config)).map_err(|error| annotate(&error, "open the log", dir))?;
        Ok(Self { log: Mutex::new(Some(log)), failure: Failure::default() })
    }

    fn check(&self) -> io::Result<()> {
        match &*self.failure.lock() {
            None => Ok(()),
            Some(first) => Err(io::Error::other(format!("the log failed earlier and takes no more writes: {first}"))),
        }
    }

    /// Works on the open log.
    fn with<T>(&self, work: impl FnOnce(&mut RaftLog<DiskTypes>) -> io::Result<T>) -> io::Result<T> {
        self.log.lock().as_mut().map_or_else(|| Err(io::Error::other("the log is closed")), work)
    }

    fn done(&self, on_durable: OnDurable) -> Done {
        Done { on_durable, failure: self.failure.clone() }
    }
}

fn annotate(error: &io::Error, action: &str, dir: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {action} in {}: {error}", dir.display()))
}

impl LogStore for DiskLog {
    fn bounds(&self) -> LogBounds {
        let log = self.log.lock();
        let state = log.as_ref().map(RaftLog::log_state);
        LogBounds {
            purged: state.and_then(|state| state.purged().copied()),
            last: state.and_then(|state| state.last().copied()),
        }
    }

    fn append(&self, entries: Vec<LogEntry>, on_durable: OnDurable) -> io::Result<()> {
        self.check()?;
        self.with(|log| {
            log.append(entries.into_iter().map(|(position, bytes)| (position, Payload(bytes))))?;
            log.flush(true, Some(self.done(on_durable)))
        })
    }

    fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<LogEntry>> {
        self.with(|log| {
            let (mut entries, mut bytes) = (Vec::new(), 0);
            for entry in log.read(range.start, range.end) {
                let (position, Payload(payload)) = entry?;
                bytes += payload.len();
                entries.push((position, payload));
                if bytes >= max_bytes {
                    break;
                }
            }
            Ok(entries)
        })
    }

    fn save_vote(&self, vote: StoredVote, on_durable: OnDurable) -> io::Result<()> {
        self.check()?;
        self.with(|log| {
            log.save_vote(vote)?;
            log.flush(true, Some(self.done(on_durable)))
        })
    }

    fn vote(&self) -> Option<StoredVote> {
        self.log.lock().as_ref()?.log_state().vote().copied()
    }

    fn save_committed(&self, committed: Option<LogPosition>) -> io::Result<()> {
        let Some(committed) = committed else { return Ok(()) };
        self.check()?;
        self.with(|log| {
            log.commit(committed)?;
            // Best effort: the next append's sync takes it along.
            log.flush(false, None)
        })
    }

    fn committed(&self) -> Option<LogPosition> {
        self.log.lock().as_ref()?.log_state().committed().copied()
    }

    fn truncate_from(&self, index: u64) -> io::Result<()> {
        self.check()?;
        self.with(|log| {
            log.truncate(index)?;
            log.flush(true, None)
        })
    }

    fn purge(&self, up_to: LogPosition) -> io::Result<()> {
        self.check()?;
        self.with(|log| {
            log.purge(up_to)?;
            log.flush(true, None)
        })
    }

    fn close(&self) -> io::Result<()> {
        self.check()?;
        let (sender, synced) = std::sync::mpsc::sync_channel(1);
        let on_durable: OnDurable = Box::new(move |result| sender.send(result));
        self.with(|log| log.flush(true, Some(self.done(on_durable))))?;
        let result = synced.recv().unwrap_or_else(|_| Err(io::Error::other("the log's worker is gone")));
        self.log.lock().take();
        result
    }
}

/// Tells the writer, and remembers the first failure.
pub struct Done {
    on_durable: OnDurable,
    failure: Failure,
}

impl Callback for Done {
    fn send(self, result: io::Result<()>) {
        if let Err(error) = &result {
            self.failure.lock().get_or_insert_with(|| error.to_string());
        }
        (self.on_durable)(result);
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct DiskTypes;

impl raft_log::Types for DiskTypes {
    type LogId = LogPosition;
    type LogPayload = Payload;
    type Vote = StoredVote;
    type Callback = Done;
    type UserData = Nothing;

    fn log_index(position: &LogPosition) -> u64 {
        position.index
    }

    fn payload_size(payload: &Payload) -> u64 {
        payload.0.len() as u64
    }
}

/// An entry's bytes: their length (u32, little endian), then they themselves.
#[derive(Clone, Debug)]
struct Payload(Bytes);

impl Encode for Payload {
    fn encode<W: Write>(&self, mut writer: W) -> io::Result<usize> {
        let len = u32::try_from(self.0.len()).map_err(io::Error::other)?;
        writer.write_all(&len.to_le_bytes())?;
        writer.write_all(&self.0)?;
        Ok(4 + self.0.len())
    }
}

impl Decode for Payload {
    fn decode<R: Read>(mut reader: R) -> io::Result<Self> {
        let len = read_number::<4, _>(&mut reader, u32::from_le_bytes)?;
        let mut bytes = Vec::new();
        // Grows with what is really there: a corrupt length allocates nothing.
        let read = reader.take(u64::from(len).min(MAX_PAYLOAD)).read_to_end(&mut bytes)?;
        if read as u64 != u64::from(len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self(bytes.into()))
    }
}

/// Term and index, 8 bytes each, little endian.
impl Encode for LogPosition {
    fn encode<W: Write>(&self, mut writer: W) -> io::Result<usize> {
        writer.write_all(&self.term.to_le_bytes())?;
        writer.write_all(&self.index.to_le_bytes())?;
        Ok(16)
    }
}

impl Decode for LogPosition {
    fn decode<R: Read>(mut reader: R) -> io::Result<Self> {
        let term = read_number::<8, _>(&mut reader, u64::from_le_bytes)?;
        Ok(Self { term, index: read_number::<8, _>(&mut reader, u64::from_le_bytes)? })
    }
}

/// Term and node, 8 bytes each, little endian, and a byte that is 1 when a majority granted the vote.
impl Encode for StoredVote {
    fn encode<W: Write>(&self, mut writer: W) -> io::Result<usize> {
        writer.write_all(&self.term.to_le_bytes())?;
        writer.write_all(&self.node.to_le_bytes())?;
        writer.write_all(&[u8::from(self.committed)])?;
        Ok(17)
    }
}

impl Decode for StoredVote {
    fn decode<R: Read>(mut reader: R) -> io::Result<Self> {
        let term = read_number::<8, _>(&mut reader, u64::from_le_bytes)?;
        let node = read_number::<8, _>(&mut reader, u64::from_le_bytes)?;
        let committed = read_number::<1, _>(&mut reader, |[byte]| byte)? == 1;
        Ok(Self { term, node, committed })
    }
}

/// `raft-log` can keep a record of the user's; we have none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Nothing;

impl Encode for Nothing {
    fn encode<W: Write>(&self, _: W) -> io::Result<usize> {
        Ok(0)
    }
}

impl Decode for Nothing {
    fn decode<R: Read>(_: R) -> io::Result<Self> {
        Ok(Self)
    }
}

fn read_number<const N: usize, T>(reader: &mut impl Read, convert: impl FnOnce([u8; N]) -> T) -> io::Result<T> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(convert(bytes))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    fn files(dir: &Path) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
            .collect();
        files.sort();
        files
    }

    fn written(dir: &Path) -> PathBuf {
        let log = DiskLog::open(dir, 1 << 20).unwrap();
        for index in 0..10 {
            let entry = (LogPosition { term: 1, index }, Bytes::from(vec![b'x'; 100]));
            log.append(vec![entry], Box::new(|result| result.unwrap())).unwrap();
        }
        log.close().unwrap();
        drop(log);
        files(dir).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
    }

    #[test]
    fn positions_and_votes_have_the_bytes_that_older_logs_hold() {
        let mut bytes = Vec::new();
        LogPosition { term: 1, index: 2 }.encode(&mut bytes).unwrap();
        StoredVote { term: 3, node: 4, committed: true }.encode(&mut bytes).unwrap();
        Payload(Bytes::from("ab")).encode(&mut bytes).unwrap();
        let numbers = [1u64, 2, 3, 4].map(u64::to_le_bytes).concat();
        assert_eq!(bytes, [&numbers[..], &[1], &[2, 0, 0, 0], b"ab"].concat());
    }

    #[test]
    fn a_torn_tail_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let file = written(dir.path());
        let len = fs::metadata(&file).unwrap().len();
        fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(len - 30).unwrap();
        let log = DiskLog::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(log.bounds().last.unwrap().index, 8);
        assert_eq!(log.read(0..99, usize::MAX).unwrap().len(), 9);
    }

    #[test]
    fn a_flipped_bit_is_refused_and_nothing_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let file = written(dir.path());
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, &bytes).unwrap();
        let error = DiskLog::open(dir.path(), 1 << 20).err().unwrap();
        assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
        assert_eq!(fs::read(&file).unwrap(), bytes);
    }

    #[test]
    fn a_second_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _log = DiskLog::open(dir.path(), 1 << 20).unwrap();
        assert!(DiskLog::open(dir.path(), 1 << 20).is_err());
    }
}
