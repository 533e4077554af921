//! A node that cannot do its work steps aside.
//!
//! It runs on Raft's thread, beside what clients keep busy, and looks at what shows by itself: commits and flushes of
//! the store, writes of the log, answers of a majority, reads that failed. What it finds it says in the node's health;
//! and whatever is said there, by whomever, costs the leadership where another voter is well, and the right to stand
//! for it. Giving leadership away needs no entry of the log: a leader may be unable to apply one.

use std::{sync::Arc, time::Duration};

use openraft::{
    ServerState,
    async_runtime::{Instant as _, WatchReceiver as _},
};
use tokio::{sync::watch, time::Instant};

use super::{failover::Failover, log_adapter::Pace, membership::Membership, standing::Standing, types::Raft};
use crate::{health::Part, replica::ReplicaView};

/// How often it looks.
const TICK: Duration = Duration::from_millis(100);
/// How long a store may fail before that costs the leadership: a commit that fails is tried again at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often leadership is offered to the others.
const OFFER: Duration = Duration::from_secs(1);
/// A log that has written nothing for so long, while something waits to be written, does not go on.
const LOG_STALL: Duration = Duration::from_secs(3);
/// How often what could not be read is tried again.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// After so long without a leader there is no majority; an election takes less.
const LEADERLESS: Duration = Duration::from_secs(5);

/// A node's watch over itself.
pub(super) struct Aside {
    pub(super) raft: Raft,
    pub(super) view: ReplicaView,
    pub(super) membership: Arc<Membership>,
    pub(super) failover: Arc<Failover>,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) pace: Pace,
    /// How long a majority may be silent.
    pub(super) silence: Duration,
}

/// Since when something is so.
#[derive(Default)]
struct Since(Option<Instant>);

impl Since {
    /// How long it has been so without a break.
    fn lasts(&mut self, so: bool) -> Duration {
        if !so {
            self.0 = None;
            return Duration::ZERO;
        }
        self.0.get_or_insert_with(Instant::now).elapsed()
    }
}

impl Aside {
    /// Runs as long as the node does.
    pub(super) async fn run(mut self) {
        let health = self.view.health().clone();
        let (mut changes, mut commits) = (health.changes(), self.view.commits());
        let (mut unwell, mut leads, mut leaderless) = (Since::default(), Since::default(), Since::default());
        let (mut offer_due, mut read_due) = (Instant::now(), Instant::now());
        loop {
            // All four live as long as this task: what ends with them ends it as well.
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                Ok(()) = changes.changed() => {}
                Ok(()) = commits.changed() => {}
                Ok(()) = self.standing.changed() => {}
            }
            health.set(Part::Store, self.store());
            health.set(
                Part::Log,
                self.pace.stalled(LOG_STALL).then(|| {
                    format!(
                        "the log has written nothing for more than {LOG_STALL:?}, and something waits: look at its disk"
                    )
                }),
            );
            let leading = leads.lasts(self.leads());
            let without = leaderless.lasts(self.is_leaderless());
            health.set(Part::Majority, self.majority(leading, without));
            if health.of(Part::Data).is_some() && Instant::now() >= read_due {
                // A disk may not answer at all.
                let _ = tokio::time::timeout(READ_AGAIN, self.view.read_again()).await;
                read_due = Instant::now() + READ_AGAIN;
            }
            let failures = health.failures();
            // Where nobody leads at all, a node that is not well is better than none: it may be the only one that has
            // all acknowledged entries. Once it leads, it sends them to a node that is well, and hands over to that one.
            let last_resort = without >= LEADERLESS && !failures.iter().any(|(part, _)| part.is_needed_to_stand());
            self.raft.runtime_config().elect(self.standing.borrow().takes_part() && (health.may_lead() || last_resort));
            let Some((part, reason)) = failures.keeps_from_leading() else {
                unwell.lasts(false);
                continue;
            };
            let patience = if part == Part::Store { PATIENCE } else { Duration::ZERO };
            if unwell.lasts(true) >= patience && self.leads() && Instant::now() >= offer_due {
                self.membership.step_aside(reason).await;
                offer_due = Instant::now() + OFFER;
            }
        }
    }

    fn leads(&self) -> bool {
        self.raft.metrics().borrow_watched().state == ServerState::Leader
    }

    /// Why nothing can be committed to the store, or made durable.
    fn store(&self) -> Option<String> {
        let commits = self.view.commits().borrow().failure().map(str::to_owned);
        commits.or_else(|| self.view.store().failure())
    }

    /// Whether this node knows of no leader that is there, though it is in a cluster.
    fn is_leaderless(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let in_a_cluster = metrics.membership_config.nodes().next().is_some();
        in_a_cluster && metrics.current_leader.is_none_or(|leader| self.failover.has_lost(leader, metrics.current_term))
    }

    /// Why nothing can be committed for want of other nodes.
    fn majority(&self, leading: Duration, without: Duration) -> Option<String> {
        if without >= LEADERLESS {
            return Some(format!(
                "there has been no leader for more than {LEADERLESS:?}: a majority of the voters is not there"
            ));
        }
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        if metrics.state != ServerState::Leader || leading <= self.silence || voters.len() < 2 {
            return None;
        }
        let acked = metrics.last_quorum_acked.as_ref();
        if acked.is_some_and(|at| at.into_inner().elapsed() <= self.silence) {
            return None;
        }
        let heard = |id: &u64| {
            let at = metrics.heartbeat.as_ref().and_then(|heartbeat| heartbeat.get(id)?.as_ref());
            *id == metrics.id || at.is_some_and(|at| at.into_inner().elapsed() <= self.silence)
        };
        let silent = voters.iter().filter(|id| !heard(id));
        let name = |id: &u64| metrics.membership_config.get_node(id).map_or(id.to_string(), |node| node.name.clone());
        let mut silent: Vec<String> = silent.map(name).collect();
        silent.sort();
        Some(format!(
            "this node leads, but a majority of the {} voters has not answered for more than {:?}: {} silent",
            voters.len(),
            self.silence,
            silent.join(", ") + if silent.len() == 1 { " is" } else { " are" },
        ))
    }
}
