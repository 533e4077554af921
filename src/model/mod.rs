//! Plain types that every layer shares: channels, messages, commands and limits. No behaviour beyond what
//! keeps a value well formed, and no imports from the rest of the crate but the generated message types.

mod channel;
mod command;
mod consumer;
mod frame;
mod json;
mod limits;
mod member;
mod operation;
mod rule;

pub use channel::{
    Catalog, ChannelConfig, ChannelId, ChannelMeta, ChannelName, ChannelStats, ChannelUpdate, Compatibility,
    Durability, InvalidName, Quota, Retention, WhenFull, stream_key,
};
pub use command::{
    Assigned, ChannelReply, Command, Digest, GroupReply, KeyClaim, KeyHash, KeyOutcome, PublishGroup, Refusal, Reply,
    Route,
};
pub use consumer::{
    Begin, ConsumeOrder, ConsumerConfig, ConsumerId, ConsumerMeta, ConsumerName, ConsumerOperation, ConsumerReply,
    ConsumerStatus, Cursor, DeliveryToken, Failure, Hand, InvalidConsumerName, InvalidToken, OrderingKey, Pending,
    Settlement, Verdict,
};
pub use frame::{Frame, FrameBuilder, InvalidFrame, StoredBatch};
pub use json::{ChannelJson, ConsumerJson, MessageJson, timestamp};
pub use limits::Limits;
pub use member::{MemberEvent, MemberLogEntry, MemberRecord};
pub use operation::{Operation, OperationReply};
pub use rule::{Rule, RuleSet};
