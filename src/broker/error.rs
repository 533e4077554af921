//! Everything that a request can be refused with, and the stable code of each.

use std::time::Duration;

/// A place in a payload that breaks its schema.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Violation {
    /// JSON pointer (RFC 6901) into the payload; empty for the whole of it.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
}

/// Why a request failed. Unless [`BrokerError::outcome_unknown`] says otherwise, nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
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
    /// The leader's store failed after the publish was committed: it will be applied when the store works again.
    #[error("the leader's store failed; the outcome is unknown: {reason}")]
    StoreFailed {
        /// The store's words.
        reason: String,
        /// Whether the publish was proposed before the failure showed.
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
    /// This node was not let into its cluster, or is no longer of it: what it holds is old.
    #[error("this node is not in the cluster: {reason}")]
    NotAMember {
        /// Why.
        reason: String,
    },
    /// A change of the cluster that cannot be made.
    #[error("{reason}")]
    ChangeRefused {
        /// Why.
        reason: String,
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
    /// What is wrong with one message of a transaction, of which therefore nothing was stored.
    #[error("message {message} of the transaction: {error}")]
    InTransaction {
        /// Which message, from 0.
        message: u32,
        /// What is wrong.
        error: Box<BrokerError>,
    },
    /// The request was handed to nobody: there is no live subscriber.
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
}

/// A stable name for a kind of error, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub &'static str);

impl BrokerError {
    /// Its stable code.
    pub fn code(&self) -> Code {
        Code(match self {
            Self::ChannelNotFound { .. } => "CHANNEL_NOT_FOUND",
            Self::ChannelExists { .. } => "CHANNEL_EXISTS",
            Self::InvalidChannelName { .. } => "INVALID_CHANNEL_NAME",
            Self::SchemaViolation { .. } => "SCHEMA_VIOLATION",
            Self::InvalidSchema { .. } => "INVALID_SCHEMA",
            Self::KeyConflict { .. } => "KEY_CONFLICT",
            Self::LimitExceeded { .. } => "LIMIT_EXCEEDED",
            Self::TooManyKeys { .. } => "TOO_MANY_KEYS",
            Self::Overloaded { .. } => "OVERLOADED",
            Self::OutOfRange { .. } => "OUT_OF_RANGE",
            Self::InvalidArgument { .. } => "INVALID_ARGUMENT",
            Self::NotStored { .. } => "NOT_STORED",
            Self::NoLeader { .. } => "NO_LEADER",
            Self::NotConfirmed { .. } => "NOT_CONFIRMED",
            Self::OutcomeUnknown { .. } => "OUTCOME_UNKNOWN",
            Self::StoreFailed { .. } => "STORE_FAILED",
            Self::Stopping => "STOPPING",
            Self::Internal { .. } => "INTERNAL",
            Self::ChangeRefused { .. } => "CHANGE_REFUSED",
            Self::NotAMember { .. } => "NOT_A_MEMBER",
            Self::WrongSeq { .. } => "WRONG_SEQ",
            Self::KeyWaits { .. } | Self::KeyUsedApart { .. } => "KEY_CONFLICT",
            Self::InTransaction { error, .. } => return error.code(),
            Self::NoResponders { .. } => "NO_RESPONDERS",
            Self::ReplyTimeout { .. } => "REPLY_TIMEOUT",
            Self::InboxGone { .. } => "INBOX_GONE",
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
            Self::WrongSeq { actual, .. } => {
                format!("read what was published meanwhile, then publish again with expected sequence number {actual}")
            }
            Self::KeyUsedApart { .. } => "repeat a transaction as it was, or give new messages new keys".into(),
            Self::InTransaction { error, .. } => return error.help(),
            Self::NoResponders { channel } => format!("start a responder: `liminal subscribe {channel}`"),
            Self::ReplyTimeout { .. } => "look whether the responder works; the request may still be handled".into(),
            Self::KeyConflict { .. } | Self::KeyWaits { .. } => {
                "use a new key for a new message; the same key is for retries of the same one".into()
            }
            Self::TooManyKeys { .. } => "wait until keys leave the window, or give the channel a shorter one".into(),
            Self::Overloaded { retry_after_ms, .. } => {
                format!("try again in {retry_after_ms} ms, with fewer publishes in flight")
            }
            Self::OutOfRange { first, .. } => format!("begin at {first}, or at `earliest`"),
            Self::NoLeader { .. } => {
                "check that a majority of the nodes is up (`liminal cluster status`), then try again".into()
            }
            Self::NotConfirmed { .. } => "try again, or ask for a local read".into(),
            Self::OutcomeUnknown { .. } | Self::StoreFailed { proposed: true, .. } => {
                "retry with the same idempotency key: it is stored at most once".into()
            }
            Self::StoreFailed { proposed: false, .. } => "look at the leader's disk and log, then try again".into(),
            Self::Stopping | Self::NotAMember { .. } => "try another node".into(),
            _ => return None,
        })
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
        match (unknown, &self) {
            (
                Some(reason),
                Self::NoLeader { .. }
                | Self::NotConfirmed { .. }
                | Self::Overloaded { .. }
                | Self::StoreFailed { proposed: false, .. }
                | Self::Stopping
                | Self::NotAMember { .. },
            ) => Self::OutcomeUnknown { reason },
            _ => self,
        }
    }

    /// Whether what was asked for may have happened, or may yet happen.
    pub fn outcome_unknown(&self) -> bool {
        matches!(
            self,
            Self::OutcomeUnknown { .. } | Self::StoreFailed { proposed: true, .. } | Self::ReplyTimeout { .. }
        )
    }

    /// When to try again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after_ms, .. } => Some(Duration::from_millis(*retry_after_ms)),
            Self::InTransaction { error, .. } => error.retry_after(),
            _ => None,
        }
    }
}
