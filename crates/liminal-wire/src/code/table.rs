//! The table of error codes: each stable code once, with everything that depends on it. gRPC and HTTP statuses, the
//! client's retries, the exit codes of the commands and `docs/ERRORS.md` are all made from these rows, and so is the type
//! [`Code`]: a code without a row cannot be written.
//!
//! The columns of a row: name and text; gRPC status; HTTP status; what is known of the outcome; whether the same request
//! may succeed later, unchanged and with the same key; the exit code of a command that ends with it; title; what to do
//! next. The comment above it says what the code means. A dash stands where the face never says the code.

use std::sync::Arc;

use super::{Meaning, Outcome};

macro_rules! status {
    (-) => {
        None
    };
    ($code:ident) => {
        Some(tonic::Code::$code)
    };
    ($number:literal) => {
        Some($number)
    };
}

macro_rules! table {
    ($($group:literal {
        $($(#[doc = $meaning:literal])+
        $name:ident = $text:literal: $grpc:tt, $http:tt, $outcome:ident, retry $retry:literal, exit $exit:literal,
            $title:literal, $next:literal;)+
    })+) => {
        /// A stable name for a kind of error, for programs. As text it is what every face says, `CHANNEL_NOT_FOUND` for
        /// example, and it compares equal to that.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($($(#[doc = $meaning])+ $name,)+)+
            /// One that this version does not know: a newer server said it.
            Other(Arc<str>),
        }

        impl Code {
            /// All that this version knows.
            pub const ALL: &[Self] = &[$($(Self::$name,)+)+];

            /// As every face says it.
            pub fn as_str(&self) -> &str {
                match self {
                    $($(Self::$name => $text,)+)+
                    Self::Other(text) => text,
                }
            }

            /// Its row of the table. A code that this version does not know has a row that promises nothing.
            pub fn meaning(&self) -> &'static Meaning {
                match self {
                    $($(Self::$name => {
                        static ROW: Meaning = Meaning {
                            group: $group,
                            code: $text,
                            meaning: concat!($($meaning),+).trim_ascii(),
                            title: $title,
                            next: $next,
                            grpc: status!($grpc),
                            http: status!($http),
                            outcome: Outcome::$outcome,
                            retry: $retry,
                            exit: $exit,
                        };
                        &ROW
                    })+)+
                    Self::Other(_) => &UNKNOWN,
                }
            }
        }

        impl From<&str> for Code {
            fn from(text: &str) -> Self {
                match text {
                    $($($text => Self::$name,)+)+
                    _ => Self::Other(text.into()),
                }
            }
        }
    };
}

/// What a newer server said.
static UNKNOWN: Meaning = Meaning {
    group: "Other",
    code: "",
    meaning: "A newer server said it: this version does not know the code.",
    title: "Unknown code",
    next: "read the message, and update the client",
    grpc: None,
    http: None,
    outcome: Outcome::Either,
    retry: false,
    exit: 1,
};

