//! What the replicated log says: commands, and the machine's replies to them. Variants are append-only: their
//! order is part of the format.

use serde::{Deserialize, Serialize};

use super::{
    ChannelConfig, ChannelId, ChannelMeta, ChannelName, ChannelStats, ChannelUpdate, ClaimInfo, ConsumerName, Frame,
    MemberEvent, Operation, OperationReply, RoleName, TokenId,
};

/// The first 16 bytes of the BLAKE3 hash of an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "u128", into = "u128")]
pub struct KeyHash(pub [u8; 16]);

/// The first 8 bytes of the BLAKE3 hash of a payload. It only tells a key's conflict from its retry, so it is shorter
/// than what two keys are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub struct Digest(pub [u8; 8]);

/// Serialized as a number, because serde takes arrays byte by byte: in the codec's format the bytes are the same.
macro_rules! as_number {
    ($($hash:ty: $number:ty),*) => {$(
        impl From<$number> for $hash {
            fn from(number: $number) -> Self {
                Self(number.to_le_bytes())
            }
        }

        impl From<$hash> for $number {
            fn from(hash: $hash) -> Self {
                Self::from_le_bytes(hash.0)
            }
        }
    )*};
}

as_number!(KeyHash: u128, Digest: u64);

impl KeyHash {
    /// Of a key's text.
    pub fn of(key: &str) -> Self {
        Self(hash(key.as_bytes()))
    }
}

impl Digest {
    /// Of a payload.
    pub fn of(payload: &[u8]) -> Self {
        Self(hash(payload))
    }
}

fn hash<const LEN: usize>(bytes: &[u8]) -> [u8; LEN] {
    let mut short = [0; LEN];
    short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..LEN]);
    short
}

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
}

