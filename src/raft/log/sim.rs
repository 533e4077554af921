//! A log in memory whose disk can lose what was not synced: for simulations and tests.
//!
//! Writes are visible at once. They reach the [`SimDisk`] in order, each after its sync latency, by a task of the
//! node's own runtime; a crash drops whatever is still on its way.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    ops::Range,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{LogBounds, LogEntry, LogOwner, LogPosition, LogStore, OnDurable, StoredVote};

/// Between two looks whether a disk works again.
const STALL_STEP: Duration = Duration::from_millis(5);

/// What survives the node. Cloning shares it.
#[derive(Clone, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Disk>>,
}

#[derive(Default)]
struct Disk {
    content: Content,
    latency: Duration,
    fail_syncs: bool,
    stalled: bool,
    /// Grows with every crash: writes of an earlier life no longer reach the disk.
    life: u64,
}

#[derive(Clone, Default)]
struct Content {
    entries: BTreeMap<u64, LogEntry>,
    purged: Option<LogPosition>,
    vote: Option<StoredVote>,
    owner: Option<LogOwner>,
    committed: Option<LogPosition>,
}

#[derive(Clone)]
enum Write {
    Append(Vec<LogEntry>),
    Vote(StoredVote),
    Owner(LogOwner),
    Committed(LogPosition),
    Truncate(u64),
    Purge(LogPosition),
    Nothing,
}

impl Content {
    fn last(&self) -> Option<LogPosition> {
        self.entries.last_key_value().map(|(_, (position, _))| *position).max(self.purged)
    }

    fn write(&mut self, write: Write) {
        match write {
            Write::Append(entries) => {
                self.entries.extend(entries.into_iter().map(|entry| (entry.0.index, entry)));
            }
            Write::Vote(vote) => self.vote = Some(vote),
            Write::Owner(owner) => self.owner = Some(owner),
            Write::Committed(position) => self.committed = Some(position),
            Write::Truncate(index) => drop(self.entries.split_off(&index)),
            Write::Purge(position) => {
                self.entries = self.entries.split_off(&(position.index + 1));
                self.purged = self.purged.max(Some(position));
            }
            Write::Nothing => {}
        }
    }
}

impl SimDisk {
    /// How long each sync takes from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.inner.lock().latency = latency;
    }

    /// Whether syncs fail from now on.
    pub fn fail_syncs(&self, fail: bool) {
        self.inner.lock().fail_syncs = fail;
    }

    /// Whether nothing reaches the disk from now on, and nothing fails either.
    pub fn stall(&self, stall: bool) {
        self.inner.lock().stalled = stall;
    }

    /// What is on it, which is what a node that starts finds.
    pub fn bounds(&self) -> LogBounds {
        let disk = self.inner.lock();
        LogBounds { purged: disk.content.purged, last: disk.content.last() }
    }

    /// Loses the newest entries, although they were synced: what a power cut never does. Gives how many there were.
    pub fn lose_newest(&self, count: usize) -> usize {
        let mut disk = self.inner.lock();
        disk.life += 1;
        let before = disk.content.entries.len();
        (0..count).for_each(|_| drop(disk.content.entries.pop_last()));
        let last = disk.content.last();
        disk.content.committed = disk.content.committed.min(last);
        before - disk.content.entries.len()
    }

    /// Loses all that it holds, votes too.
    pub fn lose_everything(&self) {
        let mut disk = self.inner.lock();
        disk.life += 1;
        disk.content = Content::default();
    }

    /// Whether this life's writes still wait for it.
    fn is_stalled(&self, life: u64) -> bool {
        let disk = self.inner.lock();
        disk.stalled && disk.life == life
    }

    /// A power cut: what was not synced will never be, and its writers are never told.
    pub fn crash(&self) {
        self.inner.lock().life += 1;
    }
}

/// A [`LogStore`] over a [`SimDisk`].
pub struct SimLog {
    shared: Arc<SimShared>,
}

struct SimShared {
    disk: SimDisk,
    life: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// With everything that was written, synced or not.
    content: Content,
    queue: VecDeque<(Write, OnDurable)>,
    syncing: bool,
    failed: bool,
}

impl SimLog {
    /// What a power cut left on the disk.
    pub fn open(disk: &SimDisk) -> Self {
        let (content, life) = {
            let mut inner = disk.inner.lock();
            inner.life += 1;
            (inner.content.clone(), inner.life)
        };
        let state = Mutex::new(State { content, ..State::default() });
        Self { shared: Arc::new(SimShared { disk: disk.clone(), life, state }) }
    }

    fn write(&self, write: Write, on_durable: OnDurable) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        if state.failed {
            return Err(io::Error::other("the log failed earlier and takes no more writes: injected sync failure"));
        }
        state.content.write(write.clone());
        state.queue.push_back((write, on_durable));
        if !std::mem::replace(&mut state.syncing, true) {
            tokio::spawn(sync(self.shared.clone()));
        }
        Ok(())
    }
}

