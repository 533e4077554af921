//! What the schema refuses, in the channel's quarantine.

use liminal::{
    broker::{Confirm, REJECTED_CHANNEL, REJECTED_REASON, TransactionMessage},
    model::Frame,
};

use super::*;

fn checked(quarantine: Option<&str>) -> ChannelConfig {
    ChannelConfig {
        schema: Some(r#"{"required":["id"]}"#.into()),
        quarantine: quarantine.map(|name| name.parse().unwrap()),
        ..ChannelConfig::default()
    }
}

async fn broker() -> Broker {
    let broker = super::broker(Arc::new(MemoryStore::new())).await;
    broker.create_channel("bad", ChannelConfig::default()).await.unwrap();
    broker.create_channel("checked", checked(Some("bad"))).await.unwrap();
    broker
}

/// Waits for so many more samples.
async fn samples(quarantine: &mut Subscription, count: usize) -> Vec<Message> {
    let mut samples = Vec::new();
    while samples.len() < count {
        let batch = quarantine.next().await.unwrap();
        samples.extend(batch.frame.messages().map(Result::unwrap));
    }
    samples
}

async fn next(quarantine: &mut Subscription) -> Message {
    samples(quarantine, 1).await.remove(0)
}

fn header<'a>(message: &'a Message, name: &str) -> &'a str {
    &message.headers.iter().find(|header| header.name == name).unwrap().value
}

async fn dropped(broker: &Broker, count: u64) {
    while broker.stats().quarantine_dropped < count {
        tokio::task::yield_now().await;
    }
    assert_eq!(broker.stats().quarantine_dropped, count);
}

#[tokio::test]
async fn a_refused_message_gets_into_the_quarantine_with_the_reason_and_without_its_key() {
    let broker = broker().await;
    let mut quarantine = broker.subscribe("bad", Start::Earliest).await.unwrap();
    for _ in 0..2 {
        let error = broker.publish("checked", envelope("{}"), Some("k")).await.unwrap_err();
        assert_eq!(error.code().as_str(), "SCHEMA_VIOLATION");
        let sample = next(&mut quarantine).await;
        assert_eq!((sample.payload.as_ref(), sample.key.as_deref()), (&b"{}"[..], None));
        assert_eq!(header(&sample, REJECTED_CHANNEL), "checked");
        assert_eq!(header(&sample, REJECTED_REASON), "/id: required property is missing");
    }
    assert_eq!(broker.channel("bad").await.unwrap().stats.live_keys, 0);
    assert_eq!(broker.publish("checked", envelope(r#"{"id":1}"#), Some("k")).await.unwrap().seq, 0, "the key is free");
    assert_eq!(broker.stats().quarantine_dropped, 0);
}

#[tokio::test]
async fn of_a_transaction_the_message_that_stood_in_the_way_is_sampled() {
    let broker = broker().await;
    let mut quarantine = broker.subscribe("bad", Start::Earliest).await.unwrap();
    let messages = [r#"{"id":1}"#, "[]", "no JSON"].map(|payload| TransactionMessage {
        channel: "checked".into(),
        message: Message { payload: payload.into(), ..Message::default() },
        expected_seq: None,
    });
    // An array has no property that could be missing.
    broker.publish_transaction(messages.to_vec(), Confirm::Commit).await.unwrap_err();
    assert_eq!(next(&mut quarantine).await.payload, "no JSON");
}

#[tokio::test]
async fn only_a_sample_of_many_refused_messages_is_kept_and_the_rest_is_counted() {
    let broker = broker().await;
    let mut quarantine = broker.subscribe("bad", Start::Earliest).await.unwrap();
    let messages = (0..100u64).map(|number| Message { payload: number.to_string().into(), ..Message::default() });
    let schema = ChannelUpdate {
        schema: Some(r#"{"multipleOf":2}"#.into()),
        compatibility: Some(Compatibility::None),
        ..ChannelUpdate::default()
    };
    broker.update_channel("checked", schema).await.unwrap();
    let results = broker.publish_frame("checked", Frame::encode(&messages.collect::<Vec<_>>()), Confirm::Commit).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 50);
    let kept: Vec<Bytes> = samples(&mut quarantine, 10).await.into_iter().map(|sample| sample.payload).collect();
    assert_eq!(kept, ["1", "3", "5", "7", "9", "11", "13", "15", "17", "19"]);
    assert_eq!(broker.stats().quarantine_dropped, 40, "ten a second");
}

#[tokio::test]
async fn a_sample_that_its_quarantine_refuses_or_that_has_none_any_more_is_only_counted() {
    let broker = broker().await;
    broker.create_channel("worse", checked(Some("checked"))).await.unwrap();
    broker.publish("worse", envelope("{}"), None).await.unwrap_err();
    dropped(&broker, 1).await;
    broker.delete_channel("bad").await.unwrap();
    broker.publish("checked", envelope("{}"), None).await.unwrap_err();
    dropped(&broker, 2).await;
}

#[tokio::test]
async fn a_quarantine_is_another_channel_that_exists() {
    let broker = broker().await;
    let quarantine = |name: &str| ChannelUpdate { quarantine: Some(Some(name.parse().unwrap())), ..Default::default() };
    for (name, reason) in [("checked", "its own quarantine"), ("nowhere", "`nowhere` does not exist")] {
        let error = broker.update_channel("checked", quarantine(name)).await.unwrap_err();
        assert!(matches!(&error, BrokerError::InvalidArgument { .. }), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
        let error = broker.create_channel("checked", checked(Some(name))).await.unwrap_err();
        assert!(matches!(&error, BrokerError::InvalidArgument { .. }), "{error:?}");
    }
    broker.update_channel("checked", quarantine("orders")).await.unwrap();
    let removed = ChannelUpdate { quarantine: Some(None), ..ChannelUpdate::default() };
    assert_eq!(broker.update_channel("checked", removed).await.unwrap().meta.config.quarantine, None);
    broker.publish("checked", envelope("{}"), None).await.unwrap_err();
    assert_eq!(broker.stats().quarantine_dropped, 0, "what nobody asked for is not missed");
}
