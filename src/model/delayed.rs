//! Messages that become visible at a time: they wait outside their channel's stream and get a sequence number only when
//! they are due, so that the order in a channel is the order of visibility.

use serde::{Deserialize, Serialize};

use super::{ChannelId, Digest, Frame, KeyHash, KeyOutcome, PublishGroup};

/// Messages of one channel, checked against one schema, that are to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The channel, by id.
    pub channel: ChannelId,
    /// The schema that the messages were checked against; the machine refuses a stale one.
    pub schema_id: u64,
    /// Each is scheduled or excepted by itself.
    pub messages: Vec<Delayed>,
}

/// A message and when it is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delayed {
    /// Milliseconds since the Unix epoch.
    pub due_ms: u64,
    /// Its idempotency key with the digest of its payload.
    pub claim: Option<(KeyHash, Digest)>,
    /// Whether it has a time to live, which begins when it is due.
    pub expires: bool,
    /// The one message.
    pub frame: Frame,
}

/// What became of a message that was to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scheduled {
    /// It waits.
    New,
    /// Its key was used before.
    Known(KeyOutcome),
    /// As many messages of the channel wait as may.
    TooMany {
        /// How many that is.
        limit: u64,
    },
    /// The messages that wait in all channels hold as many bytes as they may.
    TooManyBytes {
        /// What they would hold.
        value: u64,
        /// How many that is.
        limit: u64,
    },
}

/// A message that waits, as it is stored until it is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingRecord {
    /// The schema that it was checked against.
    pub schema_id: u64,
    /// The message.
    pub message: Delayed,
}

/// A message that waits, as the machine remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Where it will go.
    pub channel: ChannelId,
    /// Given in the order of scheduling, never twice.
    pub id: u64,
    /// When, milliseconds since the Unix epoch.
    pub due_ms: u64,
}

/// Messages of one channel and one schema whose time has come, read back by the leader from its store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// The id of each message of the group, in order. One that waits no longer, or whose time has not come, is left out.
    pub ids: Vec<u64>,
    /// The messages, without keys: those are remembered from their scheduling.
    pub group: PublishGroup,
}
