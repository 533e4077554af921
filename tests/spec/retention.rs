//! What channels keep, and what readers are told of what is gone.

use std::sync::Arc;

use bytes::Bytes;
use liminal::{
    broker::{Broker, BrokerError, Confirm, Consistency, Start, Trim},
    model::{ChannelConfig, ChannelUpdate, Frame, Quota, Retention, WhenFull},
    proto::v1::Message,
    store::{HaematiteConfig, HaematiteStore, MemoryStore},
};

use super::{broker, envelope};

async fn kept(retention: Retention) -> Broker {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    let config = ChannelConfig { retention, ..ChannelConfig::default() };
    broker.create_channel("kept", config).await.unwrap();
    broker
}

async fn publish(broker: &Broker, payloads: &[&str]) -> Vec<Result<u64, BrokerError>> {
    let message = |payload: &&str| Message { payload: Bytes::from((*payload).to_owned()), ..Message::default() };
    let frame = Frame::encode(&payloads.iter().map(message).collect::<Vec<_>>());
    let results = broker.publish_frame("kept", frame, Confirm::Commit).await;
    results.into_iter().map(|result| result.map(|outcome| outcome.seq)).collect()
}

async fn read(broker: &Broker, start: Start) -> Result<(u64, Vec<String>), BrokerError> {
    let page = broker.read("kept", start, 0, Consistency::Linearizable, None).await?;
    let messages = page.batches.iter().flat_map(|batch| batch.frame.messages());
    let payloads = messages.map(|message| String::from_utf8(message.unwrap().payload.to_vec()).unwrap()).collect();
    Ok((page.batches.first().map_or(page.next_seq, |batch| batch.first_seq), payloads))
}

#[tokio::test]
async fn a_channel_keeps_its_newest_messages_and_a_reader_is_told_what_is_gone() {
    let broker = kept(Retention { max_messages: Some(3), ..Retention::default() }).await;
    publish(&broker, &["a", "b", "c", "d", "e"]).await;
    // The store still holds the whole batch.
    assert_eq!(broker.store().read_from("kept:0", 0, 9).await.unwrap().len(), 5);
    assert_eq!(read(&broker, Start::Earliest).await.unwrap(), (2, vec!["c".into(), "d".into(), "e".into()]));
    let gone = BrokerError::OutOfRange { channel: "kept".into(), seq: 1, first: 2 };
    assert_eq!(read(&broker, Start::Seq(1)).await.unwrap_err(), gone);
    assert_eq!(broker.subscribe("kept", Start::Seq(1)).await.err().unwrap(), gone);
    let mut subscription = broker.subscribe("kept", Start::Earliest).await.unwrap();
    assert_eq!(subscription.next().await.unwrap().first_seq, 2);
}

#[tokio::test]
async fn a_subscription_that_falls_below_the_beginning_ends_with_an_error_and_skips_nothing() {
    let mut config = super::config();
    config.limits.subscriber_bytes = 100;
    config.limits.fanout_bytes = 100;
    let broker = Broker::embedded(&config, Arc::new(MemoryStore::new())).await.unwrap();
    broker.create_channel("kept", ChannelConfig::default()).await.unwrap();
    let mut subscription = broker.subscribe("kept", Start::Earliest).await.unwrap();
    for _ in 0..50 {
        publish(&broker, &["a", "b"]).await;
    }
    assert_eq!(broker.trim_channel("kept", Trim::To(21)).await.unwrap(), 21);
    let error = subscription.next().await.unwrap_err();
    assert_eq!(error, BrokerError::OutOfRange { channel: "kept".into(), seq: 0, first: 21 });
}

