//! Electing soon after the leader is gone.
//!
//! A process that dies closes its connections, and its followers see that within a moment; one that is frozen or cut off
//! falls silent, and they miss its heartbeats. In both cases a follower first asks the leader on a new connection. If
//! no answer comes, it asks the other voters whether they have lost the leader too. When a majority has, the one of
//! them with the newest log stands for election as if leadership had been handed to it, which the leader's lease does not
//! forbid. Raft's own rules stay in force: a term has one leader, and a vote goes only to a log that is new enough. What
//! the question protects is a leader that only one follower cannot reach. Openraft's own election timeout stays as
//! the last resort.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use openraft::{async_runtime::WatchReceiver as _, raft::TransferLeaderRequest};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{
    log::{LogPosition, LogStore},
    transport::{Lane, Transport},
    types::Raft,
};
use crate::{health::Health, proto::raft as proto, sequencer::NodeAddress};

/// How long the leader may take to answer on a new connection.
const CONNECT: Duration = Duration::from_millis(200);
/// How often the leader's silence is measured.
const TICK: Duration = Duration::from_millis(50);
/// How long another voter may take to answer.
const TIMEOUT: Duration = Duration::from_millis(100);
/// How often the others are asked, while they may be about to notice too.
const INTERVAL: Duration = Duration::from_millis(20);
/// How often at most; after that the election timeout decides.
const ROUNDS: u32 = 25;
/// How many rounds the best candidate has before the next one tries.
const HEAD_START: u32 = 8;

/// A follower's watch over its leader.
pub(super) struct Failover {
    pub(super) local: NodeAddress,
    pub(super) raft: Raft,
    pub(super) log: Arc<dyn LogStore>,
    pub(super) transport: Transport,
    health: Health,
    /// See [`Failover::new`].
    silence: Duration,
    state: Mutex<State>,
    broken: Notify,
}

#[derive(Default)]
struct State {
    /// How many streams of entries each node has open here.
    streams: HashMap<u64, usize>,
    /// When each node last sent entries, or showed that it leads.
    heard: HashMap<u64, Instant>,
    /// Who was heard of at all since this process began.
    known: HashSet<u64>,
    /// Whose last stream ended.
    broken: Option<u64>,
    /// The leader, and its term, that this node has lost.
    lost: Option<(u64, u64)>,
}

impl Failover {
    /// `silence`: after so long without a sign of the leader it is asked whether it is there.
    pub(super) fn new(
        local: NodeAddress,
        raft: Raft,
        log: Arc<dyn LogStore>,
        transport: Transport,
        health: Health,
        silence: Duration,
    ) -> Self {
        Self { local, raft, log, transport, health, silence, state: Mutex::default(), broken: Notify::new() }
    }

    /// A stream of log entries from this node began.
    pub(super) fn stream_began(&self, from: u64) {
        *self.state.lock().streams.entry(from).or_default() += 1;
        self.heard(from);
    }

    /// A node sent entries, or showed that it leads.
    pub(super) fn heard(&self, from: u64) {
        let mut state = self.state.lock();
        state.heard.insert(from, Instant::now());
        state.known.insert(from);
        if state.broken == Some(from) {
            state.broken = None;
        }
        if state.lost.is_some_and(|(leader, _)| leader == from) {
            state.lost = None;
        }
    }

    /// A stream of log entries from this node ended. It has one open as long as it leads, and short ones beside it.
    pub(super) fn stream_ended(&self, from: u64) {
        let mut state = self.state.lock();
        let left = state.streams.get(&from).map_or(0, |open| open.saturating_sub(1));
        if left == 0 {
            state.streams.remove(&from);
            state.broken = Some(from);
            self.broken.notify_one();
        } else {
            state.streams.insert(from, left);
        }
    }

    /// Answers another voter's question.
    pub(super) fn answer(&self, request: &proto::LostLeaderRequest) -> proto::LostLeaderResponse {
        let lost = self.state.lock().lost == Some((request.leader, request.term));
        // A node that cannot do its work is no candidate: the others need not wait for it.
        let last = self.log.bounds().last.filter(|_| self.health.may_lead());
        proto::LostLeaderResponse {
            lost,
            last_log_id: last.map(|last| proto::LogId { term: last.term, index: last.index }),
        }
    }

