//! One node, wired together: store, log, Raft group, broker and the two faces; and its orderly end.

mod access;
mod budgets;
mod scrub;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::stream::BoxStream;
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::{
    broker::{Broker, BrokerError, Gate},
    budget::{Budgets, FaceName},
    config::ServerConfig,
    env::Env,
    fanout::Fanout,
    files,
    grpc::{self, ClusterAdmin},
    health::Part,
    http::{self, Metric, MetricKind, NodeView},
    keys::{KeyDirectory, KeyFiles, KeyMemory},
    liveness::{Liveness, OnStuck},
    model::{MemberEvent, MemberLogEntry, NamespaceInfo},
    proto::v1::{
        BackupHead, ClusterEvent, ClusterStatusResponse, NodeHash, NodeHealth, NodeRole, NodeStatus, SnapshotResponse,
        VerifyDeepResponse, VerifyResponse,
    },
    raft::{
        Backup, Change, ChangeError, ClockDifference, GroupConfig, Identity, IdentityError, KeepLog, MembershipPolicy,
        NodeState, PeerKeys, RaftGroup, RaftThread, ScrubConfig, StartError, heal_from_seeds,
        log::{DiskLog, LogStore},
    },
    replica::{OpenError, Replica},
    store::{DurableStore, HaematiteConfig, HaematiteStore, StoreError},
    telemetry,
};

/// A node whose applied index is this far behind the commit index is not caught up.
const BEHIND: u64 = 1_000;
/// How long the nodes may take to hash their states for a comparison that was asked for.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often they are asked meanwhile.
const VERIFY_POLL: Duration = Duration::from_millis(200);
/// A node that does not answer at all for so long is not waited for.
const VERIFY_SILENT: Duration = Duration::from_secs(3);
/// Namespaces of claims that have a figure of their own.
const NAMESPACES_SHOWN: usize = 50;
/// How soon the creation of a channel is tried again.
const CREATE_RETRY: Duration = Duration::from_millis(100);
/// Where a node without a cluster listens for peers that never come.
const ALONE: &str = "127.0.0.1:0";

