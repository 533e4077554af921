//! What the leader decides about the membership with: the parts of the node that it asks, and its policy.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use openraft::async_runtime::{Instant as _, WatchReceiver as _};
use tokio::sync::Mutex;

use super::{
    super::{transport::Transport, types::Raft, waiting::Waiting, witness::Witness},
    picture::Picture,
};
use crate::{replica::ReplicaView, sequencer::NodeAddress};

/// What the leader does by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipPolicy {
    /// Make learners voters when they have caught up.
    pub auto_promote: bool,
    /// Remove a node that has not been heard of for so long; none: never.
    pub remove_after: Option<Duration>,
    /// Fewer voters than these are never left by that.
    pub expect: usize,
    /// Take new nodes by invitation only.
    pub by_invitation: bool,
}

/// The leader's hand on the membership; idle on other nodes.
pub(in crate::raft) struct Membership {
    pub(in crate::raft) local: NodeAddress,
    pub(in crate::raft) raft: Raft,
    pub(in crate::raft) view: ReplicaView,
    pub(in crate::raft) transport: Transport,
    pub(in crate::raft) witness: Arc<Witness>,
    pub(in crate::raft) policy: MembershipPolicy,
    pub(in crate::raft) cluster_id: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// Held during a change.
    pub(in crate::raft) changing: Mutex<()>,
    /// Nodes that asked to be let in and were refused.
    pub(in crate::raft) waiting: Waiting,
    /// The term of the leader that handed leadership to this node last; 0: none yet.
    pub(in crate::raft) handed_in: AtomicU64,
}

impl Membership {
    /// None where this node does not lead.
    pub(super) fn picture(&self) -> Option<Picture> {
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
            nodes: metrics.membership_config.nodes().map(|(id, node)| (*id, NodeAddress::clone(node))).collect(),
            voters: metrics.membership_config.voter_ids().collect(),
            matched: replication.iter().map(|(id, matched)| (*id, matched.map_or(0, |id| id.index))).collect(),
            silent: silent.filter_map(|(id, at)| Some((*id, at.as_ref()?.into_inner().elapsed()))).collect(),
            last: metrics.last_log_index.unwrap_or(0),
        })
    }

    /// Whether it is written down, as far as this node knows, that a process of a node has begun.
    pub(in crate::raft) fn knows_start(&self, node: u64, starts: u64, incarnation: u64) -> bool {
        let record = self.view.member(node).unwrap_or_default();
        (record.starts, record.incarnation) == (starts, incarnation)
    }
}