    /// Whether another node is there that is taken for the leader of a term: what the disk says of the leader of an
    /// earlier life means nothing.
    pub(super) fn has_heard(&self, leader: u64, term: u64) -> bool {
        let state = self.state.lock();
        state.known.contains(&leader) && state.lost != Some((leader, term))
    }

    /// Whether a leader, in its term, was asked whether it is there and has not answered since.
    pub(super) fn has_lost(&self, leader: u64, term: u64) -> bool {
        self.state.lock().lost == Some((leader, term))
    }

    /// Runs as long as the node does.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let _ = tokio::time::timeout(TICK, self.broken.notified()).await; // whichever comes first
            let Some((leader, term)) = self.leader() else { continue };
            if !self.misses(leader.id) {
                continue;
            }
            if self.transport.answers(&leader, CONNECT).await {
                self.heard(leader.id);
                continue;
            }
            if self.misses(leader.id) && self.leader().is_some_and(|(now, at)| (now.id, at) == (leader.id, term)) {
                tracing::info!(leader = leader.name, term, "the leader does not answer");
                self.state.lock().lost = Some((leader.id, term));
                self.succeed(&leader, term).await;
                // A try that led to nothing is not repeated at once.
                let mut state = self.state.lock();
                state.heard.insert(leader.id, Instant::now());
                state.broken = None;
            }
        }
    }

    /// Whether a leader's connection broke, or it has been silent for too long.
    fn misses(&self, leader: u64) -> bool {
        let mut state = self.state.lock();
        let now = Instant::now();
        // One that was not heard of yet has just been elected.
        let silent = now - *state.heard.entry(leader).or_insert(now) >= self.silence;
        silent || state.broken == Some(leader)
    }

    /// The leader that this node follows, and its term.
    fn leader(&self) -> Option<(NodeAddress, u64)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.current_leader.filter(|leader| *leader != self.local.id)?;
        Some((NodeAddress::clone(metrics.membership_config.get_node(&leader)?), metrics.current_term))
    }

    async fn succeed(&self, leader: &NodeAddress, term: u64) {
        for round in 0..ROUNDS {
            if self.leader().is_none_or(|(now, at)| (now.id, at) != (leader.id, term))
                || self.state.lock().lost.is_none()
            {
                return; // somebody else leads, or the leader is back
            }
            let (count, others) = {
                let metrics = self.raft.metrics();
                let metrics = metrics.borrow_watched();
                let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
                let others =
                    metrics.membership_config.nodes().filter(|(id, _)| **id != leader.id && **id != self.local.id);
                let others: Vec<NodeAddress> =
                    others.filter(|(id, _)| voters.contains(id)).map(|(_, node)| NodeAddress::clone(node)).collect();
                if !voters.contains(&self.local.id) {
                    return;
                }
                (voters.len(), others)
            };
            let answers = futures::future::join_all(others.iter().map(|node| self.ask(node, leader, term))).await;
            let lost: Vec<(Option<LogPosition>, u64)> = answers.into_iter().flatten().collect();
            if (lost.len() + 1) * 2 > count && self.health.may_lead() {
                // The newest log first, then the lowest id.
                let rank = |last: Option<LogPosition>, id: u64| (last, std::cmp::Reverse(id));
                let ours = rank(self.log.bounds().last, self.local.id);
                let best = lost.iter().all(|(last, id)| rank(*last, *id) < ours);
                if best || round >= HEAD_START {
                    self.stand().await;
                    return;
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// The newest entry of another voter that has lost the leader too.
    async fn ask(&self, node: &NodeAddress, leader: &NodeAddress, term: u64) -> Option<(Option<LogPosition>, u64)> {
        let mut client = self.transport.client(node.id, &node.peer, Lane::Control);
        let request = proto::LostLeaderRequest { leader: leader.id, term };
        let answer = tokio::time::timeout(TIMEOUT, client.lost_leader(request)).await.ok()?.ok()?.into_inner();
        answer.lost.then(|| (answer.last_log_id.map(|id| LogPosition { term: id.term, index: id.index }), node.id))
    }

    async fn stand(&self) {
        let vote = self.raft.metrics().borrow_watched().vote;
        let request = TransferLeaderRequest::new(vote, self.local.id, None);
        match self.raft.handle_transfer_leader(request).await {
            Ok(Ok(())) => tracing::info!("standing for election in the place of a leader that is gone"),
            Ok(Err(error)) => tracing::debug!(%error, "cannot stand for election yet"),
            Err(error) => tracing::debug!(%error, "the Raft core stopped"),
        }
    }
}
