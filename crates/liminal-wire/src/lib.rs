//! What liminal's clients and nodes say to each other, without anything that connects, listens, stores or replicates.
//!
//! [`v1`] is generated from `proto/liminal/v1`. It is the public API, and programs in other languages generate their own
//! from the same files. The rest gives meaning to parts of it: [`Frame`] is a batch of messages that stays encoded,
//! [`Position`] and [`Notice`] say where in which history of a channel a reader is, [`Code`] names what went wrong and
//! [`code::Meaning`] says what follows from it, [`Start`], [`Confirm`] and their like are what publishers and readers choose,
//! [`headers`] holds the names of metadata and of headers with a meaning, and [`address`] reads `HOST:PORT`.
//!
//! Most programs want the crate `liminal-client` instead, which speaks this for them.

pub mod address;
mod choices;
pub mod code;
mod frame;
pub mod headers;
mod ids;
mod message;
mod position;
pub mod time;

/// The public API, generated from `proto/liminal/v1`.
///
/// Fields of the type `MessageBatch` are generated as `bytes`, so that batches stay encoded: see [`Frame`].
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("liminal.v1");

    /// The encoded file descriptors of the public API, for server reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/liminal_v1.bin"));
}

pub use choices::{Admission, Confirm, Consistency, PublishOptions, Start};
pub use code::Code;
pub use frame::{Frame, FrameBuilder, InvalidFrame, header, header_key};
pub use ids::ChannelId;
pub use position::{HistoryChange, IfChanged, InvalidPosition, Notice, NoticeJson, Position};
