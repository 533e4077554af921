//! Plain types that every layer shares: channels, messages, commands and limits. No behaviour beyond what
//! keeps a value well formed, and no imports from the rest of the crate but the generated message types. What clients
//! know too (frames, positions, ids) is in the crate `liminal-wire`, the language of filters in `liminal-predicate`, and
//! what is JSON in `liminal-json`.

mod batch;
mod canonical;
mod certificate_name;
mod channel;
mod claim;
mod claim_json;
mod command;
mod compaction;
mod consumer;
mod consumer_operation;
mod delayed;
mod delivery;
mod expiry;
mod hashes;
mod join_token;
mod json;
mod letter_json;
mod limits;
mod lines;
mod member;
mod operation;
mod position;
mod redrive;
mod refusal;
mod role;
mod role_quota;
mod rule;
mod security;
mod state_limits;
mod times;
mod transaction;
mod version;

pub use batch::StoredBatch;
pub use certificate_name::CertificateName;
pub use channel::{
    AUDIT_CHANNEL, Catalog, ChannelConfig, ChannelMeta, ChannelName, ChannelStats, ChannelUpdate, Comparison,
    Compatibility, Durability, InvalidName, Quota, Retention, SchemaVersion, WhenFull, stream_key,
};
pub use claim::{
    ClaimInfo, ClaimOperation, ClaimReply, ClaimTotals, DEFAULT_RECEIPT_WINDOW_MS, NamespaceId, NamespaceInfo,
    NamespaceName, StoredReceipt,
};
pub use claim_json::{ClaimJson, NamespaceJson};
pub use command::{
    Assigned, ChannelReply, Command, Full, GroupReply, KeyClaim, KeyOutcome, PublishGroup, Reply, Route,
};
pub use compaction::{Clean, Compact, Compaction, Gone, Reclaim};
pub use consumer::{
    Begin, ConsumeOrder, ConsumerConfig, ConsumerId, ConsumerMeta, ConsumerName, ConsumerStatus, Cursor, Failure,
    InvalidConsumerName, Lost, OrderingKey, Orphans, Pending,
};
pub use consumer_operation::{ConsumerOperation, ConsumerReply, Hand, Settlement, Verdict};
pub use delayed::{Delayed, Due, Schedule, Scheduled, Waiting, WaitingRecord};
pub use delivery::{DeliveryOrigin, DeliveryToken, InvalidToken};
pub use expiry::{LiveRuns, has_expired};
pub use hashes::{Digest, KeyHash};
pub use join_token::JoinToken;
pub use json::{ChannelJson, ConsumerJson, DelayedJson, MessageJson, QuotaJson, ReplyJson, RetentionJson, SchemaJson};
pub use letter_json::LetterJson;
#[cfg(test)]
pub(crate) use liminal_json::json_text;
pub use liminal_json::{Form, unbroken};
pub use liminal_predicate::{InvalidPredicate, MessageView, Predicate};
pub use liminal_wire::{ChannelId, Frame, FrameBuilder, InvalidFrame, header, header_key};
pub use limits::{CONSUMER_DEFERRED, CONSUMER_DEFERRED_KEYS, Limits};
pub use lines::{foreign_charset, is_ndjson, message_line, message_lines};
pub use member::{MemberEvent, MemberLogEntry, MemberRecord};
pub use operation::{Made, OnBehalf, Operation, OperationReply};
pub use position::{Fork, History, HistoryChange, IfChanged, InvalidPosition, Notice, NoticeJson, Place, Position};
pub use redrive::Redrive;
pub use refusal::Refusal;
pub use role::{ADMIN_ROLE, Action, Actions, Grant, Pattern, Role, RoleName, Scope};
pub use role_quota::{Allowance, Quantity, RoleQuota};
pub use rule::{Rule, RuleSet};
pub use security::{
    Invitation, NewInvitation, NewToken, SecurityMode, SecurityOperation, SecurityReply, SecurityState, Token,
    TokenHash, TokenId,
};
pub use state_limits::StateLimits;
pub use times::{time_ms, timestamp};
pub use transaction::{Part, PartReply, Transaction};
pub use version::PeerVersion;
