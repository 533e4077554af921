//! How fresh nodes become one cluster, exactly once.
//!
//! Every fresh node introduces itself to its seeds and to whomever it hears of, and tells whom it has met and where it
//! looks in vain ([`super::joining`]). Where a cluster is there already it joins that one. Else, when enough have met
//! ([`super::survey`]), the one with the lowest name proposes a cluster of the lowest `expect` of them. All that it has met
//! agree in writing to belong to that cluster and to no other ([`Identity::agree`]), also those that will have to join it;
//! only when all have agreed does the proposer write the first log entry. So there are never two clusters.
//!
//! A proposal that not all agree to is withdrawn, by the proposer and in writing, and so is one that the proposer's
//! death interrupted. Whoever agreed to it asks the proposer, as long as the cluster has not begun: see
//! [`Formation::settle`] for what shows that this one will never be.
//!
//! That nodes hold back for those with lower names only spares proposals that would be refused. So it ends after a while: a
//! node that never founds a cluster itself must not keep the others from it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tonic::Status;

use super::{
    encoding::MemberNode,
    identity::{Identity, IdentityError, Promise},
    survey::{Nodes, Round, Survey, rank},
    transport::{Lane, Transport},
    types::Raft,
    wire::{from_address, to_address},
};
use crate::{model::Limits, proto::raft as proto, sequencer::NodeAddress};

/// How long one of them may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Rounds for which a node that could propose a cluster holds back, for each node that comes first.
const HOLD_BACK: usize = 50;
/// Rounds for which it rests when not all have agreed.
const REST: usize = 10;
/// Nodes of other clusters that are remembered until they are asked.
const FOREIGN: usize = 16;

/// A node's part in forming its cluster.
pub(super) struct Formation {
    local: NodeAddress,
    expect: usize,
    /// Whether `expect` is how many seeds there are, which may be several addresses of one node.
    counts_seeds: bool,
    identity: Identity,
    known: Mutex<Known>,
}

struct Known {
    survey: Survey,
    /// Those that came by themselves and were not asked yet.
    greeted: Nodes,
    /// Where nodes are that came by themselves and are of another cluster.
    foreign: Vec<String>,
    /// Rounds in which this node held back.
    held_back: usize,
    /// Rounds for which it rests.
    rest: usize,
    /// Another cluster that this node has met itself.
    other_cluster: String,
    /// What a person has to know; empty for nothing.
    notice: String,
}

/// A cluster to be proposed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    /// Who votes in it.
    members: Vec<NodeAddress>,
    /// Who has to agree.
    asked: Vec<NodeAddress>,
}

impl Formation {
    pub(super) fn new(local: NodeAddress, identity: Identity, seeds: &[String], expect: usize) -> Self {
        let known = Known {
            survey: Survey::begin(&local, seeds),
            greeted: Nodes::new(),
            foreign: Vec::new(),
            held_back: 0,
            rest: 0,
            other_cluster: String::new(),
            notice: String::new(),
        };
        // An embedding program may say any number.
        let expect = expect.min(Limits::MOST_VOTERS);
        Self { local, expect, counts_seeds: false, identity, known: Mutex::new(known) }
    }

    /// Nobody has said how many nodes found the cluster, so its seeds were counted.
    #[must_use]
    pub(super) fn counting_seeds(self, counts_seeds: bool) -> Self {
        Self { counts_seeds, ..self }
    }

    /// How many nodes found the cluster, as far as is known by now.
    fn founders(&self, survey: &Survey) -> usize {
        if self.counts_seeds { survey.nodes(self.expect) } else { self.expect }
    }

    /// A node has come, which says that it is of this cluster, or empty: this one asks it in turn, where it is in no
    /// running cluster or in another one.
    pub(super) fn greeted(&self, from: NodeAddress, cluster_id: &str) {
        let ours = self.identity.cluster_id();
        let mut known = self.known.lock();
        if ours.is_none() || self.identity.promise().is_some() {
            known.greeted.insert(rank(&from), from);
        } else if !cluster_id.is_empty() && ours.as_deref() != Some(cluster_id) && known.foreign.len() < FOREIGN {
            known.foreign.push(from.peer);
        }
    }

    /// Where the fresh nodes are that this one should ask next.
    pub(super) fn strangers(&self) -> Vec<String> {
        let mut known = self.known.lock();
        let greeted = std::mem::take(&mut known.greeted);
        greeted.values().map(|node| node.peer.clone()).chain(known.survey.places()).collect()
    }

    /// Where nodes of other clusters are that came by themselves.
    pub(super) fn foreign(&self) -> Vec<String> {
        std::mem::take(&mut self.known.lock().foreign)
    }

    /// What this node says of itself to whoever greets it, as far as it is about forming a cluster.
    pub(super) fn introduce(&self) -> proto::HelloResponse {
        let (cluster_id, proposals) = (self.identity.cluster_id().unwrap_or_default(), self.identity.proposals());
        let known = self.known.lock();
        proto::HelloResponse {
            node: Some(to_address(&self.local)),
            cluster_id,
            met: known.survey.free.values().map(to_address).collect(),
            unanswered: known.survey.unanswered.iter().cloned().collect(),
            expect: self.expect as u64,
            proposals,
            other_cluster: known.other_cluster.clone(),
            ..proto::HelloResponse::default()
        }
    }