/// Where a node keeps its state.
pub struct Storage {
    /// The replicated log.
    pub log: Arc<dyn LogStore>,
    /// The applied state.
    pub store: Arc<dyn DurableStore>,
    /// Who the node is.
    pub identity: Identity,
    /// Where the files of the idempotency keys are that memory does not hold.
    keys: Arc<dyn KeyFiles>,
    /// Where the node notes how far its search for damage is.
    scrub: Option<PathBuf>,
    /// A directory that goes with the node.
    temporary: Option<PathBuf>,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Nothing says where the node's messages go.
    #[error("the node has no `persistence_path`, and `ephemeral_node` does not say that its messages may be lost")]
    NoDirectory,
    /// The data directory cannot be used.
    #[error("cannot use {path}: {reason}")]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The secret of the cluster cannot be read, or will not do.
    #[error("{0}")]
    Cookie(String),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// Which one.
        address: String,
        /// Why.
        reason: String,
    },
    /// The operating system refuses another thread.
    #[error("cannot start Raft's thread: {0}")]
    Thread(std::io::Error),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stored state cannot be read.
    #[error(transparent)]
    State(#[from] OpenError),
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The Raft group refuses.
    #[error(transparent)]
    Group(#[from] StartError),
}

impl Storage {
    /// Opens what a node keeps on disk. Blocks.
    ///
    /// # Errors
    /// When the directory is in use, belongs to another node, or holds what cannot be read.
    pub fn open(config: &ServerConfig, env: &Env) -> Result<Self, NodeError> {
        let (dir, temporary) = match &config.persistence_path {
            Some(dir) => (dir.clone(), None),
            None if config.ephemeral_node => {
                let dir = std::env::temp_dir().join(format!("liminal-{:016x}", env.random.next_u64()));
                tracing::info!(dir = %dir.display(), "the node's state is in a temporary directory");
                (dir.clone(), Some(dir))
            }
            None => return Err(NodeError::NoDirectory),
        };
        let unusable = |reason: std::io::Error| NodeError::Directory { path: dir.clone(), reason: reason.to_string() };
        let raft = dir.join("raft");
        files::private_dir(&dir).and_then(|()| std::fs::create_dir_all(&raft)).map_err(unusable)?;
        // The log's lock keeps a second process out of the whole directory.
        let log = DiskLog::open(&raft, config.raft.log_cache_bytes).map_err(unusable)?;
        let name = config.cluster.as_ref().map_or("n1", |cluster| cluster.node_name.as_str());
        let identity = Identity::open(&dir, Some(name).filter(|name| !name.is_empty()), env)?;
        identity.check_state()?;
        let store_config = HaematiteConfig {
            fold_bytes: config.store.memtable_bytes,
            fold_interval: config.store.fold_interval,
            cache_bytes: config.store.cache_bytes,
            owner: Some(identity.node_id()),
            ..HaematiteConfig::default()
        };
        let store = HaematiteStore::open(&dir.join("state"), store_config)?;
        let keys = KeyDirectory::open(&dir.join("keys")).map_err(unusable)?;
        let scrub = Some(dir.join("scrub"));
        Ok(Self { log: Arc::new(log), store: Arc::new(store), identity, keys: Arc::new(keys), scrub, temporary })
    }

    /// Of other parts: for simulations.
    pub fn of(log: Arc<dyn LogStore>, store: Arc<dyn DurableStore>, identity: Identity) -> Self {
        Self { log, store, identity, keys: Arc::new(KeyMemory::default()), scrub: None, temporary: None }
    }
}

/// A running node.
pub struct Node {
    broker: Broker,
    group: RaftGroup,
    thread: Option<RaftThread>,
    /// None where the node has no threads of its own.
    liveness: Option<Liveness>,
    store: Arc<dyn DurableStore>,
    temporary: Option<PathBuf>,
    drain: Duration,
    stopping: CancellationToken,
    tasks: TaskTracker,
    /// The clocks of connections, which go on while they are drained.
    _watching: AbortOnDropHandle<()>,
    client_address: String,
    http_address: String,
}

impl Node {
    /// Starts a node: when this returns it listens, but it may still look for its cluster.
    ///
    /// # Errors
    /// When an address is taken or the state cannot be used.
    pub async fn start(config: ServerConfig, env: Env, storage: Storage) -> Result<Self, NodeError> {
        // All that a node consists of passes through here: too much for the future of whoever waits for it.
        Box::pin(Self::start_parts(config, env, storage)).await
    }

    async fn start_parts(config: ServerConfig, env: Env, storage: Storage) -> Result<Self, NodeError> {
        let budgets = Budgets::new(&config.limits);
        let listen = |face: FaceName, address: String| {
            let (network, budgets) = (env.network.clone(), budgets.clone());
            async move {
                let listener = network.bind(&address).await;
                let listener = listener.map(|listener| budgets.guard(face, listener));
                listener.map_err(|error| NodeError::Listen { address, reason: error.to_string() })
            }
        };
        let Storage { log, store, identity, keys: key_files, scrub, temporary } = storage;
        let cluster = config.cluster.clone();
        let secret = cluster.as_ref().map(|cluster| cluster.secret(&*env.random)).transpose();
        let keys = match secret.map_err(NodeError::Cookie)?.filter(|secret| !secret.is_empty()) {
            Some(secret) => PeerKeys::of(&secret),
            None => PeerKeys::nobodys(&*env.random),
        };
        let thread = env.threads.then(RaftThread::start).transpose().map_err(NodeError::Thread)?;
        let peers = cluster.as_ref().map_or(ALONE.into(), |cluster| cluster.listen_address.clone());
        let peers = listen(FaceName::Peers, peers);
        let peers = on(thread.as_ref(), peers).await?;
        let clients = listen(FaceName::Grpc, config.listen_address.clone()).await?;
        let web = listen(FaceName::Http, config.health_listen_address.clone()).await?;
        let (client_address, http_address) = (clients.local_address(), web.local_address());
        let machine = crate::env::hostname();
        let local = crate::broker::NodeAddress {
            id: identity.node_id(),
            name: identity.node_name(),
            peer: config.advertised(
                cluster.as_ref().and_then(|cluster| cluster.advertise_address.as_ref()),
                &peers.local_address(),
                &machine,
            ),
            client: config.advertised(config.advertise_address.as_ref(), &client_address, &machine),
            http: config.advertised(config.advertise_http_address.as_ref(), &http_address, &machine),
        };
        let known_as = [&local.client, &local.http, &machine].map(String::as_str);
        let browsers = http::Browsers::new(&config.allowed_origins, known_as);
        let fanout = Fanout::new(config.limits.subscriber_bytes, config.limits.fanout_bytes);
        if let Some(cluster) = &cluster {
            let seeds = cluster.seed_nodes.iter().filter(|seed| **seed != cluster.listen_address).cloned().collect();
            heal_from_seeds(&*store, env.clone(), &identity, keys.clone(), seeds);
        }
        let (limits, clock) = (config.limits.clone(), env.clock.clone());
        let salt = [env.random.next_u64(), env.random.next_u64()];
        let replica = Replica::open_with(store.clone(), fanout, limits, clock, key_files, salt).await?;
        let view = replica.view();
        let liveness = thread.as_ref().map(|thread| {
            let runtimes = vec![
                (Part::Runtime, "the runtime that serves clients", tokio::runtime::Handle::current()),
                (Part::Raft, "Raft's thread, which may wait for the log's disk,", thread.handle().clone()),
            ];
            Liveness::start(view.health().clone(), runtimes)
        });
        let liveness = liveness.transpose().map_err(NodeError::Thread)?;
        let group_config = GroupConfig {
            local,
            seeds: cluster.as_ref().map(|cluster| cluster.seed_nodes.clone()).unwrap_or_default(),
            keys,
            expect: cluster.as_ref().map_or(1, |cluster| cluster.expect),
            counts_seeds: cluster.as_ref().is_some_and(|cluster| cluster.counts_seeds),
            policy: MembershipPolicy {
                auto_promote: cluster.as_ref().is_none_or(|cluster| cluster.auto_promote),
                remove_after: cluster.as_ref().and_then(|cluster| cluster.remove_departed_after),
                expect: cluster.as_ref().map_or(1, |cluster| cluster.expect),
            },
            keep_log: KeepLog { entries: config.raft.log_keep_entries, bytes: config.raft.log_keep_bytes as u64 },
            scrub: ScrubConfig {
                bytes_per_second: config.scrub.bytes_per_second as u64,
                interval: config.scrub.interval,
                file: scrub,
            },
            heartbeat: config.raft.heartbeat,
            election: config.raft.election,
        };
        let group = RaftGroup::start(group_config, env.clone(), identity, log, replica, peers);
        let group = on(thread.as_ref(), group).await?;
        let shared = Arc::new(group.clone());
        let broker = {
            // Its batcher hands entries to Raft: next to it.
            let _on_its_thread = thread.as_ref().map(|thread| thread.handle().enter());
            Broker::clustered(view, shared.clone(), shared, env)
        };
        group.serve_calls(broker.peer_handler());

        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        let gate = Gate::new(broker.clone(), config.security.mode, config.security.bootstrap_token_hash);
        let configured = Arc::new(AtomicBool::new(false));
        let view = Arc::new(View {
            broker: broker.clone(),
            group: group.clone(),
            budgets: budgets.clone(),
            gate: gate.clone(),
            configured: configured.clone(),
            consumers: http::ConsumerMetrics::default(),
            stopping: stopping.clone(),
        });
        tasks.spawn(report("gRPC", grpc::serve(broker.clone(), gate.clone(), view.clone(), clients, stopping.clone())));
        tasks.spawn(http::serve(config.limits.clone(), gate, view, browsers, web, stopping.clone()));
        let watching = AbortOnDropHandle::new(tokio::spawn(budgets.watch()));
        let creating = create_channels(broker.clone(), config.clone(), configured);
        tasks.spawn(stopping.clone().run_until_cancelled_owned(creating));
        let drain = config.drain_timeout;
        Ok(Self {
            broker,
            group,
            thread,
            liveness,
            store,
            temporary,
            drain,
            stopping,
            tasks,
            _watching: watching,
            client_address,
            http_address,
        })
    }

    /// The node's broker.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The node's part of the Raft group.
    pub fn group(&self) -> &RaftGroup {
        &self.group
    }

    /// Where gRPC clients connect.
    pub fn client_address(&self) -> &str {
        &self.client_address
    }

    /// Where HTTP is served.
    pub fn http_address(&self) -> &str {
        &self.http_address
    }

    /// What to do when one of the node's runtimes does not answer for two minutes and will not come back. It is called
    /// from a thread of its own, because the node's runtimes may run nothing any more.
    pub fn on_stuck(&self, act: OnStuck) {
        if let Some(liveness) = &self.liveness {
            liveness.on_stuck(act);
        }
    }

    /// Stops in order: not ready, leadership handed over, requests drained for a bounded time, state flushed.
    pub async fn stop(self) {
        if let Err(error) = self.finish().await {
            tracing::error!(%error, "cannot flush the store; the log brings back what is missing");
        }
    }

    /// The same for who has to know whether the state is durable.
    ///
    /// # Errors
    /// When the store could not be flushed: the log brings back what is missing.
    pub async fn finish(self) -> Result<(), StoreError> {
        self.stopping.cancel();
        if self.broker.leads() {
            self.group.give_up_leadership().await;
        }
        let drained = async {
            self.broker.stop().await;
            self.tasks.close();
            self.tasks.wait().await;
        };
        if tokio::time::timeout(self.drain, drained).await.is_err() {
            tracing::warn!(drain = ?self.drain, "some connections did not end in time");
        }
        self.group.stop().await;
        drop(self.liveness);
        if let Some(thread) = self.thread {
            let _ = tokio::task::spawn_blocking(|| drop(thread)).await; // a panic in it was logged
        }
        let closed = self.store.close().await;
        if let Some(dir) = &self.temporary
            && let Err(error) = std::fs::remove_dir_all(dir)
        {
            tracing::debug!(%error, dir = %dir.display(), "cannot remove a temporary directory");
        }
        closed
    }
}

/// Runs to the end on Raft's thread, where there is one.
async fn on<T: Send + 'static>(
    thread: Option<&RaftThread>,
    work: impl Future<Output = Result<T, impl Into<NodeError> + Send + 'static>> + Send + 'static,
) -> Result<T, NodeError> {
    let Some(thread) = thread else { return work.await.map_err(Into::into) };
    match thread.handle().spawn(work).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => Err(NodeError::Thread(std::io::Error::other(error))),
    }
}

