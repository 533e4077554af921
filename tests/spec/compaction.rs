//! Channels that keep the last message of each key: what stays, what goes, and what readers see of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use liminal::{
    broker::{Broker, Confirm, Consistency, Start, Trim},
    model::{ChannelConfig, ChannelUpdate, ConsumerConfig, Frame, Retention, Settlement, Verdict},
    proto::v1::{Header, Message},
    store::{DurableStore, HaematiteConfig, HaematiteStore, MemoryStore},
};

use super::{broker, config};

const PATIENCE: Duration = Duration::from_secs(30);

fn compacted() -> Retention {
    Retention { compact_by: Some("user".into()), ..Retention::default() }
}

async fn on(store: Arc<dyn DurableStore>) -> Broker {
    let broker = broker(store).await;
    let config = ChannelConfig { retention: compacted(), ..ChannelConfig::default() };
    broker.create_channel("last", config).await.unwrap();
    broker
}

/// A message of a user, or of nobody.
fn message(user: &str, payload: &str) -> Message {
    let header = Header { name: "User".into(), value: user.to_owned() };
    let headers = if user.is_empty() { Vec::new() } else { vec![header] };
    Message { payload: Bytes::from(payload.to_owned()), headers, ..Message::default() }
}

async fn publish(broker: &Broker, messages: &[Message]) {
    for result in broker.publish_frame("last", Frame::encode(messages), Confirm::Commit).await {
        result.unwrap();
    }
}

/// All messages with their places, page by page.
async fn all(broker: &Broker, limit: usize) -> Vec<(u64, String)> {
    let (mut messages, mut from) = (Vec::new(), Start::Earliest);
    loop {
        let page = broker.read("last", from, limit, Consistency::Linearizable, None).await.unwrap();
        for batch in &page.batches {
            for (seq, message) in (batch.first_seq..).zip(batch.frame.messages()) {
                messages.push((seq, String::from_utf8(message.unwrap().payload.to_vec()).unwrap()));
            }
        }
        if page.next_seq >= page.end_seq {
            return messages;
        }
        from = Start::Seq(page.next_seq);
    }
}

