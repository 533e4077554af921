//! Messages over WebSockets.

use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Behaved, attack, eventually, evicted, held, limits, node};

const SOCKETS: usize = 200;

/// Opens a WebSocket by hand.
async fn open(address: &str) -> TcpStream {
    let mut stream = attack(address).await;
    let head = format!(
        "GET /v1/ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// A fragment of a text, of which more is to come, masked with zeros.
fn fragment(length: usize) -> Vec<u8> {
    let mut bytes = vec![0x01, 0x80 | 127];
    bytes.extend((length as u64).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.resize(bytes.len() + length, b'7');
    bytes
}

async fn unfinished(address: &str) {
    let mut stream = open(address).await;
    // It is ended before all is taken, or waits until it is.
    let _ = stream.write_all(&fragment(1 << 20)).await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments_that_never_end_hold_no_more_than_an_address_may_and_are_ended() {
    let (node, _) = node(limits()).await;
    let http = node.http_address();
    let behaved = Behaved::begin(&node, "http", "unread_bytes").await;
    let ended = join_all((0..SOCKETS).map(|_| unfinished(http)));
    tokio::time::timeout(super::PATIENCE, ended).await.expect("all are ended");
    assert_eq!(evicted(http, "http", "slow").await, SOCKETS as u64);
    let most = behaved.end().await;
    let own = SOCKETS as u64 * (32 << 10); // of each connection, and what it reads at once
    assert!(most > 0 && most <= (4 << 20) + own, "an address has half of 8 MiB, and each connection a little: {most}");
    eventually("nothing is left", async || (held(http, "http", "unread_bytes").await < 1024).then_some(())).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_says_nothing_stays() {
    let (node, _) = node(limits()).await;
    let mut stream = open(node.http_address()).await;
    tokio::time::sleep(4 * limits().slow_after).await;
    stream.write_all(&[0x81, 0x80 | 2, 0, 0, 0, 0, b'{', b'}']).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), 0x81, "it is told what is wrong with its text");
    drop(stream);
    node.stop().await;
}
