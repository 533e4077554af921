//! Where a node keeps its state: streams of messages and plain keys, committed together.
//!
//! [`DurableStore`] is the interface that everything above relies on; [`MemoryStore`] keeps it in memory and the
//! haematite adapter on disk. A commit is atomic and visible at once; it is *durable* from the next flush on,
//! because a replica's log brings back whatever a crash takes from the store.

mod engine;
#[cfg(any(test, feature = "testing"))]
mod faulty;
mod haematite;
mod keys;
mod listing;
mod memory;
mod thin;
mod value;
mod watched;

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{meter::Reading, model::StoredBatch};

#[cfg(any(test, feature = "testing"))]
pub use self::faulty::FaultyStore;
pub use self::{
    engine::Layered,
    haematite::{HaematiteConfig, HaematiteEngine, HaematiteStore},
    keys::CLAIMS,
    memory::{MemoryEngine, MemoryStore},
    watched::WatchedStore,
};

/// A store of streams and keys. All methods may be called from any task; implementations keep blocking work off
/// the async runtime.
#[async_trait]
pub trait DurableStore: Send + Sync + 'static {
    /// Appends one record to a stream and returns the sequence number that the next one will get.
    ///
    /// # Errors
    /// [`StoreError::SequenceConflict`] when the stream does not end at `expected_seq`.
    async fn append(&self, stream_key: &str, payload: Bytes, expected_seq: u64) -> Result<u64, StoreError>;

    /// At most `limit` records of a stream from the sequence number `offset` on; empty for an unknown stream.
    async fn read_from(&self, stream_key: &str, offset: u64, limit: usize) -> Result<Vec<StoredEntry>, StoreError>;

    /// Sets a number if its present value is `old` (`None`: if it has none).
    ///
    /// # Errors
    /// [`StoreError::CasConflict`] with the present value otherwise.
    async fn cas(&self, key: &str, old: Option<u64>, new: u64) -> Result<(), StoreError>;

    /// The number under a key.
    async fn read_value(&self, key: &str) -> Result<Option<u64>, StoreError>;

    /// All records of all streams whose key begins with `prefix`, by stream key, then by sequence number.
    async fn scan(&self, prefix: &str) -> Result<Vec<StoredEntry>, StoreError>;

    /// Makes everything committed so far survive a power cut.
    async fn flush(&self) -> Result<(), StoreError>;

    /// Does everything in the batch or nothing of it.
    ///
    /// # Errors
    /// [`StoreError::SequenceConflict`] when an append does not continue its stream.
    async fn commit(&self, batch: WriteBatch) -> Result<(), StoreError>;

    /// The batches of a stream in order, from the one that contains `from_seq` (cut to begin there) until about
    /// `max_bytes` are reached; at least one when there is any. They are consecutive, but for what
    /// [`WriteBatch::thins`] has removed.
    async fn read_batches(
        &self,
        stream_key: &str,
        from_seq: u64,
        max_bytes: usize,
    ) -> Result<Vec<StoredBatch>, StoreError>;

    /// First and next sequence number of a stream; `None` for an unknown one.
    async fn bounds(&self, stream_key: &str) -> Result<Option<StreamBounds>, StoreError>;

    /// Removes the records of a stream below `up_to`. Batches that reach beyond it stay whole.
    async fn remove(&self, stream_key: &str, up_to: u64) -> Result<(), StoreError>;

    /// The value under a plain key.
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Plain keys that begin with `prefix` with their values, in byte order, beginning after `after`, at most `limit`.
    async fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize)
    -> Result<Vec<(Bytes, Bytes)>, StoreError>;

    /// The mark of the newest commit that had one.
    async fn applied(&self) -> Result<Option<Bytes>, StoreError>;

    /// The mark up to which a power cut loses nothing.
    async fn durable_applied(&self) -> Result<Option<Bytes>, StoreError>;

    /// The whole state as it is now, readable while the store goes on.
    async fn snapshot(&self) -> Result<Arc<dyn StoreSnapshot>, StoreError>;

    /// Begins to replace the whole state. Nothing changes before [`StoreInstall::finish`].
    async fn install(&self) -> Result<Box<dyn StoreInstall>, StoreError>;

    /// To be called once [`StoreInstall::finish`] has replaced the state: forgets what was remembered of the old one.
    async fn installed(&self);

    /// Pins the state as it is at the moment of the call, at little cost, and gives a future of the hash over it and
    /// of the mark of the newest commit in it. Commits go on meanwhile and change neither; they wait for nobody to
    /// poll the future. Equal states have equal hashes, whatever order of commits and flushes led to them. What was
    /// pinned is durable once the future resolves.
    fn checkpoint(&self) -> BoxFuture<'static, Result<(StateHash, Option<Bytes>), StoreError>>;

    /// The hash and the mark of a checkpoint at this moment.
    async fn root_hash(&self) -> Result<(StateHash, Option<Bytes>), StoreError> {
        self.checkpoint().await
    }

    /// The parts that the state consists of, for whoever looks after them; none where the store knows no parts.
    fn parts(&self) -> Option<Arc<dyn StoreParts>> {
        None
    }

    /// How many bytes the store takes; none while it is not known.
    fn usage(&self) -> Option<StoreUsage> {
        None
    }

    /// How long it took each time to make what was committed durable; none where nothing is made durable.
    fn folds(&self) -> Option<Reading> {
        None
    }

    /// Why what was committed cannot be made durable now, with the file; none while it can. Commits may go on for as
    /// long as there is room for them in memory.
    fn failure(&self) -> Option<String> {
        None
    }

    /// Flushes and releases every resource. Later calls fail with [`StoreError::Closed`].
    async fn close(&self) -> Result<(), StoreError>;
}

