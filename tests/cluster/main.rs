//! Three real nodes in one process, over loopback and real disks.

#![allow(missing_docs)]

mod corpus;
mod processes;

use std::{net::TcpListener, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use liminal::{
    broker::{Broker, Consistency, Envelope, Leader, Start},
    client::{Client, Message},
    config::{ClusterConfig, ServerConfig},
    env::Env,
    model::ChannelConfig,
    node::{Node, Storage},
    proto::v1,
    raft::{
        Identity,
        log::{SimDisk, SimLog},
    },
    store::{FaultyStore, MemoryStore},
};

use prost::Message as _;

const PATIENCE: Duration = Duration::from_secs(60);

/// Addresses that nobody uses.
fn free_addresses(count: usize) -> Vec<String> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

/// Of three nodes on free ports.
fn configs(dir: &Path) -> Vec<ServerConfig> {
    let addresses = free_addresses(9);
    let config = |number: usize| ServerConfig {
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
    };
    (0..3).map(config).collect()
}

struct Cluster {
    configs: Vec<ServerConfig>,
    nodes: Vec<Option<Node>>,
}

impl Cluster {
    async fn start(dir: &Path) -> Self {
        // Shows the nodes' logs of a failed test, as far as `RUST_LOG` asks for them.
        liminal::telemetry::init(liminal::telemetry::LogFormat::Text, "off").expect("RUST_LOG is a filter");
        let mut cluster = Self { configs: configs(dir), nodes: vec![None, None, None] };
        for number in 0..3 {
            cluster.start_node(number).await;
        }
        cluster
    }

    async fn start_node(&mut self, number: usize) {
        let config = self.configs[number].clone();
        let storage = Storage::open(&config, &Env::real()).unwrap();
        self.nodes[number] = Some(Node::start(config, Env::real(), storage).await.unwrap());
    }

    /// A cluster without disks whose stores can be made to fail.
    async fn start_faulty(dir: &Path) -> (Self, Vec<Arc<FaultyStore>>) {
        let (env, mut stores) = (Env::real(), Vec::new());
        let mut cluster = Self { configs: configs(dir), nodes: vec![None, None, None] };
        for number in 0..3 {
            let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
            let identity = Identity::in_memory(&format!("n{number}"), &env);
            let log = Arc::new(SimLog::open(&SimDisk::default()));
            let storage = Storage::of(log, store.clone(), identity);
            let node = Node::start(cluster.configs[number].clone(), env.clone(), storage).await.unwrap();
            cluster.nodes[number] = Some(node);
            stores.push(store);
        }
        (cluster, stores)
    }

    async fn stop_node(&mut self, number: usize) {
        self.nodes[number].take().unwrap().stop().await;
    }

    fn broker(&self, number: usize) -> &Broker {
        self.nodes[number].as_ref().unwrap().broker()
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        (0..3).filter(|number| self.nodes[*number].is_some())
    }

    /// The node that leads, once one does.
    async fn leader(&self) -> usize {
        let found = async {
            loop {
                let leads = |number: &usize| matches!(self.broker(*number).leader(), Leader::Local { .. });
                if let Some(leader) = self.running().find(leads) {
                    return leader;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("somebody leads")
    }

    /// Creates a channel as soon as the cluster can.
    async fn create(&self, name: &str) {
        let created = async { while self.broker(0).create_channel(name, ChannelConfig::default()).await.is_err() {} };
        tokio::time::timeout(PATIENCE, created).await.expect("the channel is created");
    }

    async fn stop(mut self) {
        let nodes: Vec<Node> = self.nodes.iter_mut().filter_map(Option::take).collect();
        futures::future::join_all(nodes.into_iter().map(Node::stop)).await;
    }
}

fn envelope(payload: &str) -> Envelope {
    Envelope { payload: Bytes::from(payload.to_owned()), ..Envelope::default() }
}

async fn payloads(broker: &Broker, channel: &str) -> Vec<String> {
    let page = broker.read(channel, Start::Earliest, 0, Consistency::Linearizable, None).await.unwrap();
    let messages = page.batches.iter().flat_map(|batch| batch.frame.messages());
    messages.map(|message| String::from_utf8(message.unwrap().payload.to_vec()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_delivered_once_with_publisher_subscriber_and_leader_on_three_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    let [publisher, subscriber] = [(leader + 1) % 3, (leader + 2) % 3].map(|number| cluster.broker(number));
    assert_eq!(publisher.publish("orders", envelope("nobody"), None).await.unwrap().delivered, Some(false));
    let mut subscription = subscriber.subscribe("orders", Start::Latest).await.unwrap();
    let begin = subscription.position();
    let reader = tokio::spawn(async move {
        let mut got = Vec::new();
        while got.len() < 2 {
            let batch = subscription.next().await.unwrap();
            got.extend(batch.frame.messages().map(|message| message.unwrap().payload));
        }
        got
    });
    assert_eq!(publisher.publish("orders", envelope("a"), Some("1")).await.unwrap().delivered, Some(true));
    let again = publisher.publish("orders", envelope("a"), Some("1")).await.unwrap();
    assert_eq!((again.seq, again.duplicate, again.delivered), (1, true, Some(false)));
    assert_eq!(publisher.publish("orders", envelope("b"), Some("2")).await.unwrap().delivered, Some(true));
    assert_eq!(begin, 1);
    assert_eq!(reader.await.unwrap(), ["a", "b"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_the_leader_and_a_restart_of_all_with_equal_states() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let first = cluster.leader().await;
    for number in 0..20 {
        let key = format!("k{number}");
        cluster.broker((first + 1) % 3).publish("orders", envelope(&number.to_string()), Some(&key)).await.unwrap();
    }
    cluster.stop_node(first).await;
    cluster.leader().await;
    let survivor = (first + 1) % 3;
    let again = cluster.broker(survivor).publish("orders", envelope("3"), Some("k3")).await.unwrap();
    assert!(again.duplicate && again.seq == 3);
    cluster.broker(survivor).publish("orders", envelope("20"), Some("k20")).await.unwrap();
    for number in cluster.running().collect::<Vec<_>>() {
        cluster.stop_node(number).await;
    }
    for number in 0..3 {
        cluster.start_node(number).await;
    }
    let expected: Vec<String> = (0..=20).map(|number| number.to_string()).collect();
    let mut hashes = Vec::new();
    for number in 0..3 {
        assert_eq!(payloads(cluster.broker(number), "orders").await, expected);
        let stored = cluster.broker(number).store().read_from("orders:0", 0, 100).await.unwrap();
        let decoded = stored.iter().map(|entry| v1::Message::decode(entry.payload.clone()).unwrap().payload);
        assert_eq!(decoded.collect::<Vec<_>>(), expected);
    }
    let applied = cluster.broker(cluster.leader().await).view().applied();
    for number in 0..3 {
        cluster.broker(number).view().wait_applied(applied).await;
        hashes.push(cluster.broker(number).store().root_hash().await.unwrap());
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_publishes_through_any_node_and_reads_from_another() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let address = |number: usize| format!("http://{}", cluster.nodes[number].as_ref().unwrap().client_address());
    let writer = Client::connect([address(1)]).await.unwrap();
    for number in 0..50 {
        let message = Message { payload: number.to_string().into(), key: format!("k{number}"), ..Message::default() };
        assert_eq!(writer.publish("orders", message).await.unwrap().seq, number);
    }
    let expected: Vec<String> = (0..50).map(|number: u64| number.to_string()).collect();
    assert_eq!(payloads(cluster.broker(2), "orders").await, expected);
    let error = writer.publish("ordres", Message::default()).await.unwrap_err();
    assert_eq!(error.code(), "CHANNEL_NOT_FOUND");
    assert_eq!(writer.cluster_status().await.unwrap().nodes.len(), 3);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leaders_store_fails_publishers_hear_of_it_and_the_first_retry_gets_the_one_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, stores) = Cluster::start_faulty(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    let (other, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let mut subscription = cluster.broker(third).subscribe("orders", Start::Latest).await.unwrap();
    let reader = tokio::spawn(async move {
        let mut got = Vec::new();
        while got.len() < 3 {
            let batch = subscription.next().await.unwrap();
            got.extend(batch.frame.messages().map(|message| message.unwrap().payload));
        }
        got
    });
    stores[leader].fail_commits(true);
    for (node, key) in [(leader, "on the leader"), (other, "through another node")] {
        let error = cluster.broker(node).publish("orders", envelope(key), Some(key)).await.unwrap_err();
        assert_eq!(error.code().0, "STORE_FAILED", "{error}");
    }
    assert!(stores[leader].refused() > 0, "the fault happened");
    stores[leader].fail_commits(false);
    let working = async {
        let mut health = cluster.broker(leader).view().health();
        health.wait_for(|health| *health == liminal::replica::StoreHealth::Working).await.unwrap();
    };
    tokio::time::timeout(PATIENCE, working).await.expect("the store works again");
    // The first publish was in the log when the store failed; the second one came later and was never proposed.
    for (node, key) in [(leader, "on the leader"), (other, "through another node")] {
        let outcome = cluster.broker(node).publish("orders", envelope(key), Some(key)).await.unwrap();
        assert_eq!((outcome.duplicate, outcome.delivered), (false, Some(true)), "{key}");
    }
    let again =
        cluster.broker(other).publish("orders", envelope("on the leader"), Some("on the leader")).await.unwrap();
    assert_eq!((again.seq, again.duplicate, again.delivered), (0, true, Some(false)));
    cluster.broker(leader).publish("orders", envelope("end"), None).await.unwrap();
    assert_eq!(reader.await.unwrap(), ["on the leader", "through another node", "end"]);
    cluster.stop().await;
}
