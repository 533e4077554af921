//! Who is in the cluster: what its leader decides, one change at a time.
//!
//! A change is a Raft membership entry, and an entry of the machine's that says what happened and why, for operators
//! and for later decisions. Newcomers become learners, and voters once they have caught up. A node that has been away
//! for long is removed where the configuration says so and enough of the others are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use openraft::{
    ChangeMembers,
    async_runtime::{Instant as _, WatchReceiver as _},
    errors::{ClientWriteError, RaftError},
};
use tokio::{sync::Mutex, time::Instant};
use tonic::Status;

use super::{
    group,
    transport::{Lane, Transport},
    types::Raft,
    waiting::Waiting,
    wire::from_address,
    witness::{self, Witness},
};
use crate::{
    model::{Command, Limits, MemberEvent, Refusal, Reply},
    proto::raft as proto,
    replica::ReplicaView,
    sequencer::{NodeAddress, SequencerError},
};

/// A learner that lacks no more entries than these has caught up.
const CAUGHT_UP: u64 = 100;
/// A node that was heard of within this time is there.
const PRESENT: Duration = Duration::from_secs(3);
/// How often the leader looks after the membership.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a change of the membership may take.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long another node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long a node that comes back waits for its start to be in the logs of the others. Without it they could take an
/// older copy of its disk for its own one day; but it may be needed for the very majority that commits.
const SPREAD: Duration = Duration::from_millis(500);
/// How often it is looked.
const SPREAD_POLL: Duration = Duration::from_millis(10);
/// How long a leadership transfer may take.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(3);

/// What the leader does by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipPolicy {
    /// Make learners voters when they have caught up.
    pub auto_promote: bool,
    /// Remove a node that has not been heard of for so long; none: never.
    pub remove_after: Option<Duration>,
    /// Fewer voters than these are never left by that.
    pub expect: usize,
}

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Let a node in that has asked for it and was refused because it had been removed.
    Join {
        /// Its name, its id, or its address for other nodes.
        node: String,
    },
    /// Make a learner a voter.
    Promote {
        /// The node's name.
        name: String,
    },
    /// Take a node out; it may not come back by itself.
    Remove {
        /// The node's name.
        name: String,
    },
    /// Hand leadership over.
    Transfer {
        /// The node's name; empty: the voter with the newest log.
        name: String,
    },
}

/// Why a change was not made, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// It was not, and trying again does not help.
    #[error("{0}")]
    Refused(String),
    /// This node does not lead: nothing was done.
    #[error("this node does not lead")]
    NotLeader,
    /// It may have been.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
}

impl From<SequencerError> for ChangeError {
    fn from(error: SequencerError) -> Self {
        match error {
            SequencerError::NotLeader | SequencerError::Stopped => Self::NotLeader,
            SequencerError::TooLarge { .. } => Self::Refused(error.to_string()),
            SequencerError::Unknown(reason) => Self::Unknown(reason),
        }
    }
}

/// The leader's hand on the membership; idle on other nodes.
pub(super) struct Membership {
    pub(super) local: NodeAddress,
    pub(super) raft: Raft,
    pub(super) view: ReplicaView,
    pub(super) transport: Transport,
    pub(super) witness: Arc<Witness>,
    pub(super) policy: MembershipPolicy,
    pub(super) cluster_id: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// Held during a change.
    pub(super) changing: Mutex<()>,
    /// Nodes that asked to be let in and were refused.
    pub(super) waiting: Waiting,
    /// The term of the leader that handed leadership to this node last; 0: none yet.
    pub(super) handed_in: AtomicU64,
}

/// The cluster as its leader sees it.
struct Picture {
    nodes: BTreeMap<u64, NodeAddress>,
    voters: BTreeSet<u64>,
    /// Whether the voters are changing: a majority of those before and of those after is needed for everything.
    joint: bool,
    /// The voters that were none before the change.
    entering: BTreeSet<u64>,
    /// Index of the newest entry that each other node is known to have.
    matched: BTreeMap<u64, u64>,
    /// How long each other node has not been heard of; absent: never by this leader.
    silent: BTreeMap<u64, Duration>,
    last: u64,
}

