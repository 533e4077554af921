//! Everything that a request can be refused with, and the stable code of each.

use std::{fmt, time::Duration};

pub use liminal_wire::Admission;
use tokio::time::Instant;

use super::TransactionPart;
use crate::model::{ClaimInfo, HistoryChange, Notice, timestamp};

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
}

/// Names the code of an error where it cannot be given as one.
struct Unnamed<'a>(&'a str);

impl fmt::Display for Unnamed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if Code::known(self.0).is_some() { Ok(()) } else { write!(f, " ({})", self.0) }
    }
}

/// Says why a delivery is none of a consumer's.
struct Foreign<'a>(Option<&'a HistoryChange>);

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(HistoryChange::Rewound) => {
                "a backup was restored since it was handed out, and the number may be another message's by now"
            }
            Some(_) => "it is of another channel, or of one of that name that was deleted or comes from another backup",
            None => "it is of another consumer, or of one of that name that was deleted",
        })
    }
}

/// Says whose something is.
struct Whose<'a>(&'a str);

impl fmt::Display for Whose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("this process") } else { write!(f, "node `{}`", self.0) }
    }
}

/// Says who holds a claim, or completed it, and when.
struct Held<'a>(&'a ClaimInfo);

impl fmt::Display for Held<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClaimInfo { token, owner, completed, since_ms, expires_ms } = self.0;
        let by = owner.as_ref().map_or_else(String::new, |owner| format!(" by `{owner}`"));
        if *completed {
            return write!(f, "was completed{by} under token {token} at {}", timestamp(*since_ms));
        }
        let (since, until) = (timestamp(*since_ms), timestamp(*expires_ms));
        write!(f, "is held{by} under token {token} since {since} until {until}")
    }
}

/// The same of a claim that may be free.
struct Current<'a>(Option<&'a ClaimInfo>);

impl fmt::Display for Current<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(claim) => Held(claim).fmt(f),
            None => f.write_str("is free, because its lease ended or it was released"),
        }
    }
}

/// A stable name for a kind of error, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub &'static str);

impl Code {
    /// The code of that text, where this version knows it.
    fn known(text: &str) -> Option<Self> {
        liminal_wire::Code::ALL.iter().map(liminal_wire::Code::as_str).find(|code| *code == text).map(Self)
    }
}

impl BrokerError {
    /// A rule would copy a message into a channel that may never hold so much.
    pub(super) fn copy_too_large(channel: &str, value: u64, limit: u64) -> Self {
        let what = format!("the message (bytes) for what channel `{channel}`, to which a rule copies it, may hold");
        Self::LimitExceeded { what, value, limit }
    }