table! {
    "Requests" {
        /// The request says something that cannot be.
        InvalidArgument = "INVALID_ARGUMENT": InvalidArgument, 400, Definite, retry false, exit 1,
            "Invalid argument", "correct the request as the message says";
        /// Something is larger than a limit allows.
        LimitExceeded = "LIMIT_EXCEEDED": InvalidArgument, 413, Definite, retry false, exit 1,
            "Limit exceeded", "send less at once, or raise the limit on every node if it can be configured (docs/OPERATIONS.md)";
        /// The node has as much to do as it takes on.
        Overloaded = "OVERLOADED": ResourceExhausted, 429, Definite, retry true, exit 1,
            "Node overloaded", "try again after the time named, with fewer requests in flight";
        /// A quota is used up for now: that of a channel, a connection, an address or the node.
        QuotaExceeded = "QUOTA_EXCEEDED": ResourceExhausted, 429, Definite, retry true, exit 1,
            "Quota exceeded", "try again after the time named, or have the quota raised";
        /// The request did not come in within the time for it.
        RequestTooSlow = "REQUEST_TOO_SLOW": DeadlineExceeded, 408, Definite, retry false, exit 1,
            "Request too slow", "send faster, or send less at once (`limits.least_bytes_per_second`)";
        /// The call was given up before it ended.
        Cancelled = "CANCELLED": Cancelled, -, Unknown, retry true, exit 1,
            "Call given up", "repeat the request with the same idempotency key, and a longer deadline";
        /// The caller did not say who it is.
        Unauthenticated = "UNAUTHENTICATED": Unauthenticated, 401, Definite, retry false, exit 1,
            "Not authenticated",
            "send a valid token as `authorization: Bearer TOKEN`; commands take it from `--token-file` or `LIMINAL_TOKEN`";
        /// The caller may not do that.
        PermissionDenied = "PERMISSION_DENIED": PermissionDenied, 403, Definite, retry false, exit 1,
            "Permission denied", "ask an administrator for a role that grants it (docs/SECURITY.md)";
        /// The server does not know the call, or another node is of an earlier version and does not know the request.
        Unimplemented = "UNIMPLEMENTED": Unimplemented, 501, Definite, retry false, exit 1,
            "Call not known", "check that the server is as new as the client, and that all nodes are upgraded";
        /// There is nothing at this path, over HTTP.
        NoSuchPath = "NO_SUCH_PATH": -, 404, Definite, retry false, exit 1,
            "No such path", "check the path against `/v1/openapi.json`";
        /// The path does not take this method, over HTTP.
        MethodNotAllowed = "METHOD_NOT_ALLOWED": -, 405, Definite, retry false, exit 1,
            "Method not allowed", "use a method that the `Allow` header names";
        /// A web page of an origin that is not allowed asked, over HTTP.
        OriginNotAllowed = "ORIGIN_NOT_ALLOWED": -, 403, Definite, retry false, exit 1,
            "Origin not allowed", "add the page's origin to `allowed_origins`";
        /// The request names a host that the node does not answer for, over HTTP.
        HostNotAllowed = "HOST_NOT_ALLOWED": -, 421, Definite, retry false, exit 1,
            "Host not allowed", "use the node's own address, or add the origin to `allowed_origins`";
    }
    "Channels, schemas and rules" {
        /// The channel does not exist.
        ChannelNotFound = "CHANNEL_NOT_FOUND": NotFound, 404, Definite, retry false, exit 1,
            "Channel not found", "correct the name, or create the channel (`liminal channel create`)";
        /// A channel of that name exists with another configuration.
        ChannelExists = "CHANNEL_EXISTS": AlreadyExists, 409, Definite, retry false, exit 1,
            "Channel exists", "look at it with `liminal channel show`, or choose another name";
        /// The text is no channel name.
        InvalidChannelName = "INVALID_CHANNEL_NAME": InvalidArgument, 400, Definite, retry false, exit 1,
            "Invalid channel name", "choose a name as the message says";
        /// The schema cannot be used.
        InvalidSchema = "INVALID_SCHEMA": InvalidArgument, 400, Definite, retry false, exit 1,
            "Invalid schema", "correct the schema as the message says";
        /// The new schema does not take every payload that the old one takes.
        SchemaIncompatible = "SCHEMA_INCOMPATIBLE": FailedPrecondition, 409, Definite, retry false, exit 1,
            "Schema incompatible",
            "correct the places named, or validate the stored messages and update without the check";
        /// There is no such rule between channels.
        RuleNotFound = "RULE_NOT_FOUND": NotFound, 404, Definite, retry false, exit 1,
            "Rule not found", "look at the rules with `liminal rule list`";
        /// The rule between channels cannot be made.
        RuleRefused = "RULE_REFUSED": FailedPrecondition, 409, Definite, retry false, exit 1,
            "Rule refused", "look at the rules with `liminal rule list`";
    }
    "Publishing" {
        /// The payload does not fit the channel's schema.
        SchemaViolation = "SCHEMA_VIOLATION": InvalidArgument, 422, Definite, retry false, exit 1,
            "Payload breaks the schema", "mend the places named, or update the channel's schema";
        /// Checking the payload against the schema would take too many steps.
        SchemaTooExpensive = "SCHEMA_TOO_EXPENSIVE": InvalidArgument, 422, Definite, retry false, exit 1,
            "Schema too expensive",
            "have each part of the schema refer to a definition once, and nest less where it refers back to itself; or \
             send a smaller payload";
        /// The channel's schema changed while the message was checked. Nodes begin again by themselves.
        StaleSchema = "STALE_SCHEMA": FailedPrecondition, 409, Definite, retry true, exit 1,
            "Schema changed meanwhile", "repeat the request";
        /// The idempotency key was used with another payload.
        KeyConflict = "KEY_CONFLICT": AlreadyExists, 422, Definite, retry false, exit 1,
            "Idempotency key used with another payload",
            "use a new key for a new message; the same key is for retries of the same one";
        /// The channel, or the cluster, remembers as many idempotency keys as it may.
        TooManyKeys = "TOO_MANY_KEYS": ResourceExhausted, 429, Definite, retry false, exit 1,
            "Too many idempotency keys",
            "wait until keys leave the window, give the channel a shorter one, or raise limits.live_keys \
             (docs/KEYS.md, \"How many keys\")";
        /// The channel holds as much as it may, and refuses new messages then.
        ChannelFull = "CHANNEL_FULL": ResourceExhausted, 507, Definite, retry false, exit 1,
            "Channel full",
            "let go of old messages with `liminal channel trim`, raise the channel's limit, or let it drop the oldest";
        /// The channel does not end where the publisher expected.
        WrongSeq = "WRONG_SEQ": FailedPrecondition, 412, Definite, retry false, exit 1,
            "Channel does not end there",
            "read what was published meanwhile, then publish again with the new expected sequence number";
    }
    "Reading" {
        /// Messages from the start on were removed, or are not there yet.
        OutOfRange = "OUT_OF_RANGE": OutOfRange, 410, Definite, retry false, exit 1,
            "Messages are gone", "begin at the first message that is stored, or at `earliest`";
        /// The channel was restored from a backup that ends before the position.
        HistoryRewound = "HISTORY_REWOUND": OutOfRange, 410, Definite, retry false, exit 1,
            "Channel restored from a backup", "undo what came after the backup, and go on at the position named";
        /// The position is of another channel of the same name.
        ChannelRecreated = "CHANNEL_RECREATED": OutOfRange, 410, Definite, retry false, exit 1,
            "Position of another channel", "go on at the position named, or begin at `earliest`";
        /// The channel ends before the position.
        PositionBeyondEnd = "POSITION_BEYOND_END": OutOfRange, 416, Definite, retry false, exit 1,
            "Position beyond the end", "go on at the position named, or begin at `earliest`";
        /// The channel is ephemeral: it stores nothing.
        NotStored = "NOT_STORED": FailedPrecondition, 409, Definite, retry false, exit 1,
            "Nothing is stored", "subscribe from `latest`, or use a durable channel";
    }
    "Consumers" {
        /// The consumer does not exist.
        ConsumerNotFound = "CONSUMER_NOT_FOUND": NotFound, 404, Definite, retry false, exit 1,
            "Consumer not found", "correct the name, or create the consumer (`liminal consumer create`)";
        /// A consumer of that name exists with another configuration.
        ConsumerExists = "CONSUMER_EXISTS": AlreadyExists, 409, Definite, retry false, exit 1,
            "Consumer exists", "look at it with `liminal consumer show`, or choose another name";
        /// The text is no consumer name.
        InvalidConsumerName = "INVALID_CONSUMER_NAME": InvalidArgument, 400, Definite, retry false, exit 1,
            "Invalid consumer name", "choose a name as the message says";
        /// The message was handed to somebody else meanwhile, or is settled.
        StaleDelivery = "STALE_DELIVERY": FailedPrecondition, 409, Definite, retry false, exit 1,
            "Stale delivery", "undo what was done for it, or let it be done twice; extend deliveries that take long";
    }
    "Claims" {
        /// The namespace of claims does not exist.
        NamespaceNotFound = "NAMESPACE_NOT_FOUND": NotFound, 404, Definite, retry false, exit 1,
            "Namespace not found",
            "check the name with `liminal claim namespaces`; a namespace comes into being with its first claim";
        /// There are as many claims as there may be.
        TooManyClaims = "TOO_MANY_CLAIMS": ResourceExhausted, 429, Definite, retry false, exit 1,
            "Too many claims",
            "wait until claims leave, give the namespace a shorter window, or use another namespace";
        /// Somebody else holds the claim.
        ClaimInFlight = "CLAIM_IN_FLIGHT": Aborted, 409, Definite, retry true, exit 1,
            "Claim in flight",
            "try again after the time named: by then it is completed, or its lease has ended or is renewed";
        /// The claim's lease has ended, or its token is not the newest.
        ClaimStale = "CLAIM_STALE": FailedPrecondition, 409, Definite, retry false, exit 1,
            "Claim lost", "stop this work: it is no longer yours; take the claim again to see what became of it";
        /// The claim was completed, with another receipt.
        ClaimCompleted = "CLAIM_COMPLETED": AlreadyExists, 409, Definite, retry false, exit 1,
            "Claim completed already", "take the claim to be given the receipt that stands";
    }
    "Requests and replies" {
        /// Nobody is there to answer the request.
        NoResponders = "NO_RESPONDERS": FailedPrecondition, 503, Definite, retry false, exit 1,
            "Nobody listens", "start a responder; nothing was stored";
        /// Nobody answered the request in time.
        ReplyTimeout = "REPLY_TIMEOUT": DeadlineExceeded, 504, Unknown, retry false, exit 1,
            "No reply in time", "look whether the responder works; the request may still be handled";
        /// Who sent the request does not wait for a reply any longer.
        InboxGone = "INBOX_GONE": NotFound, 410, Definite, retry false, exit 1,
            "Nobody waits for the reply", "drop the reply: it was answered, or the time for it is over";
    }
    "Tokens and roles" {
        /// There is no token of that id.
        TokenNotFound = "TOKEN_NOT_FOUND": NotFound, 404, Definite, retry false, exit 1,
            "Token not found", "look at the tokens with `liminal token list`";
        /// There is no such role.
        RoleNotFound = "ROLE_NOT_FOUND": NotFound, 404, Definite, retry false, exit 1,
            "Role not found", "look at the roles with `liminal role list`";
        /// A role of that name grants something else.
        RoleExists = "ROLE_EXISTS": AlreadyExists, 409, Definite, retry false, exit 1,
            "Role exists", "look at it with `liminal role show`, or change it with `liminal role update`";
        /// A role that tokens have cannot be deleted.
        RoleInUse = "ROLE_IN_USE": FailedPrecondition, 409, Definite, retry false, exit 1,
            "Role in use", "revoke its tokens first, or take away what it grants with `liminal role update`";
        /// Without the token nobody could administer the cluster.
        LastAdministrator = "LAST_ADMINISTRATOR": FailedPrecondition, 409, Definite, retry false, exit 1,
            "Last administrator",
            "make another token with the role `admin` first, or revoke it with `liminal token revoke ID --force`";
    }
    "Nodes and the cluster" {
        /// The cluster has no leader, or the leader has no majority.
        NoLeader = "NO_LEADER": Unavailable, 503, Definite, retry true, exit 1,
            "No leader", "check that a majority of the nodes is up (`liminal cluster status`), then try again";
        /// The leader could not confirm that it still leads.
        NotConfirmed = "NOT_CONFIRMED": Unavailable, 503, Definite, retry true, exit 1,
            "Leadership not confirmed", "try again, or ask for a local read";
        /// The node takes no part in the cluster.
        NotAMember = "NOT_A_MEMBER": Unavailable, 503, Definite, retry true, exit 1,
            "Node takes no part", "try another node";
        /// The node is about to stop.
        Stopping = "STOPPING": Unavailable, 503, Definite, retry true, exit 1,
            "Node is stopping", "try another node";
        /// The node's disk failed.
        StoreFailed = "STORE_FAILED": Unavailable, 503, Either, retry true, exit 1,
            "Store failed",
            "look at the disk and the log of the node; another node takes its place if one is well: try again with the \
             same idempotency key";
        /// It may have happened, or may yet happen.
        OutcomeUnknown = "OUTCOME_UNKNOWN": Unknown, 504, Unknown, retry true, exit 1,
            "Outcome unknown", "retry with the same idempotency key: it is stored at most once";
        /// The cluster cannot make this change now.
        ChangeRefused = "CHANGE_REFUSED": FailedPrecondition, 409, Definite, retry false, exit 1,
            "Change refused", "look at `liminal cluster status`, and do what the message says";
        /// A node that speaks an earlier version keeps the cluster from something that is new.
        NotUpgraded = "NOT_UPGRADED": FailedPrecondition, 409, Definite, retry false, exit 1,
            "Not all nodes upgraded", "upgrade the node that the message names, then try again; nothing was done";
        /// Something went wrong that should not.
        Internal = "INTERNAL": Internal, 500, Definite, retry false, exit 1,
            "Internal error", "look at the log of the node, and report the message as a bug";
    }
    "Clients and commands" {
        /// From the client: no node could be reached, and nothing was sent.
        Unreachable = "UNREACHABLE": -, -, Definite, retry true, exit 3,
            "No node reached", "check the address (`--server`, `LIMINAL_SERVER`) and that the node is running";
        /// From the client: the connection was lost after the request was sent.
        ConnectionLost = "CONNECTION_LOST": -, -, Unknown, retry true, exit 1,
            "Connection lost", "retry with the same idempotency key: it is stored at most once";
        /// From the client: no answer came in time.
        Timeout = "TIMEOUT": -, -, Unknown, retry true, exit 1,
            "No answer in time", "retry with the same idempotency key: it is stored at most once";
        /// From a command: it was asked for in a way that makes no sense.
        Usage = "USAGE": -, -, Definite, retry false, exit 2,
            "Wrong usage", "see the command's `--help`";
    }
}
