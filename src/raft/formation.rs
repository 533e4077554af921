//! How fresh nodes become one cluster, exactly once.
//!
//! Every fresh node introduces itself to its seeds and to whomever it hears of, and tells whom it has met
//! ([`super::joining`]). Where a cluster is there already it joins that one. Else, when `expect` fresh nodes have met,
//! the one with the lowest name among all that anybody has met proposes a cluster of the lowest `expect` of them.
//! Each member agrees in writing to belong to that cluster and to no other ([`Identity::agree`]); only when all
//! have agreed does the proposer write the first log entry. So two clusters can never share a member.
//!
//! Nodes that have not all met yet may propose different clusters. A proposal that not all agree to is withdrawn, by the
//! proposer and in writing, and so is one that the proposer's death interrupted. Whoever agreed to it asks the
//! proposer, as long as the cluster has not begun: that it belongs to another cluster now, or to none, says that
//! this one will never be, because no two proposals have the same id.
//!
//! That nodes hold back for those with lower names, and for one who proposes already, only spares proposals that would
//! be refused. So it ends after a while: a node that never founds a cluster itself must not keep the others from it.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use tonic::Status;

use super::{
    identity::{Identity, IdentityError, Promise},
    transport::Transport,
    types::Raft,
    wire::{from_address, to_address},
};
use crate::{proto::raft as proto, sequencer::NodeAddress};

/// How long one of them may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Rounds for which a node that could propose a cluster holds back, for each node that comes first.
const HOLD_BACK: usize = 50;
/// Rounds for which a node that did not agree is left out.
const LEAVE_OUT: u32 = 10;

/// Fresh nodes, by name and id.
type Nodes = BTreeMap<(String, u64), NodeAddress>;

/// A node's part in forming its cluster.
pub(super) struct Formation {
    local: NodeAddress,
    identity: Identity,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Those that are free to belong to a new cluster: this node and those that said so last time.
    met: Nodes,
    /// Also those that another has met.
    heard_of: Nodes,
    /// Those that came by themselves and were not asked yet.
    greeted: Nodes,
    /// Those that did not agree to this node's last proposals, and the rounds for which they are left out.
    left_out: BTreeMap<(String, u64), u32>,
    /// Rounds in which this node held back.
    held_back: usize,
    /// Whether one of those that answered last time proposes a cluster.
    founding: bool,
    /// Whether a running cluster is in sight, which this node joins instead of promising itself to another.
    cluster_in_sight: bool,
}

impl Formation {
    pub(super) fn new(local: NodeAddress, identity: Identity) -> Self {
        let met = Nodes::from([(rank(&local), local.clone())]);
        Self { local, identity, known: Mutex::new(Known { met, ..Known::default() }) }
    }

    /// A node has come: this one, while it is in no running cluster, asks it in turn.
    pub(super) fn greeted(&self, from: NodeAddress) {
        if self.identity.cluster_id().is_none() || self.identity.promise().is_some() {
            self.known.lock().greeted.insert(rank(&from), from);
        }
    }

    /// Where the fresh nodes are that this one should ask next.
    pub(super) fn strangers(&self) -> Vec<String> {
        let mut known = self.known.lock();
        let greeted = std::mem::take(&mut known.greeted);
        greeted.values().chain(known.heard_of.values()).map(|node| node.peer.clone()).collect()
    }

    /// Every fresh node that was met.
    pub(super) fn fresh(&self) -> Vec<proto::NodeAddress> {
        self.known.lock().met.values().map(to_address).collect()
    }

    /// The names of the fresh nodes that were met.
    pub(super) fn met(&self) -> Vec<String> {
        self.known.lock().met.keys().map(|(name, _)| name.clone()).collect()
    }

    /// Whether this node proposes a cluster that has not begun yet.
    pub(super) fn founding(&self) -> bool {
        self.identity.promise().is_some_and(|promise| promise.founder.id == self.local.id)
    }