impl Picture {
    fn named(&self, name: &str) -> Result<&NodeAddress, ChangeError> {
        self.nodes.values().find(|node| node.name == name || node.id.to_string() == name).ok_or_else(|| {
            let names: Vec<&str> = self.nodes.values().map(|node| node.name.as_str()).collect();
            ChangeError::Refused(format!(
                "there is no node `{name}` in the cluster; its nodes are {}",
                names.join(", ")
            ))
        })
    }

    fn present(&self, id: u64, local: u64) -> bool {
        id == local || self.silent.get(&id).is_some_and(|silent| *silent <= PRESENT)
    }

    /// Whether a majority of the voters but this one is there.
    fn stands_without(&self, id: u64, local: u64) -> bool {
        let rest: Vec<u64> = self.voters.iter().copied().filter(|voter| *voter != id).collect();
        let present = rest.iter().filter(|voter| self.present(**voter, local)).count();
        present > rest.len() / 2
    }
}

impl Membership {
    /// None where this node does not lead.
    fn picture(&self) -> Option<Picture> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.as_ref()?;
        let silent = metrics.heartbeat.iter().flatten();
        let configs = metrics.membership_config.membership().get_joint_config();
        Some(Picture {
            joint: configs.len() > 1,
            entering: match &configs[..] {
                [before, .., after] => after.difference(before).copied().collect(),
                _ => BTreeSet::new(),
            },
            nodes: metrics.membership_config.nodes().map(|(id, node)| (*id, node.clone())).collect(),
            voters: metrics.membership_config.voter_ids().collect(),
            matched: replication.iter().map(|(id, matched)| (*id, matched.map_or(0, |id| id.index))).collect(),
            silent: silent.filter_map(|(id, at)| Some((*id, at.as_ref()?.into_inner().elapsed()))).collect(),
            last: metrics.last_log_index.unwrap_or(0),
        })
    }

    /// A node's process has begun and wants to take part. A voter that comes back may be needed for the very majority
    /// that commits, so what is decided about it is decided from what is applied, and written down afterwards.
    pub(super) async fn announce(
        self: &Arc<Self>,
        request: proto::AnnounceRequest,
    ) -> Result<proto::AnnounceResponse, Status> {
        let not_leader = || Status::unavailable("this node does not lead");
        let node = request.node.map(from_address).ok_or_else(|| Status::invalid_argument("nobody announces itself"))?;
        let picture = self.picture().ok_or_else(not_leader)?;
        if picture.nodes.values().any(|other| other.name == node.name && other.id != node.id) {
            let name = &node.name;
            return Err(Status::failed_precondition(format!(
                "there is a node `{name}` with another id already: if that one's disk was lost, remove it with \
                 `liminal cluster remove {name}`, and this one joins in its place; else give this node another name"
            )));
        }
        let known = picture.nodes.get(&node.id).cloned();
        if let Some(known) = known.as_ref().filter(|known| known.peer != node.peer && node.id != self.local.id) {
            self.refuse_a_copy(known, request.incarnation).await?;
        }
        let old_copy = |why: &str| Status::data_loss(witness::old_copy(&node.name, why));
        let last = request.last_log_id.map_or(0, |id| id.index);
        let matched = picture.matched.get(&node.id).copied().unwrap_or(0);
        if matched > last && node.id != self.local.id {
            // One that takes part gets entries all the time: what it holds now counts.
            let now = if request.takes_part { self.ends_at(&node, request.incarnation).await? } else { Some(last) };
            if let Some(now) = now.filter(|now| *now < matched) {
                return Err(old_copy(&witness::ends_early(now, matched)));
            }
        }
        let record = self.view.member(node.id).unwrap_or_default();
        if record.removed {
            self.waiting.refused(&node);
            return Err(Status::failed_precondition(format!(
                "the node was removed from the cluster: `liminal cluster join {}` lets it in again",
                node.name
            )));
        }
        let again = self.knows_start(node.id, request.starts, request.incarnation);
        if let Some(why) = self.witness.starts_again(node.id, request.starts, request.incarnation) {
            return Err(old_copy(&why));
        }
        self.transport.learn(node.id, &node.peer);
        let started =
            MemberEvent::Started { starts: request.starts, incarnation: request.incarnation, peer: node.peer.clone() };
        if known.is_some() {
            let (this, id) = (self.clone(), node.id);
            tokio::spawn(async move {
                if let Err(error) = this.settle(&node, known.as_ref(), started, again).await {
                    tracing::debug!(%error, node = node.name, "a start was not written down");
                }
            });
            let spread = self.spread(id, request.starts, request.incarnation);
            // Or not: then those that are here know of it.
            let _ = tokio::time::timeout(SPREAD, spread).await;
        } else {
            let settled = self.settle(&node, None, started, again).await;
            settled.map_err(|error| Status::unavailable(error.to_string()))?;
        }
        let cluster_id = (self.cluster_id)().ok_or_else(not_leader)?;
        Ok(proto::AnnounceResponse { cluster_id })
    }

    /// Whether it is written down, as far as this node knows, that a process of a node has begun.
    pub(super) fn knows_start(&self, node: u64, starts: u64, incarnation: u64) -> bool {
        let record = self.view.member(node).unwrap_or_default();
        (record.starts, record.incarnation) == (starts, incarnation)
    }

    /// Waits until all other voters that are here have a node's start in their logs.
    async fn spread(&self, node: u64, starts: u64, incarnation: u64) {
        let mut end = None;
        loop {
            let Some(picture) = self.picture() else { return };
            if end.is_none() && self.knows_start(node, starts, incarnation) {
                end = Some(picture.last);
            }
            let has_it = |voter: &u64| {
                *voter == self.local.id
                    || *voter == node
                    || !picture.present(*voter, self.local.id)
                    || picture.matched.get(voter).copied() >= end
            };
            if end.is_some() && picture.voters.iter().all(has_it) {
                return;
            }
            tokio::time::sleep(SPREAD_POLL).await;
        }
    }

    /// Writes down that a node was let in.
    async fn settle(
        &self,
        node: &NodeAddress,
        known: Option<&NodeAddress>,
        started: MemberEvent,
        again: bool,
    ) -> Result<(), ChangeError> {
        let _one = self.changing.lock().await;
        if !again {
            self.must_record(node, started).await?;
        }
        match known {
            None => self.add(node).await,
            Some(known) if known != node => self.moved(node).await,
            Some(_) => Ok(()),
        }
    }

    /// Where the log of a running node ends now; none when a node of an earlier build does not say so.
    async fn ends_at(&self, node: &NodeAddress, incarnation: u64) -> Result<Option<u64>, Status> {
        let mut client = self.transport.client_of_anyone(&node.peer);
        let asked = tokio::time::timeout(TIMEOUT, client.hello(proto::HelloRequest::default())).await;
        let answer = match asked {
            Ok(Ok(answer)) => answer.into_inner(),
            _ => return Err(Status::unavailable(format!("{} does not say where its log ends", node.peer))),
        };
        if answer.node.is_none_or(|found| found.id != node.id) || answer.incarnation != incarnation {
            return Err(Status::unavailable(format!("another process answers at {}", node.peer)));
        }
        Ok(answer.last_log_id.map(|last| last.index))
    }

    /// Two processes may not run on copies of one disk: the one that is there already stays.
    async fn refuse_a_copy(&self, known: &NodeAddress, incarnation: u64) -> Result<(), Status> {
        let mut client = self.transport.client_of_anyone(&known.peer);
        let asked = client.hello(proto::HelloRequest::default());
        let Ok(Ok(answer)) = tokio::time::timeout(TIMEOUT, asked).await else { return Ok(()) };
        let answer = answer.into_inner();
        let there = answer.node.is_some_and(|node| node.id == known.id) && answer.incarnation != incarnation;
        if !there {
            return Ok(());
        }
        Err(Status::data_loss(format!(
            "node `{}` runs at {} already: this is a copy of its disk. Stop one of the two, and start the other again \
             with an empty directory if both are to stay",
            known.name, known.peer
        )))
    }

    /// Does what an operator wants. Returns what was done, for people.
    pub(super) async fn change(&self, change: &Change) -> Result<String, ChangeError> {
        let _one = self.changing.lock().await;
        let picture = self.picture().ok_or(ChangeError::NotLeader)?;
        match change {
            Change::Join { node } => self.join(&picture, node).await,
            Change::Promote { name } => {
                let node = picture.named(name)?;
                if picture.voters.contains(&node.id) {
                    return Err(ChangeError::Refused(format!("`{}` is a voter already", node.name)));
                }
                self.promote(&picture, node).await?;
                Ok(format!("{} votes now", node.name))
            }
            Change::Remove { name } => self.remove(&picture, picture.named(name)?).await,
            Change::Transfer { name } => self.transfer(&picture, name).await,
        }
    }

    async fn join(&self, picture: &Picture, wanted: &str) -> Result<String, ChangeError> {
        if let Some(node) = picture.nodes.values().find(|node| node.name == wanted || node.peer == wanted) {
            return Err(ChangeError::Refused(format!("{} is in the cluster already", node.name)));
        }
        let node = self.waiting.find(wanted).map_err(ChangeError::Refused)?;
        if picture.nodes.contains_key(&node.id) {
            return Err(ChangeError::Refused(format!("{} is in the cluster already", node.name)));
        }
        if picture.nodes.values().any(|other| other.name == node.name) {
            let reason = format!("there is another node called {} already: remove it first", node.name);
            return Err(ChangeError::Refused(reason));
        }
        self.must_record(&node, MemberEvent::Readmitted).await?;
        self.transport.learn(node.id, &node.peer);
        self.add(&node).await?;
        Ok(format!("{} is in the cluster as a learner; it votes when it has caught up", node.name))
    }

    async fn remove(&self, picture: &Picture, node: &NodeAddress) -> Result<String, ChangeError> {
        let voter = picture.voters.contains(&node.id);
        if voter && picture.voters.len() == 1 {
            return Err(ChangeError::Refused(format!("{} is the only voter: nobody would be left", node.name)));
        }
        if voter && !self.rest_answers(picture, node.id).await {
            return Err(ChangeError::Refused(format!(
                "without {} there would be no majority of reachable voters: bring another node back first",
                node.name
            )));
        }
        if node.id == self.local.id {
            // The next leader does it: the caller follows.
            self.hand_over(picture, None).await?;
            return Err(ChangeError::NotLeader);
        }
        self.take_out(picture, node, true).await?;
        Ok(format!("{} is no longer in the cluster, and does not come back by itself", node.name))
    }

    /// Whether a majority of the voters but this one answers now.
    async fn rest_answers(&self, picture: &Picture, without: u64) -> bool {
        let rest: Vec<u64> = picture.voters.iter().copied().filter(|voter| *voter != without).collect();
        let asked = rest.iter().filter(|voter| **voter != self.local.id).filter_map(|voter| picture.nodes.get(voter));
        let answers = asked.map(|node| async move {
            let mut client = self.transport.client(node.id, &node.peer, Lane::Control);
            let answer = tokio::time::timeout(TIMEOUT, client.status(proto::StatusRequest {})).await;
            matches!(answer, Ok(Ok(_)))
        });
        let answered = futures::future::join_all(answers).await.into_iter().filter(|answered| *answered).count();
        answered + usize::from(rest.contains(&self.local.id)) > rest.len() / 2
    }

    async fn transfer(&self, picture: &Picture, name: &str) -> Result<String, ChangeError> {
        let to = if name.is_empty() { None } else { Some(picture.named(name)?) };
        if let Some(to) = to {
            if to.id == self.local.id {
                return Ok(format!("{} leads already", to.name));
            }
            if let Err(reason) = self.can_lead(picture, to).await {
                return Err(ChangeError::Refused(format!("{} cannot lead: {reason}", to.name)));
            }
        }
        let to = self.hand_over(picture, to).await?;
        Ok(format!("{} leads now", to.name))
    }

    /// Why a node should not be given leadership now.
    async fn can_lead(&self, picture: &Picture, node: &NodeAddress) -> Result<(), String> {
        if !picture.voters.contains(&node.id) {
            return Err("it does not vote: promote it first".into());
        }
        let mut client = self.transport.client(node.id, &node.peer, Lane::Control);
        let state = match tokio::time::timeout(TIMEOUT, client.status(proto::StatusRequest {})).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Err(format!("it does not answer at {}: {}", node.peer, status.message())),
            Err(_) => return Err(format!("it does not answer at {} within {TIMEOUT:?}", node.peer)),
        };
        if state.node.is_some_and(|other| other.id != node.id) {
            return Err(format!("another node answers at {}", node.peer));
        }
        if let Some(reason) = [state.failure].into_iter().chain(state.unwell).find(|reason| !reason.is_empty()) {
            return Err(format!("it is not well: {reason}"));
        }
        let lacking = picture.last.saturating_sub(picture.matched.get(&node.id).copied().unwrap_or(0));
        if lacking > CAUGHT_UP {
            return Err(format!("it lacks {lacking} log entries, more than {CAUGHT_UP}"));
        }
        Ok(())
    }

    /// The other voter that is well and has the newest log; none where there is no such.
    async fn successor(&self, picture: &Picture) -> Option<NodeAddress> {
        let others =
            picture.nodes.values().filter(|node| node.id != self.local.id && picture.voters.contains(&node.id));
        let asked = others.map(|node| async move { self.can_lead(picture, node).await.is_ok().then(|| node.clone()) });
        let able = futures::future::join_all(asked).await.into_iter().flatten();
        able.max_by_key(|node| picture.matched.get(&node.id).copied())
    }

    async fn hand_over(&self, picture: &Picture, to: Option<&NodeAddress>) -> Result<NodeAddress, ChangeError> {
        let to = match to {
            Some(to) => to.clone(),
            None => {
                let nobody = || ChangeError::Refused("there is no other voter that is well and could lead".into());
                self.successor(picture).await.ok_or_else(nobody)?
            }
        };
        let unknown = |error: String| ChangeError::Unknown(error);
        self.raft.trigger().transfer_leader(to.id).await.map_err(|error| unknown(error.to_string()))?;
        let mut metrics = self.raft.server_metrics();
        let moved = async {
            loop {
                let leader = metrics.borrow_watched().current_leader.filter(|leader| *leader != self.local.id);
                if leader.is_some() || metrics.changed().await.is_err() {
                    return leader;
                }
            }
        };
        match tokio::time::timeout(TRANSFER_TIMEOUT, moved).await.ok().flatten() {
            Some(leader) if leader == to.id => Ok(to),
            Some(leader) => {
                let name = picture.nodes.get(&leader).map_or_else(|| leader.to_string(), |node| node.name.clone());
                Err(ChangeError::Refused(format!("{} was asked to lead, and {name} leads now", to.name)))
            }
            None => Err(unknown(format!(
                "{} was asked to lead and did not take over within {TRANSFER_TIMEOUT:?}; who leads is said by \
                 `liminal cluster status`",
                to.name
            ))),
        }
    }

    async fn add(&self, node: &NodeAddress) -> Result<(), ChangeError> {
        self.commit(ChangeMembers::AddNodes([(node.id, node.clone())].into())).await?;
        self.must_record(node, MemberEvent::Joined).await
    }

    async fn moved(&self, node: &NodeAddress) -> Result<(), ChangeError> {
        self.commit(ChangeMembers::SetNodes([(node.id, node.clone())].into())).await?;
        self.must_record(node, MemberEvent::Moved { peer: node.peer.clone() }).await
    }

    async fn promote(&self, picture: &Picture, node: &NodeAddress) -> Result<(), ChangeError> {
        if picture.voters.len() >= Limits::MOST_VOTERS {
            return Err(ChangeError::Refused(format!(
                "there are {} voters already, which is the most; `cluster remove` another one first",
                picture.voters.len()
            )));
        }
        let lacking = picture.last.saturating_sub(picture.matched.get(&node.id).copied().unwrap_or(0));
        if lacking > CAUGHT_UP || !picture.present(node.id, self.local.id) {
            return Err(ChangeError::Refused(format!("{} has not caught up: it lacks {lacking} entries", node.name)));
        }
        self.commit(ChangeMembers::AddVoterIds([node.id].into())).await?;
        self.must_record(node, MemberEvent::Promoted).await
    }

    /// Ends a change of the voters that an earlier leader began: otherwise it would never end.
    async fn finish(&self, picture: &Picture) -> Result<(), ChangeError> {
        tracing::info!("finishing a change of the membership that another leader began");
        self.commit(ChangeMembers::AddVoterIds(BTreeSet::new())).await?;
        for node in picture.entering.iter().filter_map(|id| picture.nodes.get(id)) {
            self.must_record(node, MemberEvent::Promoted).await?;
        }
        Ok(())
    }

    async fn take_out(&self, picture: &Picture, node: &NodeAddress, by_operator: bool) -> Result<(), ChangeError> {
        // Said first: a node that is out must not come back in between.
        self.must_record(node, MemberEvent::Removed { by_operator }).await?;
        let id = [node.id].into();
        let change = if picture.voters.contains(&node.id) {
            ChangeMembers::RemoveVoters(id)
        } else {
            ChangeMembers::RemoveNodes(id)
        };
        self.commit(change).await
    }

    async fn commit(&self, change: ChangeMembers<u64, NodeAddress>) -> Result<(), ChangeError> {
        let what = change.to_string();
        let changed = tokio::time::timeout(CHANGE_TIMEOUT, self.raft.change_membership(change, false)).await;
        match changed {
            Ok(Ok(_)) => {
                tracing::info!(change = what, "the membership changed");
                Ok(())
            }
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(ChangeError::NotLeader),
            Ok(Err(RaftError::APIError(error))) => Err(ChangeError::Refused(error.to_string())),
            Ok(Err(RaftError::Fatal(fatal))) => Err(ChangeError::Unknown(fatal.to_string())),
            Err(_) => Err(ChangeError::Unknown(format!("no majority agreed within {CHANGE_TIMEOUT:?}"))),
        }
    }

    async fn must_record(&self, node: &NodeAddress, event: MemberEvent) -> Result<(), ChangeError> {
        self.record(node, event).await?.map_err(|refusal| ChangeError::Refused(refusal.to_string()))
    }

    /// Orders an event, and gives the machine's answer to it.
    async fn record(&self, node: &NodeAddress, event: MemberEvent) -> Result<Result<(), Refusal>, SequencerError> {
        let time_ms = self.view.clock().now_ms();
        let command = Command::Member { time_ms, node: node.id, name: node.name.clone(), event };
        match group::propose(&self.raft, &command).await?.reply {
            Reply::Member(answer) => Ok(answer),
            other => Err(SequencerError::Unknown(format!("the machine answered {other:?}"))),
        }
    }

    /// Looks after the membership as long as the node runs, while it leads.
    pub(super) async fn tend(self: Arc<Self>) {
        let mut leading_since = None;
        let mut absent = BTreeSet::new();
        loop {
            tokio::time::sleep(INTERVAL).await;
            let _one = self.changing.lock().await;
            let Some(picture) = self.picture() else {
                leading_since = None;
                continue;
            };
            self.tell_presence(&picture, &mut absent);
            self.tell_transfer().await;
            let leading = *leading_since.get_or_insert_with(Instant::now);
            if picture.joint {
                if let Err(error) = self.finish(&picture).await {
                    tracing::warn!(%error, "the change of the membership was not finished");
                }
                continue; // the picture is another one now
            }
            for (id, node) in picture.nodes.iter().filter(|(id, _)| **id != self.local.id) {
                let done = if self.is_ready(&picture, *id) {
                    tracing::info!(node = node.name, "a learner has caught up and votes from now on");
                    self.promote(&picture, node).await
                } else if self.is_gone(&picture, *id, leading.elapsed()) {
                    tracing::warn!(node = node.name, "a node has been away for too long and is removed");
                    self.take_out(&picture, node, false).await
                } else {
                    continue;
                };
                if let Err(error) = done {
                    tracing::warn!(%error, node = node.name, "the membership was not changed");
                }
                break; // the picture is another one now
            }
        }
    }

    /// One line when a node goes, and one when it is back.
    fn tell_presence(&self, picture: &Picture, absent: &mut BTreeSet<u64>) {
        for (id, node) in &picture.nodes {
            if picture.present(*id, self.local.id) {
                if absent.remove(id) {
                    tracing::info!(node = node.name, "a node is back");
                }
            } else if absent.insert(*id) {
                tracing::warn!(node = node.name, address = node.peer, "a node does not answer");
            }
        }
        absent.retain(|id| picture.nodes.contains_key(id));
    }

    fn is_ready(&self, picture: &Picture, id: u64) -> bool {
        let lacking = picture.last.saturating_sub(picture.matched.get(&id).copied().unwrap_or(0));
        self.policy.auto_promote
            && !picture.voters.contains(&id)
            && picture.voters.len() < Limits::MOST_VOTERS
            && lacking <= CAUGHT_UP
            && picture.present(id, self.local.id)
    }

    fn is_gone(&self, picture: &Picture, id: u64, leading: Duration) -> bool {
        let Some(limit) = self.policy.remove_after else { return false };
        let silent = picture.silent.get(&id).copied().unwrap_or(leading).min(leading);
        let spare = picture.voters.len() > self.policy.expect || !picture.voters.contains(&id);
        silent >= limit && spare && picture.stands_without(id, self.local.id)
    }

    /// Leadership goes to the voter that is well and has the newest log, because this node stops; false when there is
    /// none.
    pub(super) async fn step_down(&self) -> bool {
        let Some(picture) = self.picture() else { return false };
        match self.successor(&picture).await {
            Some(best) => {
                self.offer(&best).await;
                true
            }
            None => {
                tracing::debug!("there is no other voter to hand leadership to");
                false
            }
        }
    }

    /// The same because this node cannot do its work. It needs no entry in the log. Where no other voter is well, this
    /// node leads on: it may still be of some use.
    pub(super) async fn step_aside(&self, reason: &str) {
        let Some(picture) = self.picture() else { return };
        match self.successor(&picture).await {
            Some(best) => {
                tracing::warn!(reason, to = best.name, "giving up leadership");
                self.offer(&best).await;
            }
            None => tracing::warn!(reason, "this node should not lead, but no other voter is well and could"),
        }
    }

    async fn offer(&self, to: &NodeAddress) {
        if let Err(error) = self.raft.trigger().transfer_leader(to.id).await {
            tracing::debug!(%error, "the Raft core stopped");
        }
    }

    /// The leader of a term has handed leadership to this node.
    pub(super) fn was_handed_leadership(&self, term: u64) {
        self.handed_in.store(term, Ordering::Relaxed);
    }

    /// Writes down that this node was handed the leadership that it has, once. Only who leads knows that it came about.
    async fn tell_transfer(&self) {
        let handed_in = self.handed_in.load(Ordering::Relaxed);
        let term = self.raft.metrics().borrow_watched().current_term;
        if handed_in == 0 || term <= handed_in {
            return;
        }
        // The next term is that of the election which the transfer was for; a later one was won otherwise.
        if term == handed_in + 1
            && let Err(error) = self.must_record(&self.local, MemberEvent::Transferred).await
        {
            tracing::warn!(%error, "it was not written down that leadership was handed to this node");
        }
        self.handed_in.store(0, Ordering::Relaxed);
    }

    /// All nodes hash their state at the index that this gives.
    pub(super) async fn checkpoint(&self) -> Result<u64, ChangeError> {
        let time_ms = self.view.clock().now_ms();
        Ok(group::propose(&self.raft, &Command::Checkpoint { time_ms }).await?.index)
    }

    /// Asks the leader for a checkpoint.
    pub(super) async fn forward_checkpoint(&self, leader: &NodeAddress) -> Result<u64, ChangeError> {
        self.ask_leader(leader, proto::change_request::Change::Checkpoint(true)).await.map(|answer| answer.index)
    }

    /// Asks the leader to do what only the leader may.
    pub(super) async fn forward(&self, leader: &NodeAddress, change: &Change) -> Result<String, ChangeError> {
        self.ask_leader(leader, to_wire(change)).await.map(|answer| answer.done)
    }

    async fn ask_leader(
        &self,
        leader: &NodeAddress,
        change: proto::change_request::Change,
    ) -> Result<proto::ChangeResponse, ChangeError> {
        let request = proto::ChangeRequest { change: Some(change) };
        let mut client = self.transport.client(leader.id, &leader.peer, Lane::Control);
        match tokio::time::timeout(CHANGE_TIMEOUT * 2, client.change(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(from_status(&status)),
            Err(_) => Err(ChangeError::Unknown(format!("{} did not answer in time", leader.name))),
        }
    }
}

