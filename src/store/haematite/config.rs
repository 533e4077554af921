//! When a store on disk folds and compacts, and how much it caches.

use std::time::Duration;

/// When to fold, and how much to cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaematiteConfig {
    /// Fold when the memtable holds this many bytes.
    pub fold_bytes: usize,
    /// Fold what is older than this.
    pub fold_interval: Duration,
    /// Bytes of tree nodes kept in memory.
    pub cache_bytes: usize,
    /// Memtables that may wait to be folded. A checkpoint closes one whatever its size; one too many is refused.
    pub frozen_memtables: usize,
    /// Compact when the state takes more than this many times the bytes that live. At 1 it would never rest.
    pub compact_factor: u64,
    /// Compact only when more bytes than this would be given back.
    pub compact_garbage: u64,
    /// Bytes of internal nodes kept in memory to tell how much lives.
    pub accounting_cache_bytes: usize,
    /// The node whose state it is: another node's is refused. None: whosever it is.
    pub owner: Option<u64>,
}

impl Default for HaematiteConfig {
    fn default() -> Self {
        Self {
            fold_bytes: 12 << 20,
            fold_interval: Duration::from_secs(5),
            cache_bytes: 16 << 20,
            frozen_memtables: 4,
            compact_factor: 2,
            compact_garbage: 64 << 20,
            accounting_cache_bytes: 2 << 20,
            owner: None,
        }
    }
}