async fn report<E: std::fmt::Display>(face: &'static str, served: impl Future<Output = Result<(), E>>) {
    if let Err(error) = served.await {
        tracing::error!(%error, face, "a face of the node failed");
    }
}

/// Creates the channels and rules of the configuration as soon as the cluster can.
async fn create_channels(broker: Broker, config: ServerConfig, done: Arc<AtomicBool>) {
    for channel in &config.channels {
        loop {
            match broker.create_configured(channel, config.base_dir.as_deref()).await {
                Ok(()) => break,
                Err(error) if passes(&error) => tokio::time::sleep(CREATE_RETRY).await,
                Err(error) => {
                    tracing::error!(%error, channel = channel.name, "cannot create a channel of the configuration");
                    break;
                }
            }
        }
    }
    for rule in &config.routing_rules {
        loop {
            match broker.create_configured_rule(rule).await {
                Ok(()) => break,
                Err(error) if passes(&error) => tokio::time::sleep(CREATE_RETRY).await,
                Err(error) => {
                    let (source, target) = (&rule.source_channel, &rule.target_channel);
                    tracing::error!(%error, source, target, "cannot create a rule of the configuration");
                    break;
                }
            }
        }
    }
    done.store(true, Ordering::Release);
}

/// Whether an error says something of the moment only.
fn passes(error: &BrokerError) -> bool {
    let moment = matches!(error, BrokerError::NoLeader { .. } | BrokerError::NoMajority { .. });
    moment || matches!(error, BrokerError::OutcomeUnknown { .. } | BrokerError::StoreFailed { .. })
}

