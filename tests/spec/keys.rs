//! Idempotency keys: which payloads are the same, and what no key is.

use super::*;
use liminal::{
    broker::{Confirm, TransactionMessage},
    model::{Comparison, Frame},
};

async fn started() -> Broker {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    let config = ChannelConfig { comparison: Comparison::CanonicalJson, ..ChannelConfig::default() };
    broker.create_channel("said", config).await.unwrap();
    broker
}

#[tokio::test]
async fn a_channel_that_compares_what_payloads_say_knows_a_retry_that_was_written_anew() {
    let broker = started().await;
    let first = broker.publish("said", envelope(r#"{"id": 1, "to": "ü"}"#), Some("k")).await.unwrap();
    for same in [r#"{"id":1,"to":"ü"}"#, "{ \"to\":\"\\u00fc\",\n\"id\":1.0 }"] {
        let again = broker.publish("said", envelope(same), Some("k")).await.unwrap();
        assert_eq!((again.seq, again.duplicate), (first.seq, true), "{same}");
    }
    for other in [r#"{"id":1.00000000000000000001,"to":"ü"}"#, r#"{"id":1}"#, "no JSON"] {
        let error = broker.publish("said", envelope(other), Some("k")).await.unwrap_err();
        assert_eq!(error.code().as_str(), "KEY_CONFLICT", "{other}");
    }
    // The bytes of the first are what is read.
    let page = broker.read("said", Start::Earliest, 0, Consistency::Linearizable, None).await.unwrap();
    let stored: Vec<Bytes> =
        page.batches.iter().flat_map(|batch| batch.frame.messages()).map(|message| message.unwrap().payload).collect();
    assert_eq!(stored, [r#"{"id": 1, "to": "ü"}"#]);
    // What is no JSON is compared by its bytes.
    broker.publish("said", envelope("a b"), Some("text")).await.unwrap();
    assert!(broker.publish("said", envelope("a b"), Some("text")).await.unwrap().duplicate);
    assert!(broker.publish("said", envelope("a  b"), Some("text")).await.is_err());
}

#[tokio::test]
async fn transactions_and_messages_that_wait_are_compared_as_their_channel_says() {
    let broker = started().await;
    let message = |payload: &str| {
        let message = Message { payload: payload.to_owned().into(), key: Some("t".into()), ..Message::default() };
        vec![TransactionMessage { channel: "said".into(), message, expected_seq: None }]
    };
    broker.publish_transaction(message("[1, 2]"), Confirm::Commit).await.unwrap();
    assert!(broker.publish_transaction(message("[1,2]"), Confirm::Commit).await.unwrap()[0].duplicate);
    let later = |payload: &str| Envelope { deliver_at_ms: broker.now_ms() + 60_000, ..envelope(payload) };
    assert!(!broker.publish("said", later("[3, 4]"), Some("w")).await.unwrap().duplicate);
    assert!(broker.publish("said", later("[3,4]"), Some("w")).await.unwrap().duplicate);
}

#[tokio::test]
async fn payloads_are_compared_by_their_bytes_unless_the_channel_says_otherwise_for_good() {
    let broker = started().await;
    broker.publish("orders", envelope(r#"{"id": 1}"#), Some("k")).await.unwrap();
    let error = broker.publish("orders", envelope(r#"{"id":1}"#), Some("k")).await.unwrap_err();
    assert_eq!(error.code().as_str(), "KEY_CONFLICT");
    // The same name with another choice is another configuration.
    let error = broker.create_channel("said", ChannelConfig::default()).await.unwrap_err();
    assert_eq!(error.code().as_str(), "CHANNEL_EXISTS");
}

#[tokio::test]
async fn a_retry_with_another_header_time_to_live_or_delay_is_a_duplicate_of_the_first() {
    let broker = started().await;
    broker.publish("orders", envelope("a"), Some("k")).await.unwrap();
    let header = liminal::proto::v1::Header { name: "h".into(), value: "v".into() };
    let later = broker.now_ms() + 60_000;
    for other in [
        Envelope { headers: vec![header], ..envelope("a") },
        Envelope { ttl_ms: 9, ..envelope("a") },
        Envelope { deliver_at_ms: later, ..envelope("a") },
    ] {
        let again = broker.publish("orders", other, Some("k")).await.unwrap();
        assert_eq!((again.seq, again.duplicate, again.scheduled_ms), (0, true, None));
    }
    assert_eq!(broker.channel("orders").await.unwrap().stats.next_seq, 1);
}

#[tokio::test]
async fn an_empty_key_is_refused_wherever_a_key_can_be() {
    let broker = started().await;
    let code = |error: BrokerError| error.code().as_str();
    assert_eq!(code(broker.publish("orders", envelope("a"), Some("")).await.unwrap_err()), "INVALID_ARGUMENT");
    let message = Message { payload: "a".into(), key: Some(String::new()), ..Message::default() };
    let frame = Frame::encode([&message, &Message { payload: "b".into(), ..Message::default() }]);
    let results = broker.publish_frame("orders", frame, Confirm::Commit).await;
    assert_eq!(code(results[0].clone().unwrap_err()), "INVALID_ARGUMENT", "it came through as it was sent");
    assert_eq!(results[1].as_ref().unwrap().seq, 0, "the other message has none, which is no mistake");
    let part = TransactionMessage { channel: "orders".into(), message, expected_seq: None };
    let error = broker.publish_transaction(vec![part], Confirm::Commit).await.unwrap_err();
    assert_eq!(code(error), "INVALID_ARGUMENT");
    let lease = std::time::Duration::from_secs(30);
    assert_eq!(code(broker.claim("jobs", "", lease, None).await.unwrap_err().into()), "INVALID_ARGUMENT");
}

#[tokio::test]
async fn a_channel_near_its_limit_of_keys_is_told_of_before_it_refuses_any() {
    let mut config = config();
    config.limits.live_keys = 10;
    let broker = Broker::embedded(&config, Arc::new(MemoryStore::new())).await.unwrap();
    for number in 0..7 {
        broker.publish("orders", envelope("a"), Some(&format!("k{number}"))).await.unwrap();
    }
    assert_eq!(broker.near_key_limit(), None);
    broker.publish("orders", envelope("a"), Some("k7")).await.unwrap();
    let warning = broker.near_key_limit().unwrap();
    assert!(warning.contains("has 8 idempotency keys in its window, of 10 "), "{warning}");
    for key in ["k8", "k9"] {
        broker.publish("orders", envelope("a"), Some(key)).await.unwrap();
    }
    let error = broker.publish("orders", envelope("a"), Some("k10")).await.unwrap_err();
    assert_eq!(error, BrokerError::TooManyKeys { channel: "orders".into(), limit: 10 });
    assert!(error.help().contains("limits.live_keys"));
    assert!(broker.publish("orders", envelope("a"), Some("k0")).await.unwrap().duplicate, "none is forgotten for it");
}

#[tokio::test]
async fn the_keys_of_all_channels_together_are_bounded_by_the_memory_that_they_may_take() {
    let mut config = config();
    config.limits.key_memory = 10 * usize::try_from(liminal::model::Limits::KEY_BYTES).unwrap();
    let broker = Broker::embedded(&config, Arc::new(MemoryStore::new())).await.unwrap();
    for number in 0..5 {
        broker.publish("orders", envelope("a"), Some(&format!("k{number}"))).await.unwrap();
    }
    let written = async {
        while broker.view().live_keys().limit.all_keys != 10 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), written).await.expect("the limit is written down");
    for number in 0..5 {
        broker.publish("ticks", envelope("a"), Some(&format!("k{number}"))).await.unwrap();
    }
    let warning = broker.near_key_limit().unwrap();
    assert!(warning.contains("10 idempotency keys") && warning.contains("limits.key_memory"), "{warning}");
    let error = broker.publish("orders", envelope("a"), Some("k5")).await.unwrap_err();
    assert_eq!((error.code().as_str(), error.clone()), ("TOO_MANY_KEYS", BrokerError::TooManyKeysInAll { limit: 10 }));
    assert!(broker.publish("orders", envelope("a"), Some("k4")).await.unwrap().duplicate);
    broker.publish("orders", envelope("a"), None).await.unwrap();
}
