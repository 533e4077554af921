//! Hashes of the whole state at some log indexes, by which nodes compare their states.

use std::collections::VecDeque;

use crate::store::StateHash;

/// Checkpoints that a replica remembers.
pub(super) const CHECKPOINTS: usize = 8;

/// The hash of the whole state at one log index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log index.
    pub index: u64,
    /// The hash.
    pub hash: StateHash,
}

/// Adds a checkpoint in the order of the log, whatever the order in which hashes arrive, and forgets the oldest.
pub(super) fn keep(kept: &mut VecDeque<Checkpoint>, checkpoint: Checkpoint) {
    let at = kept.partition_point(|other| other.index < checkpoint.index);
    kept.insert(at, checkpoint);
    while kept.len() > CHECKPOINTS {
        kept.pop_front();
    }
}
