//! Connections and streams that begin and never end.

use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use liminal::proto::v1::{self, broker_client::BrokerClient};
use tokio::time::sleep;

use super::Target;
use crate::raw::{connections, http, still_open};

/// How long the node may take to rid itself of them.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens connections that say this, keeps them open as long as the node does, and says how many there were.
async fn hold(address: &str, count: usize, said: Vec<u8>, target: &Target) -> String {
    let streams = connections(address, count, &said).await;
    sleep(target.time).await;
    let after = still_open(&streams);
    let mut left = after;
    let since = tokio::time::Instant::now();
    while left > 0 && since.elapsed() < PATIENCE {
        sleep(Duration::from_millis(200)).await;
        left = still_open(&streams);
    }
    let (health, _) = http(target.http(), "GET", "/health", "", b"").await;
    assert_eq!(health, 200, "/health answers whatever clients do");
    format!("{} of {count} were let in, {after} stayed for {} s, {left} for ever", streams.len(), target.time.as_secs())
}

pub async fn bodies(target: Target) -> String {
    let head = "POST /v1/channels/orders/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
    let said = [head.as_bytes(), &[b'1'; 900_000]].concat();
    hold(target.http(), 240, said, &target).await
}

pub async fn chunks(target: Target) -> String {
    let head = "POST /v1/channels/orders/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nf0000\r\n";
    let said = [head.as_bytes(), &[b'1'; 900_000]].concat();
    hold(target.http(), 240, said, &target).await
}

pub async fn fragments(target: Target) -> String {
    let head = format!(
        "GET /v1/ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        target.http()
    );
    // Text, not the last fragment; masked by zeros.
    let frame = [&[0x01, 0xff][..], &900_000_u64.to_be_bytes(), &[0; 4], &[b'x'; 900_000]].concat();
    hold(target.http(), 200, [head.as_bytes(), &frame].concat(), &target).await
}

pub async fn single_bytes(target: Target) -> String {
    let http = hold(target.http(), 256, b"G".to_vec(), &target);
    let grpc = hold(target.grpc(), 256, b"P".to_vec(), &target);
    let (http, grpc) = tokio::join!(http, grpc);
    format!("HTTP: {http}; gRPC: {grpc}")
}

pub async fn h2c(target: Target) -> String {
    let said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    hold(target.http(), 1, said, &target).await
}

pub async fn streams(target: Target) -> String {
    let broker = BrokerClient::connect(format!("http://{}", target.grpc())).await.unwrap();
    let opened = stream::iter(0..10_000).map(|_| {
        let mut broker = broker.clone();
        async move {
            let silent = stream::pending::<v1::PublishBatch>();
            tokio::time::timeout(Duration::from_secs(5), broker.publish_stream(silent)).await.ok()?.ok()
        }
    });
    let opened: Vec<_> = opened.buffer_unordered(512).collect().await;
    let open: Vec<_> = opened.into_iter().flatten().collect();
    sleep(target.time).await;
    format!("{} streams", open.len())
}
