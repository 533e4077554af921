//! Connections that ask for nothing, or for ever.

use std::time::Duration;

use futures::future::join_all;
use liminal::model::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Behaved, attack, eventually, evicted, held, limits, node, wire};

/// As many as one address may have.
const CONNECTIONS: usize = 256;

/// The status of a GET from the attacker's address.
async fn get(address: &str, path: &str) -> u16 {
    let mut stream = attack(address).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_send_one_byte_lock_nobody_out_and_are_ended() {
    let (node, _) = node(limits()).await;
    let http = node.http_address();
    let behaved = Behaved::begin(&node, "http", "connections").await;
    let mut open = join_all((0..CONNECTIONS).map(|_| attack(http))).await;
    for stream in &mut open {
        stream.write_all(b"G").await.unwrap();
    }
    assert_eq!(get(http, "/health").await, 200, "from the same address");
    assert_eq!(get(http, "/v1/channels").await, 200, "from the same address");
    let ended = join_all(open.iter_mut().map(|stream| stream.read_u8()));
    let ended = tokio::time::timeout(super::PATIENCE, ended).await.expect("all are ended");
    assert!(ended.iter().all(Result::is_err));
    assert!(evicted(http, "http", "first_request").await > 0);
    assert!(evicted(http, "http", "room").await > 0, "somebody had to go for those who asked for something");
    assert!(behaved.end().await <= CONNECTIONS as u64 + 20, "and the other address's");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_address_is_served_on_all_its_connections_it_still_gets_health_and_others_get_all() {
    let limits = Limits { connections_per_address: 32, ..limits() };
    let (node, _) = node(limits).await;
    let http = node.http_address();
    let behaved = Behaved::begin(&node, "http", "connections").await;
    let mut open = join_all((0..32).map(|_| attack(http))).await;
    for stream in &mut open {
        let request = format!("GET /v1/channels/orders/events HTTP/1.1\r\nHost: {http}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'H');
    }
    assert_eq!((get(http, "/health").await, get(http, "/ready").await), (200, 200));
    assert_eq!(get(http, "/v1/channels").await, 503, "there is a place for monitoring only");
    assert_eq!(wire::http_status(http, "/v1/channels").await, Some(200));
    behaved.end().await;
    drop(open);
    eventually("all are closed", async || (held(http, "http", "connections").await <= 2).then_some(())).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_end_and_a_connection_that_is_not_used_are_ended() {
    let (node, _) = node(Limits { idle_timeout: Duration::from_millis(1500), ..limits() }).await;
    let http = node.http_address();
    let mut half = attack(http).await;
    let request = format!("GET /health HTTP/1.1\r\nHost: {http}\r\n\r\nGET /health HTTP/1.1\r\n");
    half.write_all(request.as_bytes()).await.unwrap();
    let mut idle = attack(http).await;
    idle.write_all(format!("GET /health HTTP/1.1\r\nHost: {http}\r\n\r\n").as_bytes()).await.unwrap();
    for stream in [&mut half, &mut idle] {
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(super::PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is ended");
        assert!(answer.starts_with(b"HTTP/1.1 200"), "the first request was answered");
    }
    let ended = evicted(http, "http", "slow").await + evicted(http, "http", "idle").await;
    assert_eq!(ended, 2);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_for_http_speaks_http_1_only() {
    let (node, _) = node(limits()).await;
    let mut stream = attack(node.http_address()).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(super::PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is ended");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    node.stop().await;
}
