//! What clients in any language rely on: the gRPC and HTTP faces of one real node, spoken to with the generated
//! client and plain HTTP only.

#![allow(missing_docs)]

mod audit;
mod certificates;
mod claims;
mod console;
mod consumers;
mod faces;
mod http;
mod listing;
mod metrics;
mod openapi;
mod payloads;
mod positions;
mod publishing;
mod quotas;
mod redrive;
mod rights;
mod security;
mod tls;
mod websocket;

use std::{sync::Arc, time::Duration};

use liminal::{
    config::ServerConfig,
    env::Env,
    model::{Frame, Limits},
    node::{Node, Storage},
    proto::v1::{self, broker_client::BrokerClient},
    raft::{
        Identity,
        log::{SimDisk, SimLog},
    },
    store::{DurableStore, MemoryStore},
};
use tonic::transport::Channel;

const PATIENCE: Duration = Duration::from_secs(60);

/// A node of a cluster of one, with a durable channel `orders`.
async fn node(limits: Limits) -> Node {
    node_over(limits, Arc::new(MemoryStore::new())).await
}

/// The same over a store of the test's choice.
async fn node_over(limits: Limits, store: Arc<dyn DurableStore>) -> Node {
    start(ServerConfig { limits, ..ServerConfig::default() }, store).await
}

/// The same of a configuration, but for its addresses.
async fn start(config: ServerConfig, store: Arc<dyn DurableStore>) -> Node {
    let config = ServerConfig {
        listen_address: "127.0.0.1:0".into(),
        health_listen_address: "127.0.0.1:0".into(),
        drain_timeout: PATIENCE,
        ..config
    };
    let env = Env::real();
    let log = Arc::new(SimLog::open(&SimDisk::default()));
    let storage = Storage::of(log, store, Identity::in_memory("n1", &env));
    let node = Node::start(config.with_channel("orders", true), env, storage).await.unwrap();
    let ready = async {
        while !node.unmet().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("the node is ready, and its channel created");
    node
}

async fn client(node: &Node) -> BrokerClient<Channel> {
    BrokerClient::connect(format!("http://{}", node.client_address())).await.unwrap()
}

fn batch(payloads: &[&str]) -> v1::PublishBatch {
    let message = |payload: &&str| v1::Message { payload: payload.to_string().into(), ..v1::Message::default() };
    let messages: Vec<v1::Message> = payloads.iter().map(message).collect();
    v1::PublishBatch {
        channel: "orders".into(),
        batch: Frame::encode(&messages).bytes(),
        confirm: 1,
        expected_seq: None,
    }
}
