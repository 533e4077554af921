//! What publishing, subscribing, reading and managing channels mean.

mod batcher;
mod channels;
mod claims;
mod compaction;
mod consume;
mod delayed;
mod delivery;
mod error;
mod evolution;
mod filter;
mod forward;
mod housekeeping;
mod joins;
mod key_limit;
mod leader;
mod listing;
mod local;
mod operations;
mod outcomes;
mod place;
mod publish;
mod quarantine;
mod quotas;
mod read;
mod request;
mod retention;
mod rules;
mod runs;
mod schema;
mod stats;
mod subscribe;
mod transaction;
mod turns;
mod verdicts;

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    batcher::Batcher, consume::Groups, delivery::Delivery, joins::Flights, operations::Operations,
    quarantine::Quarantine, quotas::Quotas, request::Inboxes, rules::Router, stats::Counters, verdicts::Verdicts,
};
use crate::{
    env::Env,
    health::Part,
    model::{ChannelId, ChannelMeta, ChannelStats, Frame, KeyHash, Limits, Notice, Position, StoredBatch},
    proto::v1::{CausalContext, Header, Message, TraceContext},
    replica::ReplicaView,
    store::DurableStore,
};

pub use crate::sequencer::{Leader, NodeAddress, PeerMessage, PeerVersion, Peers, Proposed, Sequencer, SequencerError};
pub use claims::{Claim, Completed};
pub use consume::{
    ConsumerDelivery, ConsumerInfo, ConsumerUpdate, DeadLetters, Letter, LetterPage, Letters, Member, REDRIVEN,
    RedriveTo, Redriven,
};
pub use delayed::{DelayedMessage, DelayedPage};
pub use error::{Admission, BrokerError, Code, Violation};
pub use evolution::HistoryReport;
pub use filter::filter_of;
pub use liminal_schema::Incompatibility;
pub use liminal_wire::{Confirm, Consistency, PublishOptions, Start};
pub use listing::NamedPage;
pub use place::{ReadOptions, SubscribeOptions};
pub use quarantine::{REJECTED_CHANNEL, REJECTED_REASON};
pub use quotas::{Held, over_budget, place_on_connection};
pub use request::REPLY_TO;
pub use retention::Trim;
pub use rules::RuleInfo;
pub use schema::{CompiledSchema, Unfit};
pub use stats::Stats;
pub use subscribe::Subscription;
pub use transaction::{TransactionAck, TransactionCompletion, TransactionMessage, TransactionPart, TransactionRequest};

/// One node's broker. Cloning shares it. It stops with [`Broker::stop`], or when the last clone is dropped with all that
/// came of it, subscriptions and members of consumers.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
    /// None in its own tasks, which would keep it for ever.
    _in_use: Option<Arc<InUse>>,
}

/// Ends the tasks of a broker that nobody has any longer.
struct InUse {
    stopping: CancellationToken,
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

struct Inner {
    view: ReplicaView,
    sequencer: Arc<dyn Sequencer>,
    peers: Arc<dyn Peers>,
    env: Env,
    batcher: Batcher,
    operations: Operations,
    /// Consumers with members, while this node leads.
    groups: Groups,
    delivery: Arc<Delivery>,
    /// The rules between channels, compiled.
    router: Mutex<Arc<Router>>,
    schemas: Mutex<schema::Compiled>,
    /// Outcomes that nobody was told, by channel and key: see the batcher.
    missed: Mutex<HashMap<(ChannelId, KeyHash), (u64, Instant)>>,
    /// Keyed publishes under way on this leader.
    flights: Arc<Flights>,
    /// Requests of this node's clients that wait for a reply.
    inboxes: Arc<Inboxes>,
    /// Samples of what schemas refused.
    quarantine: Quarantine,
    quotas: Quotas,
    counters: Counters,
    /// One at a time: it takes a core for as long as it runs.
    validations: Semaphore,
    /// Checks of payloads that take long, each on a thread of its own.
    checks: Semaphore,
    /// What filters make of batches.
    verdicts: Verdicts,
    /// Requests under way.
    requests: TaskTracker,
    stopping: CancellationToken,
    /// Why the state must be neither shown nor changed.
    withheld: watch::Receiver<Option<String>>,
    tasks: TaskTracker,
}

/// Checks of payloads that may take long at once; others wait for their turn. Half of what small machines have.
const LONG_CHECKS: usize = 2;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
    /// Messages between the first and the next one that compaction has removed; after older ones have gone, about so
    /// many.
    pub compacted: u64,
}

