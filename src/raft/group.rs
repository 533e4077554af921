//! A node's part in its Raft group, from start to stop.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt as _, future::BoxFuture};
use openraft::{
    ReadPolicy, ServerState, SnapshotPolicy,
    async_runtime::WatchReceiver as _,
    errors::{ClientWriteError, LinearizableReadError, RaftError},
    impls::ProgressResponder,
    raft::ClientWriteResult,
};
use tokio::sync::{Mutex, OnceCell, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    aside::Aside,
    backup::Backup,
    calls::Calls,
    clocks::{ClockDifference, Clocks},
    failover::Failover,
    formation::Formation,
    handshake::PeerKeys,
    healing,
    identity::{Identity, IdentityError},
    intact,
    joining::{Joining, Standing},
    log::LogStore,
    log_adapter::{Follows, LogAdapter, Pace},
    membership::{Change, ChangeError, Membership, MembershipPolicy},
    network::Network,
    peer_service::{CallHandler, PeerService},
    port,
    purge::{KeepLog, Purge},
    sane::Doubts,
    scrub::{Scrub, ScrubConfig, ScrubReport},
    state_machine::StateMachine,
    transport::{Gate, Transport},
    types::{EncodedCommand, Raft, TypeConfig},
    verify::{Verified, Verify},
    waiting::Waiting,
    witness::Witness,
};
use crate::{
    codec,
    env::{Env, Listener},
    model::Command,
    proto::raft::{ScrubRequest, ScrubResponse, StatusRequest},
    replica::{Checkpoint, Replica, ReplicaView, StoreHealth},
    sequencer::{Leader, NodeAddress, PeerMessage, PeerVersion, Peers, Proposed, Sequencer, SequencerError},
    store::StoreError,
};

/// Why a node ends whose core panicked: the panic before it says what was found.
const CORE_GONE: &str = "Raft's core found what must not be: most likely this node's log is not of the history that the \
                         cluster has, because a disk lies. If it ends so again, keep a copy of the data directory, run \
                         `liminal cluster remove` for this node, and start it with an empty directory";

/// Log entries in one message to a follower; the bytes are limited where the log is read.
const ENTRIES_PER_MESSAGE: u64 = 1024;
/// Bytes of one command: as much as a message takes, with room for what is around it.
const MAX_COMMAND: usize = super::transport::MAX_MESSAGE - (1 << 20);
/// How long another node may take to tell its status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a leadership transfer may take before the node stops all the same.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a change of the membership waits for a leader.
const CHANGE_PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks for one.
const LEADER_POLL: Duration = Duration::from_millis(50);

