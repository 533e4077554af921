//! A node's part in its Raft group, from start to stop.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use openraft::{
    ReadPolicy, ServerState, SnapshotPolicy,
    async_runtime::WatchReceiver as _,
    errors::{ClientWriteError, LinearizableReadError, RaftError},
    impls::ProgressResponder,
    raft::ClientWriteResult,
};
use tokio::sync::{OnceCell, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    calls::Calls,
    formation::Formation,
    identity::{Identity, IdentityError},
    log::LogStore,
    log_adapter::LogAdapter,
    network::Network,
    peer_service::{CallHandler, PeerService},
    purge,
    state_machine::StateMachine,
    transport::{Gate, MAX_MESSAGE, Transport},
    types::{EncodedCommand, Raft, TypeConfig},
};
use crate::{
    codec,
    env::{Env, Listener, incoming},
    model::Command,
    proto::raft::{StatusRequest, peer_server::PeerServer},
    replica::{Checkpoint, Replica, ReplicaView, StoreHealth},
    sequencer::{Leader, NodeAddress, Peers, Proposed, Sequencer, SequencerError},
};

/// Log entries in one message to a follower; the bytes are limited where the log is read.
const ENTRIES_PER_MESSAGE: u64 = 1024;
/// How long another node may take to tell its status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a leadership transfer may take before the node stops all the same.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);

/// What a node has to know to take part.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// Addresses of this node; its id is filled in from its identity.
    pub local: NodeAddress,
    /// Where to look for other nodes.
    pub seeds: Vec<String>,
    /// The cluster's shared secret.
    pub cookie: String,
    /// How many fresh nodes found a cluster.
    pub expect: usize,
    /// How often an idle leader shows that it is there.
    pub heartbeat: Duration,
    /// Without a sign of the leader for a random time between these two, a follower stands for election.
    pub election: (Duration, Duration),
}

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
    /// Hash of its whole state at some index.
    pub checkpoint: Option<Checkpoint>,
    /// Why it cannot do its work; empty when it can.
    pub failure: String,
}

/// Why a node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its state does not fit its log.
    #[error("cannot start the Raft group: {0}")]
    Raft(String),
}

/// A running member of the group. Cloning shares it.
#[derive(Clone)]
pub struct RaftGroup {
    inner: Arc<Inner>,
}

