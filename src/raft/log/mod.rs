//! The Raft log on a node's disk: entries, the vote, the commit mark and the owner, behind a trait of our own, so that a
//! simulation can lose unsynced writes. Knows nothing of openraft and nothing of what entries mean.

mod disk;
#[cfg(any(test, feature = "testing"))]
mod sim;
mod store;
#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "testing"))]
pub use self::sim::{SimDisk, SimLog};
pub use self::{
    disk::DiskLog,
    store::{
        LogBounds, LogChecked, LogDamage, LogEntry, LogFiles, LogOwner, LogPlace, LogPosition, LogStore, OnDurable,
        StoredVote,
    },
};
