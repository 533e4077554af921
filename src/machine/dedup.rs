//! The idempotency keys that a channel remembers, and when it forgets them.
//!
//! A log entry's new keys are stored as one value; memory holds an index over all of them. Keys are forgotten in
//! the order in which they came, a whole entry's at a time, when the window has passed in log time.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::model::{Digest, KeyHash};

/// The keys that one log entry claimed in one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) time_ms: u64,
    pub(super) claims: Vec<Claim>,
}

/// A key and what it was claimed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) key: KeyHash,
    pub(super) seq: u64,
    pub(super) digest: Digest,
}

/// A channel's window.
#[derive(Debug, Default)]
pub(super) struct DedupWindow {
    // Looked up only, never iterated: its order is not the same on all nodes.
    live: HashMap<KeyHash, (u64, Digest)>,
    /// Oldest first.
    entries: VecDeque<Claims>,
}

impl DedupWindow {
    pub(super) fn get(&self, key: &KeyHash) -> Option<(u64, Digest)> {
        self.live.get(key).copied()
    }

    pub(super) fn len(&self) -> u64 {
        self.live.len() as u64
    }

    /// Remembers a key at once, so that the rest of its own log entry sees it.
    pub(super) fn claim(&mut self, claim: Claim) {
        self.live.insert(claim.key, (claim.seq, claim.digest));
    }

    /// Ends a log entry: its claims expire together.
    pub(super) fn seal(&mut self, claims: Claims) {
        self.entries.push_back(claims);
    }

    /// When the oldest keys expire.
    pub(super) fn next_expiry_ms(&self, window_ms: u64) -> Option<u64> {
        self.entries.front().map(|oldest| oldest.time_ms.saturating_add(window_ms))
    }

    /// Forgets what the window has passed; gives the sequence number that names each forgotten entry.
    pub(super) fn expire(&mut self, now_ms: u64, window_ms: u64) -> Vec<u64> {
        let mut forgotten = Vec::new();
        while self.next_expiry_ms(window_ms).is_some_and(|expiry| expiry <= now_ms) {
            let Some(oldest) = self.entries.pop_front() else { break };
            forgotten.extend(oldest.claims.first().map(|claim| claim.seq));
            for claim in oldest.claims {
                self.live.remove(&claim.key);
            }
        }
        forgotten
    }

    /// The names of all stored entries.
    pub(super) fn names(&self) -> impl Iterator<Item = u64> {
        self.entries.iter().filter_map(|entry| entry.claims.first().map(|claim| claim.seq))
    }
}
