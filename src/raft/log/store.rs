//! What a log promises, whatever keeps it: the trait, and the plain types that it speaks in.

use std::{io, ops::Range};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::meter::Reading;

/// Position of an entry: the term of the leader that wrote it, and its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogPosition {
    /// Term of the leader.
    pub term: u64,
    /// Place in the log, from 0.
    pub index: u64,
}

/// The newest vote of a node. It only grows: within a term, the leader that a majority elected stands above every
/// candidate, whatever their ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredVote {
    /// The term voted in.
    pub term: u64,
    /// Who got the vote.
    pub node: u64,
    /// Whether a majority granted it: that node is the leader of the term.
    pub committed: bool,
}

impl Ord for StoredVote {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let rank = |vote: &Self| (vote.term, vote.committed, vote.node);
        rank(self).cmp(&rank(other))
    }
}

impl PartialOrd for StoredVote {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Whose log it is, and which of its node's processes wrote to it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOwner {
    /// The node's id.
    pub node: u64,
    /// How many processes had begun on the node's disk.
    pub start: u64,
}

/// What a log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogBounds {
    /// The newest entry that was purged; entries begin after it.
    pub purged: Option<LogPosition>,
    /// The newest entry; `purged` when the log is empty.
    pub last: Option<LogPosition>,
}

/// An entry's position and bytes.
pub type LogEntry = (LogPosition, Bytes);

/// Called once, when a write is on disk or has failed.
pub type OnDurable = Box<dyn FnOnce(io::Result<()>) + Send>;

/// A durable log. Writes take effect in the order of the calls and are visible to reads at once; `OnDurable` is
/// called, in that order too, when the write and all before it survive a power cut. After a failed write the log
/// is unusable: every later write fails too, because what an fsync lost cannot be known.
///
/// Methods return quickly: writing and syncing happen on a thread of the log, unless the caller offers its own.
pub trait LogStore: Send + Sync + 'static {
    /// What the log holds.
    fn bounds(&self) -> LogBounds;

    /// The lowest index from which on all entries together have at most so many bytes.
    fn first_within(&self, bytes: u64) -> u64;

    /// Adds entries that continue the log.
    fn append(&self, entries: Vec<LogEntry>, on_durable: OnDurable) -> io::Result<()>;

    /// As [`LogStore::append`], but what was added is written only once [`LogStore::write`] is called.
    fn append_unwritten(&self, entries: Vec<LogEntry>, on_durable: OnDurable) -> io::Result<()> {
        self.append(entries, on_durable)
    }

    /// Has everything written that was added with [`LogStore::append_unwritten`].
    fn write(&self) {}

    /// As [`LogStore::append`], but the caller may wait for the disk: where it is quick, and nothing else is being
    /// written, its own thread writes and syncs, which saves waking another one and being woken by it.
    fn append_and_wait(&self, entries: Vec<LogEntry>, on_durable: OnDurable) -> io::Result<()> {
        self.append(entries, on_durable)
    }

    /// The entries of a range of indexes that the log holds, from its beginning until about `max_bytes` are
    /// reached; at least one when there is any. An entry that is not what was written is an error that names it.
    fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<LogEntry>>;

    /// Replaces the vote.
    fn save_vote(&self, vote: StoredVote, on_durable: OnDurable) -> io::Result<()>;

    /// The newest vote.
    fn vote(&self) -> Option<StoredVote>;

    /// Says whose log it is, and that another process of that node writes to it from now on.
    fn save_owner(&self, owner: LogOwner, on_durable: OnDurable) -> io::Result<()>;

    /// Whose log it is; none in one that is new, or of an earlier build.
    fn owner(&self) -> Option<LogOwner>;

    /// Remembers how far the log is committed. Need not survive a crash by itself.
    fn save_committed(&self, committed: Option<LogPosition>) -> io::Result<()>;

    /// The newest commit mark that survived.
    fn committed(&self) -> Option<LogPosition>;

    /// Removes the entries from `index` on; `last` is the position before it.
    fn truncate_from(&self, index: u64) -> io::Result<()>;

    /// Removes the entries up to and including a position, which may lie beyond the last one (after a snapshot
    /// was installed): then the log continues behind it.
    fn purge(&self, up_to: LogPosition) -> io::Result<()>;

    /// The files of the log, for whoever looks after them; none where it has none.
    fn files(&self) -> Option<&dyn LogFiles> {
        None
    }

    /// How long it took each time to make what was written durable; none where nothing is made durable.
    fn syncs(&self) -> Option<Reading> {
        None
    }

    /// Waits until all writes so far are on disk, and releases the files. Blocks.
    fn close(&self) -> io::Result<()>;
}

/// A log's files as they are on disk. All methods block.
pub trait LogFiles: Send + Sync {
    /// Reads what is durable from a place on until about `max_bytes` are read, a file ends, or something is damaged; the
    /// next piece then begins with the next file.
    ///
    /// # Errors
    /// When the system refuses to read, which says nothing of the data.
    fn check(&self, from: LogPlace, max_bytes: u64) -> io::Result<LogChecked>;

    /// Has the next write begin another file. It says all that is needed from the ones before but their entries, so
    /// that a damaged one goes as soon as its entries are purged.
    fn end_file(&self);

    /// Bytes that the files take on the disk, with what is reserved for entries to come.
    ///
    /// # Errors
    /// When the system does not say.
    fn bytes(&self) -> io::Result<u64>;

    /// Whether the log still needs a file.
    fn has_file(&self, number: u64) -> bool;
}

/// A place in a log's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlace {
    /// Number of the file.
    pub file: u64,
    /// Where in it.
    pub offset: u64,
    /// What was written just before, by its number, where that is known.
    pub after: Option<u64>,
}

/// What a piece of a log is like on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogChecked {
    /// Where the next piece begins; none at the end of what is durable.
    pub next: Option<LogPlace>,
    /// Bytes read.
    pub bytes: u64,
    /// What is damaged.
    pub damage: Option<LogDamage>,
}

/// A damaged file of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDamage {
    /// Number of the file.
    pub number: u64,
    /// Its path.
    pub file: String,
    /// How it shows.
    pub detail: String,
}
