//! The log on disk: files of checksummed units, an index of them in memory, and a thread that writes and syncs.
//!
//! A call decides where in the files its unit goes, notes it in the index and returns; the thread writes all units that
//! gathered meanwhile and syncs once for them. Files (*segments*) go whole when all of their entries are purged: a few are
//! kept for segments to come, the others are deleted. A write that a power cut tore is cut off at the next start; damage to what was durable is refused by name.

mod check;
mod format;
mod index;
mod medium;
mod pending;
mod recover;
mod spares;
mod writer;

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use parking_lot::{Condvar, Mutex, MutexGuard};

use self::{
    format::{Record, SEGMENT_HEADER, Unit},
    index::Place,
    medium::{Medium, Real, Sync},
    pending::Pending,
    recover::{Recovered, recover},
    spares::Spares,
    writer::{Shared, State, Writer, failed_before},
};
use super::{LogBounds, LogEntry, LogFiles, LogOwner, LogPosition, LogStore, OnDurable, StoredVote};
use crate::meter::{Histogram, Reading};

/// Size at which a file of the log is ended and the next one begun.
const SEGMENT_BYTES: u64 = 64 << 20;
/// A caller that may wait for the disk does so for at most this many bytes.
const WAIT_BYTES: u64 = 64 << 10;
/// A larger entry is refused; far more than the limits of the broker allow.
const MAX_ENTRY: usize = 1 << 30;

/// A [`LogStore`] in a directory.
pub struct DiskLog {
    dir: PathBuf,
    shared: Arc<Shared>,
    /// Of whoever has set [`State::writing`].
    writer: Arc<Mutex<Writer>>,
    spares: Arc<Spares>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Unlocks when it is dropped: at close, even while somebody still holds the log.
    lock: Mutex<Option<File>>,
}

impl DiskLog {
    /// Opens the log in a directory that exists, or makes one. Blocks. `cache_bytes` of the newest entries are kept
    /// in memory.
    ///
    /// # Errors
    /// When another process uses the directory, or a file is damaged: the error names it, and where.
    pub fn open(dir: &Path, cache_bytes: usize) -> io::Result<Self> {
        Self::open_with(dir, cache_bytes, Arc::new(File::sync_data))
    }

    /// As [`DiskLog::open`], with another way to make a file's data durable: for fault injection.
    ///
    /// # Errors
    /// As [`DiskLog::open`].
    pub fn open_with(dir: &Path, cache_bytes: usize, sync: Sync) -> io::Result<Self> {
        Self::open_on(dir, cache_bytes, Arc::new(Real(sync)), SEGMENT_BYTES)
    }

    /// With another medium, and files of another length.
    fn open_on(dir: &Path, cache_bytes: usize, medium: Arc<dyn Medium>, segment_bytes: u64) -> io::Result<Self> {
        let annotate = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot open the log in {}: {error}", dir.display()))
        };
        let lock = File::create(dir.join("LOCK")).map_err(annotate)?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => annotate(io::Error::other("another process uses it")),
            fs::TryLockError::Error(error) => annotate(error),
        })?;
        let Recovered { index, segment, seq, obsolete } = recover(dir, cache_bytes, &*medium).map_err(annotate)?;
        // The first unit begins a new file: nothing is ever written behind what was found.
        let (offset, durable) = (segment_bytes, (segment, u64::MAX));
        let state = State { index, segment_bytes, segment, offset, seq, durable, obsolete, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), work: Condvar::new(), syncs: Histogram::default() });
        let spares = Spares::open(dir, medium.clone(), segment_bytes).map_err(annotate)?;
        let writer = Writer::new(dir.to_owned(), shared.clone(), medium, spares.clone(), seq);
        let writer = Arc::new(Mutex::new(writer));
        let of_thread = writer.clone();
        let run = move || writer::run(&of_thread);
        let thread = std::thread::Builder::new().name("liminal-log".into()).spawn(run);
        let thread = thread.inspect_err(|_| spares.close())?;
        let (thread, lock) = (Mutex::new(Some(thread)), Mutex::new(Some(lock)));
        Ok(Self { dir: dir.to_owned(), shared, writer, spares, thread, lock })
    }

    /// The state, when the log takes writes.
    fn writable(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.shared.state.lock();
        match &state.failure {
            Some(first) => Err(failed_before(first)),
            None if state.closing => Err(io::Error::other("the log is closed")),
            None => Ok(state),
        }
    }

    /// Hands a unit to the thread.
    fn submit(&self, mut state: MutexGuard<'_, State>, pending: Pending) {
        state.pending.push(pending);
        drop(state);
        self.shared.work.notify_one();
    }

    /// Takes entries into the index. Gives their unit, which has to be written next.
    fn take(&self, entries: Vec<LogEntry>, on_durable: OnDurable) -> io::Result<(MutexGuard<'_, State>, Pending)> {
        if let Some((position, bytes)) = entries.iter().find(|(_, bytes)| bytes.len() > MAX_ENTRY) {
            let (index, len) = (position.index, bytes.len());
            return Err(io::Error::other(format!("entry {index} has {len} bytes, more than {MAX_ENTRY}")));
        }
        let records: Vec<Record> = entries.iter().cloned().map(Record::entry).collect();
        let mut state = self.writable()?;
        state.index.follows(entries.iter().map(|(position, _)| *position)).map_err(io::Error::other)?;
        let pending = state.place(records, Some(on_durable));
        for (position, span, bytes) in pending.unit.entries(pending.offset) {
            state.index.push(position, pending.unit.seq, pending.segment, span, Some(bytes.clone()));
        }
        Ok((state, pending))
    }

    fn end(&self) {
        self.shared.state.lock().closing = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the log's thread panicked");
        }
        self.spares.close();
        self.lock.lock().take();
    }
}