impl Broker {
    /// A broker of a cluster's node.
    pub fn clustered(view: ReplicaView, sequencer: Arc<dyn Sequencer>, peers: Arc<dyn Peers>, env: Env) -> Self {
        let delivery = Arc::new(Delivery::new(peers.local().id));
        view.fanout().observe(delivery.clone());
        let tasks = TaskTracker::new();
        let stopping = CancellationToken::new();
        let (batcher, queue) = Batcher::new();
        let (operations, operation_queue) = Operations::new();
        let (quarantine, samples) = Quarantine::new();
        let counters = Counters::new(view.limits().in_flight_bytes);
        let inner = Inner {
            batcher,
            operations,
            groups: Groups::default(),
            delivery,
            router: Mutex::default(),
            schemas: Mutex::default(),
            missed: Mutex::default(),
            flights: Arc::default(),
            inboxes: Arc::default(),
            quarantine,
            quotas: Quotas::default(),
            counters,
            validations: Semaphore::new(1),
            checks: Semaphore::new(LONG_CHECKS),
            verdicts: Verdicts::default(),
            requests: TaskTracker::new(),
            stopping: stopping.clone(),
            withheld: sequencer.withheld(),
            tasks: tasks.clone(),
            view,
            sequencer,
            peers,
            env,
        };
        let broker = Self { inner: Arc::new(inner), _in_use: None };
        tasks.spawn(stopping.clone().run_until_cancelled_owned(batcher::run(broker.clone(), queue)));
        tasks.spawn(stopping.clone().run_until_cancelled_owned(operations::run(broker.clone(), operation_queue)));
        tasks.spawn(stopping.clone().run_until_cancelled_owned(quarantine::run(broker.clone(), samples)));
        tasks.spawn(stopping.clone().run_until_cancelled_owned(housekeeping::run(broker.clone())));
        tasks.spawn(stopping.clone().run_until_cancelled_owned(consume::run_dead(broker.clone())));
        tasks.spawn(stopping.clone().run_until_cancelled_owned(delayed::release(broker.clone())));
        tasks.spawn(stopping.clone().run_until_cancelled_owned(compaction::run(broker.clone())));
        tasks.spawn(stopping.clone().run_until_cancelled_owned(key_limit::run(broker.clone())));
        tasks.spawn(stopping.clone().run_until_cancelled_owned(delivery::report(broker.clone())));
        Self { _in_use: Some(Arc::new(InUse { stopping })), ..broker }
    }

    /// The same for a task that lives as long as the broker is used elsewhere.
    fn for_tasks(&self) -> Self {
        Self { inner: self.inner.clone(), _in_use: None }
    }

    /// Publishes one message and waits until it is acknowledged and its delivery is known. An empty key is refused: a
    /// message without a key has none.
    ///
    /// # Errors
    /// See [`BrokerError`]; only those with [`BrokerError::outcome_unknown`] may have been stored.
    pub async fn publish(&self, channel: &str, envelope: Envelope, key: Option<&str>) -> Result<Outcome, BrokerError> {
        self.publish_with(channel, envelope, key, PublishOptions::default()).await
    }

