//! What publishing, subscribing, reading and managing channels mean.

mod error;
mod schema;
mod sequencer;

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    config::ServerConfig,
    env::Env,
    model::{ChannelConfig, ChannelMeta, ChannelStats, Frame, StoredBatch},
    proto::v1::{Header, Message},
    replica::ReplicaView,
    store::DurableStore,
};

pub use error::{BrokerError, Code, Violation};
pub use schema::CompiledSchema;
pub use sequencer::{Leader, NodeAddress, Peers, Proposed, Sequencer, SequencerError};

/// One node's broker. Cloning shares it.
#[derive(Clone)]
pub struct Broker {}

/// What an ack waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Confirm {
    /// Fsynced on a majority and applied by the leader.
    Commit,
    /// Also handed to the first live subscriber, or certainly to none.
    #[default]
    Delivery,
}

/// A message to publish.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Envelope {
    /// Any bytes; JSON where the channel has a schema.
    pub payload: Bytes,
    /// Carried through.
    pub headers: Vec<Header>,
    /// Carried through.
    pub causal_context: Option<crate::proto::v1::CausalContext>,
    /// Carried through.
    pub trace_context: Option<crate::proto::v1::TraceContext>,
}

/// An acknowledged publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Outcome {
    /// Position in the channel; for a duplicate, the original one.
    pub seq: u64,
    /// The key was published before with this payload.
    pub duplicate: bool,
    /// Whether a live subscriber anywhere was handed it; none when the publisher did not wait or it is not certain.
    pub delivered: Option<bool>,
    /// Raft term in which it was committed.
    pub term: u64,
}

/// Where a subscription or a read begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The first message still stored.
    Earliest,
    /// The next message.
    #[default]
    Latest,
    /// This sequence number.
    Seq(u64),
    /// The first message at or after this time, milliseconds since the Unix epoch.
    Time(u64),
}

/// What a read has to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Every publish acknowledged before.
    #[default]
    Linearizable,
    /// What this node has applied.
    Local,
}

/// A page of stored messages.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Consecutive.
    pub batches: Vec<StoredBatch>,
    /// Where the next page begins.
    pub next_seq: u64,
    /// The first sequence number still stored.
    pub first_seq: u64,
    /// The sequence number after the last one applied.
    pub end_seq: u64,
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
}

/// A live follower of a channel. Dropping it ends it.
pub struct Subscription {}

impl Broker {
    /// A broker of this process alone, over any store: publishes are ordered here and are as durable as the store's
    /// flush. Creates the channels of the configuration that are missing.
    ///
    /// # Errors
    /// When the store cannot be read, or a schema of the configuration cannot be used.
    pub async fn embedded(config: &ServerConfig, store: Arc<dyn DurableStore>) -> Result<Self, BrokerError> {
        let _ = (config, store);
        todo!()
    }

    /// A broker of a cluster's node.
    pub fn clustered(view: ReplicaView, sequencer: Arc<dyn Sequencer>, peers: Arc<dyn Peers>, env: Env) -> Self {
        let _ = (view, sequencer, peers, env);
        todo!()
    }

    /// Publishes one message and waits until it is acknowledged and its delivery is known.
    ///
    /// # Errors
    /// See [`BrokerError`]; only those with [`BrokerError::outcome_unknown`] may have been stored.
    pub async fn publish(&self, channel: &str, envelope: Envelope, key: Option<&str>) -> Result<Outcome, BrokerError> {
        let _ = (channel, envelope, key);
        todo!()
    }

    /// Publishes encoded messages of one channel; one result for each, in order. Batches are taken in the order in
    /// which the returned futures are first polled, so a caller may keep several under way and stay in order.
    pub async fn publish_frame(
        &self,
        channel: &str,
        frame: Frame,
        confirm: Confirm,
    ) -> Vec<Result<Outcome, BrokerError>> {
        let _ = (channel, frame, confirm);
        todo!()
    }

    /// Follows a channel on this node.
    pub async fn subscribe(&self, channel: &str, start: Start) -> Result<Subscription, BrokerError> {
        let _ = (channel, start);
        todo!()
    }

    /// Reads stored messages.
    pub async fn read(
        &self,
        channel: &str,
        start: Start,
        limit: usize,
        consistency: Consistency,
        min_seq: Option<u64>,
    ) -> Result<Page, BrokerError> {
        let _ = (channel, start, limit, consistency, min_seq);
        todo!()
    }

    /// Creates a channel. The same name with the same configuration is no error.
    pub async fn create_channel(&self, name: &str, config: ChannelConfig) -> Result<ChannelInfo, BrokerError> {
        let _ = (name, config);
        todo!()
    }

    /// Changes a channel; absent fields stay, an empty schema removes it.
    pub async fn update_channel(
        &self,
        name: &str,
        schema: Option<String>,
        dedup_window_ms: Option<u64>,
    ) -> Result<ChannelInfo, BrokerError> {
        let _ = (name, schema, dedup_window_ms);
        todo!()
    }

    /// Deletes a channel with all that it holds.
    pub async fn delete_channel(&self, name: &str) -> Result<(), BrokerError> {
        let _ = name;
        todo!()
    }

    /// A channel, as of now (linearizable).
    pub async fn channel(&self, name: &str) -> Result<ChannelInfo, BrokerError> {
        let _ = name;
        todo!()
    }

    /// All channels by name, as of now (linearizable).
    pub async fn channels(&self) -> Result<Vec<ChannelInfo>, BrokerError> {
        todo!()
    }

    /// Answers a request that another node's broker sent through [`Peers::call`].
    pub async fn handle_peer(&self, from: &NodeAddress, request: Bytes) -> Bytes {
        let _ = (from, request);
        todo!()
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Leader {
        todo!()
    }

    /// This node.
    pub fn local(&self) -> NodeAddress {
        todo!()
    }

    /// Makes durable what was acknowledged.
    pub async fn flush(&self) -> Result<(), BrokerError> {
        todo!()
    }

    /// The store under the broker.
    pub fn store(&self) -> &Arc<dyn DurableStore> {
        todo!()
    }

    /// The replica that the broker reads from.
    pub fn view(&self) -> &ReplicaView {
        todo!()
    }

    /// Refuses new requests, waits for those under way, ends subscriptions. Idempotent.
    pub async fn stop(&self) {
        todo!()
    }
}

impl Subscription {
    /// The next messages in order, never empty; waits for them.
    ///
    /// # Errors
    /// When the channel is deleted, the node stops or what comes next was removed.
    pub async fn next(&mut self) -> Result<StoredBatch, BrokerError> {
        todo!()
    }

    /// The next message if one is there already.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    pub fn try_next(&mut self) -> Result<Option<(u64, Message)>, BrokerError> {
        todo!()
    }

    /// The sequence number that comes next.
    pub fn position(&self) -> u64 {
        todo!()
    }
}
