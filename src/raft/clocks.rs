//! Comparing the nodes' clocks, and keeping this node's reckoning of the log's time in step with the leader's.
//!
//! Every second a node asks the others what their clocks show and what the log's time is there. A follower goes by the
//! leader's answer, so that it can lead at any moment without a leap; the leader gives all voters' clocks to its
//! reckoning, which no single one of them can move (`log_clock`). A clock that disagrees with the time of day in the log is
//! told of, on the leader and on its own node.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use openraft::async_runtime::WatchReceiver as _;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{
    propose::propose,
    transport::{Lane, Transport},
    types::Raft,
};
use crate::{
    log_clock::Reading,
    model::Command,
    proto::raft as proto,
    replica::ReplicaView,
    sequencer::{Leader, NodeAddress},
};

/// How often the others are asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often as long as nobody knows how much time has passed.
const HURRY: Duration = Duration::from_millis(50);
/// How long one may take to answer.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Clocks that differ by less agree.
const AGREEMENT_MS: u64 = 1_000;
/// How often it is said that one still disagrees.
const REMINDER: Duration = Duration::from_secs(600);

/// How far a node's clock is from the time of day in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockDifference {
    /// The node's id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// How far its clock is ahead, milliseconds; below 0 where it is behind.
    pub ahead_ms: i64,
}

impl ClockDifference {
    /// Whether it is more than what clocks that are looked after differ by.
    pub fn is_wrong(&self) -> bool {
        self.ahead_ms.unsigned_abs() > AGREEMENT_MS
    }
}

impl std::fmt::Display for ClockDifference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by = span(self.ahead_ms);
        let where_to = if self.ahead_ms < 0 { "behind" } else { "ahead of" };
        write!(f, "the clock of node {} is {by} {where_to} the cluster's time: look after its time service", self.name)
    }
}

/// A difference for people: milliseconds matter where there are only few.
fn span(ms: i64) -> humantime::FormattedDuration {
    let ms = ms.unsigned_abs();
    humantime::format_duration(if ms < 60_000 { Duration::from_millis(ms) } else { Duration::from_secs(ms / 1_000) })
}

/// One node's comparisons.
pub(super) struct Clocks {
    pub(super) local: NodeAddress,
    pub(super) raft: Raft,
    pub(super) view: ReplicaView,
    pub(super) transport: Transport,
    pub(super) leader: watch::Receiver<Leader>,
    pub(super) differences: Arc<Mutex<Vec<ClockDifference>>>,
}

/// What another node answered.
struct Answer {
    /// None from one of an older version.
    wall: Option<Reading>,
    /// None from one that does not know how much time has passed.
    log: Option<Reading>,
}

impl Clocks {
    /// Runs as long as the node does.
    pub(super) async fn run(mut self) {
        let mut told = HashMap::new();
        loop {
            let leader = self.leader.borrow_and_update().clone();
            self.compare(&leader, &mut told).await;
            let pause = if self.view.clock().is_certain() || leader == Leader::Unknown { INTERVAL } else { HURRY };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = self.leader.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn compare(&self, leader: &Leader, told: &mut HashMap<u64, Instant>) {
        let (nodes, voters) = self.nodes();
        let answers = futures::future::join_all(nodes.iter().map(|node| self.ask(node))).await;
        if *self.leader.borrow() != *leader {
            return; // asked again at once
        }
        let clock = self.view.clock();
        let certain = answers.iter().flatten().filter_map(|answer| answer.log).max_by_key(|log| log.ms);
        let of = |id: u64| {
            nodes.iter().zip(&answers).find(|(node, _)| node.id == id).and_then(|(_, answer)| answer.as_ref())
        };
        match leader {
            Leader::Local { .. } => {
                if let Some(log) = certain.filter(|_| !clock.is_certain()) {
                    clock.follow(log);
                }
                let readings: Vec<_> = voters.iter().map(|id| of(*id).and_then(|answer| answer.wall)).collect();
                if let Some(ahead_ms) = clock.lead(&readings) {
                    self.turn_calendar(ahead_ms).await;
                }
            }
            Leader::Remote(node) => match of(node.id).and_then(|answer| answer.log) {
                Some(log) => clock.follow(log),
                None => clock.coast(),
            },
            Leader::Unknown => match certain.filter(|_| !clock.is_certain()) {
                Some(log) => clock.follow(log),
                None => clock.coast(),
            },
        }
        if clock.is_certain() {
            let day_ms = clock.time_of_day_ms();
            let readings = nodes.iter().zip(&answers).filter_map(|(node, answer)| Some((node, answer.as_ref()?.wall?)));
            let found = readings.map(|(node, wall)| ClockDifference {
                id: node.id,
                name: node.name.clone(),
                ahead_ms: wall.ahead_of(day_ms, Instant::now()),
            });
            let found: Vec<_> = found.collect();
            self.tell(&found, matches!(leader, Leader::Local { .. }), told);
            *self.differences.lock() = found;
        }
    }

    /// All nodes, this one among them, and the ids of the voters.
    fn nodes(&self) -> (Vec<NodeAddress>, BTreeSet<u64>) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = &metrics.membership_config;
        (membership.nodes().map(|(_, node)| NodeAddress::clone(node)).collect(), membership.voter_ids().collect())
    }

    async fn ask(&self, node: &NodeAddress) -> Option<Answer> {
        let asked = Instant::now();
        if node.id == self.local.id {
            let wall = Reading { ms: self.view.clock().wall_ms(), asked, answered: asked };
            return Some(Answer { wall: Some(wall), log: None });
        }
        let mut client = self.transport.client(node.id, &node.peer, Lane::Control);
        let answer = tokio::time::timeout(TIMEOUT, client.status(proto::StatusRequest {})).await.ok()?.ok()?;
        let (answer, answered) = (answer.into_inner(), Instant::now());
        let reading = |ms: u64| (ms > 0).then_some(Reading { ms, asked, answered });
        Some(Answer { wall: reading(answer.clock_ms), log: reading(answer.log_time_ms) })
    }

    /// Has it written down how far the log's time is from the time of day.
    async fn turn_calendar(&self, ahead_ms: i64) {
        let by = span(ahead_ms);
        let direction = if ahead_ms < 0 { "behind" } else { "ahead of" };
        let command = Command::Calendar { time_ms: self.view.clock().now_ms(), ahead_ms };
        match propose(&self.raft, &command).await {
            Ok(_) => tracing::warn!(
                "the log's time is {by} {direction} the time of day that a majority of the clocks shows: written down; \
                 leases, windows and delays are not touched"
            ),
            Err(error) => tracing::debug!(%error, "the calendar was not ordered"),
        }
    }

    /// One line when a clock goes wrong, one now and then while it is, and one when it is right again.
    fn tell(&self, found: &[ClockDifference], leads: bool, told: &mut HashMap<u64, Instant>) {
        for clock in found.iter().filter(|clock| leads || clock.id == self.local.id) {
            if !clock.is_wrong() {
                if told.remove(&clock.id).is_some() {
                    tracing::info!(node = clock.name, ahead_ms = clock.ahead_ms, "a node's clock is right again");
                }
            } else if told.get(&clock.id).is_none_or(|last| last.elapsed() >= REMINDER) {
                told.insert(clock.id, Instant::now());
                tracing::warn!(node = clock.name, ahead_ms = clock.ahead_ms, "{clock}");
            }
        }
        told.retain(|id, _| found.iter().any(|clock| clock.id == *id));
    }
}