    /// The same with more choices.
    ///
    /// # Errors
    /// As [`Broker::publish`]; `WrongSeq` when the channel does not end where the options say.
    pub async fn publish_with(
        &self,
        channel: &str,
        envelope: Envelope,
        key: Option<&str>,
        options: PublishOptions,
    ) -> Result<Outcome, BrokerError> {
        let frame = Frame::encode([&envelope.into_message(key)]);
        let mut results = self.publish_frame_with(channel, frame, options).await;
        results.pop().unwrap_or_else(|| Err(BrokerError::Internal { reason: "a publish without a result".into() }))
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Leader {
        self.inner.sequencer.leader().borrow().clone()
    }

    /// Whether this node leads, as far as it knows.
    pub fn leads(&self) -> bool {
        matches!(*self.inner.sequencer.leader().borrow(), Leader::Local { .. })
    }

    /// This node.
    pub fn local(&self) -> NodeAddress {
        self.inner.peers.local()
    }

    /// Makes durable what was acknowledged.
    ///
    /// # Errors
    /// When the store cannot.
    pub async fn flush(&self) -> Result<(), BrokerError> {
        self.store().flush().await.map_err(|error| self.store_error(&error))
    }

    /// The store under the broker.
    pub fn store(&self) -> &Arc<dyn DurableStore> {
        self.inner.view.store()
    }

    /// The replica that the broker reads from.
    pub fn view(&self) -> &ReplicaView {
        &self.inner.view
    }

    /// Refuses new requests, waits for those under way, ends subscriptions. Idempotent.
    pub async fn stop(&self) {
        self.inner.requests.close();
        self.inner.requests.wait().await;
        self.inner.stopping.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Waits until the broker stops.
    pub async fn stopped(&self) {
        self.inner.stopping.cancelled().await;
    }

    /// What is accepted, and how much is held.
    pub fn limits(&self) -> &Limits {
        self.inner.view.limits()
    }

    /// The time of day as the log has it, milliseconds since the Unix epoch: no clock of one node's.
    pub fn now_ms(&self) -> u64 {
        self.inner.view.clock().time_of_day_ms()
    }

    /// This node's store failed, and nothing was proposed.
    fn store_error(&self, reason: &impl std::fmt::Display) -> BrokerError {
        BrokerError::StoreFailed { node: self.local().name, reason: reason.to_string(), proposed: false }
    }

    /// Why this node, as the leader, takes nothing new; none while it does.
    fn refusal(&self) -> Option<BrokerError> {
        if let Some(reason) = self.inner.view.commits().borrow().failure() {
            return Some(self.store_error(&reason));
        }
        let failures = self.inner.view.health().failures();
        let (part, reason) = failures.keeps_from_writing()?;
        Some(match part {
            Part::Majority => BrokerError::NoMajority { reason: reason.to_owned() },
            _ => self.store_error(&reason),
        })
    }

    /// Resolves while [`Broker::refusal`] says something.
    async fn refuses(&self) -> BrokerError {
        let (mut health, mut commits) = (self.inner.view.health().changes(), self.inner.view.commits());
        loop {
            if let Some(error) = self.refusal() {
                return error;
            }
            // Both live as long as the view.
            tokio::select! {
                _ = health.changed() => {}
                _ = commits.changed() => {}
            }
        }
    }

    /// Refuses a request while the broker stops, or must not show or change its state.
    fn check_running(&self) -> Result<(), BrokerError> {
        if self.inner.requests.is_closed() {
            return Err(BrokerError::Stopping);
        }
        self.check_shown()
    }

    /// Refuses to show anything while the state must not be shown.
    fn check_shown(&self) -> Result<(), BrokerError> {
        let reason = self.inner.withheld.borrow().clone();
        reason.map_or(Ok(()), |reason| Err(BrokerError::NotAMember { reason }))
    }

    /// Waits until this node serves nobody any more; gives the reason.
    async fn unserved(&self) -> BrokerError {
        let mut withheld = self.inner.withheld.clone();
        tokio::select! {
            () = self.inner.stopping.cancelled() => BrokerError::Stopping,
            Ok(reason) = withheld.wait_for(Option::is_some) => {
                BrokerError::NotAMember { reason: reason.clone().unwrap_or_default() }
            }
        }
    }
}
