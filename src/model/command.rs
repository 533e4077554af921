//! What the replicated log says: commands, and the machine's replies to them. Variants are append-only: their
//! order is part of the format.

use serde::{Deserialize, Serialize};

use super::{
    ChannelConfig, ChannelId, ChannelMeta, ChannelName, ChannelStats, ChannelUpdate, Digest, Frame, KeyHash,
    MemberEvent, Operation, OperationReply, PeerVersion, Refusal, TokenId,
};

/// One log entry. Every command carries the leader's reckoning of the log's time, which never goes backwards: expiry of
/// anything is driven by it and by nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// All publishes that arrived while the previous entry was on its way, at most one group for a channel and schema.
    Publish {
        /// Milliseconds since the Unix epoch.
        time_ms: u64,
        /// In the order in which the machine takes them.
        groups: Vec<PublishGroup>,
    },
    /// Refused when the name is taken by a channel with another configuration.
    CreateChannel {
        /// Milliseconds since the Unix epoch.
        time_ms: u64,
        /// The new channel's name.
        name: ChannelName,
        /// What its creator chose.
        config: ChannelConfig,
    },
    /// Changes a channel.
    UpdateChannel {
        /// Milliseconds since the Unix epoch.
        time_ms: u64,
        /// The channel to change.
        name: ChannelName,
        /// What to change.
        update: ChannelUpdate,
    },
    /// With all its messages and keys.
    DeleteChannel {
        /// Milliseconds since the Unix epoch.
        time_ms: u64,
        /// The channel to delete.
        name: ChannelName,
    },
    /// Lets time pass when nothing else does.
    Tick {
        /// Milliseconds since the Unix epoch.
        time_ms: u64,
    },
    /// Every node hashes its whole state at this very index.
    Checkpoint {
        /// Milliseconds since the Unix epoch.
        time_ms: u64,
    },
    /// Something happened to a node of the cluster.
    Member {
        /// Milliseconds since the Unix epoch.
        time_ms: u64,
        /// The node's id.
        node: u64,
        /// The node's name.
        name: String,
        /// What happened.
        event: MemberEvent,
    },
    /// All operations that arrived while the previous entry was on its way.
    Operations {
        /// Milliseconds since the Unix epoch.
        time_ms: u64,
        /// In the order in which the machine takes them; each is done or refused by itself.
        operations: Vec<Operation>,
    },
    /// The log's time was led astray: from now on it counts as so far from the time of day.
    Calendar {
        /// As in every command.
        time_ms: u64,
        /// How far the log's time is ahead, milliseconds; below 0 where it is behind.
        ahead_ms: i64,
    },
    /// Changes a channel, unless it would become a work queue while one of its consumers has a filter. Logs of earlier
    /// versions hold the change without that judgement.
    ChangeChannel {
        /// As in every command.
        time_ms: u64,
        /// The channel to change.
        name: ChannelName,
        /// What to change.
        update: ChannelUpdate,
    },
    /// All nodes speak at least this version: from here on the log may hold what needs it. It is never lowered.
    RaiseVersion {
        /// As in every command.
        time_ms: u64,
        /// The cluster's version from now on.
        version: PeerVersion,
    },
    /// Creates a channel that counts against what a token may have of them.
    CreateChannelFor {
        /// As in every command.
        time_ms: u64,
        /// The new channel's name.
        name: ChannelName,
        /// What its creator chose.
        config: ChannelConfig,
        /// Which token.
        token: TokenId,
    },
}

impl Command {
    /// The log's time: milliseconds since the Unix epoch, or as far from that as the calendar says.
    pub fn time_ms(&self) -> u64 {
        match self {
            Self::Publish { time_ms, .. }
            | Self::CreateChannel { time_ms, .. }
            | Self::CreateChannelFor { time_ms, .. }
            | Self::UpdateChannel { time_ms, .. }
            | Self::ChangeChannel { time_ms, .. }
            | Self::DeleteChannel { time_ms, .. }
            | Self::Tick { time_ms }
            | Self::Checkpoint { time_ms }
            | Self::Member { time_ms, .. }
            | Self::Operations { time_ms, .. }
            | Self::Calendar { time_ms, .. }
            | Self::RaiseVersion { time_ms, .. } => *time_ms,
        }
    }
}

