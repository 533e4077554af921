//! Messages over gRPC.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{channel::oneshot, future::join_all};
use hyper::body::{Body as _, Frame};
use liminal::model::Limits;
use tonic::{
    body::Body,
    codegen::http,
    transport::{Channel, Endpoint},
};
use tower::Service as _;

use super::{Behaved, PATIENCE, eventually, held, limits, node};

const MESSAGES: usize = 200;
/// `grpc-status` of what finds no room, and of what did not come in time.
const REFUSED: [&str; 2] = ["8", "4"];

/// Sends a part, and then nothing for ever.
pub struct Unfinished(pub Option<Bytes>);

impl hyper::body::Body for Unfinished {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.take().map_or(Poll::Pending, |part| Poll::Ready(Some(Ok(Frame::data(part)))))
    }
}

pub async fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

pub async fn call(mut channel: Channel, path: &str, body: Body) -> Result<String, String> {
    let request = http::Request::post(format!("http://node{path}")).header("content-type", "application/grpc");
    poll_fn(|cx| channel.poll_ready(cx)).await.map_err(|error| error.to_string())?;
    let answer = channel.call(request.body(body).unwrap()).await.map_err(|error| error.to_string())?;
    let status = |headers: &http::HeaderMap| Some(headers.get("grpc-status")?.to_str().unwrap().to_owned());
    if let Some(status) = status(answer.headers()) {
        return Ok(status);
    }
    let mut body = answer.into_body();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| error.to_string())?;
        if let Some(status) = frame.trailers_ref().and_then(status) {
            return Ok(status);
        }
    }
    Err("the answer has no status".into())
}

/// A message of which the first part comes.
fn begun(length: u32, part: usize) -> Bytes {
    [&[0][..], &length.to_be_bytes(), &vec![7; part]].concat().into()
}

async fn attacked(path: &str) {
    let (node, _) = node(limits()).await;
    let http = node.http_address();
    let behaved = Behaved::begin(&node, "grpc", "arriving_bytes").await;
    let channel = channel(node.client_address()).await;
    let calls = (0..MESSAGES).map(|_| {
        let body = Body::new(Unfinished(Some(begun(1 << 20, 100_000))));
        call(channel.clone(), path, body)
    });
    let answers = tokio::time::timeout(PATIENCE, join_all(calls)).await.expect("all are answered");
    for answer in &answers {
        let status = answer.as_ref().expect("the connection stays");
        assert!(REFUSED.contains(&status.as_str()), "{answers:?}");
    }
    let slow = answers.iter().filter(|answer| **answer == Ok("4".into())).count();
    assert!(slow > 0 && slow < MESSAGES, "some found room and were too slow, the others found none: {answers:?}");
    let most = behaved.end().await;
    assert!(most > 0 && most <= (4 << 20) + 1024, "a connection has 4 MiB, and the other one has little: {most}");
    drop(channel);
    eventually("nothing is left", async || {
        let mut left = 0;
        for what in ["arriving_bytes", "unread_bytes", "streams", "connections"] {
            left += held(http, "grpc", what).await;
        }
        (left == 0).then_some(())
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_streams_that_never_end_hold_no_more_than_a_connection_may() {
    attacked("/liminal.v1.Broker/PublishStream").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_would_become_hundreds_of_times_its_bytes_is_refused_before_it_is_decoded() {
    let (node, _) = node(limits()).await;
    let behaved = Behaved::begin(&node, "grpc", "arriving_bytes").await;
    let channel = channel(node.client_address()).await;
    // Messages of a transaction, settlements: of two bytes each.
    for (path, tag) in [("/liminal.v1.Broker/PublishTransaction", 0x0a), ("/liminal.v1.Consumers/Settle", 0x1a)] {
        let empties = [tag, 0].repeat(500_000);
        let message: Bytes = [&[0][..], &(empties.len() as u32).to_be_bytes(), &empties].concat().into();
        let status = call(channel.clone(), path, Body::new(Unfinished(Some(message)))).await;
        assert_eq!(status, Ok("3".into()), "{path}");
        assert!(super::refused(node.http_address(), "grpc", "arriving_bytes", "decoded").await > 0);
    }
    behaved.end().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_calls_that_never_end_hold_no_more_than_a_connection_may() {
    attacked("/liminal.v1.Broker/Publish").await;
}

/// Says nothing until the other end of it is dropped.
struct Silent(oneshot::Receiver<()>);

impl hyper::body::Body for Silent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll(cx).map(|_| None)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_that_says_nothing_stays_and_no_more_of_them_than_the_limits_allow() {
    let limits = Limits { streams_per_connection: 64, streams: 100, ..limits() };
    let (node, _) = node(limits).await;
    let http = node.http_address();
    let open = async |count: usize| {
        let channel = channel(node.client_address()).await;
        let begin = || {
            let (end, silent) = oneshot::channel();
            let call = call(channel.clone(), "/liminal.v1.Broker/PublishStream", Body::new(Silent(silent)));
            (end, tokio::spawn(call))
        };
        (0..count).map(|_| begin()).unzip::<_, _, Vec<_>, Vec<_>>()
    };
    let (first_ends, first) = open(40).await;
    eventually("they are open", async || (held(http, "grpc", "streams").await == 40).then_some(())).await;
    let (second_ends, second) = open(40).await;
    let refused = async || super::refused(http, "grpc", "streams", "address").await;
    eventually("an address has half of them", async || (refused().await == 30).then_some(())).await;
    tokio::time::sleep(3 * Duration::from_millis(500)).await; // no clock of a message runs
    assert_eq!(held(http, "grpc", "streams").await, 50);
    assert!(first.iter().all(|call| !call.is_finished()));
    drop((first_ends, second_ends));
    let statuses = join_all(first.into_iter().chain(second)).await;
    let ended = |status: &str| statuses.iter().filter(|ended| ended.as_ref().unwrap() == &Ok(status.into())).count();
    assert_eq!((ended("0"), ended("8")), (50, 30), "{statuses:?}");
    eventually("they are closed", async || (held(http, "grpc", "streams").await == 0).then_some(())).await;
    node.stop().await;
}
