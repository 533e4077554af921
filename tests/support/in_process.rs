//! Three nodes in the process of the test, so that it can look inside them and choose the stores under them.

use std::{
    fs::File,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use liminal::{
    broker::{Broker, Consistency, Envelope, Leader, Start, TokenText},
    client::{self, Client},
    config::{ClusterConfig, SecurityConfig, ServerConfig},
    env::{Clock, Env},
    model::{ChannelConfig, PeerVersion, SecurityMode},
    node::{Node, NodeError, Storage},
    raft::{Identity, log::DiskLog},
    store::{FaultyStore, HaematiteConfig, HaematiteStore, StateHash},
};

use super::{PATIENCE, eventually, free_addresses};

/// A node's clock: right, but for an error that a test may change at any time.
#[derive(Default)]
pub struct WrongClock(AtomicI64);

impl WrongClock {
    /// So far ahead from now on, milliseconds; below 0 behind.
    pub fn set(&self, ahead_ms: i64) {
        self.0.store(ahead_ms, Ordering::SeqCst);
    }
}

impl Clock for WrongClock {
    fn now_ms(&self) -> u64 {
        Env::real().clock.now_ms().saturating_add_signed(self.0.load(Ordering::SeqCst))
    }
}

pub struct Cluster {
    pub configs: Vec<ServerConfig>,
    /// Each node's world.
    pub envs: Vec<Env>,
    pub nodes: Vec<Option<Node>>,
    /// Of each node.
    pub clocks: Vec<Arc<WrongClock>>,
    /// The stores of [`Cluster::start_faulty`]'s nodes.
    pub stores: Vec<Arc<FaultyStore>>,
    /// Whether the disks under their logs answer nobody.
    pub logs: Vec<Arc<AtomicBool>>,
    /// The newest version of the nodes' protocol that each speaks from its next start on.
    pub speaks: Vec<PeerVersion>,
}

impl Cluster {
    pub async fn start(dir: &Path) -> Self {
        Self::start_with_clocks(dir, 0).await
    }

    /// All of whose clocks are so far ahead, milliseconds.
    pub async fn start_with_clocks(dir: &Path, ahead_ms: i64) -> Self {
        let mut cluster = Self::prepare(dir);
        cluster.clocks.iter().for_each(|clock| clock.set(ahead_ms));
        cluster.start_nodes().await;
        cluster
    }

    /// A cluster whose stores refuse what they are told to refuse, over real ones.
    pub async fn start_faulty(dir: &Path) -> Self {
        let mut cluster = Self::prepare(dir);
        for number in 0..3 {
            let (config, env) = (cluster.configs[number].clone(), cluster.envs[number].clone());
            let (dir, name) = (config.persistence_path.clone().unwrap(), format!("n{number}"));
            std::fs::create_dir_all(dir.join("raft")).unwrap();
            let identity = Identity::open(&dir, Some(&name), &env).unwrap();
            let real = HaematiteStore::open(&dir.join("state"), HaematiteConfig::default()).unwrap();
            let store = Arc::new(FaultyStore::new(Arc::new(real)));
            let stalled = Arc::new(AtomicBool::new(false));
            let sync = {
                let stalled = stalled.clone();
                move |file: &File| {
                    while stalled.load(Ordering::Acquire) {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    file.sync_data()
                }
            };
            let log = DiskLog::open_with(&dir.join("raft"), 8 << 20, Arc::new(sync)).unwrap();
            cluster.logs.push(stalled);
            let storage = Storage::of(Arc::new(log), store.clone(), identity);
            cluster.stores.push(store);
            cluster.nodes[number] = Some(Node::start(config, env, storage).await.unwrap());
        }
        cluster
    }

    /// Three nodes that are not started yet.
    pub fn prepare(dir: &Path) -> Self {
        let addresses = free_addresses(9);
        let configs: Vec<_> = (0..3)
            .map(|number| ServerConfig {
                listen_address: addresses[number].clone(),
                health_listen_address: addresses[3 + number].clone(),
                drain_timeout: Duration::from_secs(1),
                persistence_path: Some(dir.join(format!("n{number}"))),
                cluster: Some(ClusterConfig {
                    node_name: format!("n{number}"),
                    listen_address: addresses[6 + number].clone(),
                    seed_nodes: addresses[6..].to_vec(),
                    cookie: "test".into(),
                    expect: 3,
                    ..ClusterConfig::default()
                }),
                ..ServerConfig::default()
            })
            .collect();
        let clocks: Vec<Arc<WrongClock>> = (0..3).map(|_| Arc::default()).collect();
        let envs = clocks.iter().map(|clock| Env { clock: clock.clone(), ..Env::real() }).collect();
        Self {
            configs,
            envs,
            nodes: vec![None, None, None],
            clocks,
            stores: Vec::new(),
            logs: Vec::new(),
            speaks: vec![PeerVersion::NEWEST; 3],
        }
    }

    /// Three nodes that let nobody in without a token, with the channel `orders`, and an administrator's client of the first.
    pub async fn start_closed(dir: &Path) -> (Self, Client) {
        let bootstrap = TokenText::random(&*Env::real().random);
        let mut cluster = Self::prepare(dir);
        for config in &mut cluster.configs {
            let (mode, hash) = (SecurityMode::Enforce, Some(bootstrap.hash()));
            config.security =
                SecurityConfig { mode, insecure: false, bootstrap_token_hash: hash, ..SecurityConfig::default() };
        }
        cluster.start_nodes().await;
        cluster.create("orders").await;
        let first = cluster.holder(0, bootstrap.reveal()).connect().await.unwrap();
        let admin = first.create_token("admin", vec!["admin".into()], None).await.unwrap().text;
        let admin = cluster.holder(0, &admin).connect().await.unwrap();
        (cluster, admin)
    }

    /// Makes the client of a token's holder, who asks one node.
    pub fn holder(&self, number: usize, token: &str) -> client::Builder {
        Client::builder().servers([self.nodes[number].as_ref().unwrap().client_address()]).token(token)
    }

    pub async fn start_nodes(&mut self) {
        for number in 0..3 {
            self.start_node(number).await;
        }
    }

    pub async fn start_node(&mut self, number: usize) {
        self.try_start_node(number).await.unwrap();
    }

    pub async fn try_start_node(&mut self, number: usize) -> Result<(), NodeError> {
        let (config, env) = (self.configs[number].clone(), self.envs[number].clone());
        let storage = Storage::open(&config, &env).unwrap();
        let node = Node::start_speaking(config, env, storage, self.speaks[number]).await?;
        self.nodes[number] = Some(node);
        Ok(())
    }

    pub async fn stop_node(&mut self, number: usize) {
        self.nodes[number].take().unwrap().stop().await;
    }

    pub fn broker(&self, number: usize) -> &Broker {
        self.nodes[number].as_ref().unwrap().broker()
    }

    pub fn running(&self) -> impl Iterator<Item = usize> {
        (0..3).filter(|number| self.nodes[*number].is_some())
    }

    pub fn leads(&self, number: usize) -> bool {
        matches!(self.broker(number).leader(), Leader::Local { .. })
    }

    /// The node that leads, once one does.
    pub async fn leader(&self) -> usize {
        eventually("somebody leads", async || self.running().find(|number| self.leads(*number))).await
    }

    /// Creates a channel as soon as the cluster can.
    pub async fn create(&self, name: &str) {
        let created = async { while self.broker(0).create_channel(name, ChannelConfig::default()).await.is_err() {} };
        tokio::time::timeout(PATIENCE, created).await.expect("the channel is created");
    }

    /// The states of all nodes at one log index are the same.
    pub async fn assert_equal(&self, leader: usize) {
        let group = self.nodes[leader].as_ref().unwrap().group();
        let index = group.checkpoint().await.unwrap();
        let hashes = eventually("all nodes have hashed", async || {
            let hashes: Vec<_> = self.running().filter_map(|number| self.hash_at(number, index)).collect();
            (hashes.len() == self.running().count()).then_some(hashes)
        })
        .await;
        assert!(hashes.iter().all(|other| *other == hashes[0]), "{hashes:?}");
    }

    fn hash_at(&self, number: usize, index: u64) -> Option<StateHash> {
        let checkpoints = self.broker(number).view().checkpoints();
        checkpoints.into_iter().find(|checkpoint| checkpoint.index == index).map(|checkpoint| checkpoint.hash)
    }

    pub async fn stop(mut self) {
        let nodes: Vec<Node> = self.nodes.iter_mut().filter_map(Option::take).collect();
        futures::future::join_all(nodes.into_iter().map(Node::stop)).await;
    }
}

pub fn envelope(payload: &str) -> Envelope {
    Envelope { payload: Bytes::from(payload.to_owned()), ..Envelope::default() }
}

pub async fn payloads(broker: &Broker, channel: &str) -> Vec<String> {
    let page = broker.read(channel, Start::Earliest, 0, Consistency::Linearizable, None).await.unwrap();
    let messages = page.batches.iter().flat_map(|batch| batch.frame.messages());
    messages.map(|message| String::from_utf8(message.unwrap().payload.to_vec()).unwrap()).collect()
}
