//! Our log behind openraft's storage traits.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant as StdInstant},
};

use openraft::{
    EntryPayload, LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use super::{
    encoding::{
        EncodedCommand, EntryOf, LogIdOf, TypeConfig, VoteOf, decode_entry, encode_entry, log_id, position,
        stored_vote, vote,
    },
    log::{LogStore, OnDurable},
};
use crate::meter::Meters;

/// Entries of about this many bytes are read, and sent to a follower, at a time.
const READ_BYTES: usize = 1 << 20;
/// Commands of about this many bytes are given at once to who asks for all entries of a range.
const RANGE_BYTES: usize = 16 << 20;

/// Openraft's view of a [`LogStore`].
#[derive(Clone)]
pub(super) struct LogAdapter {
    log: Arc<dyn LogStore>,
    follows: Follows,
    pace: Pace,
    meters: Arc<Meters>,
}

impl LogAdapter {
    pub(super) fn new(log: Arc<dyn LogStore>, follows: Follows, pace: Pace, meters: Arc<Meters>) -> Self {
        Self { log, follows, pace, meters }
    }
}

/// Whether the log gets on with what it is to write.
#[derive(Clone, Default)]
pub(super) struct Pace(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    writes: usize,
    /// When one of them was done last, or the first one began; none while nothing waits.
    since: Option<Instant>,
}

impl Pace {
    fn begun(&self) {
        let mut waiting = self.0.lock();
        waiting.writes += 1;
        waiting.since.get_or_insert_with(Instant::now);
    }

    fn done(&self) {
        let mut waiting = self.0.lock();
        waiting.writes = waiting.writes.saturating_sub(1);
        waiting.since = (waiting.writes > 0).then(Instant::now);
    }

    /// Whether something waits, and nothing was written for longer than this.
    pub(super) fn stalled(&self, patience: Duration) -> bool {
        self.0.lock().since.is_some_and(|since| since.elapsed() > patience)
    }
}

/// Whether entries come from another node. Raft's thread may then wait for the disk, as the leader waits for nothing
/// else of this node. The leader's own must not: it sends the entries while its disk syncs them, and a majority without
/// it is enough. Only a hint.
#[derive(Clone, Default)]
pub(super) struct Follows(Arc<AtomicBool>);

impl Follows {
    pub(super) fn set(&self, follows: bool) {
        self.0.store(follows, Ordering::Relaxed);
    }

    pub(super) fn holds(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl RaftLogReader<TypeConfig> for LogAdapter {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<EntryOf>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        // At a start, openraft reads 64 entries at a time to apply them, however large they are. Those for which there is
        // no room come without their bytes, and who applies them gets the bytes one by one.
        let (mut entries, mut next, mut held) = (Vec::new(), start, 0);
        while next < end {
            let page = self.log.read(next..end, READ_BYTES)?;
            let Some((last, _)) = page.last() else { break };
            next = last.index + 1;
            for entry in page {
                let mut entry = decode_entry(entry)?;
                if let EntryPayload::Normal(command) = &mut entry.payload {
                    held += command.0.len();
                    if held > RANGE_BYTES && !entries.is_empty() {
                        held -= command.0.len();
                        *command = EncodedCommand::left_out();
                    }
                }
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<EntryOf>> {
        self.log.read(start..end, READ_BYTES)?.into_iter().map(decode_entry).collect()
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl futures::Stream<Item = io::Result<EntryOf>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        // In pieces: a replay after a restart may cover far more than fits in memory.
        let log = self.log.clone();
        futures::stream::unfold((log, start, Vec::new().into_iter()), move |(log, mut next, mut page)| async move {
            if page.len() == 0 && next < end {
                match log.read(next..end, READ_BYTES) {
                    Ok(entries) => page = entries.into_iter(),
                    Err(error) => return Some((Err(error), (log, end, page))),
                }
            }
            let entry = page.next()?;
            next = entry.0.index + 1;
            Some((decode_entry(entry), (log, next, page)))
        })
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf>> {
        Ok(self.log.vote().map(vote))
    }
}

impl RaftLogStorage<TypeConfig> for LogAdapter {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let bounds = self.log.bounds();
        Ok(LogState { last_purged_log_id: bounds.purged.map(log_id), last_log_id: bounds.last.map(log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        let pace = self.pace.clone();
        pace.begun();
        let on_durable = Box::new(move |result| {
            pace.done();
            drop(done.send(result));
        });
        self.log.save_vote(stored_vote(vote), on_durable)?;
        durable.await.unwrap_or_else(|_| Err(io::Error::other("the log went away while it saved a vote")))
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf>) -> io::Result<()> {
        self.log.save_committed(committed.as_ref().map(position))
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogIdOf>> {
        // A mark may have reached the disk before the entries that it speaks of.
        let last = self.log.bounds().last;
        Ok(self.log.committed().min(last).map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = EntryOf> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(encode_entry).collect();
        let (pace, meters, begun) = (self.pace.clone(), self.meters.clone(), StdInstant::now());
        pace.begun();
        let on_durable: OnDurable = Box::new(move |result| {
            pace.done();
            meters.append.since(begun);
            callback.io_completed(result);
        });
        if self.follows.holds() {
            self.log.append_and_wait(entries, on_durable)
        } else {
            self.log.append_unwritten(entries, on_durable)?;
            // Waking the log's thread before the entries are sent would let it run before.
            let log = self.log.clone();
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                log.write();
            });
            Ok(())
        }
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf>) -> io::Result<()> {
        self.log.truncate_from(last.map_or(0, |last| last.index + 1))
    }

    async fn purge(&mut self, up_to: LogIdOf) -> io::Result<()> {
        self.log.purge(position(&up_to))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::raft::log::{LogPosition, SimDisk, SimLog};

    #[tokio::test]
    async fn who_asks_for_many_large_entries_gets_some_of_them_without_their_bytes() {
        let log: Arc<dyn LogStore> = Arc::new(SimLog::open(&SimDisk::default()));
        // As commands begin, and not as memberships do.
        let command = Bytes::from(vec![3; 5 << 20]);
        let entries = (0..10).map(|index| {
            let bytes = if index == 4 { Bytes::new() } else { command.clone() };
            (LogPosition { term: 1, index }, bytes)
        });
        log.append(entries.collect(), Box::new(|_| ())).unwrap();
        let mut adapter = LogAdapter::new(log, Follows::default(), Pace::default(), Arc::default());
        let read = adapter.try_get_log_entries(0..10).await.unwrap();
        assert_eq!(read.iter().map(|entry| entry.log_id.index).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        let bytes: usize = read
            .iter()
            .map(|entry| match &entry.payload {
                EntryPayload::Normal(command) => command.0.len(),
                _ => 0,
            })
            .sum();
        assert_eq!(bytes, 15 << 20, "three of them are whole");
        assert!(matches!(read[4].payload, EntryPayload::Blank), "and what is no command is there");
        let one = adapter.try_get_log_entries(9..10).await.unwrap();
        assert!(matches!(&one[0].payload, EntryPayload::Normal(whole) if whole.0 == command));
    }
}