    /// What a fresh node waits for.
    pub(super) fn waits_for(&self) -> String {
        let known = self.known.lock();
        known.survey.lacks(self.founders(&known.survey)).unwrap_or_else(|| "the others' agreement".to_owned())
    }

    /// What a person has to know; empty for nothing.
    pub(super) fn notice(&self) -> String {
        self.known.lock().notice.clone()
    }

    /// Answers a proposal to belong to a cluster.
    pub(super) fn form(&self, request: &proto::FormRequest) -> Result<proto::FormResponse, Status> {
        let refuse = |reason: String| Ok(proto::FormResponse { agreed: false, reason });
        let founder = request.from.clone().map(from_address);
        let founder = founder.ok_or_else(|| Status::invalid_argument("a proposal without its founder"))?;
        // Held until it is written: what is not promised when a cluster comes into sight stays so.
        let known = self.known.lock();
        if known.survey.cluster_in_sight {
            return refuse(format!("node {} is about to join a running cluster", self.local.name));
        }
        let promise = Promise {
            cluster_id: request.cluster_id.clone(),
            founder,
            members: request.members.iter().map(|member| member.id).collect(),
            number: request.number,
        };
        match self.identity.agree(promise) {
            Ok(true) => Ok(proto::FormResponse { agreed: true, reason: String::new() }),
            Ok(false) => refuse(format!(
                "node {} belongs to cluster {} already",
                self.local.name,
                self.identity.cluster_id().unwrap_or_default()
            )),
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }

    /// Takes note of what all nodes that were greeted answered.
    pub(super) fn see(&self, round: &Round) {
        let survey = Survey::of(&self.local, self.expect as u64, round);
        let trouble = survey.trouble().unwrap_or_default();
        self.known.lock().survey = survey;
        self.notify(String::new(), trouble);
    }

    /// Looks, as a node of a running cluster, whether others are of another one.
    pub(super) fn meet(&self, answers: &[proto::HelloResponse]) {
        let Some(ours) = self.identity.cluster_id() else { return };
        let running = |answer: &&proto::HelloResponse| !answer.cluster_id.is_empty() && !answer.members.is_empty();
        let others = answers.iter().filter(running).filter(|answer| answer.cluster_id != ours);
        let met = others.filter_map(|answer| Some((answer.node.as_ref()?, &answer.cluster_id))).next();
        let met = met.map_or_else(String::new, |(node, theirs)| {
            format!(
                "node {} is of cluster {ours}, but {} at {} is of cluster {theirs}: they were founded apart and cannot be \
                 merged. Keep one of the two: stop each node of the other, and start it again with an empty directory; \
                 or, if both are to stay, give them different cookies and take their addresses out of each other's \
                 `cluster.seed_nodes`",
                self.local.name, node.name, node.peer
            )
        });
        let told = answers.iter().filter(|answer| answer.cluster_id == ours).map(|answer| &answer.other_cluster);
        let told = told.filter(|told| !told.is_empty()).min().cloned().unwrap_or_default();
        let notice = if met.is_empty() { told } else { met.clone() };
        self.notify(met, notice);
    }

    fn notify(&self, other_cluster: String, notice: String) {
        let mut known = self.known.lock();
        known.other_cluster = other_cluster;
        if known.notice != notice {
            if !notice.is_empty() {
                tracing::error!("{notice}");
            }
            known.notice = notice;
        }
    }

    /// Takes back a promise to a cluster that will never be; only for a node that has no log yet. The promise must be older
    /// than the answers. Tells whether the node belongs to a cluster afterwards.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub(super) fn settle(
        &self,
        promise: Option<&Promise>,
        answers: &[proto::HelloResponse],
    ) -> Result<bool, IdentityError> {
        if let Some(promise) = promise
            && let Some(why) = self.void(promise, answers)
        {
            tracing::info!(founder = promise.founder.name, cluster = promise.cluster_id, why, "a promise has ended");
            self.identity.release(promise)?;
        }
        Ok(self.identity.cluster_id().is_some())
    }