struct Inner {
    raft: Raft,
    view: ReplicaView,
    identity: Identity,
    local: NodeAddress,
    transport: Transport,
    calls: Calls,
    leader: watch::Receiver<Leader>,
    handler: Arc<OnceCell<CallHandler>>,
    log: Arc<dyn LogStore>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl RaftGroup {
    /// Starts on the runtime that the caller stands on: Raft's core, the service for other nodes on `listener`, and
    /// the search for a cluster where the node is fresh.
    ///
    /// # Errors
    /// When the stored state does not fit the log.
    pub async fn start(
        config: GroupConfig,
        env: Env,
        identity: Identity,
        log: Arc<dyn LogStore>,
        replica: Replica,
        listener: Box<dyn Listener>,
    ) -> Result<Self, StartError> {
        let view = replica.view();
        let local = NodeAddress { id: identity.node_id(), ..config.local.clone() };
        let transport = Transport::new(env, identity.clone(), &config.cookie);
        let failed = |error: &dyn std::fmt::Display| StartError::Raft(error.to_string());
        let machine = StateMachine::new(replica).await.map_err(|error| failed(&error))?;
        let raft_config = raft_config(&config).validate().map_err(|error| failed(&error))?;
        let raft = Raft::new(
            local.id,
            Arc::new(raft_config),
            Network::new(transport.clone()),
            LogAdapter::new(log.clone()),
            machine,
        )
        .await
        .map_err(|error| failed(&error))?;

        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (leader_sender, leader) = watch::channel(Leader::Unknown);
        tasks.spawn(stop.clone().run_until_cancelled_owned(watch_leader(raft.clone(), leader_sender)));
        tasks.spawn(purge::run(raft.clone(), view.clone(), stop.clone()));

        let formation = Arc::new(Formation::new(local.clone(), identity.clone()));
        let handler = Arc::new(OnceCell::new());
        let service = PeerService {
            gate: Gate::new(identity.clone(), &config.cookie),
            raft: raft.clone(),
            view: view.clone(),
            formation: formation.clone(),
            state: {
                let (raft, view, local) = (raft.clone(), view.clone(), local.clone());
                Arc::new(move || node_state(&raft, &view, &local))
            },
            handler: handler.clone(),
        };
        tasks.spawn(serve(service, listener, stop.clone()));
        {
            let (raft, transport, stop) = (raft.clone(), transport.clone(), stop.clone());
            let GroupConfig { seeds, expect, .. } = config;
            tasks.spawn(async move {
                stop.run_until_cancelled(formation.run(raft, transport, seeds, expect)).await;
            });
        }
        let calls = Calls::new(transport.clone());
        let inner = Inner { raft, view, identity, local, transport, calls, leader, handler, log, stop, tasks };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Says who answers the requests of other nodes' brokers.
    pub fn serve_calls<F>(&self, handler: F)
    where
        F: Fn(NodeAddress, Bytes) -> BoxFuture<'static, Bytes> + Send + Sync + 'static,
    {
        let handler: CallHandler = Arc::new(handler);
        // A second handler would mean two brokers over one group; the first one stays.
        let _ = self.inner.handler.set(handler);
    }

    /// How this node sees itself.
    pub fn state(&self) -> NodeState {
        node_state(&self.inner.raft, &self.inner.view, &self.inner.local)
    }

    /// Asks another node how it sees itself; none when it does not answer in time.
    pub async fn state_of(&self, node: &NodeAddress) -> Option<NodeState> {
        let mut client = self.inner.transport.client(node.id, &node.peer, super::transport::Lane::Control);
        let answer =
            tokio::time::timeout(STATUS_TIMEOUT, client.status(StatusRequest {})).await.ok()?.ok()?.into_inner();
        let hash = <[u8; 32]>::try_from(answer.state_hash.as_ref()).ok().map(crate::store::StateHash);
        Some(NodeState {
            address: super::wire::from_address(answer.node?),
            leader: answer.leader,
            term: answer.term,
            commit: answer.commit,
            applied: answer.applied,
            checkpoint: hash.map(|hash| Checkpoint { index: answer.state_hash_at, hash }),
            failure: answer.failure,
        })
    }

    /// All nodes of the cluster, and which of them vote.
    pub fn members(&self) -> Vec<(NodeAddress, bool)> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        metrics.membership_config.nodes().map(|(id, node)| (node.clone(), voters.contains(id))).collect()
    }

    /// The cluster that this node belongs to; none while it looks for one.
    pub fn cluster_id(&self) -> Option<String> {
        self.inner.identity.cluster_id()
    }

    /// Entries in this node's log.
    pub fn log_entries(&self) -> u64 {
        let bounds = self.inner.log.bounds();
        bounds.last.map_or(0, |last| last.index) - bounds.purged.map_or(0, |purged| purged.index)
    }

    /// Resolves when Raft's core has stopped by itself, with the reason: the node cannot go on.
    pub async fn failed(&self) -> String {
        let mut metrics = self.inner.raft.server_metrics();
        loop {
            if let Err(fatal) = &self.inner.raft.metrics().borrow_watched().running_state {
                return fatal.to_string();
            }
            if metrics.changed().await.is_err() {
                let state = self.inner.raft.metrics().borrow_watched().running_state.clone();
                return state.err().map_or_else(|| "the Raft core is gone".to_owned(), |fatal| fatal.to_string());
            }
        }
    }

    /// Hands leadership over if this node has it, stops everything and closes the log.
    pub async fn stop(&self) {
        let inner = &self.inner;
        if inner.raft.is_leader() && self.transfer_leadership().await {
            let mut leader = inner.leader.clone();
            let handed_over = leader.wait_for(|leader| !matches!(leader, Leader::Local { .. }));
            if tokio::time::timeout(TRANSFER_TIMEOUT, handed_over).await.is_err() {
                tracing::info!("leadership was not taken over in time; the other nodes will elect");
            }
        }
        inner.stop.cancel();
        inner.tasks.close();
        if let Err(error) = inner.raft.shutdown().await {
            tracing::warn!(%error, "the Raft core did not stop cleanly");
        }
        inner.tasks.wait().await;
        let log = inner.log.clone();
        match tokio::task::spawn_blocking(move || log.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "cannot close the log"),
            Err(error) => tracing::error!(%error, "cannot close the log"),
        }
    }
}

#[async_trait]
impl Sequencer for RaftGroup {
    async fn propose(&self, command: Command) -> Result<Proposed, SequencerError> {
        let encoded = EncodedCommand(codec::encode_command(&command));
        let (responder, applied) = ProgressResponder::<TypeConfig, ClientWriteResult<TypeConfig>>::complete_only();
        if self.inner.raft.client_write_ff(encoded, Some(responder)).await.is_err() {
            return Err(SequencerError::Stopped);
        }
        match applied.await {
            Ok(Ok(response)) => {
                let reply = response.data.map(|applied| applied.0);
                let reply =
                    reply.ok_or_else(|| SequencerError::Unknown("the command was not applied as one".into()))?;
                Ok(Proposed { index: response.log_id.index, term: response.log_id.leader_id.term, reply })
            }
            Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(SequencerError::NotLeader),
            Ok(Err(error)) => Err(SequencerError::Unknown(error.to_string())),
            Err(_) => Err(SequencerError::Unknown("the Raft core stopped".into())),
        }
    }