/// A channel of 50 batches of two messages, too many for the tail, which are read one at a time.
async fn read_in_pages() -> Broker {
    let mut config = super::config();
    config.limits.subscriber_bytes = 100;
    config.limits.fanout_bytes = 100;
    config.limits.page_bytes = 1;
    let broker = Broker::embedded(&config, Arc::new(MemoryStore::new())).await.unwrap();
    broker.create_channel("kept", ChannelConfig::default()).await.unwrap();
    for _ in 0..50 {
        publish(&broker, &["a", "b"]).await;
    }
    broker
}

#[tokio::test]
async fn a_subscription_reads_pages_up_to_the_tail_without_a_gap() {
    let broker = read_in_pages().await;
    let mut subscription = broker.subscribe("kept", Start::Seq(1)).await.unwrap();
    let mut position = 1;
    while position < 100 {
        let batch = subscription.next().await.unwrap();
        assert_eq!(batch.first_seq, position);
        position = batch.end_seq();
    }
    publish(&broker, &["c"]).await;
    assert_eq!(subscription.next().await.unwrap().first_seq, 100);
}

#[tokio::test]
async fn a_page_that_was_read_before_a_trim_is_not_handed_on_after_it() {
    let broker = read_in_pages().await;
    let mut subscription = broker.subscribe("kept", Start::Earliest).await.unwrap();
    assert_eq!(subscription.next().await.unwrap().first_seq, 0);
    assert_eq!(broker.trim_channel("kept", Trim::To(21)).await.unwrap(), 21);
    let error = subscription.next().await.unwrap_err();
    assert_eq!(error, BrokerError::OutOfRange { channel: "kept".into(), seq: 2, first: 21 });
}

#[tokio::test]
async fn a_trim_leaves_what_it_was_told_to_leave() {
    let broker = kept(Retention::default()).await;
    publish(&broker, &["a", "b", "c", "d", "e"]).await;
    assert_eq!(broker.trim_channel("kept", Trim::To(1)).await.unwrap(), 1);
    assert_eq!(broker.trim_channel("kept", Trim::Keep(9)).await.unwrap(), 1);
    assert_eq!(broker.trim_channel("kept", Trim::Keep(2)).await.unwrap(), 3);
    assert_eq!(broker.trim_channel("kept", Trim::OlderThan(3_600_000)).await.unwrap(), 3);
    assert_eq!(read(&broker, Start::Earliest).await.unwrap().1, ["d", "e"]);
    assert!(matches!(broker.trim_channel("kept", Trim::To(6)).await, Err(BrokerError::InvalidArgument { .. })));
    assert!(matches!(broker.trim_channel("nowhere", Trim::To(0)).await, Err(BrokerError::ChannelNotFound { .. })));
    let ephemeral = BrokerError::NotStored { channel: "ticks".into() };
    assert_eq!(broker.trim_channel("ticks", Trim::To(0)).await, Err(ephemeral));
    assert_eq!(broker.trim_channel("kept", Trim::Keep(0)).await.unwrap(), 5);
    assert_eq!(read(&broker, Start::Earliest).await.unwrap(), (5, vec![]));
    assert_eq!(publish(&broker, &["f"]).await, [Ok(5)]);
}

#[tokio::test]
async fn old_messages_go_when_nothing_else_happens() {
    let broker = kept(Retention { max_age_ms: Some(1), ..Retention::default() }).await;
    publish(&broker, &["a"]).await;
    let gone = async {
        while broker.channel("kept").await.unwrap().stats.first_seq == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone).await.expect("the housekeeping lets time pass");
}

#[tokio::test]
async fn a_full_channel_says_so_and_still_answers_retries() {
    let retention = Retention { max_messages: Some(1), when_full: WhenFull::RefuseNew, ..Retention::default() };
    let broker = kept(retention).await;
    broker.publish("kept", envelope("a"), Some("k")).await.unwrap();
    let error = broker.publish("kept", envelope("b"), Some("l")).await.unwrap_err();
    assert_eq!(error, BrokerError::ChannelFull { channel: "kept".into(), what: "messages".into(), limit: 1 });
    assert!(error.help().contains("liminal channel trim kept"), "{}", error.help());
    assert_eq!(publish(&broker, &["c"]).await, [Err(error)]);
    let again = broker.publish("kept", envelope("a"), Some("k")).await.unwrap();
    assert!(again.duplicate && again.seq == 0);
    let update = ChannelUpdate { retention: Some(Retention::default()), ..ChannelUpdate::default() };
    broker.update_channel("kept", update).await.unwrap();
    assert_eq!(broker.publish("kept", envelope("b"), Some("l")).await.unwrap().seq, 1);
}