struct View {
    broker: Broker,
    group: RaftGroup,
    budgets: Budgets,
    gate: Arc<Gate>,
    /// Whether the channels of the configuration exist.
    configured: Arc<AtomicBool>,
    consumers: http::ConsumerMetrics,
    stopping: CancellationToken,
}

impl View {
    fn store_failed(&self, error: &dyn std::fmt::Display) -> BrokerError {
        let node = self.broker.local().name;
        BrokerError::StoreFailed { node, reason: error.to_string(), proposed: false }
    }
}

impl NodeView for View {
    fn failure(&self) -> Option<String> {
        let failure = Some(self.group.state().failure).filter(|failure| !failure.is_empty());
        let failures = self.broker.view().health().failures();
        // A new process would find the same data, and the same nodes missing.
        let own = failures.iter().find(|(part, _)| !part.is_only_needed_to_read());
        failure.or_else(|| own.map(|(part, reason)| format!("{part}: {reason}")))
    }

    fn unwell(&self) -> Vec<(&'static str, String)> {
        let failures = self.broker.view().health().failures();
        failures.iter().map(|(part, reason)| (part.name(), reason.to_owned())).collect()
    }

    fn unmet(&self) -> Vec<String> {
        let (state, mut unmet) = (self.group.state(), Vec::new());
        if self.stopping.is_cancelled() {
            unmet.push("the node is stopping".to_owned());
        }
        if let Some(reason) = self.group.refused() {
            unmet.push(format!("the node is not in the cluster: {reason}"));
        } else if let Some(reason) = self.group.doubt() {
            unmet.push(reason);
        } else if self.group.members().is_empty() {
            unmet.push(format!("the node is in no cluster yet: {}", self.group.waits_for()));
        }
        if state.leader == 0 {
            unmet.push("there is no leader".to_owned());
        }
        if !self.configured.load(Ordering::Acquire) {
            unmet.push("the channels of the configuration are not there yet".to_owned());
        }
        if state.commit.saturating_sub(state.applied) > BEHIND {
            unmet.push(format!("the node is {} entries behind", state.commit - state.applied));
        }
        unmet.extend(self.unwell().into_iter().map(|(part, reason)| format!("{part}: {reason}")));
        unmet
    }

