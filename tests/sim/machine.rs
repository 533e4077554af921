//! A machine that runs a node: what outlives a power cut of it, and the node's inside while it runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use liminal::{
    broker::Broker,
    config::{ClusterConfig, ServerConfig},
    node::{Node, Storage},
    raft::{
        Identity, RaftGroup,
        log::{SimDisk, SimLog},
    },
    store::{DurableStore, FaultyStore, MemoryStore},
};
use parking_lot::Mutex;
use rand::{RngExt as _, rngs::StdRng};

use super::world;

/// A machine and its disk.
pub struct Machine {
    seed: u64,
    pub name: &'static str,
    /// The machines at which its node looks for others.
    seeds: Vec<&'static str>,
    expect: usize,
    /// How far its clock is ahead.
    skew: Duration,
    pub disk: SimDisk,
    pub store: Mutex<Arc<MemoryStore>>,
    /// What the node that runs sees of the store.
    pub seen_store: Mutex<Option<Arc<FaultyStore>>>,
    identity: Mutex<Identity>,
    /// How much of its log it keeps that its store has.
    pub log_keep_entries: AtomicU64,
    /// Whether its disk was damaged, so that the node may end.
    pub damaged: AtomicBool,
    /// Why the node ended by itself.
    pub refusal: Mutex<Option<String>>,
    node: Mutex<Option<(Broker, RaftGroup)>>,
}

impl Machine {
    /// One with a fresh disk; `seed` is its own.
    pub fn new(seed: u64, name: &'static str, seeds: Vec<&'static str>, expect: usize, random: &mut StdRng) -> Self {
        let disk = SimDisk::default();
        disk.set_latency(Duration::from_micros(random.random_range(0..8_000)));
        let identity = Mutex::new(Identity::in_memory(name, &world::env(seed, Duration::ZERO)));
        let store = Mutex::new(Arc::new(MemoryStore::flushing_every(random.random_range(1..40))));
        let skew = Duration::from_millis(random.random_range(0..3_000));
        let log_keep_entries = AtomicU64::new(ServerConfig::default().raft.log_keep_entries);
        let (seen_store, node) = (Mutex::default(), Mutex::default());
        let (damaged, refusal) = (AtomicBool::default(), Mutex::default());
        Self {
            seed,
            name,
            seeds,
            expect,
            skew,
            disk,
            store,
            seen_store,
            identity,
            log_keep_entries,
            damaged,
            refusal,
            node,
        }
    }

    /// Runs the node until the power is cut.
    ///
    /// # Errors
    /// When the node cannot start, though its disk was not damaged.
    ///
    /// # Panics
    /// When it cannot go on, though its disk was not damaged.
    pub async fn serve(self: Arc<Self>) -> turmoil::Result {
        let name = self.name;
        let reason = match self.run().await {
            Err(error) if !self.damaged.load(Ordering::SeqCst) => return Err(error),
            Err(error) => error.to_string(),
            Ok(reason) => reason,
        };
        assert!(self.damaged.load(Ordering::SeqCst), "node {name} cannot go on: {reason}");
        *self.node.lock() = None;
        *self.refusal.lock() = Some(reason);
        Ok(())
    }

    /// Gives the reason why the node cannot go on.
    async fn run(&self) -> turmoil::Result<String> {
        let name = self.name;
        let mut config = ServerConfig {
            listen_address: format!("{name}:7101"),
            health_listen_address: format!("{name}:7201"),
            cluster: Some(ClusterConfig {
                node_name: name.into(),
                listen_address: format!("{name}:7301"),
                seed_nodes: self.seeds.iter().map(|name| format!("{name}:7301")).collect(),
                cookie: "simulated".into(),
                expect: self.expect,
                ..ClusterConfig::default()
            }),
            ..ServerConfig::default()
        };
        config.raft.log_keep_entries = self.log_keep_entries.load(Ordering::SeqCst);
        config.limits.hot_keys = self.hot_keys();
        let log = Arc::new(SimLog::open(&self.disk));
        let store: Arc<dyn DurableStore> = self.store.lock().clone();
        let store = Arc::new(FaultyStore::new(store));
        *self.seen_store.lock() = Some(store.clone());
        let identity = self.identity.lock().clone();
        let storage = Storage::of(log, store, identity.clone());
        // Each start has other randomness: no two proposals of a cluster have the same id.
        let world = world::env(self.seed * 1_000 + identity.starts(), self.skew);
        let node = Node::start(config, world, storage).await?;
        *self.node.lock() = Some((node.broker().clone(), node.group().clone()));
        Ok(node.group().failed().await)
    }

    /// How many idempotency keys the node has in memory: few, on each node others, and all of them on some. Nobody may
    /// notice.
    pub fn hot_keys(&self) -> u64 {
        [0, 40, ServerConfig::default().limits.hot_keys][(self.seed % 3) as usize]
    }

    /// Another disk, which is empty, and so another node.
    pub fn replace(&self) {
        self.disk.lose_everything();
        *self.store.lock() = Arc::new(MemoryStore::flushing_every(10));
        *self.identity.lock() = Identity::in_memory(self.name, &world::env(self.seed + 500, Duration::ZERO));
        *self.refusal.lock() = None;
        self.damaged.store(false, Ordering::SeqCst);
    }

    /// The broker, while the node runs.
    pub fn broker(&self) -> Option<Broker> {
        self.node.lock().as_ref().map(|(broker, _)| broker.clone())
    }

    /// The node's part in its group, while it runs.
    pub fn group(&self) -> Option<RaftGroup> {
        self.node.lock().as_ref().map(|(_, group)| group.clone())
    }

    /// The newest log entry that the node has applied.
    pub fn applied(&self) -> u64 {
        self.broker().map_or(0, |broker| broker.view().applied())
    }

    /// What a power cut does to the disk. The simulation ends the node itself.
    pub fn cut(&self) {
        self.disk.crash();
        *self.node.lock() = None;
        let mut store = self.store.lock();
        *store = Arc::new(store.crash());
    }
}
