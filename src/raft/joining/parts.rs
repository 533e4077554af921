//! What a node looks for its cluster with.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::super::{
    complaints::Complaints, formation::Formation, identity::Identity, log::LogStore, membership::Membership,
    standing::Standing, transport::Transport, types::Raft,
};
use crate::{model::JoinToken, sequencer::NodeAddress};

/// A node's way into its cluster.
pub(in crate::raft) struct Joining {
    pub(in crate::raft) local: NodeAddress,
    pub(in crate::raft) identity: Identity,
    pub(in crate::raft) raft: Raft,
    pub(in crate::raft) log: Arc<dyn LogStore>,
    pub(in crate::raft) transport: Transport,
    pub(in crate::raft) formation: Arc<Formation>,
    pub(in crate::raft) membership: Arc<Membership>,
    pub(in crate::raft) seeds: Vec<String>,
    /// What lets it into a cluster that takes new nodes by invitation only.
    pub(in crate::raft) invited_by: Option<JoinToken>,
    pub(in crate::raft) standing: watch::Sender<Standing>,
    /// Where others think that the members are which did not answer: it is looked there in the next round.
    pub(in crate::raft) rumours: Mutex<Vec<String>>,
    pub(in crate::raft) complaints: Complaints,
}