    fn warnings(&self) -> Vec<String> {
        let clocks = self.group.clocks();
        let wrong = clocks.iter().filter(|clock| clock.is_wrong()).map(ToString::to_string);
        wrong.chain(self.broker.near_key_limit()).collect()
    }

    fn metrics(&self) -> Vec<Metric> {
        let (state, fanout) = (self.group.state(), self.broker.view().fanout());
        let followers = fanout.all_followers();
        let (stats, verified) = (self.broker.stats(), self.group.verified());
        let usage = self.broker.view().store().usage().unwrap_or_default();
        let rejected = stats.rejected.into_iter().map(|(name, count)| (vec![("channel", name)], count)).collect();
        let failed = stats.failed.into_iter().map(|(code, count)| (vec![("code", code.to_owned())], count)).collect();
        let health = self.broker.view().health().failures();
        let keys = self.broker.view().key_places();
        let mut metrics = vec![
            Metric::gauge("raft_term", "Raft term", state.term),
            Metric::gauge("raft_commit", "Index of the newest committed log entry", state.commit),
            Metric::gauge("raft_applied", "Index of the newest applied log entry", state.applied),
            Metric::gauge("raft_leader", "1 on the leader", self.broker.leads().into()),
            Metric::gauge(
                "state_verified_index",
                "Log index at which the nodes' states were last compared",
                verified.index,
            ),
            Metric::gauge(
                "state_differing_nodes",
                "Nodes whose state was then not that of the majority: raise an alarm above 0",
                verified.differing.len() as u64,
            ),
            Metric::gauge("store_live_bytes", "Bytes of the state on disk that live", usage.live_bytes),
            Metric::gauge("store_disk_bytes", "Bytes of the state on disk", usage.disk_bytes),
            Metric {
                name: "unwell",
                help: "1 for a part of the node that does not work, which the log and /ready explain: alarm above 0",
                kind: MetricKind::Gauge,
                values: Part::ALL
                    .map(|part| (vec![("part", part.name().to_owned())], health.of(part).is_some().into()))
                    .into(),
            },
            Metric::gauge("raft_log_entries", "Entries in the log", self.group.log_entries()),
            Metric::gauge("ready", "1 while clients should be sent here", self.unmet().is_empty().into()),
            Metric::gauge("subscriptions", "Live subscriptions on this node", followers),
            Metric::gauge("connections", "Open client connections", self.budgets.connections()),
            Metric::gauge("in_flight_bytes", "Bytes of publishes that are not answered yet", stats.in_flight_bytes),
            Metric::gauge("keys_in_memory", "Idempotency keys that this node has in memory", keys.in_memory),
            Metric::gauge("key_files", "Files of those that it has not", keys.files),
            Metric::gauge("key_file_bytes", "Bytes of these files", keys.file_bytes),
            Metric::gauge("key_filter_bytes", "Bytes of memory that say what is in them", keys.filter_bytes),
            Metric::gauge("resident_memory_bytes", "Memory of the process", telemetry::resident_bytes()),
            Metric::counter("connections_refused", "Connections over the limits", self.budgets.connections_refused()),
            Metric::counter("published_messages", "Messages acknowledged to clients of this node", stats.published),
            Metric::counter("duplicate_messages", "Messages whose key had been used before", stats.duplicates),
            Metric::counter(
                "unrouted_messages",
                "Copies not made because they would have broken their channel's schema",
                stats.unrouted,
            ),
            Metric::counter(
                "quarantine_dropped",
                "Messages that broke their channel's schema and should be in its quarantine, and are not",
                stats.quarantine_dropped,
            ),
            Metric::counter("delivered_messages", "Messages handed to this node's subscriptions", fanout.delivered()),
            Metric {
                name: "failed_messages",
                help: "Messages refused or with unknown outcome, by code",
                kind: MetricKind::Counter,
                values: failed,
            },
            Metric {
                name: "rejected_messages",
                help: "Messages that broke their channel's schema",
                kind: MetricKind::Counter,
                values: rejected,
            },
        ];
        metrics.extend(budgets::metrics(&self.budgets));
        metrics.extend(access::metrics(self.gate.refused()));
        metrics.extend(scrub::metrics(&self.group.scrubbed()));
        metrics.push(Metric::counter(
            "refused_peer_messages",
            "Messages and answers of other nodes that cannot be so",
            self.group.refused_messages(),
        ));
        if self.broker.leads() {
            metrics.extend(cluster_metrics(&self.broker));
            metrics.extend(self.consumers.of(&self.broker));
        }
        metrics.extend(clock_metrics(&self.broker, &self.group.clocks()));
        metrics
    }
}

