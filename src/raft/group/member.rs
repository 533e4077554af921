//! A running member of the group, and what it answers about itself, the cluster and the other nodes.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::{OnceCell, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::super::{
    backup::Backup,
    calls::Calls,
    clocks::ClockDifference,
    failover::Failover,
    formation::Formation,
    identity::Identity,
    log::LogStore,
    membership::Membership,
    node_state::{NodeState, node_state},
    peer_service::CallHandler,
    purge::Purge,
    sane::Doubts,
    scrub::{Scrub, ScrubReport},
    standing::Standing,
    transport::{Lane, Transport},
    types::Raft,
    verify::Verified,
    wire,
};
use crate::{
    meter::Reading,
    proto::raft::{ScrubRequest, ScrubResponse, StatusRequest},
    replica::ReplicaView,
    sequencer::{Leader, NodeAddress, PeerMessage},
    store::StoreError,
};

/// How long another node may take to tell its status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// A running member of the group. Cloning shares it.
#[derive(Clone)]
pub struct RaftGroup {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) raft: Raft,
    pub(super) view: ReplicaView,
    pub(super) identity: Identity,
    pub(super) local: NodeAddress,
    pub(super) calls: Calls,
    pub(super) purge: Arc<Purge>,
    pub(super) scrub: Arc<Scrub>,
    pub(super) doubts: Arc<Doubts>,
    pub(super) verified: Arc<parking_lot::Mutex<Verified>>,
    pub(super) clocks: Arc<parking_lot::Mutex<Vec<ClockDifference>>>,
    pub(super) membership: Arc<Membership>,
    pub(super) formation: Arc<Formation>,
    pub(super) failover: Arc<Failover>,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) transport: Transport,
    pub(super) leader: watch::Receiver<Leader>,
    pub(super) handler: Arc<OnceCell<CallHandler>>,
    pub(super) log: Arc<dyn LogStore>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl RaftGroup {
    /// Messages of other nodes that were refused because they cannot be so.
    pub fn refused_messages(&self) -> u64 {
        self.inner.doubts.refused()
    }

    /// Says who answers the requests of other nodes' brokers.
    pub fn serve_calls<F>(&self, handler: F)
    where
        F: Fn(NodeAddress, PeerMessage) -> BoxFuture<'static, PeerMessage> + Send + Sync + 'static,
    {
        let handler: CallHandler = Arc::new(handler);
        // A second handler would mean two brokers over one group; the first one stays.
        let _ = self.inner.handler.set(handler);
    }

    /// How this node sees itself.
    pub fn state(&self) -> NodeState {
        let inner = &self.inner;
        let Inner { raft, view, identity, local, standing, formation, failover, .. } = &**inner;
        node_state(raft, view, identity, local, standing, formation, failover)
    }

    /// Asks another node how it sees itself; none when it does not answer in time.
    pub async fn state_of(&self, node: &NodeAddress) -> Option<NodeState> {
        let mut client = self.inner.transport.client(node.id, &node.peer, Lane::Control);
        let answer =
            tokio::time::timeout(STATUS_TIMEOUT, client.status(StatusRequest {})).await.ok()?.ok()?.into_inner();
        Some(NodeState {
            address: wire::from_address(answer.node?),
            leader: answer.leader,
            term: answer.term,
            commit: answer.commit,
            applied: answer.applied,
            checkpoints: answer.checkpoints.iter().filter_map(wire::from_checkpoint).collect(),
            failure: answer.failure,
            notice: answer.notice,
            unwell: answer.unwell,
        })
    }

    /// All nodes of the cluster, and which of them vote.
    pub fn members(&self) -> Vec<(NodeAddress, bool)> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        // A change that is not committed yet, or that is half-way, has made nobody a voter.
        let membership = &metrics.committed_membership_config;
        let votes = |id: &u64| membership.membership().get_joint_config().iter().all(|voters| voters.contains(id));
        membership.nodes().map(|(id, node)| (NodeAddress::clone(node), votes(id))).collect()
    }

    /// How many entries of this node's log each other node lacks, as far as it has said; empty where this node does not lead.
    pub fn lacking(&self) -> Vec<(String, u64)> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let Some(replication) = &metrics.replication else { return Vec::new() };
        // An index counts from 0.
        let entries = |last: Option<u64>| last.map_or(0, |last| last + 1);
        let end = entries(metrics.last_log_index);
        let others = replication.iter().filter(|(id, _)| **id != metrics.id);
        let named = others.filter_map(|(id, matched)| {
            let node = metrics.membership_config.get_node(id)?;
            Some((node.name.clone(), end.saturating_sub(entries(matched.as_ref().map(|matched| matched.index)))))
        });
        named.collect()
    }

    /// How long it took each time to make what was written to this node's log durable.
    pub fn log_syncs(&self) -> Option<Reading> {
        self.inner.log.syncs()
    }

    /// Bytes that the files of this node's log take on the disk; none where it has none, or the system does not say. Blocks.
    pub fn log_bytes(&self) -> Option<u64> {
        self.inner.log.files()?.bytes().ok()
    }

    /// Why the cluster does not let this node take part; none when it does.
    pub fn refused(&self) -> Option<String> {
        Some(self.inner.standing.borrow().failure().to_owned()).filter(|reason| !reason.is_empty())
    }

    /// What this node waits for while it is in no cluster.
    pub fn waits_for(&self) -> String {
        self.inner.formation.waits_for()
    }

    /// Why nobody can tell whether this node's state is right; none when it is, as far as anybody knows.
    pub fn doubt(&self) -> Option<String> {
        self.inner.identity.doubt()
    }

    /// The cluster that this node belongs to; none while it looks for one.
    pub fn cluster_id(&self) -> Option<String> {
        self.inner.identity.cluster_id()
    }

    /// The whole state as it is now on this node, to be kept elsewhere.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn backup(&self) -> std::io::Result<Backup> {
        Backup::begin(&self.inner.view).await
    }

    /// What the newest comparison of the nodes' states found.
    pub fn verified(&self) -> Verified {
        self.inner.verified.lock().clone()
    }

    /// How far the clocks of the nodes that answer are from the time of day in the log.
    pub fn clocks(&self) -> Vec<ClockDifference> {
        self.inner.clocks.lock().clone()
    }

    /// What this node's search for damage has come to.
    pub fn scrubbed(&self) -> ScrubReport {
        self.inner.scrub.report()
    }

    /// Has a node begin to look for damage anew, reading so much in a second, at most. Gives the number of the pass;
    /// none when the node does not answer.
    pub async fn scrub(&self, node: &NodeAddress, bytes_per_second: u64) -> Option<u64> {
        let request = ScrubRequest { begin_at_bytes_per_second: bytes_per_second.max(1) };
        self.ask_scrub(node, request).await.map(|answer| answer.pass)
    }

    /// How far a node is with that; none when it does not answer.
    pub async fn scrub_of(&self, node: &NodeAddress) -> Option<ScrubResponse> {
        self.ask_scrub(node, ScrubRequest { begin_at_bytes_per_second: 0 }).await
    }

    async fn ask_scrub(&self, node: &NodeAddress, request: ScrubRequest) -> Option<ScrubResponse> {
        let inner = &self.inner;
        if node.id == inner.local.id {
            let rate = request.begin_at_bytes_per_second;
            if rate > 0 {
                return Some(ScrubResponse { pass: inner.scrub.ask(rate), ..ScrubResponse::default() });
            }
            let expected = inner.view.store().usage().map_or(0, |usage| usage.live_bytes);
            return Some(wire::to_scrub(&inner.scrub.report(), expected));
        }
        let mut client = inner.transport.client(node.id, &node.peer, Lane::Control);
        let answer = tokio::time::timeout(STATUS_TIMEOUT, client.scrub(request)).await.ok()?.ok()?;
        Some(answer.into_inner())
    }

    /// Makes this node's state durable and cuts its log; gives the index up to which the state is durable.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn cut_log(&self) -> Result<u64, StoreError> {
        self.inner.purge.now().await
    }

    /// Entries in this node's log.
    pub fn log_entries(&self) -> u64 {
        let bounds = self.inner.log.bounds();
        bounds.last.map_or(0, |last| last.index) - bounds.purged.map_or(0, |purged| purged.index)
    }
}
