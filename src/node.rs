//! One node, wired together: store, log, Raft group, broker and the two faces; and its orderly end.

mod access;
mod admin;
mod budgets;
mod cluster;
mod condition;
mod configured;
mod disk;
mod error;
mod metrics;
mod scrub;
mod storage;
mod tls;
mod view;

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use zeroize::Zeroizing;

use self::{configured::create_channels, disk::Disk, view::View};
pub use self::{error::NodeError, storage::Storage};
use crate::{
    broker::{Audit, AuditWriter, Broker, Gate},
    budget::{Budgets, FaceName},
    config::{ClusterConfig, JoinMode, ServerConfig},
    env::Env,
    fanout::Fanout,
    grpc,
    health::Part,
    http::{self, NodeView as _},
    liveness::{Liveness, OnStuck},
    model::PeerVersion,
    raft::{GroupConfig, KeepLog, MembershipPolicy, PeerKeys, RaftGroup, RaftThread, ScrubConfig, heal_from_seeds},
    replica::Replica,
    store::{DurableStore, StoreError},
    tls::Tls,
};

/// Where a node without a cluster listens for peers that never come.
const ALONE: &str = "127.0.0.1:0";

/// A running node.
pub struct Node {
    broker: Broker,
    group: RaftGroup,
    view: Arc<View>,
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
        Self::start_as(config, env, storage, PeerVersion::NEWEST).await
    }

    /// Starts a node that behaves to others as one of an earlier build does.
    ///
    /// # Errors
    /// As [`Node::start`], and when its state is of a cluster of a later version.
    #[cfg(any(test, feature = "testing"))]
    pub async fn start_speaking(
        config: ServerConfig,
        env: Env,
        storage: Storage,
        speaks: PeerVersion,
    ) -> Result<Self, NodeError> {
        Self::start_as(config, env, storage, speaks).await
    }

    async fn start_as(
        config: ServerConfig,
        env: Env,
        storage: Storage,
        speaks: PeerVersion,
    ) -> Result<Self, NodeError> {
        // All that a node consists of passes through here: too much for the future of whoever waits for it.
        Box::pin(Self::start_parts(config, env, storage, speaks)).await
    }

    async fn start_parts(
        mut config: ServerConfig,
        env: Env,
        storage: Storage,
        speaks: PeerVersion,
    ) -> Result<Self, NodeError> {
        let budgets = Budgets::new(&config.limits);
        let tls = tls::open(&config, storage.identity.node_name(), &env).await?;
        let listen = |face: FaceName, address: String| {
            let (network, budgets, tls) = (env.network.clone(), budgets.clone(), tls.clone());
            async move {
                let listener = network.bind(&address).await;
                let listener = listener.map(|listener| tls.guard(face, budgets.guard(face, listener)));
                listener.map_err(|error| NodeError::Listen { address, reason: error.to_string() })
            }
        };
        let Storage { log, store, identity, keys: key_files, dir, scrub, temporary } = storage;
        let keys = peer_keys(&mut config, &env)?;
        let cluster = config.cluster.clone();
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
            heal_from_seeds(&*store, tls.between_nodes(&env), &identity, keys.clone(), seeds);
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
            join_token: cluster.as_ref().and_then(|cluster| cluster.join_token.clone()),
            speaks,
            keys,
            expect: cluster.as_ref().map_or(1, |cluster| cluster.expect),
            counts_seeds: cluster.as_ref().is_some_and(|cluster| cluster.counts_seeds),
            policy: policy(cluster.as_ref()),
            keep_log: KeepLog { entries: config.raft.log_keep_entries, bytes: config.raft.log_keep_bytes as u64 },
            scrub: ScrubConfig {
                bytes_per_second: config.scrub.bytes_per_second as u64,
                interval: config.scrub.interval,
                file: scrub,
            },
            heartbeat: config.raft.heartbeat,
            election: config.raft.election,
        };
        let group = RaftGroup::start(group_config, tls.between_nodes(&env), identity, log, replica, peers);
        let group = on(thread.as_ref(), group).await?;
        let shared = Arc::new(group.clone());
        let broker = {
            // Its batcher hands entries to Raft: next to it.
            let _on_its_thread = thread.as_ref().map(|thread| thread.handle().enter());
            Broker::clustered(view, shared.clone(), shared, env)
        };
        group.serve_calls(broker.peer_handler());

        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        let audit = match config.security.audit_retention() {
            None => Audit::lines_only(),
            Some(retention) => {
                let (audit, writer) = AuditWriter::new(broker.clone(), retention);
                tasks.spawn(writer.run(stopping.clone()));
                audit
            }
        };
        let gate = Gate::new(broker.clone(), config.security.mode, config.security.bootstrap_token_hash, audit);
        let configured = Arc::new(AtomicBool::new(false));
        let view = Arc::new(View {
            broker: broker.clone(),
            group: group.clone(),
            budgets: budgets.clone(),
            tls: tls.clone(),
            gate: gate.clone(),
            configured: configured.clone(),
            channels: http::ChannelMetrics::default(),
            consumers: http::ConsumerMetrics::default(),
            rejected: http::RejectedMetrics::default(),
            disk: Disk::of(dir),
            stopping: stopping.clone(),
        });
        tasks.spawn(report("gRPC", grpc::serve(broker.clone(), gate.clone(), view.clone(), clients, stopping.clone())));
        tasks.spawn(http::serve(config.limits.clone(), gate, view.clone(), browsers, web, stopping.clone()));
        let watching = AbortOnDropHandle::new(tokio::spawn(watch(budgets, tls)));
        let creating = create_channels(broker.clone(), config.clone(), configured);
        tasks.spawn(stopping.clone().run_until_cancelled_owned(creating));
        Ok(Self {
            broker,
            group,
            view,
            thread,
            liveness,
            store,
            temporary,
            drain: config.drain_timeout,
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

    /// Why clients should not be sent to this node now, as `/ready` says it; empty when they should.
    pub fn unmet(&self) -> Vec<String> {
        self.view.unmet()
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

/// Who may be a member, by the configuration. A node without a cluster is one of its own.
fn policy(cluster: Option<&ClusterConfig>) -> MembershipPolicy {
    MembershipPolicy {
        auto_promote: cluster.is_none_or(|cluster| cluster.auto_promote),
        remove_after: cluster.and_then(|cluster| cluster.remove_departed_after),
        expect: cluster.map_or(1, |cluster| cluster.expect),
        by_invitation: cluster.is_some_and(|cluster| cluster.join == JoinMode::Token),
    }
}

/// The keys by which nodes know each other, in place of the cookie.
fn peer_keys(config: &mut ServerConfig, env: &Env) -> Result<Arc<PeerKeys>, NodeError> {
    let Some(cluster) = &mut config.cluster else { return Ok(PeerKeys::nobodys(&*env.random)) };
    let secret = Zeroizing::new(cluster.secret(&*env.random).map_err(NodeError::Cookie)?);
    cluster.forget_secret();
    Ok(if secret.is_empty() { PeerKeys::nobodys(&*env.random) } else { PeerKeys::of(&secret) })
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

/// Looks after what has its time: connections of clients, and certificates.
async fn watch(budgets: Budgets, tls: Tls) {
    tokio::join!(budgets.watch(), tls.watch());
}

async fn report<E: std::fmt::Display>(face: &'static str, served: impl Future<Output = Result<(), E>>) {
    if let Err(error) = served.await {
        tracing::error!(%error, face, "a face of the node failed");
    }
}