    /// Why the cluster of a promise will never be, if that is certain.
    fn void(&self, promise: &Promise, answers: &[proto::HelloResponse]) -> Option<&'static str> {
        let Promise { cluster_id, founder, members, number } = promise;
        if founder.id == self.local.id {
            return Some("this node's own proposal was interrupted, or could not be withdrawn");
        }
        let id = |answer: &proto::HelloResponse| answer.node.as_ref().map(|node| node.id);
        let from_founder = answers.iter().filter(|answer| id(answer) == Some(founder.id));
        // A copy of the founder's disk from before the proposal does not know of it, and proves nothing; and neither does a
        // later one, while the founder itself stands by it.
        let mut knowing = from_founder.filter(|answer| answer.proposals >= *number).peekable();
        if knowing.peek().is_some() {
            let withdrawn = knowing.all(|answer| answer.cluster_id != *cluster_id);
            return withdrawn.then_some("the founder has withdrawn it");
        }
        // No two proposals have the same id, and a node that was let into a cluster agrees to no other.
        let elsewhere = |answer: &proto::HelloResponse| {
            let mut theirs = answer.members.iter().map(|member| member.id);
            answer.cluster_id != *cluster_id
                && theirs.any(|id| id == founder.id || members.contains(&id) && id != self.local.id)
        };
        if answers.iter().any(elsewhere) {
            return Some("the founder or another member is in another cluster");
        }
        // The founder's disk is gone, and with none of the others there is anything of the cluster.
        let replaced = answers
            .iter()
            .any(|answer| answer.node.as_ref().is_some_and(|node| node.name == founder.name && node.id != founder.id));
        let fresh = |member: &u64| {
            let mut of_member = answers.iter().filter(|answer| id(answer) == Some(*member));
            of_member.any(|answer| answer.fresh && (answer.cluster_id.is_empty() || answer.cluster_id == *cluster_id))
        };
        let mut others = members.iter().filter(|member| **member != founder.id && **member != self.local.id);
        (replaced && !members.is_empty() && others.all(fresh))
            .then_some("another node has the founder's name, and no other member has a log")
    }

    /// The cluster that this node has to propose, if it has to, by what it saw last.
    pub(super) fn consider(&self) -> Option<Proposal> {
        let mut known = self.known.lock();
        let expect = self.founders(&known.survey);
        if known.survey.lacks(expect).is_some() {
            return None;
        }
        if known.rest > 0 {
            known.rest -= 1;
            return None;
        }
        let lower = known.survey.heard_of.range(..&rank(&self.local)).count();
        if known.held_back < HOLD_BACK * lower {
            known.held_back += 1;
            return None;
        }
        known.held_back = 0;
        let asked: Vec<NodeAddress> = known.survey.free.values().cloned().collect();
        let mut members: Vec<NodeAddress> = asked.iter().take(expect).cloned().collect();
        // The founder writes the first entry, so it is one of them.
        if let Some(last) = members.last_mut()
            && asked.iter().take(expect).all(|member| member.id != self.local.id)
        {
            self.local.clone_into(last);
        }
        Some(Proposal { members, asked })
    }

    /// Founds a cluster, or withdraws the proposal when somebody does not agree.
    ///
    /// # Errors
    /// When the proposal or its withdrawal cannot be written down; [`Formation::settle`] makes up for the latter.
    pub(super) async fn found(
        &self,
        raft: &Raft,
        transport: &Transport,
        proposal: &Proposal,
    ) -> Result<(), IdentityError> {
        let Proposal { members, asked } = proposal;
        let cluster_id = cluster_id(members, transport.random());
        let ids = members.iter().map(|member| member.id).collect();
        let Some(promise) = self.identity.propose(cluster_id, self.local.clone(), ids)? else { return Ok(()) };
        let request = proto::FormRequest {
            from: Some(to_address(&self.local)),
            cluster_id: promise.cluster_id.clone(),
            members: members.iter().map(to_address).collect(),
            number: promise.number,
        };
        for node in asked.iter().filter(|node| node.id != self.local.id) {
            if let Err(reason) = ask(transport, node, request.clone()).await {
                tracing::warn!(node = node.name, reason, "cannot form a cluster");
                self.known.lock().rest = REST;
                return self.identity.release(&promise);
            }
        }
        let nodes: BTreeMap<u64, MemberNode> = members.iter().map(|node| (node.id, Arc::new(node.clone()))).collect();
        match raft.initialize(nodes).await {
            Ok(()) => {
                let names: Vec<&str> = members.iter().map(|node| node.name.as_str()).collect();
                tracing::info!(cluster = promise.cluster_id, members = ?names, "formed a cluster");
            }
            // Whether the entry is there is asked in the next round, or where the log has failed, of the next process.
            Err(error) => tracing::error!(%error, "cannot write the first log entry"),
        }
        Ok(())
    }
}

/// Asks a node to belong to a cluster. An error says why it does not.
async fn ask(transport: &Transport, node: &NodeAddress, request: proto::FormRequest) -> Result<(), String> {
    let mut client = transport.client(node.id, &node.peer, Lane::Control);
    match tokio::time::timeout(TIMEOUT, client.form(request))
        .await
        .map(|answer| answer.map(tonic::Response::into_inner))
    {
        Ok(Ok(answer)) if answer.agreed => Ok(()),
        Ok(Ok(answer)) => Err(answer.reason),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// The id of a cluster; another one for every proposal, of which each has a random number of its own.
pub(super) fn cluster_id(members: &[NodeAddress], proposal: u64) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("liminal cluster id v1");
    for number in members.iter().map(|member| member.id).chain([proposal]) {
        hasher.update(&number.to_be_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests;
