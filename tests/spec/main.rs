//! What a broker promises, shown on one embedded node.

#![allow(missing_docs)]

mod claims;
mod compaction;
mod consumers;
mod delivered;
mod filters;
mod keys;
mod pages;
mod positions;
mod publishing;
mod quarantine;
mod reclaim;
mod redrive;
mod retention;
mod rules;
mod together;

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use liminal::{
    broker::{Broker, BrokerError, Consistency, Envelope, Start, Subscription},
    config::ServerConfig,
    model::{ChannelConfig, ChannelUpdate, Compatibility, ConsumerConfig},
    proto::v1::Message,
    store::{DurableStore, FaultyStore, HaematiteConfig, HaematiteStore, MemoryStore},
};
use prost::Message as _;

fn config() -> ServerConfig {
    ServerConfig::default().with_channel("orders", true).with_channel("ticks", false)
}

async fn broker(store: Arc<dyn DurableStore>) -> Broker {
    Broker::embedded(&config(), store).await.unwrap()
}

fn envelope(payload: &str) -> Envelope {
    Envelope { payload: Bytes::from(payload.to_owned()), ..Envelope::default() }
}

fn received(subscription: &mut Subscription) -> Vec<String> {
    let mut all = Vec::new();
    while let Some((_, message)) = subscription.try_next().unwrap() {
        all.push(String::from_utf8(message.payload.to_vec()).unwrap());
    }
    all
}

#[tokio::test]
async fn durable_messages_can_be_read_back_from_the_store_after_a_flush_and_by_fresh_services() {
    let store: Arc<dyn DurableStore> = Arc::new(MemoryStore::new());
    let first = broker(store.clone()).await;
    first.publish("orders", envelope("a"), Some("k")).await.unwrap();
    first.publish("orders", envelope("b"), None).await.unwrap();
    first.flush().await.unwrap();
    first.stop().await;
    let stored = store.read_from("orders:0", 0, 10).await.unwrap();
    let payloads: Vec<Bytes> =
        stored.iter().map(|entry| Message::decode(entry.payload.clone()).unwrap().payload).collect();
    assert_eq!(payloads, ["a", "b"]);
    let second = broker(store).await;
    let again = second.publish("orders", envelope("a"), Some("k")).await.unwrap();
    assert!(again.duplicate && again.seq == 0);
    assert_eq!(second.publish("orders", envelope("c"), None).await.unwrap().seq, 2);
}

#[tokio::test]
async fn an_embedded_broker_over_a_store_on_disk_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let store = HaematiteStore::open(dir.path(), HaematiteConfig::default()).unwrap();
        let broker = broker(Arc::new(store)).await;
        let outcome = broker.publish("orders", envelope("a"), Some(&format!("k{round}"))).await.unwrap();
        assert_eq!(outcome.seq, round);
        let first = broker.publish("orders", envelope("a"), Some("k0")).await.unwrap();
        assert_eq!((first.seq, first.duplicate), (0, true));
        broker.flush().await.unwrap();
        broker.stop().await;
        broker.store().close().await.unwrap();
    }
}

#[tokio::test]
async fn a_fresh_key_is_delivered_once_and_a_repeated_one_not_at_all() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    let mut subscription = broker.subscribe("orders", Start::Latest).await.unwrap();
    let reader = tokio::spawn(async move {
        let mut got = Vec::new();
        while got.len() < 2 {
            let batch = subscription.next().await.unwrap();
            got.extend(batch.frame.messages().map(|message| message.unwrap().payload));
        }
        (got, subscription)
    });
    assert_eq!(broker.publish("orders", envelope("a"), Some("1")).await.unwrap().delivered, Some(true));
    let again = broker.publish("orders", envelope("a"), Some("1")).await.unwrap();
    assert_eq!((again.seq, again.duplicate, again.delivered), (0, true, Some(false)));
    assert_eq!(broker.publish("orders", envelope("b"), Some("2")).await.unwrap().delivered, Some(true));
    let (got, mut subscription) = reader.await.unwrap();
    assert_eq!(got, ["a", "b"]);
    assert!(received(&mut subscription).is_empty());
}

