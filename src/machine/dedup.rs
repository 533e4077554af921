//! The idempotency keys that a channel remembers, and when it forgets them.
//!
//! A log entry's new keys are stored as one value, in which neighbours share a sequence number: most of what is stored
//! are hashes, which no compression makes smaller. Memory holds an index over all keys. They are forgotten in
//! the order in which they came, a whole entry's at a time, when the window has passed in log time. A channel may
//! have a million live keys, so the order is kept in one flat queue and costs 16 bytes a key beside the index.

use std::{borrow::Cow, collections::VecDeque, convert::Infallible, hash::RandomState};

use griddle::{HashMap, hash_map::Entry as Place};
use serde::{Deserialize, Serialize};

use crate::model::{Digest, KeyHash};

/// The keys that one log entry claimed in one channel, as they are stored. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims<'a> {
    pub(super) time_ms: u64,
    pub(super) runs: Cow<'a, [Run]>,
}

/// The keys of consecutive messages, with the digests of what they were claimed for. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) first_seq: u64,
    pub(super) keys: Vec<(KeyHash, Digest)>,
}

impl Run {
    /// Adds a key behind all others.
    pub(super) fn add(runs: &mut Vec<Self>, seq: u64, key: KeyHash, digest: Digest) {
        match runs.last_mut() {
            Some(run) if run.first_seq + run.keys.len() as u64 == seq => run.keys.push((key, digest)),
            _ => runs.push(Self { first_seq: seq, keys: vec![(key, digest)] }),
        }
    }
}

/// A channel's window.
#[derive(Debug, Default)]
pub(super) struct DedupWindow {
    // Looked up only, never iterated: its order is not the same on all nodes. The standard hasher with its random
    // keys is kept although the keys are hashes already, because publishers choose them and could make them collide.
    // It grows a few keys at a time: the standard map moves them all at once, which with millions held up everything.
    live: HashMap<KeyHash, (u64, Digest), RandomState>,
    /// Oldest first.
    entries: VecDeque<Entry>,
    /// The keys of all entries, in the same order.
    order: VecDeque<KeyHash>,
}

/// The claims of one log entry, which expire together.
#[derive(Clone, Copy, Debug)]
struct Entry {
    time_ms: u64,
    /// Sequence number of the first claim: the name under which the entry is stored.
    first_seq: u64,
    /// How many keys of the order belong to it.
    keys: usize,
}

impl DedupWindow {
    pub(super) fn get(&self, key: &KeyHash) -> Option<(u64, Digest)> {
        self.live.get(key).copied()
    }

    pub(super) fn len(&self) -> u64 {
        self.live.len() as u64
    }

    /// Remembers a key at once, so that the rest of its own log entry sees it, unless it is live: then gives what it
    /// was claimed for. `seq` is asked for a new key's sequence number and may refuse to give one.
    pub(super) fn claim<E>(
        &mut self,
        key: KeyHash,
        digest: Digest,
        seq: impl FnOnce() -> Result<u64, E>,
    ) -> Result<Option<(u64, Digest)>, E> {
        match self.live.entry(key) {
            Place::Occupied(live) => Ok(Some(*live.get())),
            Place::Vacant(place) => {
                place.insert((seq()?, digest));
                self.order.push_back(key);
                Ok(None)
            }
        }
    }

    /// The same with a sequence number that is certain; false when the key is live already.
    pub(super) fn remember(&mut self, key: KeyHash, digest: Digest, seq: u64) -> bool {
        matches!(self.claim(key, digest, || Ok::<_, Infallible>(seq)), Ok(None))
    }

    /// Ends a log entry: everything claimed since the last end expires together.
    pub(super) fn seal(&mut self, time_ms: u64, runs: &[Run]) {
        if let Some(first) = runs.first() {
            let keys = runs.iter().map(|run| run.keys.len()).sum();
            self.entries.push_back(Entry { time_ms, first_seq: first.first_seq, keys });
        }
    }

    /// When the oldest keys expire.
    pub(super) fn next_expiry_ms(&self, window_ms: u64) -> Option<u64> {
        self.entries.front().map(|oldest| oldest.time_ms.saturating_add(window_ms))
    }

    /// Forgets what the window has passed; gives the sequence number that names each forgotten entry.
    pub(super) fn expire(&mut self, now_ms: u64, window_ms: u64) -> Vec<u64> {
        let mut forgotten = Vec::new();
        while self.next_expiry_ms(window_ms).is_some_and(|expiry| expiry <= now_ms)
            && let Some(oldest) = self.entries.pop_front()
        {
            forgotten.push(oldest.first_seq);
            for key in self.order.drain(..oldest.keys) {
                self.live.remove(&key);
            }
        }
        forgotten
    }

    /// The names of all stored entries.
    pub(super) fn names(&self) -> impl Iterator<Item = u64> {
        self.entries.iter().map(|entry| entry.first_seq)
    }
}
