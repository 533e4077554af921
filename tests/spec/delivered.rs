//! `delivered`: a message is handed to a subscriber when it is in the subscriber's inbox, whether the subscriber has
//! looked or not. No subscriber ever looks here before all publishes are answered.

use std::time::Duration;

use liminal::{broker::Confirm, model::Frame};

use super::*;

/// A publisher that waited for a subscriber to look would never be answered.
fn patient(limits: impl FnOnce(&mut liminal::model::Limits)) -> ServerConfig {
    let mut config = config();
    config.limits.delivery_timeout = Duration::from_secs(3600);
    limits(&mut config.limits);
    config
}

async fn embedded(config: &ServerConfig) -> Broker {
    Broker::embedded(config, Arc::new(MemoryStore::new())).await.unwrap()
}

/// Publishes `payload` and says whether it was delivered.
async fn delivered(broker: &Broker, channel: &str, payload: &str) -> bool {
    broker.publish(channel, envelope(payload), None).await.unwrap().delivered.unwrap()
}

/// What a subscription is handed until it was handed `last`.
async fn drain(subscription: &mut Subscription, last: &str) -> Vec<String> {
    let mut all = Vec::new();
    while all.last().is_none_or(|text| text != last) {
        let batch = subscription.next().await.unwrap();
        all.extend(batch.frame.messages().map(|message| String::from_utf8(message.unwrap().payload.to_vec()).unwrap()));
    }
    all
}

#[tokio::test]
async fn a_subscriber_that_never_looked_was_handed_each_distinct_message_once() {
    let broker = embedded(&patient(|_| ())).await;
    for channel in ["orders", "ticks"] {
        let mut subscription = broker.subscribe(channel, Start::Latest).await.unwrap();
        for number in 0..20 {
            let (payload, key) = (number.to_string(), format!("k{number}"));
            let publish = || broker.publish(channel, envelope(&payload), Some(&key));
            let first = publish().await.unwrap();
            assert_eq!((first.seq, first.duplicate, first.delivered), (number, false, Some(true)));
            let again = publish().await.unwrap();
            assert_eq!((again.seq, again.duplicate, again.delivered), (number, true, Some(false)));
        }
        let expected: Vec<String> = (0..20).map(|number: u64| number.to_string()).collect();
        assert_eq!(received(&mut subscription), expected, "{channel}");
    }
}

