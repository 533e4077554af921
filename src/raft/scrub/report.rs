//! What the search for damage is told, and what it tells.

use std::{path::PathBuf, time::Duration};

use crate::store::Damage;

/// How a node looks for damage by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubConfig {
    /// Bytes read in a second, at most.
    pub bytes_per_second: u64,
    /// From the begin of a pass to that of the next one; none: it looks only when it is asked to.
    pub interval: Option<Duration>,
    /// Where to write down how far a pass is; none: a restart begins anew.
    pub file: Option<PathBuf>,
}

/// What a node's looking for damage has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Which pass of this process the figures are of.
    pub pass: u64,
    /// Whether it is still on its way.
    pub running: bool,
    /// Bytes of the state that it has read, a restart's before included.
    pub state_bytes: u64,
    /// Bytes of the log that it has read.
    pub log_bytes: u64,
    /// Damaged files that it found.
    pub found: u64,
    /// Those of them that are well again.
    pub healed: u64,
    /// Everything that is known to be damaged now.
    pub left: Vec<Damage>,
    /// Bytes read by this process.
    pub total_bytes: u64,
    /// Damaged files that this process found, by whatever read.
    pub total_found: u64,
    /// Those of them that it healed.
    pub total_healed: u64,
    /// When the newest complete pass ended, in milliseconds since the Unix epoch; 0: there was none.
    pub completed_ms: u64,
}
