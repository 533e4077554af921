//! What one client, or a stranger at the port for nodes, can do to everybody else: nothing. Each attack is one that took
//! a node's memory or its connections; a client that behaves goes on publishing meanwhile, what is held stays within its
//! budget, the attacker is refused or ended in time, and nothing is left of it.

#![allow(missing_docs)]

mod bodies;
mod connections;
mod descriptors;
mod messages;
mod peers;
#[path = "../support/mod.rs"]
mod support;
mod websockets;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use liminal::{
    config::{ClusterConfig, ServerConfig},
    env::Env,
    model::Limits,
    node::{Node, Storage},
    proto::v1::{self, broker_client::BrokerClient},
    raft::{
        Identity,
        log::{SimDisk, SimLog},
    },
    store::MemoryStore,
};
use tokio::net::{TcpSocket, TcpStream};

use support::{PATIENCE, eventually, free_addresses, wire};

/// Where the attacks come from; those who behave come from 127.0.0.1.
const ATTACKER: &str = "127.0.0.2:0";
/// What a client that behaves may wait for an ack at most, while its node is attacked on a machine that is busy.
const PROMPTLY: Duration = Duration::from_secs(5);

/// Limits whose clocks are short.
fn limits() -> Limits {
    Limits {
        message_bytes: 1 << 20,
        batch_bytes: 1 << 20,
        arriving_bytes: 16 << 20,
        unread_bytes: 8 << 20,
        connection_in_flight_bytes: 4 << 20,
        handshake_timeout: Duration::from_millis(1500),
        slow_after: Duration::from_millis(500),
        ..Limits::default()
    }
}

/// A node of a cluster of one, with a durable channel `orders`, and its address for other nodes.
async fn node(limits: Limits) -> (Node, String) {
    let peers = free_addresses(1).remove(0);
    let cluster = ClusterConfig {
        node_name: "n1".into(),
        listen_address: peers.clone(),
        seed_nodes: vec![peers.clone()],
        cookie: "the secret of the cluster".into(),
        expect: 1,
        ..ClusterConfig::default()
    };
    let config = ServerConfig {
        limits,
        listen_address: "127.0.0.1:0".into(),
        health_listen_address: "127.0.0.1:0".into(),
        drain_timeout: Duration::from_secs(1),
        cluster: Some(cluster),
        ..ServerConfig::default()
    };
    let env = Env::real();
    let log = Arc::new(SimLog::open(&SimDisk::default()));
    let storage = Storage::of(log, Arc::new(MemoryStore::new()), Identity::in_memory("n1", &env));
    let node = Node::start(config.with_channel("orders", true), env, storage).await.unwrap();
    eventually("the channel is created", async || node.broker().channel("orders").await.ok()).await;
    (node, peers)
}

/// A connection from the attacker's address.
async fn attack(address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(ATTACKER.parse().unwrap()).unwrap();
    let address: SocketAddr = address.parse().unwrap();
    tokio::time::timeout(PATIENCE, socket.connect(address)).await.unwrap().unwrap()
}

/// The value of one line of the metrics; 0 where there is none.
async fn metric(http: &str, line: &str) -> u64 {
    let metrics = async {
        loop {
            if let Some(metrics) = wire::http_body(http, "/metrics").await {
                return metrics;
            }
        }
    };
    let metrics = tokio::time::timeout(PATIENCE, metrics).await.expect("the metrics are there");
    let value = metrics.lines().find_map(|known| known.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or(0)
}

async fn held(http: &str, face: &str, what: &str) -> u64 {
    metric(http, &format!("liminal_budget_held{{face=\"{face}\",what=\"{what}\"}}")).await
}

async fn refused(http: &str, face: &str, what: &str, why: &str) -> u64 {
    metric(http, &format!("liminal_budget_refused_total{{face=\"{face}\",what=\"{what}\",why=\"{why}\"}}")).await
}

async fn evicted(http: &str, face: &str, why: &str) -> u64 {
    metric(http, &format!("liminal_connections_evicted_total{{face=\"{face}\",why=\"{why}\"}}")).await
}

/// A client that behaves: it publishes all the time, each message promptly, and looks whether what is held of something
/// stays within its budget.
struct Behaved {
    stop: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    published: tokio::task::JoinHandle<u64>,
    watched: tokio::task::JoinHandle<()>,
}

impl Behaved {
    async fn begin(node: &Node, face: &'static str, what: &'static str) -> Self {
        let (stop, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (address, http) = (node.client_address().to_owned(), node.http_address().to_owned());
        let mut client = BrokerClient::connect(format!("http://{address}")).await.unwrap();
        let stopped = stop.clone();
        let published = tokio::spawn(async move {
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                let message = Some(v1::Message { payload: "a".into(), ..v1::Message::default() });
                let request = v1::PublishRequest { channel: "orders".into(), message, confirm: 0, expected_seq: None };
                let acked = tokio::time::timeout(PROMPTLY, client.publish(request)).await;
                acked.expect("a client that behaves is served promptly").unwrap();
                count += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            count
        });
        let (stopped, seen) = (stop.clone(), most.clone());
        let watched = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                seen.fetch_max(held(&http, face, what).await, Ordering::Relaxed);
                assert_eq!(wire::http_status(&http, "/health").await, Some(200));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self { stop, most, published, watched }
    }

    /// The most that was held at any time.
    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.published.await.unwrap() > 0);
        self.watched.await.unwrap();
        self.most.load(Ordering::Relaxed)
    }
}