fn to_wire(change: &Change) -> proto::change_request::Change {
    use proto::change_request::Change as Wire;
    match change.clone() {
        Change::Join { node } => Wire::Join(node),
        Change::Promote { name } => Wire::Promote(name),
        Change::Remove { name } => Wire::Remove(name),
        Change::Transfer { name } => Wire::Transfer(name),
    }
}

/// Answers another node that took this one for the leader.
pub(super) async fn serve(
    membership: &Membership,
    request: proto::ChangeRequest,
) -> Result<proto::ChangeResponse, Status> {
    use proto::change_request::Change as Wire;
    let change = match request.change.ok_or_else(|| Status::invalid_argument("a change without its kind"))? {
        Wire::Join(node) => Change::Join { node },
        Wire::Promote(name) => Change::Promote { name },
        Wire::Remove(name) => Change::Remove { name },
        Wire::Transfer(name) => Change::Transfer { name },
        Wire::Checkpoint(_) => {
            let index = membership.checkpoint().await.map_err(|error| to_status(&error))?;
            return Ok(proto::ChangeResponse { done: String::new(), index });
        }
    };
    let done = membership.change(&change).await.map_err(|error| to_status(&error))?;
    Ok(proto::ChangeResponse { done, index: 0 })
}

fn to_status(error: &ChangeError) -> Status {
    match error {
        ChangeError::Refused(reason) => Status::failed_precondition(reason.clone()),
        ChangeError::NotLeader => Status::unavailable("this node does not lead"),
        ChangeError::Unknown(reason) => Status::unknown(reason.clone()),
    }
}

