//! The stable codes of errors: what programs tell errors apart by, the same over every face.

use std::{fmt, str::FromStr, sync::Arc};

macro_rules! codes {
    ($($(#[$doc:meta])+ $name:ident = $text:literal,)+) => {
        /// A stable name for a kind of error, for programs. As text it is what every face says, `CHANNEL_NOT_FOUND` for
        /// example, and it compares equal to that.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])+ $name,)+
            /// One that this version does not know: a newer server said it.
            Other(Arc<str>),
        }

        impl Code {
            /// All that this version knows.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// As every face says it.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => $text,)+
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for Code {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$name,)+
                    _ => Self::Other(text.into()),
                }
            }
        }
    };
}

codes! {
    /// The channel does not exist.
    ChannelNotFound = "CHANNEL_NOT_FOUND",
    /// A channel of that name exists with another configuration.
    ChannelExists = "CHANNEL_EXISTS",
    /// The text is no channel name.
    InvalidChannelName = "INVALID_CHANNEL_NAME",
    /// The channel holds as much as it may, and refuses new messages then.
    ChannelFull = "CHANNEL_FULL",
    /// The position is of another channel of the same name.
    ChannelRecreated = "CHANNEL_RECREATED",
    /// The payload does not fit the channel's schema.
    SchemaViolation = "SCHEMA_VIOLATION",
    /// Checking the payload against the schema would take too many steps.
    SchemaTooExpensive = "SCHEMA_TOO_EXPENSIVE",
    /// The new schema does not take every payload that the old one takes.
    SchemaIncompatible = "SCHEMA_INCOMPATIBLE",
    /// The schema cannot be used.
    InvalidSchema = "INVALID_SCHEMA",
    /// The channel's schema changed while the message was checked.
    StaleSchema = "STALE_SCHEMA",
    /// The idempotency key was used with another payload.
    KeyConflict = "KEY_CONFLICT",
    /// The channel, or the cluster, remembers as many idempotency keys as it may.
    TooManyKeys = "TOO_MANY_KEYS",
    /// Something is larger than a limit allows.
    LimitExceeded = "LIMIT_EXCEEDED",
    /// The node has as much to do as it takes on.
    Overloaded = "OVERLOADED",
    /// The channel's quota is used up for now.
    QuotaExceeded = "QUOTA_EXCEEDED",
    /// Messages from the start on were removed, or are not there yet.
    OutOfRange = "OUT_OF_RANGE",
    /// The channel was restored from a backup that ends before the position.
    HistoryRewound = "HISTORY_REWOUND",
    /// The channel ends before the position.
    PositionBeyondEnd = "POSITION_BEYOND_END",
    /// The channel does not end where the publisher expected.
    WrongSeq = "WRONG_SEQ",
    /// The channel is ephemeral: it stores nothing.
    NotStored = "NOT_STORED",
    /// The request says something that cannot be.
    InvalidArgument = "INVALID_ARGUMENT",
    /// The cluster has no leader, or the leader has no majority.
    NoLeader = "NO_LEADER",
    /// The leader could not confirm that it still leads.
    NotConfirmed = "NOT_CONFIRMED",
    /// The node takes no part in the cluster.
    NotAMember = "NOT_A_MEMBER",
    /// It may have happened, or may yet happen.
    OutcomeUnknown = "OUTCOME_UNKNOWN",
    /// The node's disk failed.
    StoreFailed = "STORE_FAILED",
    /// The node is about to stop.
    Stopping = "STOPPING",
    /// Something went wrong that should not.
    Internal = "INTERNAL",
    /// The cluster cannot make this change now.
    ChangeRefused = "CHANGE_REFUSED",
    /// There is no such rule between channels.
    RuleNotFound = "RULE_NOT_FOUND",
    /// The rule between channels cannot be made.
    RuleRefused = "RULE_REFUSED",
    /// The namespace of claims does not exist.
    NamespaceNotFound = "NAMESPACE_NOT_FOUND",
    /// There are as many claims as there may be.
    TooManyClaims = "TOO_MANY_CLAIMS",
    /// Somebody else holds the claim.
    ClaimInFlight = "CLAIM_IN_FLIGHT",
    /// The claim's lease has ended, or its token is not the newest.
    ClaimStale = "CLAIM_STALE",
    /// The claim was completed, with another receipt.
    ClaimCompleted = "CLAIM_COMPLETED",
    /// The consumer does not exist.
    ConsumerNotFound = "CONSUMER_NOT_FOUND",
    /// A consumer of that name exists with another configuration.
    ConsumerExists = "CONSUMER_EXISTS",
    /// The text is no consumer name.
    InvalidConsumerName = "INVALID_CONSUMER_NAME",
    /// The message was handed to somebody else meanwhile, or is settled.
    StaleDelivery = "STALE_DELIVERY",
    /// Nobody is there to answer the request.
    NoResponders = "NO_RESPONDERS",
    /// Nobody answered the request in time.
    ReplyTimeout = "REPLY_TIMEOUT",
    /// Who sent the request does not wait for a reply any longer.
    InboxGone = "INBOX_GONE",
    /// The request did not come in within the time for it.
    RequestTooSlow = "REQUEST_TOO_SLOW",
    /// There is nothing at this path, over HTTP.
    NoSuchPath = "NO_SUCH_PATH",
    /// The path does not take this method, over HTTP.
    MethodNotAllowed = "METHOD_NOT_ALLOWED",
    /// A web page of an origin that is not allowed asked, over HTTP.
    OriginNotAllowed = "ORIGIN_NOT_ALLOWED",
    /// The request names a host that the node does not answer for, over HTTP.
    HostNotAllowed = "HOST_NOT_ALLOWED",
    /// The server does not know the call.
    Unimplemented = "UNIMPLEMENTED",
    /// The call was given up before it ended.
    Cancelled = "CANCELLED",
    /// The caller did not say who it is.
    Unauthenticated = "UNAUTHENTICATED",
    /// The caller may not do that.
    PermissionDenied = "PERMISSION_DENIED",
    /// There is no token of that id.
    TokenNotFound = "TOKEN_NOT_FOUND",
    /// There is no such role.
    RoleNotFound = "ROLE_NOT_FOUND",
    /// A role of that name grants something else.
    RoleExists = "ROLE_EXISTS",
    /// A role that tokens have cannot be deleted.
    RoleInUse = "ROLE_IN_USE",
    /// From the client: no node could be reached, and nothing was sent.
    Unreachable = "UNREACHABLE",
    /// From the client: the connection was lost after the request was sent.
    ConnectionLost = "CONNECTION_LOST",
    /// From the client: no answer came in time.
    Timeout = "TIMEOUT",
}

impl FromStr for Code {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.into())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl PartialEq<str> for Code {
    fn eq(&self, text: &str) -> bool {
        self.as_str() == text
    }
}

impl PartialEq<&str> for Code {
    fn eq(&self, text: &&str) -> bool {
        self.as_str() == *text
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_comes_back_from_its_text() {
        for code in Code::ALL {
            assert_eq!(&Code::from(code.as_str()), code);
            assert!(!matches!(code, Code::Other(_)));
        }
        assert_eq!(Code::from("WRONG_SEQ"), Code::WrongSeq);
    }

    #[test]
    fn a_code_of_a_newer_server_keeps_its_text() {
        let code = Code::from("NOT_YET_THOUGHT_OF");
        assert_eq!((code.as_str(), code.to_string()), ("NOT_YET_THOUGHT_OF", "NOT_YET_THOUGHT_OF".to_owned()));
        assert_eq!(code, "NOT_YET_THOUGHT_OF");
    }
}
