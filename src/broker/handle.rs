//! A broker and its parts. Everything that a broker does is a method of [`Broker`] in the module of what it does, and finds
//! here what it does it with; so no part may know the broker.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    delivery::Delivery,
    error::{BrokerError, Unserved},
    groups::Groups,
    inboxes::Inboxes,
    joins::Flights,
    operation_queue::Operations,
    quotas::Quotas,
    router::Router,
    samples::Quarantine,
    schema::Compiled,
    stats::Counters,
    submission::Batcher,
    verdicts::Verdicts,
};
use crate::{
    env::Env,
    health::Part,
    model::{ChannelId, KeyHash, Limits},
    replica::ReplicaView,
    sequencer::{Leader, NodeAddress, Peers, Sequencer},
    store::DurableStore,
};

/// One node's broker. Cloning shares it. It stops with [`Broker::stop`], or when the last clone is dropped with all that
/// came of it, subscriptions and members of consumers.
#[derive(Clone)]
pub struct Broker {
    pub(super) inner: Arc<Inner>,
    /// None in its own tasks, which would keep it for ever.
    pub(super) _in_use: Option<Arc<InUse>>,
}

/// Ends the tasks of a broker that nobody has any longer.
pub(super) struct InUse {
    pub(super) stopping: CancellationToken,
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

pub(super) struct Inner {
    pub(super) view: ReplicaView,
    pub(super) sequencer: Arc<dyn Sequencer>,
    pub(super) peers: Arc<dyn Peers>,
    pub(super) env: Env,
    pub(super) batcher: Batcher,
    pub(super) operations: Operations,
    /// Consumers with members, while this node leads.
    pub(super) groups: Groups,
    pub(super) delivery: Arc<Delivery>,
    /// The rules between channels, compiled.
    pub(super) router: Mutex<Arc<Router>>,
    pub(super) schemas: Mutex<Compiled>,
    /// Outcomes that nobody was told, by channel and key: see the batcher.
    pub(super) missed: Mutex<HashMap<(ChannelId, KeyHash), (u64, Instant)>>,
    /// Keyed publishes under way on this leader.
    pub(super) flights: Arc<Flights>,
    /// Requests of this node's clients that wait for a reply.
    pub(super) inboxes: Arc<Inboxes>,
    /// Samples of what schemas refused.
    pub(super) quarantine: Quarantine,
    pub(super) quotas: Quotas,
    pub(super) counters: Counters,
    /// One at a time: it takes a core for as long as it runs.
    pub(super) validations: Semaphore,
    /// Checks of payloads that take long, each on a thread of its own.
    pub(super) checks: Semaphore,
    /// What filters make of batches.
    pub(super) verdicts: Verdicts,
    /// Requests under way.
    pub(super) requests: TaskTracker,
    pub(super) stopping: CancellationToken,
    /// Why the state must be neither shown nor changed.
    pub(super) withheld: watch::Receiver<Option<String>>,
    pub(super) tasks: TaskTracker,
}

impl Broker {
    /// The same for a task that lives as long as the broker is used elsewhere.
    pub(super) fn for_tasks(&self) -> Self {
        Self { inner: self.inner.clone(), _in_use: None }
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
    pub fn local(&self) -> &NodeAddress {
        self.inner.peers.local()
    }

    /// Makes durable what was acknowledged.
    ///
    /// # Errors
    /// When the store cannot.
    pub async fn flush(&self) -> Result<(), BrokerError> {
        Ok(self.store().flush().await.map_err(|error| self.store_error(&error))?)
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
    pub(super) fn store_error(&self, reason: &impl std::fmt::Display) -> Unserved {
        Unserved::StoreFailed { node: self.local().name.clone(), reason: reason.to_string(), proposed: false }
    }

    /// Why this node, as the leader, takes nothing new; none while it does.
    pub(super) fn refusal(&self) -> Option<Unserved> {
        if let Some(reason) = self.inner.view.commits().borrow().failure() {
            return Some(self.store_error(&reason));
        }
        let failures = self.inner.view.health().failures();
        let (part, reason) = failures.keeps_from_writing()?;
        Some(match part {
            Part::Majority => Unserved::NoMajority { reason: reason.to_owned() },
            _ => self.store_error(&reason),
        })
    }

    /// Resolves while [`Broker::refusal`] says something.
    pub(super) async fn refuses(&self) -> Unserved {
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
    pub(super) fn check_running(&self) -> Result<(), Unserved> {
        if self.inner.requests.is_closed() {
            return Err(Unserved::Stopping);
        }
        self.check_shown()
    }

    /// Refuses to show anything while the state must not be shown.
    pub(super) fn check_shown(&self) -> Result<(), Unserved> {
        let reason = self.inner.withheld.borrow().clone();
        reason.map_or(Ok(()), |reason| Err(Unserved::NotAMember { reason }))
    }

    /// Waits until this node serves nobody any more; gives the reason.
    pub(super) async fn unserved(&self) -> Unserved {
        let mut withheld = self.inner.withheld.clone();
        tokio::select! {
            () = self.inner.stopping.cancelled() => Unserved::Stopping,
            Ok(reason) = withheld.wait_for(Option::is_some) => {
                Unserved::NotAMember { reason: reason.clone().unwrap_or_default() }
            }
        }
    }
}