fn from_status(status: &Status) -> ChangeError {
    match status.code() {
        tonic::Code::FailedPrecondition => ChangeError::Refused(status.message().to_owned()),
        tonic::Code::Unavailable => ChangeError::NotLeader,
        _ => ChangeError::Unknown(status.message().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(voters: &[u64], silent: &[(u64, u64)]) -> Picture {
        Picture {
            nodes: BTreeMap::new(),
            voters: voters.iter().copied().collect(),
            joint: false,
            entering: BTreeSet::new(),
            matched: BTreeMap::new(),
            silent: silent.iter().map(|(id, seconds)| (*id, Duration::from_secs(*seconds))).collect(),
            last: 0,
        }
    }

    #[test]
    fn a_node_may_go_only_where_a_majority_of_the_others_is_there() {
        let five = picture(&[1, 2, 3, 4, 5], &[(2, 0), (3, 0), (4, 60), (5, 60)]);
        assert!(five.stands_without(5, 1), "three of the four others are there");
        let four = picture(&[1, 2, 3, 4], &[(2, 0), (3, 60), (4, 60)]);
        assert!(four.stands_without(4, 1), "two of three");
        assert!(!four.stands_without(2, 1), "one of three");
        assert!(picture(&[1, 2], &[(2, 60)]).stands_without(2, 1));
    }
}
