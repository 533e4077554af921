//! Makes a broker: all its parts, and the tasks that run for as long as it does.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    batcher,
    checks::LONG_CHECKS,
    compaction, consume, delayed,
    delivery::Delivery,
    groups::Groups,
    handle::{Broker, InUse, Inner},
    housekeeping, interest, key_limit,
    operation_queue::Operations,
    operations, quarantine,
    quotas::Quotas,
    reclaim,
    samples::Quarantine,
    stats::Counters,
    submission::Batcher,
    verdicts::Verdicts,
};
use crate::{
    env::Env,
    replica::ReplicaView,
    sequencer::{Peers, Sequencer},
};

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
        tasks.spawn(stopping.clone().run_until_cancelled_owned(reclaim::run(broker.clone())));
        tasks.spawn(stopping.clone().run_until_cancelled_owned(key_limit::run(broker.clone())));
        tasks.spawn(stopping.clone().run_until_cancelled_owned(interest::report(broker.clone())));
        Self { _in_use: Some(Arc::new(InUse { stopping })), ..broker }
    }
}