/// An unchanging view of a whole store.
#[async_trait]
pub trait StoreSnapshot: Send + Sync {
    /// The mark of the newest commit in it.
    fn applied(&self) -> Option<Bytes>;
    /// Hash over all of it.
    fn root_hash(&self) -> StateHash;
    /// Raw entries in byte order after `after`, until about `max_bytes`; empty at the end. Opaque to the caller.
    async fn page(&self, after: Option<&[u8]>, max_bytes: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError>;

    /// The immutable parts that the whole consists of, by their hashes; none where the store knows no parts, and pages
    /// have to do.
    async fn parts(&self) -> Result<Option<Vec<PartHash>>, StoreError> {
        Ok(None)
    }

    /// The bytes of a part. Opaque to the caller.
    async fn part(&self, hash: PartHash) -> Result<Bytes, StoreError> {
        Err(StoreError::Corrupt { what: "a snapshot".into(), detail: format!("it has no part {}", StateHash(hash)) })
    }
}

/// Names a part of a state by its content.
pub type PartHash = [u8; 32];

/// The parts of a store's live state as they are on disk. Each is named by its content, so one that cannot be read any
/// more can come from anywhere.
#[async_trait]
pub trait StoreParts: Send + Sync {
    /// Reads parts from a key on, around every cache, until about `max_bytes` were read or one cannot be read. Keys are
    /// opaque; the state begins at the empty one.
    async fn check(&self, from: Bytes, max_bytes: u64) -> Result<CheckedParts, StoreError>;

    /// The bytes of a part of the live state; none when it has no such part, or cannot read it.
    async fn part(&self, hash: PartHash) -> Option<Bytes>;

    /// Says where to get parts that cannot be read, instead of what was said before. From then on, a read that meets one
    /// gets it and goes on.
    fn heal_from(&self, source: Arc<dyn PartSource>);

    /// Tries to get all parts that are known to be damaged, and forgets those that the state needs no longer.
    async fn heal(&self);

    /// The parts that are known to be damaged, and could not be got yet.
    fn damaged(&self) -> Vec<Damage>;

    /// Resolves once a part was found that could not be got at once.
    async fn found_damage(&self);

    /// How many damaged parts were found, and how many of them were got from elsewhere, by this process.
    fn healing(&self) -> Healing;
}

/// What a piece of a state is like on disk.
#[derive(Clone, Debug, Default)]
pub struct CheckedParts {
    /// The key at which the next piece begins; none at the end.
    pub next: Option<Bytes>,
    /// Bytes read.
    pub bytes: u64,
    /// What could not be read; whether it could be got from elsewhere is said by [`StoreParts::damaged`].
    pub damage: Option<Damage>,
}

/// Something on disk that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// How it shows.
    pub detail: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.detail)
    }
}

/// Parts found and got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Healing {
    /// Damaged parts found.
    pub found: u64,
    /// Those of them that were got from elsewhere.
    pub healed: u64,
}

/// Where a store gets parts that it cannot read any more.
#[async_trait]
pub trait PartSource: Send + Sync {
    /// The bytes of a part, from whoever has it; none when nobody does. They are checked by the store.
    async fn part(&self, hash: PartHash) -> Option<Bytes>;
}

/// The plain keys of one state, read as [`DurableStore::get`] and [`DurableStore::range`] do.
#[async_trait]
pub trait PlainKeys: Send + Sync {
    /// A key's value.
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
    /// Keys that begin with `prefix` and come after `after`, in order, at most `limit`.
    async fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize)
    -> Result<Vec<(Bytes, Bytes)>, StoreError>;
}

