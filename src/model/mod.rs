//! Plain types that every layer shares: channels, messages, commands and limits. No behaviour beyond what
//! keeps a value well formed, and no imports from the rest of the crate but the generated message types.

mod channel;
mod command;
mod frame;
mod json;
mod limits;
mod member;
mod predicate;

pub use channel::{
    Catalog, ChannelConfig, ChannelId, ChannelMeta, ChannelName, ChannelStats, Durability, InvalidName, stream_key,
};
pub use command::{
    Assigned, ChannelReply, Command, Digest, GroupReply, KeyClaim, KeyHash, KeyOutcome, PublishGroup, Refusal, Reply,
};
pub use frame::{Frame, FrameBuilder, InvalidFrame, StoredBatch};
pub use json::{ChannelJson, MessageJson, timestamp};
pub use limits::Limits;
pub use member::{MemberEvent, MemberLogEntry, MemberRecord};
pub use predicate::{InvalidPredicate, MessageView, Predicate};
