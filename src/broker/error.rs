//! Everything that a request can be refused with. What programs and people are told beyond the message is in `meaning.rs`,
//! and what is the same for all errors with one code in the table of codes (`crates/liminal-wire/src/code/table.rs`).

use self::text::{Current, Foreign, Held, Holding, Unnamed, Whose};
use super::TransactionPart;
use crate::model::{ClaimInfo, HistoryChange, Notice, timestamp};

mod meaning;
mod operations;
mod text;

pub use self::operations::{ClaimError, NoChannel, RuleError, Unserved};

/// A place in a payload that breaks its schema.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Violation {
    /// JSON pointer (RFC 6901) into the payload; empty for the whole of it.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
}

/// Why a request failed. Unless [`BrokerError::outcome_unknown`] says otherwise, nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// No such channel.
    #[error("channel `{name}` does not exist")]
    ChannelNotFound {
        /// The name asked for.
        name: String,
        /// A channel whose name is like it.
        similar: Option<String>,
    },
    /// The name is taken by a channel with another configuration.
    #[error("channel `{name}` exists already with another configuration")]
    ChannelExists {
        /// The name.
        name: String,
    },
    /// A text that is no channel name.
    #[error("{reason}")]
    InvalidChannelName {
        /// Why.
        reason: String,
    },
    /// The payload breaks the channel's schema.
    #[error("the payload breaks the schema of channel `{channel}` in {} place(s)", violations.len())]
    SchemaViolation {
        /// The channel.
        channel: String,
        /// Every place.
        violations: Vec<Violation>,
    },
    /// Nobody looked whether the payload fits the channel's schema: that takes more than one message may cost.
    #[error("the payload cannot be checked with the schema of channel `{channel}`: {reason}")]
    SchemaTooExpensive {
        /// The channel.
        channel: String,
        /// What is too much, and its limit.
        reason: String,
    },
    /// A schema that cannot be used.
    #[error("the schema cannot be used: {reason}")]
    InvalidSchema {
        /// Why.
        reason: String,
    },
    /// The key was used with another payload.
    #[error("idempotency key `{key}` was used at {channel}@{seq} with another payload")]
    KeyConflict {
        /// The channel.
        channel: String,
        /// The key.
        key: String,
        /// Where it was used.
        seq: u64,
    },
    /// More than a limit allows.
    #[error("{what} is {value}; the limit is {limit}")]
    LimitExceeded {
        /// What is too large, for example `the payload (bytes)`.
        what: String,
        /// How large it is.
        value: u64,
        /// How large it may be.
        limit: u64,
    },
    /// The channel holds as many live idempotency keys as it may.
    #[error("channel `{channel}` holds {limit} live idempotency keys, its limit")]
    TooManyKeys {
        /// The channel.
        channel: String,
        /// The limit.
        limit: u64,
    },
    /// Too much is in flight on this node.
    #[error("this node holds {in_flight} bytes of publishes in flight; its limit is {limit}")]
    Overloaded {
        /// Bytes in flight.
        in_flight: u64,
        /// The limit.
        limit: u64,
        /// When to try again, milliseconds.
        retry_after_ms: u64,
    },
    /// A sequence number below the first stored one.
    #[error("sequence number {seq} of channel `{channel}` is gone; the first one stored is {first}")]
    OutOfRange {
        /// The channel.
        channel: String,
        /// The number asked for.
        seq: u64,
        /// The first one stored.
        first: u64,
    },
    /// Something in the request makes no sense.
    #[error("{reason}")]
    InvalidArgument {
        /// What, and what would.
        reason: String,
    },
    /// Ephemeral channels store nothing.
    #[error("channel `{channel}` is ephemeral: it stores no messages to read")]
    NotStored {
        /// The channel.
        channel: String,
    },
    /// There is no leader. Nothing was proposed.
    #[error("the cluster has no leader now")]
    NoLeader {
        /// How long the request waited for one, milliseconds.
        waited_ms: u64,
    },
    /// A majority did not confirm in time.
    #[error("the cluster could not confirm a read within {waited_ms} ms")]
    NotConfirmed {
        /// How long the request waited, milliseconds.
        waited_ms: u64,
    },
    /// The leader, or the way to it, was lost after the publish was sent.
    #[error("the outcome is unknown: {reason}")]
    OutcomeUnknown {
        /// What happened.
        reason: String,
    },
    /// A node's disk or store failed. What was proposed before that showed will be applied when it works again.
    #[error("the store of {} failed{}: {reason}", Whose(node), if *proposed { "; the outcome is unknown" } else { "" })]
    StoreFailed {
        /// The node whose store it is; empty for a broker without a cluster.
        node: String,
        /// The store's words, with the file.
        reason: String,
        /// Whether what was asked for was proposed before the failure showed.
        proposed: bool,
    },
    /// The node is stopping.
    #[error("this node is stopping")]
    Stopping,
    /// A bug or a broken invariant.
    #[error("internal error: {reason}")]
    Internal {
        /// What.
        reason: String,
    },
    /// This node was not let into its cluster, or is no longer of it, or nobody can tell whether its state is right.
    #[error("this node does not serve: {reason}")]
    NotAMember {
        /// Why.
        reason: String,
    },
    /// The channel's schema changed meanwhile: never shown, because the request is begun again.
    #[error("the channel's schema changed meanwhile")]
    StaleSchema,
    /// There is no such rule.
    #[error("there is no rule from channel `{source_channel}` to channel `{target_channel}`")]
    RuleNotFound {
        /// From where.
        source_channel: String,
        /// To where.
        target_channel: String,
    },
    /// A rule between channels that cannot be.
    #[error("{reason}")]
    RuleRefused {
        /// Why.
        reason: String,
    },
    /// No such consumer.
    #[error("channel `{channel}` has no consumer `{name}`")]
    ConsumerNotFound {
        /// The channel.
        channel: String,
        /// The name asked for.
        name: String,
        /// A consumer of it whose name is like it.
        similar: Option<String>,
    },
    /// The name is taken by a consumer with another configuration.
    #[error("consumer `{name}` of channel `{channel}` exists already with another configuration")]
    ConsumerExists {
        /// The channel.
        channel: String,
        /// The name.
        name: String,
    },
    /// A text that is no name of a consumer.
    #[error("{reason}")]
    InvalidConsumerName {
        /// Why.
        reason: String,
    },
    /// A delivery was settled too late, or is settled already where a transaction has new messages.
    #[error("this delivery of message {seq} counts no longer: it has been settled, or handed out again")]
    StaleDelivery {
        /// The message.
        seq: u64,
    },
    /// A change of the cluster that cannot be made.
    #[error("{reason}")]
    ChangeRefused {
        /// Why.
        reason: String,
    },
    /// A schema that cannot take the place of the channel's.
    #[error("the schema is not compatible with that of channel `{channel}` in {} place(s)", reasons.len())]
    SchemaIncompatible {
        /// The channel.
        channel: String,
        /// Every place, with pointers into the new schema.
        reasons: Vec<Violation>,
    },
    /// There is no such namespace of claims.
    #[error("there is no claim namespace `{name}`")]
    NamespaceNotFound {
        /// The name asked for.
        name: String,
    },
    /// The namespace holds as many claims as it may.
    #[error("claim namespace `{namespace}` holds {limit} live claims, its limit")]
    TooManyClaims {
        /// The namespace.
        namespace: String,
        /// The limit.
        limit: u64,
    },
    /// Somebody else holds the claim.
    #[error("claim `{key}` in `{namespace}` is in flight: it {}", Held(holder))]
    ClaimInFlight {
        /// The namespace.
        namespace: String,
        /// The key.
        key: String,
        /// Who holds it.
        holder: ClaimInfo,
        /// When its lease ends, milliseconds from now.
        retry_after_ms: u64,
    },
    /// The token is not, or no longer, that of the claim.
    #[error("token {token} of claim `{key}` in `{namespace}` is stale: the claim {}", Current(current.as_ref()))]
    ClaimStale {
        /// The namespace.
        namespace: String,
        /// The key.
        key: String,
        /// The token that came too late.
        token: u64,
        /// The claim as it is now; none when it is free.
        current: Option<ClaimInfo>,
    },
    /// The claim ended already, under this token: it is given no other receipt, not given back and not held for longer.
    #[error(
        "claim `{key}` in `{namespace}` was completed under token {token} at {} and stays so",
        timestamp(*completed_ms)
    )]
    ClaimCompleted {
        /// The namespace.
        namespace: String,
        /// The key.
        key: String,
        /// The token.
        token: u64,
        /// When, milliseconds since the Unix epoch.
        completed_ms: u64,
    },
    /// The leader, or the way to it, was lost after an operation on a claim was sent.
    #[error("the outcome is unknown: {reason}")]
    ClaimOutcomeUnknown {
        /// What happened.
        reason: String,
    },
    /// The channel refuses new messages while it holds as much as it may.
    #[error("channel `{channel}` is full: it holds at most {limit} {what}")]
    ChannelFull {
        /// The channel.
        channel: String,
        /// `messages` or `bytes`.
        what: String,
        /// How many.
        limit: u64,
    },
    /// More is published than a quota allows now.
    #[error("the quota of {what} is {limit}, and it is used up for the moment")]
    QuotaExceeded {
        /// Of what, for example `messages a second to channel `orders``.
        what: String,
        /// The quota.
        limit: u64,
        /// When to try again, milliseconds.
        retry_after_ms: u64,
    },
    /// The channel does not end where the publisher thought. Nothing was stored.
    #[error("the next sequence number of channel `{channel}` is {actual}, not {expected}")]
    WrongSeq {
        /// The channel.
        channel: String,
        /// What the publisher thought.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// The key is of a message with another payload that waits for its time.
    #[error("idempotency key `{key}` of channel `{channel}` is of a message with another payload, due at {due_ms} ms")]
    KeyWaits {
        /// The channel.
        channel: String,
        /// The key.
        key: String,
        /// When that message is due, milliseconds since the Unix epoch.
        due_ms: u64,
    },
    /// A transaction of which some keys were used before and others were not.
    #[error("idempotency key `{key}` of channel `{channel}` was used before, and not those of all other messages")]
    KeyUsedApart {
        /// The channel.
        channel: String,
        /// The first such key.
        key: String,
    },
    /// What is wrong with one part of a transaction, of which therefore nothing was done.
    #[error("{part} of the transaction: {error}")]
    InTransaction {
        /// Which one.
        part: TransactionPart,
        /// What is wrong.
        error: Box<BrokerError>,
    },
    /// There is no live subscriber and no consumer: the request was handed to nobody, and is not stored.
    #[error("nobody listens on channel `{channel}`, so nobody will reply")]
    NoResponders {
        /// The channel.
        channel: String,
    },
    /// No reply came in time.
    #[error("no reply came within {waited_ms} ms")]
    ReplyTimeout {
        /// How long the request waited, milliseconds.
        waited_ms: u64,
    },
    /// Nobody waits for this reply any more.
    #[error("nobody waits for a reply at `{inbox}`: {reason}")]
    InboxGone {
        /// Where the reply was to go.
        inbox: String,
        /// Why it does not get there.
        reason: String,
    },
    /// Too few nodes are there to agree on anything. Nothing was proposed.
    #[error("the cluster has no majority now: {reason}")]
    NoMajority {
        /// Who is missed.
        reason: String,
    },
    /// The history behind a reader's position is not the channel's, or no longer. A subscription that goes on after
    /// that says it once.
    #[error("{0}")]
    HistoryChanged(Box<Notice>),
    /// All channels together have as many live keys as they may have.
    #[error("all channels together remember {limit} idempotency keys already, as many as they may")]
    TooManyKeysInAll {
        /// How many that is.
        limit: u64,
    },
    /// A delivery is settled that is not one of the consumer's, or no longer.
    #[error("this delivery of message {seq} counts no longer: {}", Foreign(change.as_ref()))]
    ForeignDelivery {
        /// The message.
        seq: u64,
        /// What became of the channel's history; none where it is the consumer that is another one.
        change: Option<HistoryChange>,
    },
    /// Another node is of an earlier version than what it was asked for. It did nothing.
    #[error("node `{node}` is of an earlier version and does not understand the request: {what}")]
    NotUnderstood {
        /// Which node.
        node: String,
        /// What it does not know.
        what: String,
    },
    /// A node that speaks an earlier version keeps the cluster from what is new. Nothing was done.
    #[error("this needs version {needs} of the cluster, which is at version {cluster}{}", Holding(node, *speaks))]
    NotUpgraded {
        /// The version that it needs.
        needs: u32,
        /// The cluster's.
        cluster: u32,
        /// Which node; empty where none does any more.
        node: String,
        /// What it speaks; 0 where it has not been heard of.
        speaks: u32,
    },
    /// A node of a newer version gave an error that this version does not know.
    #[error("{text}{}", Unnamed(code))]
    OfNewerVersion {
        /// Its stable code.
        code: String,
        /// Its text.
        text: String,
        /// Whether what was asked for may have happened, or may yet happen.
        unknown: bool,
        /// When to try again, milliseconds; 0 where that is not known.
        retry_after_ms: u64,
    },
    /// Nobody knows who asks.
    #[error("{reason}")]
    Unauthenticated {
        /// Why.
        reason: String,
    },
    /// No role of the caller grants it. Said in the same words whether or not the thing exists.
    #[error("{who} has no right to {action} on {on}")]
    PermissionDenied {
        /// The caller, without its secret.
        who: String,
        /// What was to be done.
        action: String,
        /// To what.
        on: String,
    },
    /// There is no such token.
    #[error("there is no token `{id}`")]
    TokenNotFound {
        /// The id asked for.
        id: String,
    },
    /// There is no such role.
    #[error("there is no role `{name}`")]
    RoleNotFound {
        /// The name asked for.
        name: String,
    },
    /// The name is taken by a role that grants something else.
    #[error("role `{name}` exists already and grants something else")]
    RoleExists {
        /// The name.
        name: String,
    },
    /// A role that tokens have cannot be deleted.
    #[error("role `{name}` cannot be deleted: token {token} has it")]
    RoleInUse {
        /// The name.
        name: String,
        /// One of those tokens.
        token: String,
    },
    /// Nobody could administer the cluster without the token.
    #[error("token {id} is the last one that may administer the cluster")]
    LastAdministrator {
        /// Its id.
        id: String,
    },
    /// The caller's token would have more of something than its roles allow.
    #[error("the token would have {value} {what}, and role `{name}` allows {limit}")]
    RoleQuotaExceeded {
        /// Of what, for example `messages a second`.
        what: String,
        /// How much it would have.
        value: u64,
        /// How much it may have.
        limit: u64,
        /// The role that says so: of those of the token, the one that allows most.
        name: String,
        /// When to try again, milliseconds.
        retry_after_ms: u64,
    },
}