    /// Answers a proposal to belong to a cluster.
    pub(super) fn form(&self, request: &proto::FormRequest) -> Result<proto::FormResponse, Status> {
        let refuse = |reason: String| Ok(proto::FormResponse { agreed: false, reason });
        if !request.members.iter().any(|member| member.id == self.local.id) {
            return refuse(format!("node {} (id {}) is not among the members", self.local.name, self.local.id));
        }
        let founder = request.from.clone().map(from_address);
        let founder = founder.ok_or_else(|| Status::invalid_argument("a proposal without its founder"))?;
        // Held until it is written: what is not promised when a cluster comes into sight stays so.
        let known = self.known.lock();
        if known.cluster_in_sight {
            return refuse(format!("node {} is about to join a running cluster", self.local.name));
        }
        match self.identity.agree(Promise { cluster_id: request.cluster_id.clone(), founder }) {
            Ok(true) => Ok(proto::FormResponse { agreed: true, reason: String::new() }),
            Ok(false) => refuse(format!(
                "node {} belongs to cluster {} already",
                self.local.name,
                self.identity.cluster_id().unwrap_or_default()
            )),
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }

    /// Takes note of what all nodes that were greeted answered. Who does not answer any more is forgotten: a node that
    /// died for good must not be waited for.
    pub(super) fn see(&self, answers: &[proto::HelloResponse], cluster_in_sight: bool) {
        let own = (rank(&self.local), self.local.clone());
        let (mut met, mut heard_of) = (Nodes::from([own.clone()]), Nodes::from([own]));
        for answer in answers.iter().filter(|answer| answer.members.is_empty()) {
            let Some(node) = answer.node.clone().map(from_address) else { continue };
            if node.name == self.local.name && node.id != self.local.id {
                tracing::error!(address = node.peer, "another node is called `{}` too: names must differ", node.name);
                continue;
            }
            heard_of.extend(answer.met.iter().cloned().map(from_address).map(|node| (rank(&node), node)));
            if answer.cluster_id.is_empty() {
                heard_of.insert(rank(&node), node.clone());
                met.insert(rank(&node), node);
            } else {
                tracing::debug!(node = node.name, cluster = answer.cluster_id, "met a node of another cluster");
            }
        }
        let mut known = self.known.lock();
        (known.met, known.heard_of, known.cluster_in_sight) = (met, heard_of, cluster_in_sight);
        known.founding = answers.iter().any(|answer| answer.founding);
        known.left_out.retain(|_, rounds| {
            *rounds -= 1;
            *rounds > 0
        });
    }

    /// Takes back a promise whose founder has withdrawn its proposal; only for a node that has no log yet. The
    /// promise must be older than the answers. Tells whether the node belongs to a cluster afterwards.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub(super) fn settle(
        &self,
        promise: Option<&Promise>,
        answers: &[proto::HelloResponse],
    ) -> Result<bool, IdentityError> {
        let Some(promise) = promise else { return Ok(self.identity.cluster_id().is_some()) };
        let elsewhere = |answer: &proto::HelloResponse| {
            let founder = answer.node.as_ref().is_some_and(|node| node.id == promise.founder.id);
            founder && answer.cluster_id != promise.cluster_id
        };
        // An own proposal that is still there was interrupted, or could not be withdrawn.
        if promise.founder.id == self.local.id || answers.iter().any(elsewhere) {
            tracing::info!(founder = promise.founder.name, cluster = promise.cluster_id, "the proposal is withdrawn");
            self.identity.release(promise)?;
        }
        Ok(self.identity.cluster_id().is_some())
    }

    /// The members of the cluster that this node has to propose, if it has to, by what it saw last.
    pub(super) fn consider(&self, expect: usize) -> Option<Vec<NodeAddress>> {
        let mut known = self.known.lock();
        let own = rank(&self.local);
        let willing = known.met.range(&own..).filter(|(rank, _)| !known.left_out.contains_key(*rank));
        let members: Vec<NodeAddress> = willing.map(|(_, node)| node.clone()).take(expect).collect();
        if known.cluster_in_sight || members.len() < expect {
            return None;
        }
        let lower = known.heard_of.range(..&own).count();
        if known.held_back < HOLD_BACK * lower.max(known.founding.into()) {
            known.held_back += 1;
            return None;
        }
        known.held_back = 0;
        Some(members)
    }