/// What is the whole cluster's and not a node's: only the leader tells it, so that a sum over all nodes is right.
fn cluster_metrics(broker: &Broker) -> Vec<Metric> {
    let (view, claims, keys) = (broker.view(), broker.view().claim_totals(), broker.view().live_keys());
    let (most_limit, all_limit) = broker.limits().most_keys();
    vec![
        Metric::gauge("channels", "Channels", view.catalog().len() as u64),
        Metric::gauge("live_keys", "Idempotency keys in the windows of all channels", keys.all),
        Metric::gauge("live_keys_most", "Idempotency keys of the channel that has most of them", keys.most),
        Metric::gauge(
            "live_keys_limit",
            "Idempotency keys that all channels together may have: raise an alarm from 80 % of it on",
            all_limit,
        ),
        Metric::gauge(
            "live_keys_most_limit",
            "Idempotency keys that a channel may have: raise an alarm when the one with most has 80 % of it",
            most_limit,
        ),
        claims_by_namespace(view.claim_namespaces()),
        Metric::counter("claims_taken", "Claims taken since the state began", claims.taken),
        Metric::counter("claims_completed", "Claims completed with a receipt", claims.completed),
        Metric::counter("claims_released", "Claims given back", claims.released),
        Metric::counter("claims_expired", "Leases that ended by themselves: workers lost", claims.expired),
    ]
}

/// The log's time, and how far each node's clock is from it.
fn clock_metrics(broker: &Broker, clocks: &[ClockDifference]) -> [Metric; 2] {
    let far = |clock: &ClockDifference| (vec![("node", clock.name.clone())], clock.ahead_ms.unsigned_abs());
    [
        Metric::gauge(
            "log_time_seconds",
            "The time of day by which everything happens, seconds since the Unix epoch",
            broker.now_ms() / 1000,
        ),
        Metric {
            name: "clock_difference_milliseconds",
            help: "How far a node's clock is from that time, in either direction: raise an alarm above 1000",
            kind: MetricKind::Gauge,
            values: clocks.iter().map(far).collect(),
        },
    ]
}