/// A state on its way in.
#[async_trait]
pub trait StoreInstall: Send {
    /// Adds entries as [`StoreSnapshot::page`] gave them, in that order. Pages and parts do not mix.
    async fn put(&mut self, page: Vec<(Bytes, Bytes)>) -> Result<(), StoreError>;
    /// Takes those of a state's parts that the live state has too; gives the positions of the others.
    ///
    /// # Errors
    /// [`StoreError::Failed`] where the store knows no parts.
    async fn lacking(&mut self, _parts: Vec<PartHash>) -> Result<Vec<u32>, StoreError> {
        Err(StoreError::Failed { action: "take a snapshot by its parts", reason: "this store has none".into() })
    }
    /// Adds a part as [`StoreSnapshot::part`] gave it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the bytes are not those that the hash names.
    async fn put_part(&mut self, _hash: PartHash, _bytes: Bytes) -> Result<(), StoreError> {
        Err(StoreError::Failed { action: "take a snapshot by its parts", reason: "this store has none".into() })
    }
    /// Makes what was put whole and durable, and checks that its hash is `expected`. The state stays as it is.
    ///
    /// # Errors
    /// As [`StoreInstall::finish`]; whoever sent it may send it again.
    async fn check(&mut self, _expected: StateHash) -> Result<(), StoreError> {
        Ok(())
    }
    /// The plain keys of what was put, once it is checked, for what has to be made of them before it takes the live state's
    /// place; to be dropped before [`StoreInstall::finish`]. None where they cannot be read yet.
    fn plain_keys(&self) -> Option<Arc<dyn PlainKeys>> {
        None
    }
    /// Replaces the store's state by what was put, durably, if its hash is `expected`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the hash differs; the old state stays. After [`StoreInstall::check`], another error
    /// than [`StoreError::Closed`] leaves the old state too, and this may be tried again.
    async fn finish(&mut self, expected: StateHash) -> Result<(), StoreError>;
}

/// One record of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Position in the stream.
    pub seq: u64,
    /// What was appended; for a broker's channel, an encoded `liminal.v1.Message`.
    pub payload: Bytes,
    /// Milliseconds since the Unix epoch: the leader's time, or 0 for a record appended without one.
    pub timestamp: u64,
}

/// First and next sequence number of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamBounds {
    /// First one still stored; equal to `next` when nothing is.
    pub first: u64,
    /// The one that the next record gets.
    pub next: u64,
}

/// Bytes that a store takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreUsage {
    /// What the present state needs.
    pub live_bytes: u64,
    /// What is taken, with everything that was deleted or replaced and not yet given back.
    pub disk_bytes: u64,
}

/// Changes that are made together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// Appends; each must continue its stream at `batch.first_seq`. A fresh stream begins at any number.
    pub appends: Vec<(Arc<str>, StoredBatch)>,
    /// Ranges of plain keys to delete; done before the puts.
    pub cuts: Vec<Range<Bytes>>,
    /// Plain keys to set, or to delete (`None`).
    pub puts: Vec<(Bytes, Option<Bytes>)>,
    /// Streams to cut below a sequence number; done before the appends.
    pub removes: Vec<(Arc<str>, u64)>,
    /// Records to remove inside of streams, whose other records stay where they are; done after the cuts and before
    /// the appends, and only to what was stored before this batch.
    pub thins: Vec<(Arc<str>, Vec<Range<u64>>)>,
    /// Streams to forget altogether, bounds included; done first.
    pub drops: Vec<Arc<str>>,
    /// Opaque mark of the log position that these changes come from.
    pub applied: Option<Bytes>,
}

impl WriteBatch {
    /// Whether it changes nothing but possibly the mark.
    pub fn is_empty(&self) -> bool {
        self.appends.is_empty()
            && self.cuts.is_empty()
            && self.puts.is_empty()
            && self.removes.is_empty()
            && self.thins.is_empty()
            && self.drops.is_empty()
    }
}

/// Hash over a whole state (BLAKE3 tree root or its like, 32 bytes).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateHash(pub [u8; 32]);

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateHash({self})")
    }
}

/// What a store refuses or fails at.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// An append that does not continue its stream.
    #[error("stream `{stream}` ends at {actual}, not at {expected}")]
    SequenceConflict {
        /// The stream.
        stream: String,
        /// Where the caller thought that it ends.
        expected: u64,
        /// Where it ends.
        actual: u64,
    },
    /// A number that is not what the caller thought.
    #[error("`{key}` is {actual:?}, not {expected:?}")]
    CasConflict {
        /// The key.
        key: String,
        /// What the caller thought.
        expected: Option<u64>,
        /// What it is.
        actual: Option<u64>,
    },
    /// Something stored is not what was written.
    #[error("{what} is corrupt: {detail}")]
    Corrupt {
        /// A file or a key.
        what: String,
        /// How it shows.
        detail: String,
    },
    /// A part of the state cannot be read.
    #[error("{file} cannot be read: {detail}")]
    Damaged {
        /// The file of the part.
        file: String,
        /// Which part it is.
        part: PartHash,
        /// How it shows.
        detail: String,
    },
    /// The data directory is in use.
    #[error("{path} is in use by another process")]
    Locked {
        /// The directory.
        path: String,
    },
    /// The disk or the engine refused.
    #[error("cannot {action}: {reason}")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// What the engine said.
        reason: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}