/// Messages for one channel, checked against one schema.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishGroup {
    /// The channel, by id: a publish never lands in a later channel of the same name.
    pub channel: ChannelId,
    /// The schema that the messages were checked against; the machine refuses a stale one.
    pub schema_id: u64,
    /// The version of the rules that `routes` follow; the machine refuses a stale one.
    pub rules_version: u64,
    /// The group is refused unless the first message gets this number.
    pub expected_seq: Option<u64>,
    /// Whether a message of it has a time to live.
    pub expires: bool,
    /// The channels that get copies of some messages.
    pub routes: Vec<Route>,
    /// The messages that carry an idempotency key, by increasing position.
    pub keys: Vec<KeyClaim>,
    /// The messages.
    pub frame: Frame,
}

impl PublishGroup {
    /// Bytes of the copies that other channels get.
    pub fn copied_bytes(&self) -> u64 {
        if self.routes.is_empty() {
            return 0;
        }
        let sizes: Vec<u64> = self.frame.sizes().collect();
        let size = |position: &u32| sizes.get(*position as usize).copied().unwrap_or(0);
        self.routes.iter().flat_map(|route| &route.positions).map(size).sum()
    }
}

/// Messages of a group that another channel gets too. One that is not appended to its own channel is not copied either.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Which channel. It may be gone by now: nothing is copied then.
    pub target: ChannelId,
    /// The target's schema that the messages were checked against; where it is stale the group is refused.
    pub schema_id: u64,
    /// Positions of the messages in the group, increasing.
    pub positions: Vec<u32>,
}

/// A message of a group claims its idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyClaim {
    /// Position of the message in the group's frame.
    pub position: u32,
    /// Which key.
    pub key: KeyHash,
    /// With which payload.
    pub digest: Digest,
}

/// The machine's answer to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "there is one for each log entry; it is moved on and never kept")]
pub enum Reply {
    /// To `Publish`: one for each group, in order.
    Published(Vec<GroupReply>),
    /// To a channel command.
    Channel(Result<ChannelReply, Refusal>),
    /// To anything that cannot fail.
    Done,
    /// To `Member`.
    Member(Result<(), Refusal>),
    /// To `Operations`: one for each, in order.
    Operations(Vec<Result<OperationReply, Refusal>>),
}

/// What became of a group: all of it refused, or each message assigned or excepted.
pub type GroupReply = Result<Assigned, Refusal>;

/// The messages of a group that are not excepted got consecutive sequence numbers, in order, from `first_seq`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Sequence number of the first message that was appended.
    pub first_seq: u64,
    /// Messages that were not appended, by increasing position.
    pub except: Vec<(u32, KeyOutcome)>,
}

/// Why a message was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyOutcome {
    /// The same key with the same payload is there already.
    Duplicate {
        /// Where.
        seq: u64,
    },
    /// The same key with another payload is there already.
    Conflict {
        /// Where.
        seq: u64,
    },
    /// The channel has as many live keys as it may have.
    TooManyKeys {
        /// How many that is.
        limit: u64,
    },
    /// The channel refuses new messages while it is full.
    Full(Full),
    /// The message alone is more than the channel may hold.
    TooLarge {
        /// Its encoded bytes.
        bytes: u64,
        /// What the channel may hold.
        limit: u64,
    },
    /// The same key with the same payload waits for its time.
    Waiting {
        /// When that is.
        due_ms: u64,
    },
    /// The same key with another payload waits for its time.
    WaitingConflict {
        /// When that is.
        due_ms: u64,
    },
    /// All channels together have as many live keys as they may have.
    TooManyKeysInAll {
        /// How many that is.
        limit: u64,
    },
}

/// Which limit of a channel is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Full {
    /// So many messages.
    Messages(u64),
    /// So many bytes of encoded messages.
    Bytes(u64),
}

/// A channel after a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelReply {
    /// What it is (for a delete: what it was).
    pub meta: ChannelMeta,
    /// Its counters.
    pub stats: ChannelStats,
}