/// The namespaces with the most claims by name, and all others in one.
fn claims_by_namespace(mut namespaces: Vec<NamespaceInfo>) -> Metric {
    namespaces.sort_by_key(|namespace| std::cmp::Reverse(namespace.live));
    let rest = namespaces.split_off(namespaces.len().min(NAMESPACES_SHOWN));
    let label = |name: String| vec![("namespace", name)];
    let mut values: Vec<_> =
        namespaces.into_iter().map(|namespace| (label(namespace.name.to_string()), namespace.live)).collect();
    if !rest.is_empty() {
        // No namespace can have this name.
        values.push((label("(others)".into()), rest.iter().map(|namespace| namespace.live).sum()));
    }
    let help = "Claims that are held or completed";
    Metric { name: "claims_live", help, kind: MetricKind::Gauge, values }
}

#[async_trait::async_trait]
impl ClusterAdmin for View {
    fn ready(&self) -> bool {
        self.unmet().is_empty()
    }

    async fn status(&self) -> Result<ClusterStatusResponse, BrokerError> {
        if let Some(reason) = self.group.refused() {
            return Err(BrokerError::NotAMember { reason });
        }
        let local = self.group.state();
        let members = self.group.members();
        let leader = local.leader;
        let states = members.into_iter().map(|(address, voter)| {
            let (group, local) = (&self.group, &local);
            async move {
                let state =
                    if address.id == local.address.id { Some(local.clone()) } else { group.state_of(&address).await };
                (address, voter, state)
            }
        });
        let states = futures::future::join_all(states).await;
        let commit = states.iter().filter_map(|(_, _, state)| state.as_ref()).map(|state| state.commit).max();
        let name = states.iter().find(|(address, ..)| address.id == leader).map(|(address, ..)| address.name.clone());
        let mut nodes: Vec<NodeStatus> = states
            .into_iter()
            .map(|(address, voter, state)| node_status(&address, voter, leader, state, commit.unwrap_or(0)))
            .collect();
        let clocks = self.group.clocks();
        for node in &mut nodes {
            node.clock_ahead_ms = clocks.iter().find(|clock| clock.id == node.id).map(|clock| clock.ahead_ms);
        }
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ClusterStatusResponse {
            cluster_id: self.group.cluster_id().unwrap_or_default(),
            leader: name.unwrap_or_default(),
            nodes,
            epoch: self.broker.view().epoch(),
        })
    }

    async fn change(&self, change: Change) -> Result<String, BrokerError> {
        self.group.change(change).await.map_err(change_error)
    }

    async fn verify(&self) -> Result<VerifyResponse, BrokerError> {
        let index = self.group.checkpoint().await.map_err(change_error)?;
        let members = self.group.members();
        let give_up = tokio::time::Instant::now() + VERIFY_TIMEOUT;
        let hashes = members.into_iter().map(|(address, _)| async move {
            let mut heard = tokio::time::Instant::now();
            // One that answers may have its hash later; one that does not is not there.
            while tokio::time::Instant::now() < give_up && heard.elapsed() < VERIFY_SILENT {
                let own = address.id == self.group.state().address.id;
                let state = if own { Some(self.group.state()) } else { self.group.state_of(&address).await };
                if state.is_some() {
                    heard = tokio::time::Instant::now();
                }
                let found = state.and_then(|state| state.checkpoints.into_iter().find(|found| found.index == index));
                if let Some(checkpoint) = found {
                    return NodeHash { name: address.name, state_hash: checkpoint.hash.to_string() };
                }
                tokio::time::sleep(VERIFY_POLL).await;
            }
            NodeHash { name: address.name, state_hash: String::new() }
        });
        let mut nodes = futures::future::join_all(hashes).await;
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(VerifyResponse { index, nodes })
    }

    fn verify_deep(&self, bytes_per_second: u64) -> BoxStream<'static, VerifyDeepResponse> {
        scrub::verify_deep(self.group.clone(), bytes_per_second)
    }

    async fn backup(&self) -> Result<(BackupHead, Backup), BrokerError> {
        if let Some(reason) = self.group.refused() {
            return Err(BrokerError::NotAMember { reason });
        }
        let backup = self.group.backup().await;
        let backup = backup.map_err(|error| self.store_failed(&error))?;
        let head = BackupHead {
            cluster_id: self.group.cluster_id().unwrap_or_default(),
            epoch: self.broker.view().epoch(),
            log_index: backup.log_index,
            state_hash: backup.state_hash.0.to_vec().into(),
            created_ms: self.broker.now_ms(),
            bytes: self.broker.view().store().usage().map_or(0, |usage| usage.live_bytes),
        };
        Ok((head, backup))
    }

    fn events(&self) -> Vec<ClusterEvent> {
        self.broker.view().member_log().into_iter().map(cluster_event).collect()
    }

    async fn snapshot(&self) -> Result<SnapshotResponse, BrokerError> {
        let applied = self.group.cut_log().await;
        let applied = applied.map_err(|reason| self.store_failed(&reason))?;
        Ok(SnapshotResponse { applied, log_entries: self.group.log_entries() })
    }
}