async fn until_there_are(broker: &Broker, messages: u64) {
    let compacted = async {
        loop {
            let info = broker.channel("last").await.unwrap();
            if info.stats.next_seq - info.stats.first_seq - info.compacted == messages {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, compacted).await.unwrap_or_else(|_| panic!("there never are {messages} messages"));
}

fn places(places: &[(u64, &str)]) -> Vec<(u64, String)> {
    places.iter().map(|(seq, payload)| (*seq, (*payload).to_owned())).collect()
}

#[tokio::test]
async fn the_last_message_of_each_key_stays_where_it_is_and_so_do_those_without_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(HaematiteStore::open(dir.path(), HaematiteConfig::default()).unwrap());
    let broker = on(store.clone()).await;
    publish(&broker, &[message("ann", "a1"), message("bob", "b1"), message("", "x"), message("ann", "a2")]).await;
    publish(&broker, &[message("ann", "a3"), message("bob", "b2"), message("eve", "e1")]).await;
    until_there_are(&broker, 4).await;
    let left = places(&[(2, "x"), (4, "a3"), (5, "b2"), (6, "e1")]);
    for limit in [0, 1, 2] {
        assert_eq!(all(&broker, limit).await, left, "{limit} at a time");
    }
    // From a place where there is nothing any more, without an error and without a repeat.
    for from in 0..=4 {
        let page = broker.read("last", Start::Seq(from), 0, Consistency::Local, None).await.unwrap();
        assert_eq!(page.batches[0].first_seq, if from <= 2 { 2 } else { 4 });
        let mut subscription = broker.subscribe("last", Start::Seq(from)).await.unwrap();
        assert!(subscription.next().await.unwrap().first_seq >= from);
    }
    publish(&broker, &[message("eve", "e2")]).await;
    until_there_are(&broker, 4).await;
    let left = places(&[(2, "x"), (4, "a3"), (5, "b2"), (7, "e2")]);
    assert_eq!(all(&broker, 0).await, left);
    broker.stop().await;
    drop(broker);
    store.close().await.unwrap();
    drop(store);
    let again = super::broker(Arc::new(HaematiteStore::open(dir.path(), HaematiteConfig::default()).unwrap())).await;
    assert_eq!(all(&again, 0).await, left);
    assert_eq!(again.channel("last").await.unwrap().compacted, 4);
}

#[tokio::test]
async fn space_comes_back_and_what_is_read_from_the_beginning_is_complete() {
    let mut config = config();
    // Nothing is read from memory, so that every page has to cross the gaps.
    config.limits.subscriber_bytes = 100;
    config.limits.fanout_bytes = 100;
    config.limits.page_bytes = 2_000;
    config.limits.compaction_keys = 16;
    let broker = Broker::embedded(&config, Arc::new(MemoryStore::new())).await.unwrap();
    let channel = ChannelConfig { retention: compacted(), ..ChannelConfig::default() };
    broker.create_channel("last", channel).await.unwrap();
    let mut newest = BTreeMap::new();
    for number in 0..1000u64 {
        let user = format!("u{}", number * number % 97);
        publish(&broker, &[message(&user, &format!("{number:08}"))]).await;
        newest.insert(user, number);
    }
    let size = Frame::encode([&message("u1", "00000001")]).bytes().len() as u64;
    // A pass remembers 16 keys; those that follow it see to the others.
    let left: BTreeSet<u64> = newest.values().copied().collect();
    until_there_are(&broker, left.len() as u64).await;
    let info = broker.channel("last").await.unwrap();
    assert!(info.stats.bytes < (left.len() as u64 + 1) * (size + 2) + 256, "{} bytes", info.stats.bytes);
    let expected: Vec<(u64, String)> = left.iter().map(|number| (*number, format!("{number:08}"))).collect();
    assert_eq!(all(&broker, 0).await, expected);
    let mut subscription = broker.subscribe("last", Start::Earliest).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let batch = tokio::time::timeout(PATIENCE, subscription.next()).await.expect("there is more").unwrap();
        seen.extend((batch.first_seq..).take(batch.frame.count() as usize));
    }
    assert_eq!(seen, left.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_message_that_has_expired_goes_and_takes_nothing_back() {
    let broker = on(Arc::new(MemoryStore::new())).await;
    let brief = Message { ttl_ms: 1, ..message("ann", "a2") };
    publish(&broker, &[message("ann", "a1"), brief, message("bob", "b1")]).await;
    until_there_are(&broker, 1).await;
    assert_eq!(all(&broker, 0).await, places(&[(2, "b1")]), "what it replaced does not come back with its end");
}

#[tokio::test]
async fn a_message_that_expires_while_nothing_new_comes_goes_all_the_same() {
    let broker = on(Arc::new(MemoryStore::new())).await;
    let brief = Message { ttl_ms: 2_500, ..message("ann", "a1") };
    publish(&broker, &[brief, message("bob", "b1"), message("bob", "b2")]).await;
    until_there_are(&broker, 1).await;
    assert_eq!(all(&broker, 0).await, places(&[(2, "b2")]));
}

#[tokio::test]
async fn a_consumer_gets_what_is_there_and_passes_what_is_gone() {
    let broker = on(Arc::new(MemoryStore::new())).await;
    for number in 0..50 {
        publish(&broker, &[message(&format!("u{}", number % 3), &number.to_string())]).await;
    }
    until_there_are(&broker, 3).await;
    let created = broker.create_consumer("last", "w", ConsumerConfig::default(), Start::Earliest).await.unwrap();
    let shown = broker.consumer("last", "w").await.unwrap();
    assert_eq!((created.status.lag, shown.status.lag), (3, 3), "numbers that compaction has emptied are no work");
    for (name, seq, lag) in [("middle", 25, 3), ("near", 48, 2), ("end", 50, 0)] {
        broker.create_consumer("last", name, ConsumerConfig::default(), Start::Seq(seq)).await.unwrap();
        assert_eq!(broker.consumer("last", name).await.unwrap().status.lag, lag, "{name}");
    }
    let mut member = broker.join_consumer("last", "w", 10).await.unwrap();
    let mut got = Vec::new();
    while got.len() < 3 {
        got.extend(tokio::time::timeout(PATIENCE, member.next()).await.expect("there is more").unwrap());
    }
    assert_eq!(got.iter().map(|delivery| delivery.token.seq).collect::<Vec<_>>(), [47, 48, 49]);
    let acks = got.iter().map(|delivery| Settlement { token: delivery.token, verdict: Verdict::Ack }).collect();
    broker.settle("last", "w", acks).await.unwrap();
    assert_eq!(broker.consumer("last", "w").await.unwrap().status.lag, 0);
}

#[tokio::test]
async fn another_header_is_looked_for_in_all_that_is_stored() {
    let broker = on(Arc::new(MemoryStore::new())).await;
    publish(&broker, &[message("ann", "a1"), message("ann", "a2"), message("", "x")]).await;
    until_there_are(&broker, 2).await;
    let other = |message: Message| {
        let header = Header { name: "shelf".into(), value: "top".into() };
        Message { headers: vec![header], ..message }
    };
    publish(&broker, &[other(message("", "t1")), other(message("", "t2"))]).await;
    let by = |header: &str| {
        let retention = Retention { compact_by: Some(header.to_owned()), ..Retention::default() };
        ChannelUpdate { retention: Some(retention), ..ChannelUpdate::default() }
    };
    broker.update_channel("last", by("shelf")).await.unwrap();
    until_there_are(&broker, 3).await;
    assert_eq!(all(&broker, 0).await, places(&[(1, "a2"), (2, "x"), (4, "t2")]));
    let none = ChannelUpdate { retention: Some(Retention::default()), ..ChannelUpdate::default() };
    broker.update_channel("last", none).await.unwrap();
    publish(&broker, &[other(message("", "t3"))]).await;
    assert_eq!(broker.trim_channel("last", Trim::To(2)).await.unwrap(), 2);
    assert_eq!(all(&broker, 0).await, places(&[(2, "x"), (4, "t2"), (5, "t3")]));
}
