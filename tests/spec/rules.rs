//! Rules between channels.

use liminal::{
    broker::{Broker, Confirm, Consistency, NoChannel, RuleError, Start, TransactionMessage},
    config::{RoutingRule, ServerConfig},
    model::{ChannelConfig, Frame, Limits, Retention, WhenFull},
    proto::v1::Message,
    store::MemoryStore,
};

use super::{Arc, envelope};

async fn broker(channels: &[&str]) -> Broker {
    let config = channels.iter().fold(ServerConfig::default(), |config, name| config.with_channel(name, true));
    Broker::embedded(&config, Arc::new(MemoryStore::new())).await.unwrap()
}

async fn stored(broker: &Broker, channel: &str) -> Vec<String> {
    let page = broker.read(channel, Start::Earliest, 0, Consistency::Linearizable, None).await.unwrap();
    let messages = page.batches.iter().flat_map(|batch| batch.frame.messages());
    messages.map(|message| String::from_utf8(message.unwrap().payload.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn what_matches_a_rule_is_copied_and_what_does_not_is_not() {
    let broker = broker(&["events", "large", "all"]).await;
    broker.put_rule("events", "large", Some("size > 10")).await.unwrap();
    broker.put_rule("events", "all", None).await.unwrap();
    for payload in [r#"{"size":11}"#, r#"{"size":9}"#, r#"{"none":1}"#, "no json"] {
        broker.publish("events", envelope(payload), None).await.unwrap();
    }
    assert_eq!(stored(&broker, "large").await, [r#"{"size":11}"#]);
    assert_eq!(stored(&broker, "all").await.len(), 4);
    assert_eq!(broker.rules().await.unwrap().len(), 2);
    broker.delete_rule("events", "all").await.unwrap();
    broker.publish("events", envelope("later"), None).await.unwrap();
    assert_eq!(stored(&broker, "all").await.len(), 4);
}

#[tokio::test]
async fn rules_follow_each_other_and_a_message_reaches_a_channel_once() {
    let broker = broker(&["a", "b", "c"]).await;
    broker.put_rule("a", "b", None).await.unwrap();
    broker.put_rule("a", "c", None).await.unwrap();
    broker.put_rule("b", "c", None).await.unwrap();
    broker.publish("a", envelope("x"), None).await.unwrap();
    broker.publish("b", envelope("y"), None).await.unwrap();
    assert_eq!(stored(&broker, "b").await, ["x", "y"]);
    assert_eq!(stored(&broker, "c").await, ["x", "y"]);
}

#[tokio::test]
async fn a_message_whose_copy_never_fits_is_refused_alone_and_its_error_names_the_channel() {
    let broker = broker(&["a"]).await;
    let retention = Retention { max_bytes: Some(100), ..Retention::default() };
    broker.create_channel("tiny", ChannelConfig { retention, ..ChannelConfig::default() }).await.unwrap();
    broker.put_rule("a", "tiny", None).await.unwrap();
    let large = "x".repeat(200);
    let messages =
        ["1", &large, "2"].map(|payload| Message { payload: payload.to_owned().into(), ..Message::default() });
    let results = broker.publish_frame("a", Frame::encode(&messages), Confirm::Commit).await;
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    let keyed = broker.publish("a", envelope(&large), Some("k")).await;
    for refused in [results[1].clone().unwrap_err(), keyed.unwrap_err()] {
        assert!(refused.code().as_str() == "LIMIT_EXCEEDED" && refused.to_string().contains("`tiny`"), "{refused}");
    }
    assert_eq!(stored(&broker, "a").await, ["1", "2"]);
    assert_eq!(stored(&broker, "tiny").await, ["1", "2"]);
}

#[tokio::test]
async fn a_publish_whose_copy_is_refused_spoils_none_of_those_that_share_its_log_entry() {
    let broker = broker(&["a", "b"]).await;
    let keep = |retention| ChannelConfig { retention, ..ChannelConfig::default() };
    let tiny = Retention { max_bytes: Some(100), ..Retention::default() };
    broker.create_channel("tiny", keep(tiny)).await.unwrap();
    let few = Retention { max_messages: Some(2), when_full: WhenFull::RefuseNew, ..Retention::default() };
    broker.create_channel("few", keep(few)).await.unwrap();
    broker.put_rule("a", "tiny", None).await.unwrap();
    broker.put_rule("b", "few", Some("all > 0")).await.unwrap();
    let large = "x".repeat(200);
    // They are submitted at once, so they are in one entry.
    let (one, refused, other, unkeyed) = tokio::join!(
        broker.publish("a", envelope("1"), Some("k1")),
        broker.publish("a", envelope(&large), Some("k")),
        broker.publish("a", envelope("2"), Some("k2")),
        broker.publish("a", envelope("3"), None),
    );
    assert_eq!(refused.unwrap_err().code().as_str(), "LIMIT_EXCEEDED");
    assert_eq!([one, other, unkeyed].map(|outcome| outcome.unwrap().seq), [0, 1, 2]);
    assert_eq!(stored(&broker, "tiny").await, ["1", "2", "3"]);
    let copied = r#"{"all":1}"#;
    let (first, second, third, elsewhere) = tokio::join!(
        broker.publish("b", envelope(copied), None),
        broker.publish("b", envelope(copied), Some("k")),
        broker.publish("b", envelope(copied), None),
        broker.publish("b", envelope("{}"), None),
    );
    assert_eq!(third.unwrap_err().code().as_str(), "CHANNEL_FULL");
    assert_eq!([first, second, elsewhere].map(|outcome| outcome.unwrap().seq), [0, 1, 2]);
    assert_eq!(stored(&broker, "few").await, [copied, copied]);
}

#[tokio::test]
async fn a_repeated_publish_is_copied_once() {
    let broker = broker(&["a", "b"]).await;
    broker.put_rule("a", "b", None).await.unwrap();
    for _ in 0..3 {
        broker.publish("a", envelope("x"), Some("k")).await.unwrap();
    }
    assert_eq!(stored(&broker, "b").await, ["x"]);
}

#[tokio::test]
async fn a_copy_that_would_break_its_channels_schema_is_not_made_and_is_counted() {
    let broker = broker(&["a"]).await;
    let schema = Some(r#"{"type":"integer"}"#.to_owned());
    broker.create_channel("numbers", ChannelConfig { schema, ..ChannelConfig::default() }).await.unwrap();
    broker.put_rule("a", "numbers", None).await.unwrap();
    broker.publish("a", envelope("1"), None).await.unwrap();
    broker.publish("a", envelope(r#""one""#), None).await.unwrap();
    assert_eq!(stored(&broker, "numbers").await, ["1"]);
    assert_eq!(stored(&broker, "a").await.len(), 2);
    assert_eq!(broker.stats().unrouted, 1);
}

#[tokio::test]
async fn a_rule_that_cannot_be_is_refused_with_the_reason() {
    let broker = broker(&["orders", "b"]).await;
    let circle = broker.put_rule("orders", "orders", None).await.unwrap_err();
    assert_eq!((circle.code().as_str(), circle.outcome_unknown()), ("RULE_REFUSED", false));
    let bad = broker.put_rule("orders", "b", Some("size >")).await.unwrap_err();
    assert!(bad.code().as_str() == "INVALID_ARGUMENT" && bad.to_string().contains("column 7"), "{bad}");
    match broker.put_rule("ordres", "b", None).await.unwrap_err() {
        RuleError::NoChannel(NoChannel::ChannelNotFound { name, similar }) => {
            assert_eq!((name.as_str(), similar.as_deref()), ("ordres", Some("orders")));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(broker.delete_rule("orders", "b").await.unwrap_err().code().as_str(), "RULE_NOT_FOUND");
}

#[tokio::test]
async fn the_rules_of_a_configuration_are_made_once() {
    let rule =
        RoutingRule { source_channel: "a".into(), target_channel: "b".into(), predicate: Some("amount > 3".into()) };
    let config = ServerConfig { routing_rules: vec![rule], ..ServerConfig::default() };
    let config = config.with_channel("a", true).with_channel("b", true);
    let store = Arc::new(MemoryStore::new());
    for round in 0..2 {
        let broker = Broker::embedded(&config, store.clone()).await.unwrap();
        broker.publish("a", envelope(r#"{"amount":4}"#), None).await.unwrap();
        broker.publish("a", envelope(r#"{"amount":3}"#), None).await.unwrap();
        assert_eq!((stored(&broker, "b").await.len(), broker.rules().await.unwrap().len()), (round + 1, 1));
        broker.stop().await;
    }
}

#[tokio::test]
async fn what_rules_would_copy_too_often_is_refused_before_it_is_stored_anywhere() {
    let limits = Limits { copied_bytes: 2_000, ..Limits::default() };
    let config = ServerConfig { limits, ..ServerConfig::default() };
    let broker = Broker::embedded(&config, Arc::new(MemoryStore::new())).await.unwrap();
    broker.create_channel("from", ChannelConfig::default()).await.unwrap();
    for number in 0..20 {
        let to = format!("to-{number}");
        broker.create_channel(&to, ChannelConfig::default()).await.unwrap();
        broker.put_rule("from", &to, None).await.unwrap();
    }
    broker.publish("from", envelope(&"x".repeat(50)), None).await.unwrap();
    let large = || envelope(&"x".repeat(100));
    let error = broker.publish("from", large(), None).await.unwrap_err();
    assert_eq!(error.code().as_str(), "LIMIT_EXCEEDED");
    assert!(error.to_string().starts_with("all copies that rules make of the request (bytes) is 20"), "{error}");
    let message = Message { payload: large().payload, ..Message::default() };
    let message = TransactionMessage { channel: "from".into(), message, expected_seq: None };
    let refused = broker.publish_transaction(vec![message], Confirm::Commit).await.unwrap_err();
    assert_eq!(refused.code().as_str(), "LIMIT_EXCEEDED", "{refused}");
    for channel in ["from", "to-7"] {
        assert_eq!(broker.channel(channel).await.unwrap().stats.next_seq, 1, "{channel}");
    }
}