#[tokio::test]
async fn without_a_subscriber_a_publish_succeeds_and_is_not_delivered() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    let outcome = broker.publish("orders", envelope("a"), None).await.unwrap();
    assert_eq!((outcome.seq, outcome.delivered), (0, Some(false)));
}

#[tokio::test]
async fn a_refused_append_is_an_error_and_the_message_is_stored_once_when_the_store_works_again() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let broker = broker(store.clone()).await;
    let mut subscription = broker.subscribe("orders", Start::Latest).await.unwrap();
    store.fail_commits(true);
    store.fail_removes(true);
    let error = broker.publish("orders", envelope("a"), Some("k")).await.unwrap_err();
    assert!(matches!(error, BrokerError::StoreFailed { .. }), "{error:?}");
    store.fail_commits(false);
    let received_first = tokio::spawn(async move { (subscription.next().await.unwrap().frame.count(), subscription) });
    let retried = loop {
        match broker.publish("orders", envelope("a"), Some("k")).await {
            Ok(outcome) => break outcome,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!((retried.seq, retried.duplicate, retried.delivered), (0, false, Some(true)));
    let (count, mut subscription) = received_first.await.unwrap();
    assert_eq!(count, 1);
    assert!(received(&mut subscription).is_empty());
    assert_eq!(store.read_from("orders:0", 0, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_with_another_payload_is_refused_and_named() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    broker.publish("orders", envelope("a"), Some("k")).await.unwrap();
    let error = broker.publish("orders", envelope("b"), Some("k")).await.unwrap_err();
    assert_eq!(error, BrokerError::KeyConflict { channel: "orders".into(), key: "k".into(), seq: 0 });
}

#[tokio::test]
async fn a_subscription_begins_where_it_is_told_to() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    for payload in ["a", "b", "c"] {
        broker.publish("orders", envelope(payload), None).await.unwrap();
    }
    for (start, first) in
        [(Start::Earliest, 0), (Start::Seq(1), 1), (Start::Time(UNIX_EPOCH + Duration::from_millis(1)), 0)]
    {
        let mut subscription = broker.subscribe("orders", start).await.unwrap();
        assert_eq!(subscription.next().await.unwrap().first_seq, first);
    }
    assert_eq!(broker.subscribe("orders", Start::Latest).await.unwrap().position(), 3);
}

#[tokio::test]
async fn a_slow_subscriber_reads_from_the_store_without_a_gap() {
    let mut config = config();
    config.limits.subscriber_bytes = 100;
    let broker = Broker::embedded(&config, Arc::new(MemoryStore::new())).await.unwrap();
    let mut subscription = broker.subscribe("orders", Start::Earliest).await.unwrap();
    broker.subscribe("orders", Start::Earliest).await.unwrap();
    for number in 0..200u64 {
        let frame =
            liminal::model::Frame::encode(&[Message { payload: number.to_string().into(), ..Message::default() }]);
        let confirm = liminal::broker::Confirm::Commit;
        broker.publish_frame("orders", frame, confirm).await.remove(0).unwrap();
    }
    let mut next = 0;
    while next < 200 {
        let batch = subscription.next().await.unwrap();
        assert_eq!(batch.first_seq, next);
        next = batch.end_seq();
    }
}

#[tokio::test]
async fn an_ephemeral_channel_delivers_but_stores_nothing() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    let mut subscription = broker.subscribe("ticks", Start::Latest).await.unwrap();
    let frame = liminal::model::Frame::encode(&[Message { payload: Bytes::from("tick"), ..Message::default() }]);
    broker.publish_frame("ticks", frame, liminal::broker::Confirm::Commit).await.remove(0).unwrap();
    assert_eq!(received(&mut subscription), ["tick"]);
    assert!(broker.store().read_from("ticks:0", 0, 9).await.unwrap().is_empty());
    let error = broker.read("ticks", Start::Earliest, 0, Consistency::Linearizable, None).await.unwrap_err();
    assert_eq!(error, BrokerError::NotStored { channel: "ticks".into() });
}

#[tokio::test]
async fn a_payload_that_breaks_the_schema_is_refused_with_its_pointer_and_not_stored() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    let config = ChannelConfig { schema: Some(r#"{"required":["id"]}"#.into()), ..ChannelConfig::default() };
    broker.create_channel("checked", config).await.unwrap();
    let Err(BrokerError::SchemaViolation { violations, .. }) = broker.publish("checked", envelope("{}"), None).await
    else {
        panic!("the payload was taken");
    };
    assert_eq!(violations[0].pointer, "/id");
    assert_eq!(broker.publish("checked", envelope(r#"{"id":1}"#), None).await.unwrap().seq, 0);
}

#[tokio::test]
async fn a_schema_that_would_break_readers_of_history_is_refused_unless_nothing_is_asked_for() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    let schema = |text: &str| Some(text.to_owned());
    let update = |schema, mode| {
        let update = ChannelUpdate { schema, compatibility: Some(mode), ..ChannelUpdate::default() };
        broker.update_channel("orders", update)
    };
    // A first schema has nothing to be compared with.
    update(schema(r#"{"type":"number"}"#), Compatibility::Backward).await.unwrap();
    let narrower = r#"{"type":"integer"}"#;
    let Err(BrokerError::SchemaIncompatible { channel, reasons }) =
        update(schema(narrower), Compatibility::Backward).await
    else {
        panic!("the schema was taken");
    };
    assert_eq!((channel.as_str(), reasons[0].pointer.as_str()), ("orders", "/type"));
    let (unchanged, foreseen) =
        broker.try_update_channel("orders", Some(narrower), Some(Compatibility::Backward)).await.unwrap();
    assert_eq!((unchanged.meta.schema_id, foreseen), (1, reasons));
    let changed = update(schema(narrower), Compatibility::None).await.unwrap();
    assert_eq!(changed.meta.schema_id, 2);
    update(schema(r#"{"type":"number"}"#), Compatibility::Backward).await.unwrap();
    update(schema(""), Compatibility::Backward).await.unwrap();
}

#[tokio::test]
async fn history_is_checked_against_a_schema_that_the_channel_does_not_have() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    for number in 0..50 {
        let payload = if number % 2 == 0 { format!(r#"{{"id":{number}}}"#) } else { r#"{"id":"x"}"#.to_owned() };
        broker.publish("orders", envelope(&payload), None).await.unwrap();
    }
    let schema = r#"{"properties":{"id":{"type":"integer"}}}"#;
    let validate = |from, limit| broker.validate_history("orders", schema, from, limit);
    let report = validate(Start::Earliest, 0).await.unwrap();
    assert_eq!((report.checked, report.invalid), (50, 25));
    assert_eq!((report.first_seq, report.next_seq, report.end_seq), (0, 50, 50));
    assert_eq!(report.samples.len(), 20, "samples are bounded");
    assert_eq!((report.samples[0].0, report.samples[0].1[0].pointer.as_str()), (1, "/id"));
    let part = validate(Start::Seq(10), 3).await.unwrap();
    assert_eq!((part.checked, part.invalid, part.first_seq, part.next_seq), (3, 1, 10, 13));
    assert_eq!(validate(Start::Latest, 0).await.unwrap().checked, 0);
    let error = broker.validate_history("ticks", schema, Start::Earliest, 0).await.unwrap_err();
    assert_eq!(error, BrokerError::NotStored { channel: "ticks".into() });
    let error = broker.validate_history("orders", r#"{"type":7}"#, Start::Earliest, 0).await.unwrap_err();
    assert!(matches!(error, BrokerError::InvalidSchema { .. }), "{error}");
    assert_eq!(broker.channel("orders").await.unwrap().meta.schema_id, 0, "nothing changed");
}

#[tokio::test]
async fn refusals_by_the_schema_are_counted_for_each_channel_that_exists() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    let config = ChannelConfig { schema: Some(r#"{"type":"integer"}"#.into()), ..ChannelConfig::default() };
    for name in ["one", "two"] {
        broker.create_channel(name, config.clone()).await.unwrap();
    }
    for (channel, payload) in [("one", "x"), ("one", "null"), ("one", "1"), ("two", "null"), ("orders", "x")] {
        let _ = broker.publish(channel, envelope(payload), None).await;
    }
    let expected = [("one".to_owned(), 2), ("two".to_owned(), 1)];
    assert_eq!(broker.stats().rejected.into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(broker.channel("one").await.unwrap().rejected, 2);
    broker.delete_channel("one").await.unwrap();
    broker.create_channel("one", config).await.unwrap();
    assert_eq!(broker.channel("one").await.unwrap().rejected, 0, "another channel of the same name");
}

#[tokio::test]
async fn an_unknown_channel_is_named_with_one_that_is_like_it() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    let error = broker.publish("ordres", envelope("a"), None).await.unwrap_err();
    assert_eq!(error, BrokerError::ChannelNotFound { name: "ordres".into(), similar: Some("orders".into()) });
}

#[tokio::test]
async fn a_bad_message_fails_alone() {
    let mut config = config();
    config.limits.message_bytes = 3;
    let broker = Broker::embedded(&config, Arc::new(MemoryStore::new())).await.unwrap();
    let messages = ["a", "too long", "b"].map(|payload| Message { payload: payload.into(), ..Message::default() });
    let frame = liminal::model::Frame::encode(&messages);
    let results = broker.publish_frame("orders", frame, liminal::broker::Confirm::Commit).await;
    assert_eq!(results[0].as_ref().unwrap().seq, 0);
    assert!(matches!(results[1], Err(BrokerError::LimitExceeded { value: 8, limit: 3, .. })));
    assert_eq!(results[2].as_ref().unwrap().seq, 1);
}

#[tokio::test]
async fn publishes_of_one_key_at_the_same_time_get_one_outcome_and_store_one_message() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    let mut subscription = broker.subscribe("orders", Start::Latest).await.unwrap();
    let publish = || broker.publish("orders", envelope("a"), Some("k"));
    let conflict = broker.publish("orders", envelope("b"), Some("k"));
    let receive = async { subscription.next().await.unwrap().frame.count() };
    let (first, second, third, conflict, count) = tokio::join!(publish(), publish(), publish(), conflict, receive);
    let first = first.unwrap();
    assert_eq!((first.seq, first.duplicate, first.delivered, count), (0, false, Some(true), 1));
    assert_eq!((second.unwrap(), third.unwrap()), (first, first));
    assert!(matches!(conflict, Err(BrokerError::KeyConflict { seq: 0, .. })), "{conflict:?}");
    assert!(received(&mut subscription).is_empty());
    let later = broker.publish("orders", envelope("a"), Some("k")).await.unwrap();
    assert!(later.duplicate, "a retry after the answer is a duplicate");
}

#[tokio::test]
async fn a_broker_that_is_dropped_ends_and_gives_its_store_back() {
    let store = Arc::new(MemoryStore::new());
    let weak = Arc::downgrade(&store);
    let first = broker(store).await;
    first.publish("orders", envelope("a"), None).await.unwrap();
    let second = first.clone();
    drop(first);
    second.create_consumer("orders", "w", ConsumerConfig::default(), Start::Earliest).await.unwrap();
    let mut member = second.join_consumer("orders", "w", 1).await.unwrap();
    drop(second);
    assert_eq!(member.next().await.unwrap()[0].token.seq, 0, "what came of it keeps it");
    drop(member);
    let gone = async {
        while weak.strong_count() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone).await.expect("nothing holds the store");
}

#[test]
fn a_member_of_a_consumer_may_be_dropped_by_a_thread_that_serves_no_tasks() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (broker, member) = runtime.block_on(async {
        let broker = broker(Arc::new(MemoryStore::new())).await;
        broker.publish("orders", envelope("a"), None).await.unwrap();
        broker.create_consumer("orders", "w", ConsumerConfig::default(), Start::Earliest).await.unwrap();
        let mut member = broker.join_consumer("orders", "w", 1).await.unwrap();
        assert_eq!(member.next().await.unwrap().len(), 1);
        (broker, member)
    });
    drop(member);
    let again = runtime.block_on(async {
        let mut other = broker.join_consumer("orders", "w", 1).await.unwrap();
        other.next().await.unwrap()[0].token.seq
    });
    assert_eq!(again, 0, "what it had was given back");
}