fn change_error(error: ChangeError) -> BrokerError {
    match error {
        ChangeError::Refused(reason) => BrokerError::ChangeRefused { reason },
        ChangeError::NotLeader => BrokerError::NoLeader { waited_ms: 10_000 },
        ChangeError::Unknown(reason) => BrokerError::OutcomeUnknown { reason },
    }
}

fn cluster_event(entry: MemberLogEntry) -> ClusterEvent {
    let (event, detail) = match entry.event {
        MemberEvent::Started { starts, peer, .. } => ("started", format!("at {peer}, start {starts} of its disk")),
        MemberEvent::Joined => ("joined", String::new()),
        MemberEvent::Promoted => ("promoted", String::new()),
        MemberEvent::Moved { peer } => ("moved", format!("to {peer}")),
        MemberEvent::Removed { by_operator: true } => ("removed", String::new()),
        MemberEvent::Removed { by_operator: false } => ("departed", "it had been away for too long".to_owned()),
        MemberEvent::Readmitted => ("readmitted", String::new()),
        MemberEvent::Transferred => ("transferred", "leadership was handed to it".to_owned()),
    };
    ClusterEvent { time_ms: entry.time_ms, node_id: entry.node, node: entry.name, event: event.into(), detail }
}

fn node_status(
    address: &crate::broker::NodeAddress,
    voter: bool,
    leader: u64,
    state: Option<NodeState>,
    commit: u64,
) -> NodeStatus {
    let role = match voter {
        true if address.id == leader => NodeRole::Leader,
        true => NodeRole::Follower,
        false => NodeRole::Learner,
    };
    let lag = state.as_ref().map_or(0, |state| commit.saturating_sub(state.applied));
    let health = match &state {
        None => NodeHealth::Unreachable,
        Some(state) if !state.failure.is_empty() => NodeHealth::Failed,
        Some(state) if !state.unwell.is_empty() => NodeHealth::Unwell,
        Some(_) if lag > BEHIND => NodeHealth::Behind,
        Some(_) => NodeHealth::Ok,
    };
    let checkpoint = state.as_ref().and_then(|state| state.checkpoints.last().cloned());
    NodeStatus {
        name: address.name.clone(),
        id: address.id,
        role: role.into(),
        health: health.into(),
        term: state.as_ref().map_or(0, |state| state.term),
        commit: state.as_ref().map_or(0, |state| state.commit),
        applied: state.as_ref().map_or(0, |state| state.applied),
        lag,
        state_hash: checkpoint.as_ref().map(|checkpoint| checkpoint.hash.to_string()).unwrap_or_default(),
        state_hash_at: checkpoint.map_or(0, |checkpoint| checkpoint.index),
        client_address: address.client.clone(),
        http_address: address.http.clone(),
        peer_address: address.peer.clone(),
        failure: state.map(NodeState::reasons).unwrap_or_default(),
        clock_ahead_ms: None, // filled in by whoever has compared it
    }
}