    /// Its stable code.
    pub fn code(&self) -> Code {
        Code(match self {
            Self::ChannelNotFound { .. } => "CHANNEL_NOT_FOUND",
            Self::ChannelExists { .. } => "CHANNEL_EXISTS",
            Self::InvalidChannelName { .. } => "INVALID_CHANNEL_NAME",
            Self::SchemaViolation { .. } => "SCHEMA_VIOLATION",
            Self::SchemaTooExpensive { .. } => "SCHEMA_TOO_EXPENSIVE",
            Self::InvalidSchema { .. } => "INVALID_SCHEMA",
            Self::KeyConflict { .. } => "KEY_CONFLICT",
            Self::LimitExceeded { .. } => "LIMIT_EXCEEDED",
            Self::TooManyKeys { .. } | Self::TooManyKeysInAll { .. } => "TOO_MANY_KEYS",
            Self::Overloaded { .. } => "OVERLOADED",
            Self::OutOfRange { .. } => "OUT_OF_RANGE",
            Self::InvalidArgument { .. } => "INVALID_ARGUMENT",
            Self::NotStored { .. } => "NOT_STORED",
            Self::NoLeader { .. } | Self::NoMajority { .. } => "NO_LEADER",
            Self::NotConfirmed { .. } => "NOT_CONFIRMED",
            Self::OutcomeUnknown { .. } => "OUTCOME_UNKNOWN",
            Self::StoreFailed { .. } => "STORE_FAILED",
            Self::Stopping => "STOPPING",
            Self::Internal { .. } => "INTERNAL",
            Self::ChangeRefused { .. } => "CHANGE_REFUSED",
            Self::NotAMember { .. } => "NOT_A_MEMBER",
            Self::StaleSchema => "STALE_SCHEMA",
            Self::RuleNotFound { .. } => "RULE_NOT_FOUND",
            Self::RuleRefused { .. } => "RULE_REFUSED",
            Self::SchemaIncompatible { .. } => "SCHEMA_INCOMPATIBLE",
            Self::NamespaceNotFound { .. } => "NAMESPACE_NOT_FOUND",
            Self::TooManyClaims { .. } => "TOO_MANY_CLAIMS",
            Self::ClaimInFlight { .. } => "CLAIM_IN_FLIGHT",
            Self::ClaimStale { .. } => "CLAIM_STALE",
            Self::ClaimCompleted { .. } => "CLAIM_COMPLETED",
            Self::ClaimOutcomeUnknown { .. } => "OUTCOME_UNKNOWN",
            Self::ChannelFull { .. } => "CHANNEL_FULL",
            Self::QuotaExceeded { .. } => "QUOTA_EXCEEDED",
            Self::ConsumerNotFound { .. } => "CONSUMER_NOT_FOUND",
            Self::ConsumerExists { .. } => "CONSUMER_EXISTS",
            Self::InvalidConsumerName { .. } => "INVALID_CONSUMER_NAME",
            Self::StaleDelivery { .. } | Self::ForeignDelivery { .. } => "STALE_DELIVERY",
            Self::WrongSeq { .. } => "WRONG_SEQ",
            Self::KeyWaits { .. } | Self::KeyUsedApart { .. } => "KEY_CONFLICT",
            Self::InTransaction { error, .. } => return error.code(),
            Self::NoResponders { .. } => "NO_RESPONDERS",
            Self::ReplyTimeout { .. } => "REPLY_TIMEOUT",
            Self::InboxGone { .. } => "INBOX_GONE",
            Self::HistoryChanged(notice) => notice.change.code(),
            Self::NotUnderstood { .. } => "UNIMPLEMENTED",
            Self::OfNewerVersion { code, .. } => return Code::known(code).unwrap_or(Code("INTERNAL")),
        })
    }

