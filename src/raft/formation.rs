//! How fresh nodes become one cluster, exactly once.
//!
//! Every fresh node introduces itself to its seeds and tells whom it has met ([`super::joining`]). Where a cluster is
//! there already it joins that one. Else, when `expect` fresh nodes have met,
//! the one with the lowest name among all that anybody has met proposes a cluster of the lowest `expect` of them.
//! Each member agrees in writing to belong to that cluster and to no other ([`Identity::join`]); only when all
//! have agreed does the proposer write the first log entry. So two clusters can never share a member, and a
//! proposer that dies half-way finishes after its restart: the cluster's id is a function of its members.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use tonic::Status;

use super::{
    identity::Identity,
    transport::Transport,
    types::Raft,
    wire::{from_address, to_address},
};
use crate::{proto::raft as proto, sequencer::NodeAddress};

/// How long one of them may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A node's part in forming its cluster.
pub(super) struct Formation {
    local: NodeAddress,
    identity: Identity,
    /// Fresh nodes, by name and id, that this node has reached.
    met: Mutex<BTreeMap<(String, u64), NodeAddress>>,
}

impl Formation {
    pub(super) fn new(local: NodeAddress, identity: Identity) -> Self {
        let met = BTreeMap::from([(rank(&local), local.clone())]);
        Self { local, identity, met: Mutex::new(met) }
    }

    /// Every fresh node that was met.
    pub(super) fn fresh(&self) -> Vec<proto::NodeAddress> {
        self.met.lock().values().map(to_address).collect()
    }

    /// Answers a proposal to belong to a cluster.
    pub(super) fn form(&self, request: &proto::FormRequest) -> Result<proto::FormResponse, Status> {
        let refuse = |reason: String| Ok(proto::FormResponse { agreed: false, reason });
        if !request.members.iter().any(|member| member.id == self.local.id) {
            return refuse(format!("node {} (id {}) is not among the members", self.local.name, self.local.id));
        }
        match self.identity.join(&request.cluster_id) {
            Ok(true) => Ok(proto::FormResponse { agreed: true, reason: String::new() }),
            Ok(false) => refuse(format!(
                "node {} belongs to cluster {} already",
                self.local.name,
                self.identity.cluster_id().unwrap_or_default()
            )),
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }

    /// Looks at the answers of all nodes that were greeted; gives the members of the cluster that this node has to
    /// found, if it has to.
    pub(super) fn consider(&self, answers: &[proto::HelloResponse], expect: usize) -> Option<Vec<NodeAddress>> {
        let mut heard_of = self.met.lock().clone();
        for answer in answers {
            let Some(node) = answer.node.clone().map(from_address) else { continue };
            if !answer.members.is_empty() {
                return None; // a cluster is there: this node joins it
            }
            let ours = self.identity.cluster_id().is_some_and(|id| id == answer.cluster_id);
            if !answer.cluster_id.is_empty() && !ours {
                tracing::debug!(node = node.name, cluster = answer.cluster_id, "met a node of another cluster");
                self.met.lock().remove(&rank(&node));
                continue;
            }
            if node.name == self.local.name && node.id != self.local.id {
                tracing::error!(address = node.peer, "another node is called `{}` too: names must differ", node.name);
                continue;
            }
            heard_of.extend(answer.met.iter().cloned().map(from_address).map(|node| (rank(&node), node)));
            self.met.lock().insert(rank(&node), node);
        }
        let met = self.met.lock().clone();
        let lowest = heard_of.first_key_value().is_some_and(|(rank, _)| rank.1 == self.local.id);
        (lowest && met.len() >= expect).then(|| met.into_values().take(expect).collect())
    }

    /// The names of the fresh nodes that were met.
    pub(super) fn met(&self) -> Vec<String> {
        self.met.lock().keys().map(|(name, _)| name.clone()).collect()
    }

    /// Founds a cluster of these nodes; false when one of them does not agree.
    pub(super) async fn found(&self, raft: &Raft, transport: &Transport, members: &[NodeAddress]) -> bool {
        let request = proto::FormRequest {
            from: Some(to_address(&self.local)),
            cluster_id: cluster_id(members),
            members: members.iter().map(to_address).collect(),
        };
        for member in members {
            let answer = if member.id == self.local.id {
                self.form(&request)
            } else {
                let mut client = transport.client_of_anyone(&member.peer);
                match tokio::time::timeout(TIMEOUT, client.form(request.clone())).await {
                    Ok(answer) => answer.map(tonic::Response::into_inner),
                    Err(_) => return false,
                }
            };
            match answer {
                Ok(answer) if answer.agreed => {}
                Ok(answer) => {
                    tracing::warn!(member = member.name, reason = answer.reason, "cannot form a cluster");
                    self.met.lock().remove(&rank(member));
                    return false;
                }
                Err(status) => {
                    tracing::warn!(member = member.name, reason = status.message(), "cannot form a cluster");
                    return false;
                }
            }
        }
        let nodes: BTreeMap<u64, NodeAddress> = members.iter().map(|node| (node.id, node.clone())).collect();
        match raft.initialize(nodes).await {
            Ok(()) => {
                let names: Vec<&str> = members.iter().map(|node| node.name.as_str()).collect();
                tracing::info!(cluster = request.cluster_id, members = ?names, "formed a cluster");
                true
            }
            Err(error) => {
                tracing::error!(%error, "cannot write the first log entry");
                false
            }
        }
    }
}

fn rank(node: &NodeAddress) -> (String, u64) {
    (node.name.clone(), node.id)
}

/// The same for the same members, whoever computes it; never the same for others, because ids are never reused.
pub(super) fn cluster_id(members: &[NodeAddress]) -> String {
    let mut ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    let mut hasher = blake3::Hasher::new_derive_key("liminal cluster id v1");
    for id in ids {
        hasher.update(&id.to_be_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}
