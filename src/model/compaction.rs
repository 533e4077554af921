//! Compaction: of the messages that have the same value in a header, a channel keeps the last one. The leader finds out
//! which others there are; the log says that they go, so they go from every node.

use serde::{Deserialize, Serialize};

use super::ChannelId;

/// One step of a pass over a channel. Each has to follow the one that was taken before it, so that nothing is counted
/// twice, whatever becomes of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compact {
    /// Of which channel.
    pub channel: ChannelId,
    /// The header that the channel is compacted by.
    pub by: String,
    /// Steps of all passes that were taken before this one.
    pub step: u64,
    /// What goes, in order.
    pub gone: Vec<Gone>,
    /// The pass ends with this step.
    pub clean: Option<Clean>,
}

/// One step by which a work queue gives back the space of what its consumers have settled behind a message that they have
/// not. Steps of a channel are counted together with those of its compaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclaim {
    /// Of which channel.
    pub channel: ChannelId,
    /// Steps that were taken before this one.
    pub step: u64,
    /// What goes, in order.
    pub gone: Vec<Gone>,
}

/// Consecutive messages that go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// Sequence number of the first one.
    pub first_seq: u64,
    /// How many they are.
    pub count: u64,
    /// Their encoded bytes.
    pub bytes: u64,
}

impl Gone {
    /// Sequence number after the last one.
    pub fn end_seq(&self) -> u64 {
        self.first_seq.saturating_add(self.count)
    }

    /// Those from `seq` on, with their part of the bytes; none if there are none.
    pub fn from_seq(self, seq: u64) -> Option<Self> {
        let below = seq.saturating_sub(self.first_seq);
        let count = self.count.checked_sub(below).filter(|count| *count > 0)?;
        let bytes = u128::from(self.bytes) * u128::from(count) / u128::from(self.count);
        Some(Self { first_seq: self.first_seq + below, count, bytes: u64::try_from(bytes).unwrap_or(self.bytes) })
    }
}

/// What a pass has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clean {
    /// Where the channel began.
    pub first_seq: u64,
    /// Below it, every message is the last one of its key among those below it.
    pub to: u64,
    /// How many are missing between the two.
    pub removed: u64,
}

/// How far a channel is compacted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compaction {
    /// Steps that were taken; 0 if there never were any.
    pub step: u64,
    /// Where the newest pass over it ended; what lies below was looked at.
    pub clean_to: u64,
    /// Messages that are missing between the channel's first and its next one. After old messages have gone it is an
    /// estimate, until the next pass.
    pub removed: u64,
}