    fn leader(&self) -> watch::Receiver<Leader> {
        self.inner.leader.clone()
    }

    async fn read_index(&self) -> Result<u64, SequencerError> {
        match self.inner.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Ok(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => Err(SequencerError::NotLeader),
            Err(RaftError::APIError(error)) => Err(SequencerError::Unknown(error.to_string())),
            Err(RaftError::Fatal(_)) => Err(SequencerError::Stopped),
        }
    }

    async fn give_up_leadership(&self) {
        self.transfer_leadership().await;
    }
}

impl RaftGroup {
    /// Asks the voter with the newest log to take over; false when there is none.
    async fn transfer_leadership(&self) -> bool {
        let raft = &self.inner.raft;
        let best = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
            let matched = metrics.replication.iter().flatten();
            matched
                .filter(|(id, _)| **id != self.inner.local.id && voters.contains(id))
                .max_by_key(|(_, matched)| matched.map(|id| id.index))
                .map(|(id, _)| *id)
        };
        match best {
            Some(best) => {
                if let Err(error) = raft.trigger().transfer_leader(best).await {
                    tracing::debug!(%error, "the Raft core stopped");
                }
                true
            }
            None => {
                tracing::debug!("there is no other voter to hand leadership to");
                false
            }
        }
    }
}

#[async_trait]
impl Peers for RaftGroup {
    async fn call(&self, node: &NodeAddress, request: Bytes) -> Result<Bytes, SequencerError> {
        self.inner.calls.call(node, request).await
    }

    fn others(&self) -> Vec<NodeAddress> {
        let mut members: Vec<NodeAddress> = self.members().into_iter().map(|(node, _)| node).collect();
        members.retain(|node| node.id != self.inner.local.id);
        members
    }

    fn local(&self) -> NodeAddress {
        self.inner.local.clone()
    }
}

fn raft_config(config: &GroupConfig) -> openraft::Config {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    openraft::Config {
        cluster_name: "liminal".into(),
        heartbeat_interval: ms(config.heartbeat),
        election_timeout_min: ms(config.election.0),
        election_timeout_max: ms(config.election.1),
        install_snapshot_timeout: ms(Duration::from_secs(60)),
        max_payload_entries: ENTRIES_PER_MESSAGE,
        // Entries travel while the leader's own disk still syncs them.
        broadcast_submitted_on_append: Some(true),
        // Snapshots and purges only when `purge` says so.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: purge::KEEP_ENTRIES,
        purge_batch_size: 1024,
        enable_pre_vote: Some(true),
        // A leader that lost power may have lost entries that it had sent but not synced: were it to go on in its old
        // term, it could give their log ids to other entries.
        enable_leader_restore: Some(false),
        ..openraft::Config::default()
    }
}

fn node_state(raft: &Raft, view: &ReplicaView, local: &NodeAddress) -> NodeState {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let failure = match (&metrics.running_state, &*view.health().borrow()) {
        (Err(fatal), _) => fatal.to_string(),
        (Ok(()), StoreHealth::Failing(reason)) => format!("the store fails: {reason}"),
        (Ok(()), StoreHealth::Working) => String::new(),
    };
    NodeState {
        address: local.clone(),
        leader: metrics.current_leader.unwrap_or(0),
        term: metrics.current_term,
        commit: metrics.local_committed.map_or(0, |id| id.index),
        applied: view.applied(),
        checkpoint: view.checkpoint(),
        failure,
    }
}

/// Translates openraft's view of the cluster into ours.
async fn watch_leader(raft: Raft, sender: watch::Sender<Leader>) {
    let mut metrics = raft.server_metrics();
    loop {
        let leader = {
            let now = metrics.borrow_watched();
            match now.current_leader {
                Some(id) if id == now.id && now.state == ServerState::Leader => {
                    Leader::Local { term: now.vote.leader_id().term }
                }
                Some(id) if id != now.id => {
                    let node = now.membership_config.get_node(&id).cloned();
                    node.map_or(Leader::Unknown, Leader::Remote)
                }
                _ => Leader::Unknown,
            }
        };
        sender.send_if_modified(|present| {
            let changed = *present != leader;
            if changed {
                tracing::info!(leader = ?leader, "leadership");
                *present = leader;
            }
            changed
        });
        if metrics.changed().await.is_err() {
            sender.send_replace(Leader::Unknown);
            return;
        }
    }
}

async fn serve(service: PeerService, listener: Box<dyn Listener>, stop: CancellationToken) {
    let service =
        PeerServer::new(service).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let served = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(1)))
        .http2_keepalive_timeout(Some(Duration::from_secs(2)))
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .add_service(service)
        .serve_with_incoming(incoming(listener));
    // Peers' streams never end by themselves, so there is nothing to wait for.
    if let Some(Err(error)) = stop.run_until_cancelled(served).await {
        tracing::error!(%error, "the service for other nodes failed");
    }
}
