//! File descriptors.

use std::time::Duration;

use tokio::net::TcpStream;

use super::{
    eventually, held,
    support::processes::{Node, Processes},
    wire,
};

/// What the node may have.
const DESCRIPTORS: u32 = 512;
/// Of each kind.
const IDLE: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_idle_connections_leaves_descriptors_for_log_store_and_health() {
    let mut processes = Processes::prepared(1, Duration::from_secs(1), "expect = 1\n");
    processes.differ(0, Node { descriptors: Some(DESCRIPTORS), ..Node::default() });
    processes.run(0);
    processes.ready().await;
    let client = processes.client().await;
    eventually("the channel is created", async || client.channel("orders").await.ok()).await;
    let mut idle = Vec::new();
    for address in [&processes.clients[0], &processes.http[0], &processes.peers[0]] {
        for _ in 0..IDLE {
            // Whoever is refused is closed, which nobody sees here.
            idle.extend(TcpStream::connect(address.as_str()).await);
        }
    }
    let http = processes.http[0].clone();
    for number in 0..100 {
        let message = liminal::client::Message::new(format!("{number}"));
        client.publish("orders", message).await.unwrap();
    }
    assert_eq!(wire::http_status(&http, "/health").await, Some(200));
    assert_eq!(wire::http_status(&http, "/ready").await, Some(200));
    let mut open = 0;
    for face in ["grpc", "http", "peers"] {
        open += held(&http, face, "connections").await;
    }
    assert!(open <= u64::from(DESCRIPTORS) - 200, "{open} connections are open");
    let log = processes.log(0);
    assert!(log.contains("the limit of file descriptors allows fewer connections"), "{log}");
    assert!(!log.contains("Too many open files"), "{log}");
    drop(idle);
}
