//! What the cluster remembers of its nodes, beyond the Raft membership: so that a node that was removed does not
//! come back by itself, and a disk that is older than its node is told from the node's own.

use serde::{Deserialize, Serialize};

/// Something that happened to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberEvent {
    /// Its process began. Refused when the node was removed, or when its disk is not the newest one that it had.
    Started {
        /// How often a process began on this disk, this time included.
        starts: u64,
        /// Random for every process.
        incarnation: u64,
        /// Where it is reached by other nodes.
        peer: String,
    },
    /// Added as a learner.
    Joined,
    /// Made a voter.
    Promoted,
    /// Reached at another address from now on.
    Moved {
        /// The new one.
        peer: String,
    },
    /// No longer of the cluster.
    Removed {
        /// An operator said so, and it may not come back by itself; else it had been away for too long, and may.
        by_operator: bool,
    },
    /// An operator lets a removed node come back.
    Readmitted,
    /// Was asked to lead.
    Transferred,
}

/// What the cluster knows of a node that was ever in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// What its operator calls it.
    pub name: String,
    /// Of its newest [`MemberEvent::Started`].
    pub starts: u64,
    /// The same.
    pub incarnation: u64,
    /// An operator removed it.
    pub removed: bool,
    /// When the newest event was, in the log's time (milliseconds since the Unix epoch).
    pub seen_ms: u64,
}

/// An event as it is kept for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberLogEntry {
    /// The log's time, milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The node's id.
    pub node: u64,
    /// The node's name.
    pub name: String,
    /// What happened.
    pub event: MemberEvent,
}