/// What a node has to know to take part.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// Addresses of this node; its id is filled in from its identity.
    pub local: NodeAddress,
    /// Where to look for other nodes.
    pub seeds: Vec<String>,
    /// The cluster's shared secret.
    pub keys: Arc<PeerKeys>,
    /// How many fresh nodes found a cluster.
    pub expect: usize,
    /// Whether that is how many seeds there are: those that turn out to be one node count once.
    pub counts_seeds: bool,
    /// What the leader does by itself about the membership.
    pub policy: MembershipPolicy,
    /// How much of the log is kept.
    pub keep_log: KeepLog,
    /// How the node looks for damage.
    pub scrub: ScrubConfig,
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
    calls: Calls,
    purge: Arc<Purge>,
    scrub: Arc<Scrub>,
    doubts: Arc<Doubts>,
    verified: Arc<parking_lot::Mutex<Verified>>,
    clocks: Arc<parking_lot::Mutex<Vec<ClockDifference>>>,
    membership: Arc<Membership>,
    formation: Arc<Formation>,
    failover: Arc<Failover>,
    standing: watch::Receiver<Standing>,
    transport: Transport,
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
        let transport = Transport::new(env.clone(), identity.clone(), config.keys.clone());
        let failed = |error: &dyn std::fmt::Display| StartError::Raft(error.to_string());
        let machine = StateMachine::new(replica, log.clone()).await.map_err(|error| failed(&error))?;
        intact::check(&identity, &*log, machine.applied())?;
        intact::begin(&identity, &*log).await?;
        let raft_config = raft_config(&config).validate().map_err(|error| failed(&error))?;
        let (follows, pace) = (Follows::default(), Pace::default());
        let doubts = Arc::new(Doubts::default());
        let raft = Raft::new(
            local.id,
            Arc::new(raft_config),
            Network::new(transport.clone(), follows.clone(), doubts.clone()),
            LogAdapter::new(log.clone(), follows.clone(), pace.clone()),
            machine,
        )
        .await
        .map_err(|error| failed(&error))?;

        // Until it is let in: see `joining`.
        raft.runtime_config().elect(false);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (standing_sender, standing) = watch::channel(Standing::Asking);
        let (leader_sender, leader) = watch::channel(Leader::Unknown);
        tasks.spawn(stop.clone().run_until_cancelled_owned(watch_leader(
            raft.clone(),
            standing.clone(),
            leader_sender,
        )));
        let purge = Arc::new(Purge { raft: raft.clone(), view: view.clone(), log: log.clone(), keep: config.keep_log });
        tasks.spawn(purge.clone().run(stop.clone()));
        if let Some(parts) = view.store().parts() {
            let (raft, own) = (raft.clone(), local.id);
            let others = Box::new(move || others(&raft, own));
            parts.heal_from(Arc::new(healing::Members { transport: transport.clone(), others }));
        }
        let purge_all = {
            let purge = purge.clone();
            Box::new(move || purge.clone().everything().boxed())
        };
        let health = view.health().clone();
        let scrub = Arc::new(Scrub::new(config.scrub, env, &**view.store(), log.clone(), purge_all, health));
        tasks.spawn(stop.clone().run_until_cancelled_owned(scrub.clone().run()));
        tasks.spawn(intact::keep(identity.clone(), log.clone(), stop.clone()));

        let witness = Arc::new(Witness::new(view.clone(), log.clone()));
        let membership = Arc::new(Membership {
            local: local.clone(),
            raft: raft.clone(),
            view: view.clone(),
            transport: transport.clone(),
            witness: witness.clone(),
            policy: config.policy,
            cluster_id: {
                let identity = identity.clone();
                Box::new(move || identity.cluster_id())
            },
            changing: Mutex::default(),
            waiting: Waiting::default(),
            handed_in: AtomicU64::default(),
        });
        let formation = Formation::new(local.clone(), identity.clone(), &config.seeds, config.expect);
        let formation = Arc::new(formation.counting_seeds(config.counts_seeds));
        let failover = Arc::new(Failover::new(
            local.clone(),
            raft.clone(),
            log.clone(),
            transport.clone(),
            view.health().clone(),
            config.election.0,
        ));
        let aside = Aside {
            raft: raft.clone(),
            view: view.clone(),
            membership: membership.clone(),
            failover: failover.clone(),
            standing: standing.clone(),
            pace,
            silence: 2 * config.election.1,
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(aside.run()));
        let handler = Arc::new(OnceCell::new());
        let service = PeerService {
            gate: Gate::new(identity.clone()),
            local: local.clone(),
            identity: identity.clone(),
            raft: raft.clone(),
            log: log.clone(),
            witness,
            follows,
            view: view.clone(),
            transport: transport.clone(),
            formation: formation.clone(),
            membership: membership.clone(),
            failover: failover.clone(),
            standing: standing.clone(),
            state: {
                let (raft, view, local, standing) = (raft.clone(), view.clone(), local.clone(), standing.clone());
                let (identity, formation) = (identity.clone(), formation.clone());
                let failover = failover.clone();
                Arc::new(move || node_state(&raft, &view, &identity, &local, &standing, &formation, &failover))
            },
            handler: handler.clone(),
            scrub: scrub.clone(),
            parts: Semaphore::new(healing::AT_ONCE),
            doubts: doubts.clone(),
        };
        tasks.spawn(port::serve(service, listener, stop.clone()));
        let joining = Joining {
            local: local.clone(),
            identity: identity.clone(),
            raft: raft.clone(),
            log: log.clone(),
            transport: transport.clone(),
            formation: formation.clone(),
            membership: membership.clone(),
            seeds: config.seeds,
            standing: standing_sender,
            rumours: parking_lot::Mutex::default(),
            complaints: super::complaints::Complaints::default(),
        };
        let differences = Arc::default();
        let clocks = Clocks {
            local: local.clone(),
            raft: raft.clone(),
            view: view.clone(),
            transport: transport.clone(),
            leader: leader.clone(),
            differences: Arc::clone(&differences),
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(clocks.run()));
        let verified = Arc::default();
        let verify = Verify {
            local: local.clone(),
            identity: identity.clone(),
            raft: raft.clone(),
            view: view.clone(),
            transport: transport.clone(),
            membership: membership.clone(),
            standing: joining.standing.clone(),
            verified: Arc::clone(&verified),
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(verify.run()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(joining.run()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(membership.clone().tend()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(failover.clone().run()));
        let calls = Calls::new(transport.clone());
        let inner = Inner {
            raft,
            view,
            identity,
            local,
            calls,
            purge,
            scrub,
            doubts,
            verified,
            clocks: differences,
            membership,
            formation,
            failover,
            standing,
            transport,
            leader,
            handler,
            log,
            stop,
            tasks,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

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
        let mut client = self.inner.transport.client(node.id, &node.peer, super::transport::Lane::Control);
        let answer =
            tokio::time::timeout(STATUS_TIMEOUT, client.status(StatusRequest {})).await.ok()?.ok()?.into_inner();
        Some(NodeState {
            address: super::wire::from_address(answer.node?),
            leader: answer.leader,
            term: answer.term,
            commit: answer.commit,
            applied: answer.applied,
            checkpoints: answer.checkpoints.iter().filter_map(super::wire::from_checkpoint).collect(),
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
        membership.nodes().map(|(id, node)| (node.clone(), votes(id))).collect()
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
            return Some(super::wire::to_scrub(&inner.scrub.report(), expected));
        }
        let mut client = inner.transport.client(node.id, &node.peer, super::transport::Lane::Control);
        let answer = tokio::time::timeout(STATUS_TIMEOUT, client.scrub(request)).await.ok()?.ok()?;
        Some(answer.into_inner())
    }

    /// Has all nodes hash their state at one log index, and gives that index.
    ///
    /// # Errors
    /// As [`RaftGroup::change`].
    pub async fn checkpoint(&self) -> Result<u64, ChangeError> {
        let membership = &self.inner.membership;
        self.on_leader(|leader| async move {
            match leader {
                None => membership.checkpoint().await,
                Some(node) => membership.forward_checkpoint(&node).await,
            }
        })
        .await
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

    /// Resolves when the node cannot go on, with the reason: Raft's core or the store has stopped by itself, or the
    /// cluster refuses this node's disk for good.
    pub async fn failed(&self) -> String {
        let mut standing = self.inner.standing.clone();
        let barred = async {
            match standing.wait_for(|standing| matches!(standing, Standing::Barred(_))).await {
                Ok(standing) => standing.failure().to_owned(),
                Err(_) => std::future::pending().await, // the node is stopping
            }
        };
        let mut commits = self.inner.view.commits();
        let ended = async {
            let ended = commits.wait_for(|commits| matches!(commits, StoreHealth::Ended(_))).await;
            match ended.ok().and_then(|commits| commits.failure().map(str::to_owned)) {
                Some(reason) => reason,
                None => std::future::pending().await, // the node is stopping
            }
        };
        tokio::select! {
            reason = self.core_failed() => reason,
            reason = barred => reason,
            reason = ended => reason,
        }
    }

    async fn core_failed(&self) -> String {
        let mut metrics = self.inner.raft.server_metrics();
        loop {
            if let Err(fatal) = &self.inner.raft.metrics().borrow_watched().running_state {
                return fatal.to_string();
            }
            if metrics.changed().await.is_err() {
                let state = self.inner.raft.metrics().borrow_watched().running_state.clone();
                return state.err().map_or_else(|| CORE_GONE.to_owned(), |fatal| fatal.to_string());
            }
        }
    }

    /// Changes who is in the cluster, or who leads it; through whichever node leads. Returns what was done, for people.
    ///
    /// # Errors
    /// [`ChangeError::NotLeader`] when no leader was found within ten seconds: nothing was done.
    pub async fn change(&self, change: Change) -> Result<String, ChangeError> {
        let (membership, change) = (&self.inner.membership, &change);
        self.on_leader(|leader| async move {
            match leader {
                None => membership.change(change).await,
                Some(node) => membership.forward(&node, change).await,
            }
        })
        .await
    }

    /// Does something on this node if it leads, or through whichever node does.
    async fn on_leader<T, F>(&self, work: impl Fn(Option<NodeAddress>) -> F) -> Result<T, ChangeError>
    where
        F: Future<Output = Result<T, ChangeError>>,
    {
        let give_up = tokio::time::Instant::now() + CHANGE_PATIENCE;
        loop {
            let leader = self.inner.leader.borrow().clone();
            let result = match leader {
                Leader::Local { .. } => work(None).await,
                Leader::Remote(node) => work(Some(node)).await,
                Leader::Unknown => Err(ChangeError::NotLeader),
            };
            if !matches!(result, Err(ChangeError::NotLeader)) || tokio::time::Instant::now() >= give_up {
                return result;
            }
            tokio::time::sleep(LEADER_POLL).await;
        }
    }

    /// Hands leadership over if this node has it and somebody can take it.
    pub async fn give_up_leadership(&self) {
        self.inner.membership.step_down().await;
    }

    /// Hands leadership over if this node has it, stops everything and closes the log.
    pub async fn stop(&self) {
        let inner = &self.inner;
        if inner.raft.is_leader() && inner.membership.step_down().await {
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
        if let Err(error) = intact::follow(&inner.identity, &*inner.log).await {
            tracing::warn!(%error, "cannot write down what the log holds");
        }
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
        propose(&self.inner.raft, &command).await
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

    fn withheld(&self) -> watch::Receiver<Option<String>> {
        self.inner.identity.withheld()
    }
}

#[async_trait]
impl Peers for RaftGroup {
    async fn call(&self, node: &NodeAddress, request: PeerMessage) -> Result<PeerMessage, SequencerError> {
        self.inner.calls.call(node, request).await
    }

    fn version(&self, node: &NodeAddress) -> PeerVersion {
        self.inner.calls.version(node)
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

/// Orders a command on this node, if it leads.
pub(super) async fn propose(raft: &Raft, command: &Command) -> Result<Proposed, SequencerError> {
    let encoded = EncodedCommand(codec::encode_command(command));
    if encoded.0.len() > MAX_COMMAND {
        // In the log, it and all behind it could never be sent to another node.
        let len = encoded.0.len();
        let reason = format!(
            "the log entry would have {len} bytes; nodes take at most {MAX_COMMAND} from each other, so nothing was \
             stored: send less at once, and lower `limits.batch_bytes`"
        );
        return Err(SequencerError::Unknown(reason));
    }
    let (responder, applied) = ProgressResponder::<TypeConfig, ClientWriteResult<TypeConfig>>::complete_only();
    if raft.client_write_ff(encoded, Some(responder)).await.is_err() {
        return Err(SequencerError::Stopped);
    }
    match applied.await {
        Ok(Ok(response)) => {
            let reply = response.data.map(|applied| applied.0);
            let reply = reply.ok_or_else(|| SequencerError::Unknown("the command was not applied as one".into()))?;
            Ok(Proposed { index: response.log_id.index, term: response.log_id.leader_id.term, reply })
        }
        Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(SequencerError::NotLeader),
        Ok(Err(error)) => Err(SequencerError::Unknown(error.to_string())),
        Err(_) => Err(SequencerError::Unknown("the Raft core stopped".into())),
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
        // Only `purge` cuts the log.
        max_in_snapshot_log_to_keep: u64::MAX / 2,
        purge_batch_size: 1024,
        enable_pre_vote: Some(true),
        // A leader that lost power may have lost entries that it had sent but not synced: were it to go on in its old
        // term, it could give their log ids to other entries.
        enable_leader_restore: Some(false),
        ..openraft::Config::default()
    }
}

fn node_state(
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

/// The other members.
fn others(raft: &Raft, own: u64) -> Vec<NodeAddress> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let nodes = metrics.membership_config.nodes();
    nodes.filter(|(id, _)| **id != own).map(|(_, node)| node.clone()).collect()
}

/// Translates openraft's view of the cluster into ours.
async fn watch_leader(raft: Raft, mut standing: watch::Receiver<Standing>, sender: watch::Sender<Leader>) {
    let mut metrics = raft.server_metrics();
    loop {
        let leader = {
            let now = metrics.borrow_watched();
            match now.current_leader {
                Some(id) if id == now.id && now.state == ServerState::Leader => {
                    Leader::Local { term: now.vote.leader_id().term }
                }
                // What a node that is not let in knows of the leader is old.
                Some(_) if !standing.borrow().failure().is_empty() => Leader::Unknown,
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
        let changed = tokio::select! {
            changed = metrics.changed() => changed.is_ok(),
            Ok(()) = standing.changed() => true,
        };
        if !changed {
            sender.send_replace(Leader::Unknown);
            return;
        }
    }
}