#[tokio::test]
async fn a_message_larger_than_the_whole_channel_is_refused_alone() {
    let broker = kept(Retention { max_bytes: Some(20), ..Retention::default() }).await;
    let results = publish(&broker, &["a", &"x".repeat(30), "b"]).await;
    assert!(matches!(results[1], Err(BrokerError::LimitExceeded { value: 34, limit: 20, .. })), "{results:?}");
    assert_eq!((results[0].clone(), results[2].clone()), (Ok(0), Ok(1)));
}

#[tokio::test]
async fn a_channels_quota_defers_what_is_beyond_it() {
    let broker = kept(Retention::default()).await;
    let quota = Quota { messages_per_second: Some(2), bytes_per_second: None };
    let update = ChannelUpdate { quota: Some(quota), ..ChannelUpdate::default() };
    broker.update_channel("kept", update).await.unwrap();
    assert_eq!(publish(&broker, &["a", "b", "c"]).await, [Ok(0), Ok(1), Ok(2)], "more than a second goes at first");
    let Err(BrokerError::QuotaExceeded { limit: 2, retry_after_ms, .. }) = publish(&broker, &["d"]).await.remove(0)
    else {
        panic!("it was taken");
    };
    assert!((1..=1000).contains(&retry_after_ms), "{retry_after_ms}");
    assert_eq!(broker.channel("kept").await.unwrap().stats.next_seq, 3);
}

#[tokio::test]
async fn limits_that_cannot_be_kept_are_refused() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    let zero = Retention { max_age_ms: Some(0), ..Retention::default() };
    let counted = Retention { compact_by: Some("user".into()), max_messages: Some(1), ..Retention::default() };
    for retention in [zero, counted] {
        let config = ChannelConfig { retention: retention.clone(), ..ChannelConfig::default() };
        let error = broker.create_channel("kept", config).await.unwrap_err();
        assert!(matches!(error, BrokerError::InvalidArgument { .. }), "{error:?}");
        let update = ChannelUpdate { retention: Some(retention), ..ChannelUpdate::default() };
        assert!(broker.update_channel("orders", update).await.is_err());
    }
}

#[tokio::test]
async fn the_store_gives_back_what_a_limited_channel_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Arc::new(HaematiteStore::open(dir.path(), HaematiteConfig::default()).unwrap());
    let first = broker(open()).await;
    let retention = Retention { max_bytes: Some(1 << 20), ..Retention::default() };
    first.create_channel("kept", ChannelConfig { retention, ..ChannelConfig::default() }).await.unwrap();
    let payload = "x".repeat(50_000);
    for _ in 0..200 {
        publish(&first, &[&payload]).await.remove(0).unwrap();
    }
    first.flush().await.unwrap();
    let live = first.store().usage().unwrap().live_bytes;
    assert!(live < 2 << 20, "{live} bytes live of 10 MB that were published");
    let stats = first.channel("kept").await.unwrap().stats;
    assert!(stats.bytes <= 1 << 20 && stats.bytes > 900_000, "{stats:?}");
    first.stop().await;
    first.store().close().await.unwrap();
    drop(first);
    let second = broker(open()).await;
    assert_eq!(second.channel("kept").await.unwrap().stats, stats);
    assert_eq!(publish(&second, &["a"]).await, [Ok(200)]);
    second.stop().await;
    second.store().close().await.unwrap();
}