impl State {
    /// The next unit at its place. What it says is not yet in the index.
    fn place(&mut self, mut records: Vec<Record>, on_durable: Option<OnDurable>) -> Pending {
        records.extend(self.unsaved.take().map(Record::Committed));
        self.seq += 1;
        let mut unit = Unit { seq: self.seq, records };
        if self.offset + unit.len() > self.segment_bytes {
            self.segment += 1;
            self.offset = SEGMENT_HEADER as u64;
            self.index.add_segment(self.segment, None);
            unit.records.splice(0..0, self.index.summary());
        }
        let (segment, offset) = (self.segment, self.offset);
        self.offset += unit.len();
        Pending { segment, offset, unit, on_durable }
    }
}

impl LogStore for DiskLog {
    fn bounds(&self) -> LogBounds {
        self.shared.state.lock().index.bounds()
    }

    fn first_within(&self, bytes: u64) -> u64 {
        self.shared.state.lock().index.first_within(bytes)
    }

    fn append(&self, entries: Vec<LogEntry>, on_durable: OnDurable) -> io::Result<()> {
        let (state, pending) = self.take(entries, on_durable)?;
        self.submit(state, pending);
        Ok(())
    }

    fn append_unwritten(&self, entries: Vec<LogEntry>, on_durable: OnDurable) -> io::Result<()> {
        let (mut state, pending) = self.take(entries, on_durable)?;
        state.pending.push(pending);
        Ok(())
    }

    fn write(&self) {
        self.shared.work.notify_one();
    }

    fn append_and_wait(&self, entries: Vec<LogEntry>, on_durable: OnDurable) -> io::Result<()> {
        let (mut state, pending) = self.take(entries, on_durable)?;
        if state.is_idle() && state.pace.is_quick() && pending.unit.len() <= WAIT_BYTES {
            state.writing = true;
            drop(state);
            self.writer.lock().write_all(vec![pending], Vec::new());
        } else {
            self.submit(state, pending);
        }
        Ok(())
    }

    fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<LogEntry>> {
        let places = self.shared.state.lock().index.places(range, max_bytes);
        places.into_iter().map(read_entry).collect()
    }

    fn save_vote(&self, vote: StoredVote, on_durable: OnDurable) -> io::Result<()> {
        let mut state = self.writable()?;
        if let Some(present) = state.index.vote.filter(|present| *present > vote) {
            return Err(io::Error::other(format!("the vote {vote:?} is older than {present:?}")));
        }
        let pending = state.place(vec![Record::Vote(vote)], Some(on_durable));
        state.index.vote = Some(vote);
        self.submit(state, pending);
        Ok(())
    }

    fn vote(&self) -> Option<StoredVote> {
        self.shared.state.lock().index.vote
    }

    fn save_owner(&self, owner: LogOwner, on_durable: OnDurable) -> io::Result<()> {
        let mut state = self.writable()?;
        let pending = state.place(vec![Record::Owner(owner)], Some(on_durable));
        state.index.owner = Some(owner);
        self.submit(state, pending);
        Ok(())
    }

    fn owner(&self) -> Option<LogOwner> {
        self.shared.state.lock().index.owner
    }

    fn save_committed(&self, committed: Option<LogPosition>) -> io::Result<()> {
        let Some(committed) = committed else { return Ok(()) };
        let mut state = self.shared.state.lock();
        state.index.committed = Some(committed);
        // The next unit takes it along: it is worth no sync of its own.
        state.unsaved = Some(committed);
        Ok(())
    }

    fn committed(&self) -> Option<LogPosition> {
        self.shared.state.lock().index.committed
    }

    fn truncate_from(&self, index: u64) -> io::Result<()> {
        let mut state = self.writable()?;
        let pending = state.place(vec![Record::Truncate(index)], None);
        state.index.truncate(index);
        self.submit(state, pending);
        Ok(())
    }

    fn purge(&self, up_to: LogPosition) -> io::Result<()> {
        let mut state = self.writable()?;
        let pending = state.place(vec![Record::Purge(up_to)], None);
        let obsolete = state.index.purge(up_to);
        state.obsolete.extend(obsolete);
        self.submit(state, pending);
        Ok(())
    }

    fn files(&self) -> Option<&dyn LogFiles> {
        Some(self)
    }

    fn syncs(&self) -> Option<Reading> {
        Some(self.shared.syncs.read())
    }

    fn close(&self) -> io::Result<()> {
        let (sender, synced) = std::sync::mpsc::sync_channel(1);
        // A unit that says that all before it is durable: from now on, damage to any of them is known as such.
        let last: OnDurable = Box::new(move |result| drop(sender.send(result)));
        let submitted = self.writable().map(|mut state| {
            let pending = state.place(Vec::new(), Some(last));
            self.submit(state, pending);
        });
        let result = match submitted {
            Ok(()) => synced.recv().unwrap_or_else(|_| Err(io::Error::other("the log's thread is gone"))),
            Err(error) => Err(error),
        };
        self.end();
        result
    }
}

impl Drop for DiskLog {
    fn drop(&mut self) {
        self.end();
    }
}

fn read_entry(place: Place) -> io::Result<LogEntry> {
    match place {
        Place::Memory(position, bytes) => Ok((position, bytes)),
        Place::Disk(position, file, segment, span) => {
            let mut bytes = vec![0; span.len as usize];
            file.read_exact_at(&mut bytes, span.offset)?;
            if crc32fast::hash(&bytes) != span.crc {
                let (index, offset) = (position.index, span.offset);
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("entry {index} is damaged: byte {offset} of the log's file {segment:016x}.log"),
                ));
            }
            Ok((position, bytes.into()))
        }
    }
}

#[cfg(test)]
mod tests;
