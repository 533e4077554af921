//! A publish stream: one ack for each message in order, and an honest end.

use bytes::Bytes;
use liminal::{
    client::PublisherOptions,
    model::{ChannelUpdate, Limits, Quota},
    proto::v1,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{PATIENCE, batch, client, node};

/// Everything that a stream answers: its acks, and how it ended.
async fn answers(mut stream: Streaming<v1::PublishAcks>) -> (Vec<v1::PublishAck>, Option<Status>) {
    let mut acks = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(more)) => {
                assert_eq!(more.first, acks.len() as u64, "acks are in order");
                acks.extend(more.acks);
            }
            Ok(None) => return (acks, None),
            Err(status) => return (acks, Some(status)),
        }
    }
}

fn seqs(acks: &[v1::PublishAck]) -> Vec<u64> {
    acks.iter().map(|ack| ack.ok.as_ref().expect("accepted").seq).collect()
}

#[tokio::test]
async fn every_message_of_a_stream_gets_its_ack_in_order() {
    let node = node(Limits::default()).await;
    let mut missing = batch(&["x", "y"]);
    missing.channel = "nowhere".into();
    let batches = vec![batch(&["a", "b"]), missing, batch(&["c"])];
    let stream = client(&node).await.publish_stream(tokio_stream::iter(batches)).await.unwrap().into_inner();
    let (acks, end) = answers(stream).await;
    assert!(end.is_none());
    assert_eq!((seqs(&acks[..2]), seqs(&acks[4..])), (vec![0, 1], vec![2]));
    for refused in &acks[2..4] {
        assert_eq!(refused.error.as_ref().unwrap().code, "CHANNEL_NOT_FOUND");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_batch_that_cannot_be_read_ends_the_stream_after_the_acks_of_those_before_it() {
    let node = node(Limits::default()).await;
    let broken = v1::PublishBatch { batch: Bytes::from_static(b"\x0a\x7f"), ..batch(&[]) };
    let batches = vec![batch(&["a", "b"]), broken, batch(&["c"])];
    let stream = client(&node).await.publish_stream(tokio_stream::iter(batches)).await.unwrap().into_inner();
    let (acks, end) = answers(stream).await;
    assert_eq!(seqs(&acks), [0, 1]);
    let end = end.expect("an error");
    assert_eq!(end.code(), Code::InvalidArgument);
    assert_eq!(end.metadata().get("liminal-code").unwrap(), "INVALID_ARGUMENT");
    node.stop().await;
}

#[tokio::test]
async fn a_batch_over_the_size_limit_ends_the_stream_with_an_error_and_not_as_if_all_were_well() {
    let node = node(Limits { batch_bytes: 1000, message_bytes: 1000, ..Limits::default() }).await;
    let large = "x".repeat(3 << 20);
    let batches = vec![batch(&["a"]), batch(&[&large])];
    let stream = client(&node).await.publish_stream(tokio_stream::iter(batches)).await.unwrap().into_inner();
    let (acks, end) = answers(stream).await;
    assert_eq!(seqs(&acks), [0]);
    assert_eq!(end.expect("an error").code(), Code::OutOfRange);
    node.stop().await;
}

#[tokio::test]
async fn a_batch_with_more_messages_or_bytes_than_allowed_is_refused_message_by_message() {
    let node = node(Limits { batch_messages: 2, batch_bytes: 1000, ..Limits::default() }).await;
    let large = "x".repeat(600);
    let batches = vec![batch(&["a", "b", "c"]), batch(&[&large, &large]), batch(&["d"])];
    let stream = client(&node).await.publish_stream(tokio_stream::iter(batches)).await.unwrap().into_inner();
    let (acks, end) = answers(stream).await;
    assert!(end.is_none());
    for refused in &acks[..5] {
        assert_eq!(refused.error.as_ref().unwrap().code, "LIMIT_EXCEEDED");
    }
    assert_eq!(seqs(&acks[5..]), [0]);
    node.stop().await;
}

#[tokio::test]
async fn a_batch_of_very_many_messages_ends_the_stream_with_one_error() {
    let node = node(Limits { batch_messages: 2, ..Limits::default() }).await;
    // Two bytes each: to answer every one of them would cost many times as much.
    let empty =
        v1::PublishBatch { batch: Bytes::from(b"\x0a\x00".repeat(2 * Limits::REQUEST_BATCHES + 1)), ..batch(&[]) };
    let stream = client(&node).await.publish_stream(tokio_stream::iter(vec![batch(&["a"]), empty])).await.unwrap();
    let (acks, end) = answers(stream.into_inner()).await;
    assert_eq!(seqs(&acks), [0]);
    assert_eq!(end.expect("an error").metadata().get("liminal-code").unwrap(), "LIMIT_EXCEEDED");
    node.stop().await;
}

#[tokio::test]
async fn a_stream_larger_than_the_bytes_in_flight_is_slowed_down_and_not_refused() {
    let node = node(Limits { in_flight_bytes: 64 << 10, ..Limits::default() }).await;
    let payload = "x".repeat(10 << 10);
    let batches: Vec<_> = (0..200).map(|_| batch(&[&payload])).collect();
    let stream = client(&node).await.publish_stream(tokio_stream::iter(batches)).await.unwrap().into_inner();
    let (acks, end) = answers(stream).await;
    assert!(end.is_none());
    assert_eq!(seqs(&acks), (0..200).collect::<Vec<u64>>());
    assert_eq!(node.broker().stats().in_flight_bytes, 0);
    node.stop().await;
}

#[tokio::test]
async fn a_stopping_node_ends_open_streams_after_answering_and_does_not_wait_for_their_publishers() {
    let node = node(Limits::default()).await;
    let (batches, open) = mpsc::channel(8);
    batches.send(batch(&["a"])).await.unwrap();
    let mut stream = client(&node).await.publish_stream(ReceiverStream::new(open)).await.unwrap().into_inner();
    assert_eq!(seqs(&stream.message().await.unwrap().unwrap().acks), [0]);
    let stopped = tokio::spawn(node.stop());
    let end = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap_err();
    assert_eq!(end.metadata().get("liminal-code").unwrap(), "STOPPING");
    tokio::time::timeout(PATIENCE / 2, stopped).await.expect("it does not wait out its drain timeout").unwrap();
    drop(batches);
}

fn message(payload: &str) -> Option<v1::Message> {
    Some(v1::Message { payload: payload.to_owned().into(), ..v1::Message::default() })
}

#[tokio::test]
async fn a_stream_may_expect_where_the_channel_ends_batch_by_batch() {
    let node = node(Limits::default()).await;
    let expecting = |expected_seq| v1::PublishBatch { expected_seq: Some(expected_seq), ..batch(&["a", "b"]) };
    let batches = vec![expecting(0), expecting(0), expecting(2)];
    let stream = client(&node).await.publish_stream(tokio_stream::iter(batches)).await.unwrap().into_inner();
    let (acks, _) = answers(stream).await;
    assert_eq!((seqs(&acks[..2]), seqs(&acks[4..])), (vec![0, 1], vec![2, 3]));
    assert!(acks[2..4].iter().all(|ack| ack.error.as_ref().unwrap().code == "WRONG_SEQ"));
    node.stop().await;
}

#[tokio::test]
async fn a_transaction_is_answered_message_by_message_and_refused_with_the_code_of_what_is_wrong() {
    let node = node(Limits::default()).await;
    let one = |payload: &str, expected_seq| v1::TransactionMessage {
        channel: "orders".into(),
        message: message(payload),
        expected_seq,
    };
    let request = v1::PublishTransactionRequest {
        messages: vec![one("a", Some(0)), one("b", None)],
        confirm: 1,
        ..Default::default()
    };
    let mut client = client(&node).await;
    let answer = client.publish_transaction(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.results.iter().map(|result| result.seq).collect::<Vec<_>>(), [0, 1]);
    let error = client.publish_transaction(request).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert_eq!(error.metadata().get("liminal-code").unwrap(), "WRONG_SEQ");
    let empty = v1::TransactionMessage { channel: "orders".into(), message: None, expected_seq: None };
    let error =
        client.publish_transaction(v1::PublishTransactionRequest { messages: vec![empty], ..Default::default() }).await;
    assert_eq!(error.unwrap_err().code(), Code::InvalidArgument);
    node.stop().await;
}

#[tokio::test]
async fn a_scheduled_message_is_acknowledged_with_its_time() {
    let node = node(Limits::default()).await;
    let due = node.broker().now_ms() + 1_000_000;
    let message = v1::Message { deliver_at_ms: due, ..message("a").unwrap() };
    let request = v1::PublishRequest { channel: "orders".into(), message: Some(message), ..Default::default() };
    let answer = client(&node).await.publish(request).await.unwrap().into_inner();
    assert_eq!(answer.scheduled_ms, Some(due));
    node.stop().await;
}

#[tokio::test]
async fn an_empty_key_is_told_from_none_on_the_wire_and_refused() {
    let node = node(Limits::default()).await;
    let mut client = client(&node).await;
    let request = |key: Option<&str>| {
        let message = v1::Message { key: key.map(Into::into), ..message("a").unwrap() };
        v1::PublishRequest { channel: "orders".into(), message: Some(message), ..v1::PublishRequest::default() }
    };
    let error = client.publish(request(Some(""))).await.unwrap_err();
    assert_eq!(error.metadata().get("liminal-code").unwrap(), "INVALID_ARGUMENT");
    assert_eq!(client.publish(request(None)).await.unwrap().into_inner().seq, 0);
    node.stop().await;
}

#[tokio::test]
async fn requests_on_one_connection_are_bounded_and_a_key_on_one_is_refused() {
    let node = node(Limits { requests_per_connection: 0, ..Limits::default() }).await;
    let mut client = client(&node).await;
    let request = v1::RequestRequest { channel: "orders".into(), message: message("a"), timeout_ms: 1000 };
    let error = client.request(request).await.unwrap_err();
    assert_eq!(error.metadata().get("liminal-code").unwrap(), "LIMIT_EXCEEDED");
    let keyed = v1::Message { key: Some("k".into()), ..message("a").unwrap() };
    let error = client.reply(v1::ReplyRequest { inbox: "1.2".into(), message: Some(keyed) }).await.unwrap_err();
    assert_eq!(error.metadata().get("liminal-code").unwrap(), "INVALID_ARGUMENT");
    node.stop().await;
}

#[tokio::test]
async fn all_streams_of_a_connection_share_what_it_may_have_in_flight() {
    let node = node(Limits { connection_in_flight_bytes: 16 << 10, ..Limits::default() }).await;
    let payload = "x".repeat(10 << 10);
    let client = client(&node).await;
    let streams = (0..3).map(|_| {
        let mut client = client.clone();
        let batches: Vec<_> = (0..20).map(|_| batch(&[&payload])).collect();
        async move { answers(client.publish_stream(tokio_stream::iter(batches)).await.unwrap().into_inner()).await }
    });
    for (acks, end) in futures::future::join_all(streams).await {
        assert!(end.is_none());
        assert_eq!(seqs(&acks).len(), 20);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_publisher_above_the_rate_of_a_connection_is_deferred_and_another_connection_is_not() {
    let limits = Limits { publisher_messages_per_second: Some(1), ..Limits::default() };
    let node = node(limits).await;
    let request = || v1::PublishRequest {
        channel: "orders".into(),
        message: Some(v1::Message::default()),
        confirm: 1,
        ..v1::PublishRequest::default()
    };
    let mut first = client(&node).await;
    first.publish(request()).await.unwrap();
    let status = first.publish(request()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.metadata().get("liminal-code").unwrap(), "QUOTA_EXCEEDED");
    assert_eq!(status.metadata().get("liminal-admission").unwrap(), "defer");
    let stream = first.publish_stream(tokio_stream::iter([batch(&["a"])])).await.unwrap().into_inner();
    let (acks, _) = answers(stream).await;
    let error = acks[0].error.as_ref().unwrap();
    assert_eq!((error.code.as_str(), error.admission()), ("QUOTA_EXCEEDED", v1::Admission::Defer));
    assert!((1..=1000).contains(&error.retry_after_ms) && !error.unknown_outcome, "{error:?}");
    client(&node).await.publish(request()).await.unwrap();
    assert_eq!(node.broker().stats().failed["QUOTA_EXCEEDED"], 2);
    node.stop().await;
}

#[tokio::test]
async fn the_client_of_the_library_waits_when_it_is_deferred_and_loses_and_repeats_nothing() {
    let node = node(Limits::default()).await;
    let quota = Quota { messages_per_second: Some(50), bytes_per_second: None };
    let update = ChannelUpdate { quota: Some(quota), ..ChannelUpdate::default() };
    node.broker().update_channel("orders", update).await.unwrap();
    let client = liminal::client::Client::connect([node.client_address()]).await.unwrap();
    let options = PublisherOptions { batch_messages: 10, ..PublisherOptions::default() };
    let publisher = client.publisher("orders", options);
    let mut acks = Vec::new();
    for number in 0..80u64 {
        acks.push(publisher.enqueue(liminal::client::Message::new(number.to_string())).await.unwrap());
    }
    let mut seqs = Vec::new();
    for ack in acks {
        seqs.push(ack.await.unwrap().seq);
    }
    // A batch that was deferred comes after those that were under way with it.
    seqs.sort_unstable();
    assert_eq!(seqs, (0..80).collect::<Vec<u64>>());
    client.publish("orders", liminal::client::Message::new("last")).await.unwrap();
    assert!(node.broker().stats().failed["QUOTA_EXCEEDED"] > 0, "it was deferred");
    node.stop().await;
}
