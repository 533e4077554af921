//! How a node sees itself: what it tells its operators, and other nodes that ask.

use openraft::{ServerState, async_runtime::WatchReceiver as _};
use tokio::sync::watch;

use super::{failover::Failover, formation::Formation, identity::Identity, standing::Standing, types::Raft};
use crate::{
    replica::{Checkpoint, ReplicaView},
    sequencer::NodeAddress,
};

/// How a node sees itself.
#[derive(Clone, Debug)]
pub struct NodeState {
    /// Its id and addresses.
    pub address: NodeAddress,
    /// Id of the leader that it follows; 0 when it knows none.
    pub leader: u64,
    /// Raft term.
    pub term: u64,
    /// Index of the newest entry that it knows to be committed.
    pub commit: u64,
    /// Index of the newest entry that it has applied.
    pub applied: u64,
    /// Hashes of its whole state at some indexes, newest last.
    pub checkpoints: Vec<Checkpoint>,
    /// Why it takes no part at all; empty when it does.
    pub failure: String,
    /// What a person has to know though it works; empty for nothing.
    pub notice: String,
    /// Why it cannot do its work now, for each part that does not work; empty when it can.
    pub unwell: Vec<String>,
}

impl NodeState {
    /// All that is wrong with the node, for people; empty when nothing is.
    pub fn reasons(self) -> String {
        let failure = Some(self.failure).filter(|failure| !failure.is_empty());
        let notice = Some(self.notice).filter(|notice| !notice.is_empty());
        failure.into_iter().chain(self.unwell).chain(notice).collect::<Vec<_>>().join("; ")
    }
}

pub(super) fn node_state(
    raft: &Raft,
    view: &ReplicaView,
    identity: &Identity,
    local: &NodeAddress,
    standing: &watch::Receiver<Standing>,
    formation: &Formation,
    failover: &Failover,
) -> NodeState {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let is_there = |leader: &u64| match *leader == local.id {
        true => metrics.state == ServerState::Leader,
        false => failover.has_heard(*leader, metrics.current_term),
    };
    let failure = match &metrics.running_state {
        Err(fatal) => fatal.to_string(),
        Ok(()) => match standing.borrow().failure() {
            "" => identity.doubt().unwrap_or_default(),
            failure => failure.to_owned(),
        },
    };
    NodeState {
        address: local.clone(),
        leader: metrics.current_leader.filter(is_there).unwrap_or(0),
        term: metrics.current_term,
        commit: metrics.local_committed.map_or(0, |id| id.index),
        applied: view.applied(),
        checkpoints: view.checkpoints(),
        failure,
        notice: formation.notice(),
        unwell: view.health().failures().reasons(),
    }
}
