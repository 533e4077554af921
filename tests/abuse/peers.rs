//! Strangers at the port for other nodes.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::future::join_all;
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::body::Body;

use super::{Behaved, PATIENCE, attack, eventually, evicted, held, limits, messages, node};

const STREAMS: usize = 30;
const BYTES: usize = 60 << 20;
const PART: usize = 256 << 10;
const UNAUTHENTICATED: &str = "16";

/// A message of [`BYTES`], and how much of it was asked for.
struct Large {
    left: usize,
    sent: Arc<AtomicUsize>,
}

impl hyper::body::Body for Large {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut part = vec![0; PART];
        if self.left == BYTES {
            part[1..5].copy_from_slice(&(BYTES as u32).to_be_bytes());
        }
        self.left = self.left.saturating_sub(PART);
        self.sent.fetch_add(PART, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(part.into()))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_without_the_secret_are_refused_before_their_messages_are_read() {
    let (node, peers) = node(limits()).await;
    let http = node.http_address();
    let behaved = Behaved::begin(&node, "peers", "unread_bytes").await;
    let (channel, sent) = (messages::channel(&peers).await, Arc::new(AtomicUsize::new(0)));
    let calls = (0..STREAMS).map(|_| {
        let body = Body::new(Large { left: BYTES, sent: sent.clone() });
        messages::call(channel.clone(), "/liminal.raft.v1.Peer/Calls", body)
    });
    let answers = tokio::time::timeout(PATIENCE, join_all(calls)).await.expect("all are answered or ended");
    let refused = |answer: &Result<String, String>| answer.as_ref().map_or(true, |status| status == UNAUTHENTICATED);
    assert!(answers.iter().all(refused), "{answers:?}");
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < STREAMS * BYTES / 10, "{sent} bytes were taken of {}", STREAMS * BYTES);
    assert!(behaved.end().await < 1 << 20);
    drop(channel);
    eventually("nothing is left", async || (held(http, "peers", "connections").await == 0).then_some(())).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_stranger_little_is_read_and_strangers_are_few_and_not_for_long() {
    let (node, peers) = node(limits()).await;
    let http = node.http_address();
    let behaved = Behaved::begin(&node, "peers", "connections").await;
    let strangers = join_all((0..200).map(|_| async {
        let mut stream = attack(&peers).await;
        let _ = stream.write_all(b"LIM2").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }));
    tokio::time::timeout(PATIENCE, strangers).await.expect("all are ended");
    assert!(behaved.end().await <= 64);
    let (room, time) = (evicted(http, "peers", "room").await, evicted(http, "peers", "first_request").await);
    assert!(room > 0 && time > 0, "{room} had to go for others, {time} were silent for too long");
    assert_eq!(held(http, "peers", "connections").await, 0);
    node.stop().await;
}