    /// What to do next, for people.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::ChannelNotFound { name, similar: Some(similar) } => {
                format!("did you mean `{similar}`? or run `liminal channel create {name}`")
            }
            Self::ChannelNotFound { name, similar: None } => format!("run `liminal channel create {name}`"),
            Self::ChannelExists { name } => {
                format!("look at it with `liminal channel show {name}`, or choose another name")
            }
            Self::SchemaViolation { .. } => "mend the places named, or update the channel's schema".into(),
            Self::SchemaTooExpensive { .. } => {
                "have each part of the schema refer to a definition once, and nest less where it refers back to itself; or \
                 send a smaller payload"
                    .into()
            }
            Self::SchemaIncompatible { channel, .. } => format!(
                "mend the places named; or see with `liminal channel validate {channel} --schema FILE` whether a stored \
                 message breaks it, and update without the check (compatibility none)"
            ),
            Self::WrongSeq { actual, .. } => {
                format!("read what was published meanwhile, then publish again with expected sequence number {actual}")
            }
            Self::KeyUsedApart { .. } => "repeat a transaction as it was, or give new messages new keys".into(),
            Self::InTransaction { error, .. } => return error.help(),
            Self::NoResponders { channel } => {
                format!("start a responder: `liminal subscribe {channel}`; nothing was stored")
            }
            Self::ReplyTimeout { .. } => "look whether the responder works; the request may still be handled".into(),
            Self::KeyConflict { .. } | Self::KeyWaits { .. } => {
                "use a new key for a new message; the same key is for retries of the same one".into()
            }
            Self::TooManyKeysInAll { .. } => {
                "wait until keys leave their windows, give channels shorter ones, or raise limits.key_memory \
                 (docs/KEYS.md, \"How many keys\")"
                    .into()
            }
            Self::TooManyKeys { .. } => "wait until keys leave the window, give the channel a shorter one, or raise limits.live_keys (docs/KEYS.md, \"How many keys\")".into(),
            Self::Overloaded { retry_after_ms, .. } => {
                format!("try again in {retry_after_ms} ms, with fewer publishes in flight")
            }
            Self::QuotaExceeded { retry_after_ms, .. } => {
                format!("try again in {retry_after_ms} ms, or have the quota raised")
            }
            Self::ChannelFull { channel, .. } => format!(
                "let go of old messages with `liminal channel trim {channel} --keep N`, raise its limit with \
                 `liminal channel update`, or let it drop the oldest (`--when-full drop-oldest`)"
            ),
            Self::OutOfRange { first, .. } => format!("begin at {first}, or at `earliest`"),
            Self::HistoryChanged(notice) => format!("go on at `{}`, or begin at `earliest`", notice.next),
            Self::NoLeader { .. } | Self::NoMajority { .. } => {
                "check that a majority of the nodes is up (`liminal cluster status`), then try again".into()
            }
            Self::NotConfirmed { .. } => "try again, or ask for a local read".into(),
            Self::OutcomeUnknown { .. } | Self::StoreFailed { proposed: true, .. } => {
                "retry with the same idempotency key: it is stored at most once".into()
            }
            Self::StoreFailed { proposed: false, node, .. } => {
                let whose = Whose(node).to_string();
                format!(
                    "look at the disk and the log of {whose}; another node takes its place if one is well: try again"
                )
            }
            Self::Stopping | Self::NotAMember { .. } => "try another node".into(),
            Self::RuleNotFound { .. } | Self::RuleRefused { .. } => "look at the rules with `liminal rule list`".into(),
            Self::NamespaceNotFound { .. } => {
                "check the name with `liminal claim namespaces`; a namespace comes into being with its first claim"
                    .into()
            }
            Self::TooManyClaims { .. } => {
                "wait until claims leave, give the namespace a shorter window, or use another namespace".into()
            }
            Self::ClaimInFlight { retry_after_ms, .. } => {
                format!(
                    "try again in {retry_after_ms} ms: by then it is completed, or its lease has ended or is renewed"
                )
            }
            Self::ClaimStale { .. } => {
                "stop this work: it is no longer yours; take the claim again to see what became of it".into()
            }
            Self::ClaimCompleted { .. } => "take the claim to be given the receipt that stands".into(),
            Self::ClaimOutcomeUnknown { .. } => {
                "repeat the request: a take with the same owner gives the same token, and nothing happens twice".into()
            }
            Self::ConsumerNotFound { similar: Some(similar), channel, name } => {
                format!("did you mean `{similar}`? or run `liminal consumer create {channel} {name}`")
            }
            Self::ConsumerNotFound { similar: None, channel, name } => {
                format!("run `liminal consumer create {channel} {name}`")
            }
            Self::ConsumerExists { channel, name } => {
                format!("look at it with `liminal consumer show {channel} {name}`, or choose another name")
            }
            Self::StaleDelivery { .. } => {
                "undo what was done for it, or let it be done twice; extend deliveries that take long".into()
            }
            Self::ForeignDelivery { .. } => "undo what was done for it: what is to be done is handed out anew".into(),
            Self::NotUnderstood { .. } => {
                "upgrade that node, or try again when all nodes are upgraded; nothing was done".into()
            }
            _ => return None,
        })
    }

    /// The same as an error that ends a read or a subscription.
    pub(super) fn of_notice(notice: Notice) -> Self {
        match notice {
            Notice { change: HistoryChange::Cut, channel, from_seq: seq, first_seq: first, .. } => {
                Self::OutOfRange { channel, seq, first }
            }
            notice => Self::HistoryChanged(Box::new(notice)),
        }
    }

    /// What a reader is told of its history, and where it goes on.
    pub fn notice(&self) -> Option<&Notice> {
        match self {
            Self::HistoryChanged(notice) => Some(notice),
            _ => None,
        }
    }

    /// The places in a payload that break its schema, where that is what is wrong.
    pub fn violations(&self) -> Option<&[Violation]> {
        match self {
            Self::SchemaViolation { violations, .. } => Some(violations),
            Self::InTransaction { error, .. } => error.violations(),
            _ => None,
        }
    }

    /// The same after an earlier attempt whose outcome is not known: what says nothing of that attempt leaves it
    /// unknown.
    pub(super) fn after_unknown(self, unknown: Option<String>) -> Self {
        match unknown {
            Some(reason) if self.leaves_unknown() => Self::OutcomeUnknown { reason: format!("{reason}; then {self}") },
            _ => self,
        }
    }

    fn leaves_unknown(&self) -> bool {
        match self {
            Self::InTransaction { error, .. } => error.leaves_unknown(),
            Self::NoLeader { .. }
            | Self::NoMajority { .. }
            | Self::NotConfirmed { .. }
            | Self::Overloaded { .. }
            | Self::QuotaExceeded { .. }
            | Self::ChannelFull { .. }
            | Self::StoreFailed { proposed: false, .. }
            | Self::Stopping
            | Self::Internal { .. }
            | Self::NotAMember { .. }
            | Self::NotUnderstood { .. }
            | Self::OfNewerVersion { .. } => true,
            _ => false,
        }
    }

    /// How long to wait before a publish is tried again whose earlier attempt may have been committed, so that its
    /// outcome becomes known; none where that is not worth it.
    pub(super) fn worth_waiting(&self, unknown: Option<&str>, deadline: Instant) -> Option<Duration> {
        unknown?;
        self.retry_after().filter(|wait| Instant::now() + *wait < deadline)
    }

    /// Whether what was asked for may have happened, or may yet happen.
    pub fn outcome_unknown(&self) -> bool {
        matches!(
            self,
            Self::OutcomeUnknown { .. }
                | Self::ClaimOutcomeUnknown { .. }
                | Self::StoreFailed { proposed: true, .. }
                | Self::ReplyTimeout { .. }
                | Self::OfNewerVersion { unknown: true, .. }
        )
    }

    /// Every single thing that is wrong, where there may be several.
    pub fn places(&self) -> &[Violation] {
        match self {
            Self::SchemaViolation { violations, .. } => violations,
            Self::SchemaIncompatible { reasons, .. } => reasons,
            Self::InTransaction { error, .. } => error.places(),
            _ => &[],
        }
    }

    /// When to try again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after_ms, .. }
            | Self::QuotaExceeded { retry_after_ms, .. }
            | Self::ClaimInFlight { retry_after_ms, .. } => Some(Duration::from_millis(*retry_after_ms)),
            Self::OfNewerVersion { retry_after_ms, .. } if *retry_after_ms > 0 => {
                Some(Duration::from_millis(*retry_after_ms))
            }
            Self::InTransaction { error, .. } => error.retry_after(),
            _ => None,
        }
    }

    /// What a publisher should do; none where the cluster is in trouble, or the outcome is unknown.
    pub fn admission(&self) -> Option<Admission> {
        match self {
            _ if self.retry_after().is_some() => Some(Admission::Defer),
            Self::NoLeader { .. }
            | Self::NoMajority { .. }
            | Self::NotConfirmed { .. }
            | Self::OutcomeUnknown { .. }
            | Self::StoreFailed { .. }
            | Self::Stopping
            | Self::Internal { .. }
            | Self::NotAMember { .. }
            | Self::NotUnderstood { .. }
            | Self::OfNewerVersion { unknown: true, .. } => None,
            _ => Some(Admission::Reject),
        }
    }
}
