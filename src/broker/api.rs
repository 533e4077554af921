//! The plain types of a broker's interface: what its callers give it, and get from it.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    model::{ChannelMeta, ChannelStats, Notice, Position, StoredBatch},
    proto::v1::{CausalContext, Header, Message, TraceContext},
};

/// A message to publish.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Envelope {
    /// Any bytes; JSON where the channel has a schema.
    pub payload: Bytes,
    /// Carried through.
    pub headers: Vec<Header>,
    /// Carried through.
    pub causal_context: Option<CausalContext>,
    /// Carried through.
    pub trace_context: Option<TraceContext>,
    /// How long after it was sequenced it may be handed to anyone, milliseconds; 0 means for ever.
    pub ttl_ms: u64,
    /// When it becomes visible, milliseconds since the Unix epoch; 0 means at once.
    pub deliver_at_ms: u64,
}

impl Envelope {
    pub(crate) fn into_message(self, key: Option<&str>) -> Message {
        Message {
            payload: self.payload,
            key: key.map(str::to_owned),
            headers: self.headers,
            causal_context: self.causal_context,
            trace_context: self.trace_context,
            ttl_ms: self.ttl_ms,
            deliver_at_ms: self.deliver_at_ms,
        }
    }
}

impl From<Message> for Envelope {
    /// All but its key.
    fn from(message: Message) -> Self {
        let Message { payload, key: _, headers, causal_context, trace_context, ttl_ms, deliver_at_ms } = message;
        Self { payload, headers, causal_context, trace_context, ttl_ms, deliver_at_ms }
    }
}

/// An acknowledged publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Position in the channel; for a duplicate, the original one. Has no meaning for a message that waits.
    pub seq: u64,
    /// The key was published before with this payload. What else this message said (headers, time to live, delay) is not
    /// kept: the first one stands.
    pub duplicate: bool,
    /// Whether a live subscriber anywhere was handed it; none when the publisher did not wait or it is not certain.
    pub delivered: Option<bool>,
    /// Raft term in which it was committed.
    pub term: u64,
    /// The message waits for this time, milliseconds since the Unix epoch, and has no sequence number yet.
    pub scheduled_ms: Option<u64>,
    /// `seq` with the history that it is of: who reads from here gets this message first, or is told that the history
    /// has changed. None for a message that waits, and where the channel has been deleted since.
    pub position: Option<Position>,
}

/// A page of stored messages.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// In order; with a gap where messages have expired.
    pub batches: Vec<StoredBatch>,
    /// Where the next page begins.
    pub next_seq: u64,
    /// The same with the history that it is of.
    pub next: Position,
    /// The first sequence number still stored.
    pub first_seq: u64,
    /// The sequence number after the last one applied.
    pub end_seq: u64,
    /// What became of the history behind the place that was asked for. The page begins where it says.
    pub notice: Option<Notice>,
}

/// A channel as a caller sees it.
#[derive(Clone, Debug)]
pub struct ChannelInfo {
    /// What it is.
    pub meta: Arc<ChannelMeta>,
    /// Its counters.
    pub stats: ChannelStats,
    /// Live subscriptions on this node.
    pub subscribers: u64,
    /// Messages that this node refused because of the schema, since it started.
    pub rejected: u64,
    /// Messages that wait for their time.
    pub delayed: u64,
    /// Messages between the first and the next one that compaction, redrive or, in a work queue, settling has removed; after
    /// older ones have gone, about so many.
    pub compacted: u64,
}