#[tokio::test]
async fn a_subscriber_that_begins_with_what_was_there_before_is_handed_what_comes() {
    let broker = embedded(&patient(|_| ())).await;
    for payload in ["a", "b"] {
        assert!(!delivered(&broker, "orders", payload).await, "nobody is there");
    }
    let mut subscription = broker.subscribe("orders", Start::Earliest).await.unwrap();
    assert!(delivered(&broker, "orders", "c").await);
    assert_eq!(received(&mut subscription), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_full_inbox_is_a_no_at_once_and_nothing_of_a_durable_channel_is_lost() {
    let broker = embedded(&patient(|limits| limits.subscriber_bytes = 200)).await;
    let mut stalled = broker.subscribe("orders", Start::Latest).await.unwrap();
    let mut answers = Vec::new();
    for number in 0..100 {
        answers.push(delivered(&broker, "orders", &number.to_string()).await);
    }
    let handed = answers.iter().take_while(|delivered| **delivered).count();
    assert!((1..100).contains(&handed), "{handed}");
    assert!(answers[handed..].iter().all(|delivered| !delivered), "{answers:?}");
    let expected: Vec<String> = (0..100).map(|number: u64| number.to_string()).collect();
    assert_eq!(drain(&mut stalled, "99").await, expected);
    assert!(delivered(&broker, "orders", "last").await, "its inbox is empty again");
    assert_eq!(drain(&mut stalled, "last").await, ["last"]);
}

#[tokio::test]
async fn a_full_inbox_of_an_ephemeral_channel_keeps_what_it_was_handed_and_costs_others_nothing() {
    let broker = embedded(&patient(|limits| limits.subscriber_bytes = 200)).await;
    let mut stalled = broker.subscribe("ticks", Start::Latest).await.unwrap();
    let mut handed = Vec::new();
    for number in 0..100 {
        if delivered(&broker, "ticks", &number.to_string()).await {
            handed.push(number.to_string());
        }
    }
    assert!((1..100).contains(&handed.len()), "{handed:?}");
    let mut quick = broker.subscribe("ticks", Start::Latest).await.unwrap();
    assert!(delivered(&broker, "ticks", "for the quick").await);
    assert_eq!(received(&mut quick), ["for the quick"]);
    assert_eq!(received(&mut stalled), handed, "what it was said to be handed");
    assert!(delivered(&broker, "ticks", "for both").await);
    assert_eq!((received(&mut stalled), received(&mut quick)), (vec!["for both".into()], vec!["for both".into()]));
}

#[tokio::test]
async fn a_filter_judges_without_its_subscriber() {
    let broker = embedded(&patient(|_| ())).await;
    for channel in ["orders", "ticks"] {
        let filter = "$payload < 3".parse().unwrap();
        let mut subscription = broker.subscribe_filtered(channel, Start::Latest, Some(filter)).await.unwrap();
        for (payload, expected) in [("1", true), ("7", false), ("2", true), ("no JSON", false)] {
            assert_eq!(delivered(&broker, channel, payload).await, expected, "{channel}: {payload}");
        }
        assert_eq!(received(&mut subscription), ["1", "2"]);
    }
}

#[tokio::test]
async fn a_filter_whose_inbox_is_full_is_a_no_at_once() {
    let broker = embedded(&patient(|limits| limits.subscriber_bytes = 200)).await;
    let filter = "$payload >= 0".parse().unwrap();
    let mut stalled = broker.subscribe_filtered("orders", Start::Latest, Some(filter)).await.unwrap();
    let mut answers = Vec::new();
    for number in 0..200 {
        answers.push(delivered(&broker, "orders", &number.to_string()).await);
    }
    let handed = answers.iter().take_while(|delivered| **delivered).count();
    assert!((1..200).contains(&handed), "{handed}");
    assert!(answers[handed..].iter().all(|delivered| !delivered), "{answers:?}");
    let expected: Vec<String> = (0..200).map(|number: u64| number.to_string()).collect();
    assert_eq!(drain(&mut stalled, "199").await, expected);
}

#[tokio::test]
async fn after_a_store_fault_the_retry_is_delivered_and_the_inbox_holds_one_copy() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let broker = Broker::embedded(&patient(|_| ()), store.clone()).await.unwrap();
    let mut subscription = broker.subscribe("orders", Start::Latest).await.unwrap();
    store.fail_commits(true);
    broker.publish("orders", envelope("a"), Some("k")).await.unwrap_err();
    store.fail_commits(false);
    let retried = loop {
        match broker.publish("orders", envelope("a"), Some("k")).await {
            Ok(outcome) => break outcome,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!((retried.seq, retried.duplicate, retried.delivered), (0, false, Some(true)));
    assert_eq!(received(&mut subscription), ["a"]);
}

#[tokio::test]
async fn what_expired_in_an_inbox_is_not_taken_out() {
    let broker = embedded(&patient(|_| ())).await;
    let filter = || Some("$payload < 9".parse().unwrap());
    let mut plain = broker.subscribe("orders", Start::Latest).await.unwrap();
    let mut filtered = broker.subscribe_filtered("orders", Start::Latest, filter()).await.unwrap();
    let message = |payload: &str, ttl_ms| Message { payload: payload.to_owned().into(), ttl_ms, ..Message::default() };
    let frame = Frame::encode(&[message("1", 0), message("2", 1), message("3", 0)]);
    for result in broker.publish_frame("orders", frame, Confirm::Delivery).await {
        assert_eq!(result.unwrap().delivered, Some(true));
    }
    tokio::time::sleep(Duration::from_millis(5)).await; // that message's time
    for subscription in [&mut plain, &mut filtered] {
        assert_eq!(drain(subscription, "3").await, ["1", "3"]);
    }
}

#[test]
fn a_subscription_is_looked_at_from_any_thread() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let broker = runtime.block_on(embedded(&patient(|limits| limits.subscriber_bytes = 200)));
    let mut subscription = runtime.block_on(broker.subscribe("orders", Start::Latest)).unwrap();
    for number in 0..100 {
        runtime.block_on(delivered(&broker, "orders", &number.to_string()));
    }
    // It is behind, and this thread cannot have anything read.
    assert!(received(&mut subscription).is_empty());
    assert_eq!(runtime.block_on(drain(&mut subscription, "99")).len(), 100);
}