    /// Founds a cluster of these nodes, or withdraws the proposal when one of them does not agree.
    ///
    /// # Errors
    /// When the withdrawal cannot be written down; [`Formation::settle`] makes up for it.
    pub(super) async fn found(
        &self,
        raft: &Raft,
        transport: &Transport,
        members: &[NodeAddress],
    ) -> Result<(), IdentityError> {
        let promise = Promise { cluster_id: cluster_id(members, transport.random()), founder: self.local.clone() };
        let request = proto::FormRequest {
            from: Some(to_address(&self.local)),
            cluster_id: promise.cluster_id.clone(),
            members: members.iter().map(to_address).collect(),
        };
        for member in members {
            if let Err(reason) = self.ask(transport, member, request.clone()).await {
                tracing::warn!(member = member.name, reason, "cannot form a cluster");
                if member.id != self.local.id {
                    self.known.lock().left_out.insert(rank(member), LEAVE_OUT);
                }
                return self.identity.release(&promise);
            }
        }
        let nodes: BTreeMap<u64, NodeAddress> = members.iter().map(|node| (node.id, node.clone())).collect();
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

    /// Asks a node, which may be this one, to belong to a cluster. An error says why it does not.
    async fn ask(
        &self,
        transport: &Transport,
        member: &NodeAddress,
        request: proto::FormRequest,
    ) -> Result<(), String> {
        let answer = if member.id == self.local.id {
            self.form(&request)
        } else {
            let mut client = transport.client_of_anyone(&member.peer);
            match tokio::time::timeout(TIMEOUT, client.form(request)).await {
                Ok(answer) => answer.map(tonic::Response::into_inner),
                Err(_) => return Err("no answer in time".to_owned()),
            }
        };
        match answer {
            Ok(answer) if answer.agreed => Ok(()),
            Ok(answer) => Err(answer.reason),
            Err(status) => Err(status.message().to_owned()),
        }
    }
}

fn rank(node: &NodeAddress) -> (String, u64) {
    (node.name.clone(), node.id)
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
mod tests {
    use super::*;
    use crate::env::Env;

    fn node(number: u64) -> Formation {
        let identity = Identity::in_memory(&format!("n{number}"), &Env::real());
        let name = identity.node_name();
        let local = NodeAddress { id: number, peer: format!("{name}:7301"), name, ..NodeAddress::default() };
        Formation::new(local, identity)
    }

    /// What a node would say of itself.
    fn answer(node: &Formation) -> proto::HelloResponse {
        proto::HelloResponse {
            node: Some(to_address(&node.local)),
            cluster_id: node.identity.cluster_id().unwrap_or_default(),
            met: node.fresh(),
            founding: node.founding(),
            ..proto::HelloResponse::default()
        }
    }

    fn answers(nodes: &[&Formation]) -> Vec<proto::HelloResponse> {
        nodes.iter().map(|node| answer(node)).collect()
    }

    /// What a node that gets these answers would propose.
    fn proposal(node: &Formation, others: &[&Formation], expect: usize) -> Option<Vec<String>> {
        node.see(&answers(others), false);
        names(node.consider(expect))
    }

    fn names(members: Option<Vec<NodeAddress>>) -> Option<Vec<String>> {
        members.map(|members| members.into_iter().map(|member| member.name).collect())
    }

    fn propose(founder: &Formation, to: &Formation, cluster: &str) -> bool {
        let request = proto::FormRequest {
            from: Some(to_address(&founder.local)),
            cluster_id: cluster.to_owned(),
            members: vec![to_address(&founder.local), to_address(&to.local)],
        };
        to.form(&request).unwrap().agreed
    }

    fn promise(founder: &Formation, cluster: &str) -> Promise {
        Promise { cluster_id: cluster.to_owned(), founder: founder.local.clone() }
    }

    #[test]
    fn the_lowest_of_all_that_anybody_has_met_founds_a_cluster_of_the_lowest() {
        let nodes: Vec<Formation> = (0..4).map(node).collect();
        assert_eq!(proposal(&nodes[1], &[&nodes[2]], 3), None, "two are not enough");
        assert_eq!(proposal(&nodes[1], &[&nodes[2], &nodes[3]], 3).unwrap(), ["n1", "n2", "n3"]);
        assert_eq!(proposal(&nodes[2], &[&nodes[1], &nodes[3]], 3), None, "it is not the lowest");
        nodes[3].see(&answers(&[&nodes[0]]), false);
        assert_eq!(proposal(&nodes[1], &[&nodes[2], &nodes[3]], 3), None, "one that n3 has met is lower");
        assert_eq!(nodes[1].strangers(), ["n0:7301", "n1:7301", "n2:7301", "n3:7301"], "whom it asks next");
    }

    #[test]
    fn a_node_that_does_not_answer_any_more_is_not_waited_for() {
        let nodes: Vec<Formation> = (0..4).map(node).collect();
        proposal(&nodes[1], &[&nodes[0], &nodes[2]], 3);
        proposal(&nodes[2], &[&nodes[0], &nodes[1], &nodes[3]], 3);
        // n0 has died.
        proposal(&nodes[2], &[&nodes[1], &nodes[3]], 3);
        proposal(&nodes[1], &[&nodes[2], &nodes[3]], 3);
        proposal(&nodes[2], &[&nodes[1], &nodes[3]], 3);
        assert_eq!(proposal(&nodes[1], &[&nodes[2], &nodes[3]], 3).unwrap(), ["n1", "n2", "n3"]);
    }

    #[test]
    fn nodes_that_hold_back_for_one_that_never_founds_a_cluster_do_so_for_a_while_only() {
        let nodes: Vec<Formation> = (0..4).map(node).collect();
        nodes[3].see(&answers(&[&nodes[0]]), false);
        let others = [&nodes[2], &nodes[3]];
        let rounds = (0..).take_while(|_| proposal(&nodes[1], &others, 3).is_none()).count();
        assert_eq!(rounds, HOLD_BACK);
        // And again, if nothing came of it.
        assert_eq!(proposal(&nodes[1], &others, 3), None);
        // The lowest is here, but cannot reach the others.
        let others = [&nodes[0], &nodes[2], &nodes[3]];
        assert_eq!((0..HOLD_BACK).find_map(|_| proposal(&nodes[1], &others, 3)).unwrap(), ["n1", "n2", "n3"]);
    }

    #[test]
    fn nobody_proposes_a_cluster_while_another_does() {
        let nodes: Vec<Formation> = (0..4).map(node).collect();
        assert!(propose(&nodes[0], &nodes[0], "c"));
        assert_eq!(proposal(&nodes[1], &[&nodes[0], &nodes[2], &nodes[3]], 3), None);
        assert!(!nodes[0].settle(Some(&promise(&nodes[0], "c")), &[]).unwrap());
        assert!(proposal(&nodes[0], &[&nodes[1], &nodes[2]], 3).is_some());
    }

    #[test]
    fn a_node_that_sees_a_running_cluster_promises_itself_to_no_other() {
        let nodes: Vec<Formation> = (0..3).map(node).collect();
        let others = answers(&[&nodes[1], &nodes[2]]);
        nodes[0].see(&others, true);
        assert_eq!(nodes[0].consider(3), None);
        assert!(!propose(&nodes[1], &nodes[0], "c"));
        nodes[0].see(&others, false);
        assert!(propose(&nodes[1], &nodes[0], "c"));
    }

    #[test]
    fn a_node_that_did_not_agree_is_left_out_for_a_while() {
        let nodes: Vec<Formation> = (0..4).map(node).collect();
        let others = [&nodes[1], &nodes[2], &nodes[3]];
        assert_eq!(proposal(&nodes[0], &others, 3).unwrap(), ["n0", "n1", "n2"]);
        nodes[0].known.lock().left_out.insert(rank(&nodes[1].local), 2);
        assert_eq!(proposal(&nodes[0], &others, 3).unwrap(), ["n0", "n2", "n3"]);
        assert_eq!(proposal(&nodes[0], &others, 3).unwrap(), ["n0", "n1", "n2"]);
    }

    #[test]
    fn nodes_hear_of_each_other_through_one_that_is_bound() {
        let [bound, fresh, other] = [0, 1, 2].map(node);
        assert!(propose(&other, &bound, "c"));
        bound.greeted(fresh.local.clone());
        assert_eq!(bound.strangers(), ["n1:7301"]);
        bound.see(&answers(&[&fresh]), false);
        other.see(&answers(&[&bound]), false);
        assert_eq!(other.strangers(), ["n0:7301", "n1:7301", "n2:7301"]);
    }

    #[test]
    fn who_agreed_to_a_proposal_is_free_again_only_when_its_founder_has_withdrawn_it() {
        let [founder, member, other] = [0, 1, 2].map(node);
        assert!(propose(&founder, &founder, "a") && propose(&founder, &member, "a"));
        assert!(!propose(&other, &member, "b"), "it belongs to one cluster at a time");
        let held = promise(&founder, "a");
        assert!(member.settle(Some(&held), &answers(&[&founder, &other])).unwrap());
        assert!(member.settle(Some(&held), &answers(&[&other])).unwrap(), "only the founder can tell");
        // The founder's process has begun again, or not all have agreed.
        assert!(!founder.settle(Some(&held), &[]).unwrap());
        assert!(!member.settle(Some(&held), &answers(&[&founder])).unwrap());
        assert!(propose(&other, &member, "b"));
    }

    #[test]
    fn an_answer_from_before_the_promise_does_not_end_it() {
        let [founder, member] = [0, 1].map(node);
        let early = answers(&[&founder]);
        assert!(propose(&founder, &founder, "a") && propose(&founder, &member, "a"));
        assert!(member.settle(None, &early).unwrap());
        assert_eq!(member.identity.promise(), Some(promise(&founder, "a")));
    }

    #[test]
    fn a_node_that_was_let_into_a_cluster_never_founds_one() {
        let [newcomer, other] = [0, 1].map(node);
        assert!(newcomer.identity.join("running").unwrap());
        assert!(newcomer.settle(None, &answers(&[&other])).unwrap());
    }
}
