//! A machine that runs a node: what outlives a power cut of it, and the node's inside while it runs.

use std::{sync::Arc, time::Duration};

use liminal::{
    broker::Broker,
    config::{ClusterConfig, ServerConfig},
    node::{Node, Storage},
    raft::{
        Identity, RaftGroup,
        log::{SimDisk, SimLog},
    },
    store::{DurableStore, MemoryStore},
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
    disk: SimDisk,
    pub store: Mutex<Arc<MemoryStore>>,
    identity: Identity,
    node: Mutex<Option<(Broker, RaftGroup)>>,
}

impl Machine {
    /// One with a fresh disk; `seed` is its own.
    pub fn new(seed: u64, name: &'static str, seeds: Vec<&'static str>, expect: usize, random: &mut StdRng) -> Self {
        let disk = SimDisk::default();
        disk.set_latency(Duration::from_micros(random.random_range(0..8_000)));
        let identity = Identity::in_memory(name, &world::env(seed, Duration::ZERO));
        let store = Mutex::new(Arc::new(MemoryStore::flushing_every(random.random_range(1..40))));
        let skew = Duration::from_millis(random.random_range(0..3_000));
        Self { seed, name, seeds, expect, skew, disk, store, identity, node: Mutex::default() }
    }

    /// Runs the node until the power is cut.
    ///
    /// # Errors
    /// When the node cannot start.
    pub async fn serve(self: Arc<Self>) -> turmoil::Result {
        let name = self.name;
        let config = ServerConfig {
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
        let log = Arc::new(SimLog::open(&self.disk));
        let store: Arc<dyn DurableStore> = self.store.lock().clone();
        let storage = Storage::of(log, store, self.identity.clone());
        // Each start has other randomness: no two proposals of a cluster have the same id.
        let world = world::env(self.seed * 1_000 + self.identity.starts(), self.skew);
        let node = Node::start(config, world, storage).await?;
        *self.node.lock() = Some((node.broker().clone(), node.group().clone()));
        let reason = node.group().failed().await;
        panic!("node {name} cannot go on: {reason}");
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