impl Command {
    /// The log's time: milliseconds since the Unix epoch, or as far from that as the calendar says.
    pub fn time_ms(&self) -> u64 {
        match self {
            Self::Publish { time_ms, .. }
            | Self::CreateChannel { time_ms, .. }
            | Self::UpdateChannel { time_ms, .. }
            | Self::ChangeChannel { time_ms, .. }
            | Self::DeleteChannel { time_ms, .. }
            | Self::Tick { time_ms }
            | Self::Checkpoint { time_ms }
            | Self::Member { time_ms, .. }
            | Self::Operations { time_ms, .. }
            | Self::Calendar { time_ms, .. } => *time_ms,
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

/// A command that changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No channel of that id or name.
    #[error("the channel does not exist")]
    NoSuchChannel,
    /// Checked against a schema that is no longer the channel's.
    #[error("the channel's schema is now {current}")]
    StaleSchema {
        /// The channel's schema.
        current: u64,
    },
    /// The name is taken by a channel with another configuration.
    #[error("the channel exists with another configuration")]
    ChannelExists(Box<ChannelReply>),
    /// As many channels as there may be.
    #[error("there are {limit} channels already")]
    TooManyChannels {
        /// How many that is.
        limit: u64,
    },
    /// The node was removed from the cluster, and nobody has let it in again.
    #[error("the node was removed from the cluster")]
    NodeRemoved,
    /// The node has run on a newer disk than this one.
    #[error("this is start {starts} of the disk, but another process of the node had begun with its start {seen}")]
    OldDisk {
        /// Starts that the disk knows of, this one included.
        starts: u64,
        /// Starts that the cluster knows of.
        seen: u64,
    },
    /// Routed by rules that are no longer those in force.
    #[error("the rules between channels are now of version {current}")]
    StaleRules {
        /// Their version.
        current: u64,
    },
    /// The channel does not end where the publisher thought.
    #[error("the channel's next sequence number is {actual}, not {expected}")]
    WrongSeq {
        /// What the publisher thought.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// There is no rule between these channels.
    #[error("there is no such rule")]
    NoSuchRule,
    /// The rule would send messages round in a circle.
    #[error("messages of the target reach the source already")]
    RuleCycle,
    /// As many rules as there may be.
    #[error("there are {limit} rules already")]
    TooManyRules {
        /// How many that is.
        limit: u64,
    },
    /// The channel of that name does not exist.
    #[error("channel `{0}` does not exist")]
    NoChannelNamed(ChannelName),
    /// No namespace of that name.
    #[error("the namespace does not exist")]
    NoSuchNamespace,
    /// As many namespaces as there may be, those that are being deleted included.
    #[error("there are {limit} namespaces already")]
    TooManyNamespaces {
        /// How many that is.
        limit: u64,
    },
    /// The namespace holds as many claims as it may.
    #[error("the namespace holds {limit} live claims already")]
    TooManyClaims {
        /// How many that is.
        limit: u64,
    },
    /// The token is not that of the present claim.
    #[error("the claim is not held under this token")]
    StaleClaim {
        /// The claim as it is now; none when it is free.
        current: Option<ClaimInfo>,
    },
    /// The token is that of the present claim, which ended otherwise.
    #[error("the claim is completed already")]
    ClaimCompleted(ClaimInfo),
    /// A channel that would get copies is full, and refuses new messages. Earlier versions say so.
    #[error("a channel that gets copies is full")]
    TargetFull {
        /// Which one.
        channel: ChannelId,
        /// Its limit.
        full: Full,
    },
    /// No consumer of that id.
    #[error("the consumer does not exist")]
    NoSuchConsumer,
    /// The name is taken by a consumer with another configuration.
    #[error("the consumer exists with another configuration")]
    ConsumerExists,
    /// As many consumers as there may be, of the channel or in all.
    #[error("there are {limit} consumers already")]
    TooManyConsumers {
        /// How many that is.
        limit: u64,
    },
    /// More messages in flight than a consumer may have.
    #[error("a consumer may have {limit} messages in flight")]
    TooMuchInFlight {
        /// How many that is.
        limit: u64,
    },
    /// The channel stores nothing that could be consumed.
    #[error("the channel is ephemeral: it stores no messages to consume")]
    NotStored,
    /// Dead letters cannot go there: it is the consumer's own channel, or ephemeral.
    #[error("`{0}` cannot take dead letters: it is the consumer's own channel, or ephemeral")]
    NoDeadLetterChannel(ChannelName),
    /// The consumer is no longer as the leader saw it when it handed out messages.
    #[error("the consumer has changed meanwhile")]
    StaleAssignment,
    /// The message has been handed out again.
    #[error("message {seq} has been handed out again")]
    StaleDelivery {
        /// Which message.
        seq: u64,
    },
    /// The message is not, or no longer, dead.
    #[error("the message is not dead")]
    NotDead,
    /// A part of a transaction cannot be done, so none was.
    #[error("part {part} of the transaction: {why}")]
    Part {
        /// Which part, from 0.
        part: u32,
        /// Why.
        why: Box<Refusal>,
    },
    /// A key of a transaction is taken, or there are too many.
    #[error("message {position}: its idempotency key cannot be claimed: {outcome:?}")]
    Key {
        /// Position of the message in its part.
        position: u32,
        /// What stands against it.
        outcome: KeyOutcome,
    },
    /// Some keys of a transaction were used before, and others were not: it is no retry.
    #[error("message {position}: its idempotency key was used before, and not those of all other messages")]
    UsedInPart {
        /// Position in its part of the first message whose key was used.
        position: u32,
    },
    /// Messages of an ephemeral channel cannot wait, because it stores none.
    #[error("the channel is ephemeral")]
    Ephemeral,
    /// The step does not follow the one that was taken last, or the channel is not compacted by that header, or does not
    /// hold what is to go.
    #[error("the channel's compaction is at step {step}, and goes by its present configuration")]
    StaleCompaction {
        /// Where it is.
        step: u64,
    },
    /// The dead-letter channel takes no more, or nothing so large.
    #[error("the dead-letter channel refuses the letter: {0:?}")]
    LetterRefused(KeyOutcome),
    /// Letters of the dead-letter channel come back to the consumer's own channel.
    #[error("the dead letters of `{0}` come back to the consumer's channel: they would go round for ever")]
    DeadLetterCycle(ChannelName),
    /// The step does not follow the one that was taken last, or the channel does not hold its letters any more.
    #[error("letters of the channel went elsewhere meanwhile: it is at step {step}")]
    StaleRedrive {
        /// Where it is.
        step: u64,
    },
    /// The channel to which letters go does not take one of them, and therefore none.
    #[error("letter {position} of the step is refused: {outcome:?}")]
    RedriveRefused {
        /// Its position among the letters of the step; those before it would fit.
        position: u32,
        /// Why.
        outcome: KeyOutcome,
    },
    /// A channel that would get a copy of a message does not take it.
    #[error("a channel that gets a copy of message {position} refuses it: {outcome:?}")]
    CopyRefused {
        /// Which one.
        channel: ChannelId,
        /// The position of the first such message in its group.
        position: u32,
        /// Why.
        outcome: KeyOutcome,
    },
    /// A work queue lets go of what its consumers have settled, and a filter would settle what nobody has worked on.
    #[error("the channel is a work queue: what the filter keeps back would go without anybody having worked on it")]
    WorkWouldBeSkipped,
    /// A channel with such a consumer does not become a work queue.
    #[error("consumer `{0}` has a filter: in a work queue, what it keeps back would go")]
    FilteredConsumer(ConsumerName),
    /// No role of that name.
    #[error("role `{0}` does not exist")]
    NoSuchRole(RoleName),
    /// The name is taken by a role that grants something else.
    #[error("role `{0}` exists already")]
    RoleExists(RoleName),
    /// A token has the role.
    #[error("token {token} has the role `{role}`")]
    RoleInUse {
        /// Which role.
        role: RoleName,
        /// The first such token.
        token: TokenId,
    },
    /// More grants, or a longer description, than a role may have.
    #[error("role `{0}` is too large")]
    RoleTooLarge(RoleName),
    /// As many roles as there may be.
    #[error("there are {limit} roles already")]
    TooManyRoles {
        /// How many that is.
        limit: u64,
    },
    /// No token of that id.
    #[error("token {0} does not exist")]
    NoSuchToken(TokenId),
    /// The id is taken by another token.
    #[error("token {0} exists already")]
    TokenExists(TokenId),
    /// More roles, or a longer description, than a token may have.
    #[error("the token is too large")]
    TokenTooLarge,
    /// As many tokens as there may be.
    #[error("there are {limit} tokens already")]
    TooManyTokens {
        /// How many that is.
        limit: u64,
    },
}
