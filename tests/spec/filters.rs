//! Subscriptions that are told only of the messages that they mean.

use liminal::{
    broker::{Confirm, Outcome},
    model::Frame,
};

use super::*;

async fn publish(broker: &Broker, payloads: impl IntoIterator<Item = String>, confirm: Confirm) -> Vec<Outcome> {
    let messages = payloads.into_iter().map(|payload| Message { payload: payload.into(), ..Message::default() });
    let frame = Frame::encode(&messages.collect::<Vec<_>>());
    broker.publish_frame("orders", frame, confirm).await.into_iter().map(Result::unwrap).collect()
}

async fn filtered(broker: &Broker, start: Start, filter: &str) -> Subscription {
    broker.subscribe_filtered("orders", start, Some(filter.parse().unwrap())).await.unwrap()
}

/// The next batch with messages: its first sequence number and its payloads.
async fn next_run(subscription: &mut Subscription) -> (u64, Vec<String>) {
    loop {
        let batch = subscription.next().await.unwrap();
        if !batch.frame.is_empty() {
            let payload = |message: Message| String::from_utf8(message.payload.to_vec()).unwrap();
            return (batch.first_seq, batch.frame.messages().map(|message| payload(message.unwrap())).collect());
        }
    }
}

#[tokio::test]
async fn a_filter_lets_runs_of_consecutive_messages_through_from_the_store_and_live() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    let numbers = || [1, 5, 6, 2, 7].map(|number: u64| number.to_string());
    publish(&broker, numbers(), Confirm::Commit).await;
    let mut subscription = filtered(&broker, Start::Earliest, "$payload > 4").await;
    publish(&broker, numbers(), Confirm::Commit).await;
    for (first, payloads) in [(1, vec!["5", "6"]), (4, vec!["7"]), (6, vec!["5", "6"]), (9, vec!["7"])] {
        assert_eq!(next_run(&mut subscription).await, (first, payloads.iter().map(ToString::to_string).collect()));
    }
    assert_eq!(subscription.position(), 10);
    assert!(received(&mut subscription).is_empty());
    publish(&broker, numbers(), Confirm::Commit).await;
    assert_eq!(received(&mut subscription), ["5", "6", "7"]);
}

#[tokio::test]
async fn a_subscription_says_how_far_its_filter_has_looked() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    for _ in 0..5 {
        publish(&broker, vec!["0".to_owned(); 500], Confirm::Commit).await;
    }
    let mut subscription = filtered(&broker, Start::Earliest, "$payload == 1").await;
    assert_eq!(subscription.position(), 0);
    let mut word = Vec::new();
    while word.last() != Some(&2500) {
        let batch = subscription.next().await.unwrap();
        assert!(batch.frame.is_empty());
        assert_eq!(subscription.position(), batch.first_seq);
        word.push(batch.first_seq);
    }
    assert_eq!(word, [1000, 2000, 2500], "now and then, and where the channel ends");
    publish(&broker, ["1".to_owned()], Confirm::Commit).await;
    assert_eq!(next_run(&mut subscription).await, (2500, vec!["1".to_owned()]));
    publish(&broker, ["0".to_owned()], Confirm::Commit).await;
    let batch = subscription.next().await.unwrap();
    assert_eq!((batch.first_seq, batch.frame.count()), (2502, 0), "some time after the last message that was skipped");
}

#[tokio::test]
async fn each_message_is_delivered_when_some_filter_lets_it_through() {
    let mut config = config();
    // A publisher that waited for it would not be answered.
    config.limits.delivery_timeout = std::time::Duration::from_secs(3600);
    let broker = Broker::embedded(&config, Arc::new(MemoryStore::new())).await.unwrap();
    for filter in ["$payload < 3", "$payload in [2, 3, 5]"] {
        let mut subscription = filtered(&broker, Start::Latest, filter).await;
        tokio::spawn(async move { while subscription.next().await.is_ok() {} });
    }
    let outcomes = publish(&broker, [1, 2, 3, 4, 5, 6].map(|number: u64| number.to_string()), Confirm::Delivery).await;
    let delivered: Vec<_> = outcomes.iter().map(|outcome| outcome.delivered.unwrap()).collect();
    assert_eq!(delivered, [true, true, true, false, true, false]);
    let nobody = broker.publish("orders", envelope("no JSON"), None).await.unwrap();
    assert_eq!(nobody.delivered, Some(false));
}

#[tokio::test]
async fn a_filter_works_on_an_ephemeral_channel_and_on_headers_and_keys() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    let filter = r#"$headers.kind == "b" or $key starts with "k""#;
    let filter = Some(filter.parse().unwrap());
    let mut subscription = broker.subscribe_filtered("ticks", Start::Latest, filter).await.unwrap();
    let header = |value: &str| vec![liminal::proto::v1::Header { name: "kind".into(), value: value.into() }];
    let messages =
        [("a", header("a"), ""), ("b", header("b"), ""), ("c", header("a"), "k1")].map(|(payload, headers, key)| {
            Message {
                payload: payload.into(),
                headers,
                key: Some(key.into()).filter(|key: &String| !key.is_empty()),
                ..Message::default()
            }
        });
    for result in broker.publish_frame("ticks", Frame::encode(&messages), Confirm::Delivery).await {
        result.unwrap();
    }
    assert_eq!(received(&mut subscription), ["b", "c"]);
}