async fn sync(shared: Arc<SimShared>) {
    loop {
        let latency = shared.disk.inner.lock().latency;
        tokio::time::sleep(latency).await;
        while shared.disk.is_stalled(shared.life) {
            tokio::time::sleep(STALL_STEP).await;
        }
        let done = {
            let (mut disk, mut state) = (shared.disk.inner.lock(), shared.state.lock());
            if disk.life != shared.life {
                return; // crashed meanwhile
            }
            let Some((write, on_durable)) = state.queue.pop_front() else {
                state.syncing = false;
                return;
            };
            if disk.fail_syncs || state.failed {
                state.failed = true;
                (on_durable, Err(io::Error::other("injected sync failure")))
            } else {
                disk.content.write(write);
                (on_durable, Ok(()))
            }
        };
        done.0(done.1);
    }
}

impl LogStore for SimLog {
    fn bounds(&self) -> LogBounds {
        let state = self.shared.state.lock();
        LogBounds { purged: state.content.purged, last: state.content.last() }
    }

    fn first_within(&self, bytes: u64) -> u64 {
        let state = self.shared.state.lock();
        let mut left = bytes;
        for (index, (_, entry)) in state.content.entries.iter().rev() {
            match left.checked_sub(entry.len() as u64) {
                Some(rest) => left = rest,
                None => return index + 1,
            }
        }
        state.content.entries.first_key_value().map_or(0, |(index, _)| *index)
    }

    fn append(&self, entries: Vec<LogEntry>, on_durable: OnDurable) -> io::Result<()> {
        self.write(Write::Append(entries), on_durable)
    }

    fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<LogEntry>> {
        let state = self.shared.state.lock();
        let mut bytes = 0;
        let within = |(_, (_, payload)): &(&u64, &(LogPosition, Bytes))| {
            let go_on = bytes < max_bytes;
            bytes += payload.len();
            go_on
        };
        let range = range.start..range.end.max(range.start);
        Ok(state.content.entries.range(range).take_while(within).map(|(_, entry)| entry.clone()).collect())
    }

    fn save_vote(&self, vote: StoredVote, on_durable: OnDurable) -> io::Result<()> {
        // As strict as the log on disk.
        if let Some(newest) = self.vote().filter(|newest| *newest > vote) {
            return Err(io::Error::other(format!("a vote never goes back: {vote:?} after {newest:?}")));
        }
        self.write(Write::Vote(vote), on_durable)
    }

    fn vote(&self) -> Option<StoredVote> {
        self.shared.state.lock().content.vote
    }

    fn save_owner(&self, owner: LogOwner, on_durable: OnDurable) -> io::Result<()> {
        self.write(Write::Owner(owner), on_durable)
    }

    fn owner(&self) -> Option<LogOwner> {
        self.shared.state.lock().content.owner
    }

    fn save_committed(&self, committed: Option<LogPosition>) -> io::Result<()> {
        committed.map_or(Ok(()), |position| self.write(Write::Committed(position), Box::new(|_| ())))
    }

    fn committed(&self) -> Option<LogPosition> {
        self.shared.state.lock().content.committed
    }

    fn truncate_from(&self, index: u64) -> io::Result<()> {
        self.write(Write::Truncate(index), Box::new(|_| ()))
    }

    fn purge(&self, up_to: LogPosition) -> io::Result<()> {
        self.write(Write::Purge(up_to), Box::new(|_| ()))
    }

    fn close(&self) -> io::Result<()> {
        // Nothing may block here: what is on its way goes on by itself.
        self.write(Write::Nothing, Box::new(|_| ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64) -> LogEntry {
        (LogPosition { term: 1, index }, Bytes::from("x"))
    }

    fn append(log: &SimLog, index: u64) -> tokio::sync::oneshot::Receiver<io::Result<()>> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        log.append(vec![entry(index)], Box::new(|result| drop(sender.send(result)))).unwrap();
        receiver
    }

    #[tokio::test(start_paused = true)]
    async fn a_crash_loses_only_what_was_not_synced_and_its_writer_is_never_told() {
        let disk = SimDisk::default();
        disk.set_latency(Duration::from_millis(10));
        let log = SimLog::open(&disk);
        append(&log, 0).await.unwrap().unwrap();
        let lost = append(&log, 1);
        assert_eq!(log.bounds().last.unwrap().index, 1);
        disk.crash();
        drop(log);
        assert!(lost.await.is_err());
        assert_eq!(SimLog::open(&disk).bounds().last.unwrap().index, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_disk_answers_when_it_works_again_and_a_lying_one_forgets_what_it_synced() {
        let disk = SimDisk::default();
        let log = SimLog::open(&disk);
        append(&log, 0).await.unwrap().unwrap();
        disk.stall(true);
        let mut waiting = append(&log, 1);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(waiting.try_recv().is_err());
        disk.stall(false);
        waiting.await.unwrap().unwrap();
        assert_eq!(disk.lose_newest(1), 1);
        assert_eq!(SimLog::open(&disk).bounds().last.unwrap().index, 0);
        disk.lose_everything();
        assert_eq!(SimLog::open(&disk).bounds().last, None);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failed_sync_every_write_fails() {
        let disk = SimDisk::default();
        let log = SimLog::open(&disk);
        disk.fail_syncs(true);
        assert!(append(&log, 0).await.unwrap().is_err());
        disk.fail_syncs(false);
        assert!(log.append(vec![entry(1)], Box::new(|_| ())).is_err());
    }
}
