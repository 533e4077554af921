//! Makes a run from what the store holds. Moving keys out of memory, making one run of several and making a lost one again
//! are all this: the store has every key of the log, in order, and is never wrong where a file may be.
//!
//! Keys come in the order of the log and go in that of their hashes. No more are held at a time than are moved at once;
//! where a run has more, the store is read once for each part of the hashes.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;

use super::{
    files::KeyFiles,
    run::{Damaged, Run, RunWriter, Salt, Span},
};
use crate::{
    machine::{EntryBytes, StoredClaims, claims_key, claims_of, claims_prefix},
    model::ChannelId,
    store::{DurableStore, PlainKeys, StoreError},
};

/// Entries read in one go, at least and at most, and about how many bytes that should make.
const PAGE: (usize, usize) = (16, 1_024);
const PAGE_BYTES: usize = 1 << 20;

/// What a run is to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) channel: ChannelId,
    /// No entry below this name.
    pub(super) from: u64,
    /// No entry above this name.
    pub(super) to: u64,
    /// No further entry once there are so many keys.
    pub(super) keys: u64,
}

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    #[error("the store cannot be read: {0}")]
    Store(#[from] StoreError),
    #[error("what is stored cannot be read: {0}")]
    Corrupt(String),
    #[error("a file of idempotency keys cannot be written: {0}")]
    Files(#[from] io::Error),
    #[error("{0}")]
    Damaged(#[from] Damaged),
    /// Keys left the window meanwhile; or something else is to be done first.
    #[error("the keys have changed meanwhile")]
    Overtaken,
}

/// The state of the node.
pub(super) struct Live(pub(super) Arc<dyn DurableStore>);

#[async_trait]
impl PlainKeys for Live {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.0.get(key).await
    }

    async fn range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.0.range(prefix, after, limit).await
    }
}

/// What runs are made from.
pub(super) struct Builder {
    /// The node's state; for a while one that is about to take its place.
    pub(super) state: RwLock<Arc<dyn PlainKeys>>,
    pub(super) files: Arc<dyn KeyFiles>,
    pub(super) salt: Salt,
    /// Keys held at a time.
    pub(super) part: u64,
    pub(super) cancelled: AtomicBool,
}

/// The keys of one part of the hashes, and what is said of all.
#[derive(Default)]
struct Read {
    /// Hash, and how far the entry's name is from the first one's.
    records: Vec<(u64, u32)>,
    span: Option<Span>,
    entries: EntryBytes,
    last: Bytes,
}

impl Builder {
    pub(super) fn state(&self) -> Arc<dyn PlainKeys> {
        self.state.read().clone()
    }

    /// A run of what is wanted; none where the store has nothing of it.
    pub(super) async fn build(&self, wanted: Wanted) -> Result<Option<Run>, BuildError> {
        let parts = wanted.keys.div_ceil(self.part).max(1);
        let Read { records, span, entries, last } = self.read(wanted, (0, parts)).await?;
        let Some(span) = span else { return Ok(None) };
        let mut writer = RunWriter::begin(&*self.files, span)?;
        write(records, &mut writer)?;
        let all = Wanted { from: span.first_seq, to: span.last_seq, keys: u64::MAX, ..wanted };
        for part in 1..parts {
            let again = self.read(all, (part, parts)).await?;
            if again.span != Some(span) {
                return Err(BuildError::Overtaken);
            }
            write(again.records, &mut writer)?;
        }
        let last_claims = *blake3::hash(&last).as_bytes();
        let name = writer.finish(&self.salt, entries.as_bytes(), last_claims)?.ok_or(BuildError::Overtaken)?;
        Ok(Some(Run::open(&*self.files, &name)?))
    }

    async fn read(&self, wanted: Wanted, (part, parts): (u64, u64)) -> Result<Read, BuildError> {
        let is_in_part = |hash: u64| (u128::from(hash) * u128::from(parts)) >> 64 == u128::from(part);
        let mut read = Read::default();
        let state = self.state();
        let mut claims = Entries::after(wanted.channel, wanted.from.checked_sub(1));
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(BuildError::Overtaken);
            }
            let page = claims.next(&*state).await?;
            if page.is_empty() {
                return Ok(read);
            }
            for (name, value) in page {
                let first_seq = read.span.map_or(name, |span| span.first_seq);
                let full = read.span.is_some_and(|span| span.keys >= wanted.keys);
                let Ok(distance) = u32::try_from(name - first_seq) else { return Ok(read) };
                if name > wanted.to || full {
                    return Ok(read);
                }
                let stored = decode(wanted.channel, name, &value)?;
                let keys = read.span.map_or(0, |span| span.keys) + stored.entry.keys;
                read.span =
                    Some(Span { channel: wanted.channel, first_seq, last_seq: name, end_seq: stored.end_seq, keys });
                read.entries.push(stored.entry);
                let hashes = stored.keys().map(|(key, ..)| self.salt.hash(key)).filter(|hash| is_in_part(*hash));
                read.records.extend(hashes.map(|hash| (hash, distance)));
                read.last = value;
            }
        }
    }
}

/// An entry by its name.
pub(super) fn decode(channel: ChannelId, name: u64, value: &[u8]) -> Result<StoredClaims, BuildError> {
    StoredClaims::decode(name, value)
        .map_err(|reason| BuildError::Corrupt(format!("key `{}`: {reason}", claims_key(channel, name).escape_ascii())))
}

fn write(mut records: Vec<(u64, u32)>, writer: &mut RunWriter) -> io::Result<()> {
    records.sort_unstable();
    records.into_iter().try_for_each(|(hash, entry)| writer.add(hash, entry))
}

/// A channel's claims in the order of their names, a page at a time.
pub(super) struct Entries {
    prefix: Bytes,
    after: Option<Bytes>,
    limit: usize,
}

impl Entries {
    /// Those with a greater name.
    pub(super) fn after(channel: ChannelId, name: Option<u64>) -> Self {
        let after = name.map(|name| claims_key(channel, name));
        Self { prefix: claims_prefix(channel), after, limit: PAGE.0 }
    }

    /// The next ones; none at the end.
    pub(super) async fn next(&mut self, state: &dyn PlainKeys) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let page = state.range(&self.prefix, self.after.as_deref(), self.limit).await?;
        self.limit = page_limit(self.limit, page.iter().map(|(_, value)| value.len()).sum());
        if let Some((last, _)) = page.last() {
            self.after = Some(last.clone());
        }
        Ok(page.into_iter().filter_map(|(key, value)| Some((claims_of(&key)?.1, value))).collect())
    }
}

/// How many to read after so many made so many bytes: some are a hundred bytes, some a hundred thousand.
pub(super) fn page_limit(limit: usize, bytes: usize) -> usize {
    let next = if bytes > 2 * PAGE_BYTES {
        limit / 2
    } else if bytes < PAGE_BYTES / 2 {
        limit * 2
    } else {
        limit
    };
    next.clamp(PAGE.0, PAGE.1)
}
