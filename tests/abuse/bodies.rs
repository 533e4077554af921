//! Bodies over HTTP.

use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{ATTACKER, Behaved, attack, eventually, held, limits, node, refused};

const BODIES: usize = 240;

/// Begins a body and never ends it; the status of the answer.
async fn unfinished(address: &str, framing: &str, begun: &[u8]) -> u16 {
    let mut stream = attack(address).await;
    let head = format!("POST /v1/channels/orders/messages HTTP/1.1\r\nHost: {address}\r\n{framing}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // It may be refused meanwhile.
    let _ = stream.write_all(begun).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await; // what was not read of the body resets it
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer from {address} to {ATTACKER}"));
    status.parse().unwrap()
}

async fn attacked(framing: &str, begun: &[u8]) {
    let (node, _) = node(limits()).await;
    let http = node.http_address();
    let behaved = Behaved::begin(&node, "http", "arriving_bytes").await;
    let answers = join_all((0..BODIES).map(|_| unfinished(http, framing, begun)));
    let answers = tokio::time::timeout(super::PATIENCE, answers).await.expect("all are answered");
    assert!(answers.iter().all(|status| [408, 429].contains(status)), "{answers:?}");
    let slow = answers.iter().filter(|status| **status == 408).count();
    assert!(slow > 0 && slow < BODIES, "some found room and were too slow, the others found none: {answers:?}");
    assert!(refused(http, "http", "arriving_bytes", "address").await > 0);
    let most = behaved.end().await;
    assert!(most > 0 && most <= 8 << 20, "an address has half of it: {most}");
    eventually("nothing is left", async || {
        let left = held(http, "http", "arriving_bytes").await + held(http, "http", "unread_bytes").await;
        (left < 1024).then_some(()) // the question itself
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_a_known_length_that_never_end_hold_no_more_than_an_address_may() {
    attacked("Content-Length: 1000000", &[b'7'; 100_000]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_in_chunks_that_never_end_hold_no_more_than_an_address_may() {
    let chunk = [b"7a120\r\n".as_slice(), &[b'7'; 500_000], b"\r\n"].concat();
    attacked("Transfer-Encoding: chunked", &chunk).await;
}
