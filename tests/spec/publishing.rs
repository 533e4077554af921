//! Expected sequence numbers, transactions, times to live, delayed delivery, requests and replies.

use std::time::Duration;

use liminal::{
    broker::{
        Confirm, PublishOptions, REPLY_TO, SubscribeOptions, TransactionMessage, TransactionPart, TransactionRequest,
        filter_of,
    },
    model::{ConsumerConfig, Frame, Limits, Quota},
};

use super::*;

/// How long something may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(60);

async fn started() -> Broker {
    broker(Arc::new(MemoryStore::new())).await
}

fn expecting(seq: u64) -> PublishOptions {
    PublishOptions::new().expected_seq(seq)
}

fn one(channel: &str, payload: &str, key: &str) -> TransactionMessage {
    let key = Some(key.to_owned()).filter(|key| !key.is_empty());
    let message = Message { payload: Bytes::from(payload.to_owned()), key, ..Message::default() };
    TransactionMessage { channel: channel.into(), message, expected_seq: None }
}

async fn stored(broker: &Broker, channel: &str) -> Vec<String> {
    let page = broker.read(channel, Start::Earliest, 0, Consistency::Linearizable, None).await.unwrap();
    let messages = page.batches.iter().flat_map(|batch| batch.frame.messages());
    messages.map(|message| String::from_utf8(message.unwrap().payload.to_vec()).unwrap()).collect()
}

/// Waits until the clock has passed a time.
async fn clock_passes(broker: &Broker, time_ms: u64) {
    while broker.now_ms() <= time_ms {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_publish_that_expects_another_end_of_the_channel_is_refused_and_leaves_nothing() {
    let broker = started().await;
    broker.publish_with("orders", envelope("a"), Some("1"), expecting(0)).await.unwrap();
    let error = broker.publish_with("orders", envelope("b"), Some("2"), expecting(0)).await.unwrap_err();
    assert_eq!(error, BrokerError::WrongSeq { channel: "orders".into(), expected: 0, actual: 1 });
    assert_eq!(error.code().as_str(), "WRONG_SEQ");
    // The key is free, and a retry of what was done gets its answer.
    let other = broker.publish_with("orders", envelope("c"), Some("2"), expecting(1)).await.unwrap();
    assert_eq!((other.seq, other.duplicate), (1, false));
    let again = broker.publish_with("orders", envelope("a"), Some("1"), expecting(0)).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (0, true));
    assert_eq!(stored(&broker, "orders").await, ["a", "c"]);
}

#[tokio::test]
async fn of_publishers_that_expect_the_same_end_one_wins() {
    let broker = started().await;
    let publish = |payload: &'static str| broker.publish_with("orders", envelope(payload), None, expecting(0));
    let (a, b, c) = tokio::join!(publish("a"), publish("b"), publish("c"));
    let won = [a, b, c].iter().filter(|result| result.is_ok()).count();
    assert_eq!((won, stored(&broker, "orders").await.len()), (1, 1));
}

#[tokio::test]
async fn a_transaction_is_stored_whole_or_not_at_all() {
    let broker = started().await;
    broker.create_channel("audit", ChannelConfig::default()).await.unwrap();
    let checked = ChannelConfig { schema: Some(r#"{"type":"integer"}"#.into()), ..ChannelConfig::default() };
    broker.create_channel("numbers", checked).await.unwrap();
    let outcomes = broker
        .publish_transaction(
            vec![one("orders", "a", ""), one("orders", "b", ""), one("audit", "c", "")],
            Confirm::Commit,
        )
        .await
        .unwrap();
    assert_eq!(outcomes.iter().map(|outcome| outcome.seq).collect::<Vec<_>>(), [0, 1, 0]);
    let wrong = |expected_seq| TransactionMessage { expected_seq, ..one("audit", "d", "") };
    for (last, code) in [
        (wrong(Some(7)), "WRONG_SEQ"),
        (one("nowhere", "d", ""), "CHANNEL_NOT_FOUND"),
        (one("numbers", "no number", ""), "SCHEMA_VIOLATION"),
    ] {
        let error = broker.publish_transaction(vec![one("orders", "x", ""), last], Confirm::Commit).await.unwrap_err();
        assert!(matches!(&error, BrokerError::InTransaction { part: TransactionPart::Message(1), .. }), "{error:?}");
        assert_eq!(error.code().as_str(), code);
    }
    assert_eq!(
        (stored(&broker, "orders").await, stored(&broker, "audit").await),
        (vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()])
    );
}

#[tokio::test]
async fn a_transaction_that_is_repeated_gets_its_original_answer_and_a_mixed_one_is_refused() {
    let broker = started().await;
    broker.create_channel("audit", ChannelConfig::default()).await.unwrap();
    let whole = || vec![one("orders", "a", "1"), one("audit", "b", "2")];
    let first = broker.publish_transaction(whole(), Confirm::Delivery).await.unwrap();
    assert!(first.iter().all(|outcome| !outcome.duplicate && outcome.delivered == Some(false)));
    let again = broker.publish_transaction(whole(), Confirm::Delivery).await.unwrap();
    assert!(again.iter().all(|outcome| outcome.duplicate && outcome.seq == 0));
    let mixed = vec![one("orders", "new", "3"), one("audit", "b", "2")];
    let error = broker.publish_transaction(mixed, Confirm::Delivery).await.unwrap_err();
    let used = BrokerError::KeyUsedApart { channel: "audit".into(), key: "2".into() };
    assert_eq!(error, BrokerError::InTransaction { part: TransactionPart::Message(1), error: Box::new(used) });
    let conflict = vec![one("orders", "other", "1"), one("audit", "c", "4")];
    let error = broker.publish_transaction(conflict, Confirm::Delivery).await.unwrap_err();
    assert_eq!((error.code().as_str(), error.to_string().contains("`1`")), ("KEY_CONFLICT", true));
    for unfit in [vec![], vec![one("orders", "x", "5"), one("audit", "y", "")]] {
        let error = broker.publish_transaction(unfit, Confirm::Delivery).await.unwrap_err();
        assert_eq!(error.code().as_str(), "INVALID_ARGUMENT");
    }
    assert_eq!(stored(&broker, "orders").await, ["a"]);
}

#[tokio::test]
async fn subscribers_are_handed_what_a_transaction_stored() {
    let broker = started().await;
    let mut subscription = broker.subscribe("orders", Start::Latest).await.unwrap();
    let reader = tokio::spawn(async move { subscription.next().await.unwrap().frame.count() });
    let outcomes = broker
        .publish_transaction(vec![one("orders", "a", ""), one("orders", "b", "")], Confirm::Delivery)
        .await
        .unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.delivered == Some(true)));
    assert_eq!(reader.await.unwrap(), 2);
}

#[tokio::test]
async fn a_message_whose_time_to_live_has_passed_is_handed_to_nobody_and_leaves_a_gap() {
    let broker = started().await;
    let short = Envelope { ttl_ms: 1, ..envelope("short") };
    let long = Envelope { ttl_ms: 1_000_000, ..envelope("long") };
    let mut following = broker.subscribe("orders", Start::Earliest).await.unwrap();
    for (number, message) in [envelope("a"), short, long, envelope("b")].into_iter().enumerate() {
        let frame =
            Frame::encode([&Message { payload: message.payload, ttl_ms: message.ttl_ms, ..Message::default() }]);
        let seq = broker.publish_frame("orders", frame, Confirm::Commit).await.remove(0).unwrap().seq;
        assert_eq!(seq, number as u64);
    }
    clock_passes(&broker, broker.now_ms() + 1).await;
    assert_eq!(stored(&broker, "orders").await, ["a", "long", "b"]);
    let mut again = broker.subscribe("orders", Start::Earliest).await.unwrap();
    for subscription in [&mut following, &mut again] {
        let mut seqs = Vec::new();
        while seqs.len() < 3 {
            seqs.push(subscription.next().await.unwrap().first_seq);
        }
        assert_eq!(seqs, [0, 2, 3]);
    }
    let page = broker.read("orders", Start::Seq(1), 1, Consistency::Linearizable, None).await.unwrap();
    assert_eq!((page.batches[0].first_seq, page.next_seq), (2, 3));
}

#[tokio::test]
async fn the_acks_of_a_batch_say_for_each_message_whether_it_was_delivered() {
    let broker = started().await;
    let mut subscription = broker.subscribe("orders", Start::Latest).await.unwrap();
    let reader = tokio::spawn(async move {
        let mut next = 0;
        while next < 3 {
            next = subscription.next().await.unwrap().end_seq();
        }
    });
    let messages = [0, 1_000_000, 0].map(|ttl_ms| Message { ttl_ms, ..Message::default() });
    let results = broker.publish_frame("orders", Frame::encode(&messages), Confirm::Delivery).await;
    assert!(results.iter().all(|result| result.as_ref().unwrap().delivered == Some(true)), "{results:?}");
    reader.await.unwrap();
}

#[tokio::test]
async fn a_delayed_message_becomes_visible_at_its_time_after_those_published_meanwhile() {
    let broker = started().await;
    let mut subscription = broker.subscribe("orders", Start::Latest).await.unwrap();
    let due = broker.now_ms() + 2000;
    let late = || Envelope { deliver_at_ms: due, ..envelope("late") };
    let first = broker.publish("orders", late(), Some("k")).await.unwrap();
    assert_eq!((first.scheduled_ms, first.duplicate), (Some(due), false));
    let again = broker.publish("orders", late(), Some("k")).await.unwrap();
    assert_eq!((again.scheduled_ms, again.duplicate), (Some(due), true));
    let conflict = broker.publish("orders", Envelope { deliver_at_ms: due, ..envelope("x") }, Some("k")).await;
    assert_eq!(conflict.unwrap_err().code().as_str(), "KEY_CONFLICT");
    let frame = Frame::encode([&Message { payload: "now".into(), ..Message::default() }]);
    assert_eq!(broker.publish_frame("orders", frame, Confirm::Commit).await.remove(0).unwrap().seq, 0);
    let mut got = Vec::new();
    while got.len() < 2 {
        let batch = tokio::time::timeout(PATIENCE, subscription.next()).await.unwrap().unwrap();
        let times = std::iter::repeat_n(batch.time_ms, batch.frame.count() as usize);
        got.extend(batch.frame.messages().map(|message| message.unwrap().payload).zip(times));
    }
    assert_eq!((&got[0].0[..], &got[1].0[..]), (&b"now"[..], &b"late"[..]));
    assert!(got[1].1 >= due, "not before its time");
    let known = broker.publish("orders", late(), Some("k")).await.unwrap();
    assert_eq!((known.seq, known.duplicate, known.scheduled_ms), (1, true, None));
    assert!(received(&mut subscription).is_empty());
}

#[tokio::test]
async fn messages_that_wait_survive_a_restart_and_come_in_the_order_of_their_times() {
    let store: Arc<dyn DurableStore> = Arc::new(MemoryStore::new());
    let first = broker(store.clone()).await;
    let due = first.now_ms() + 2000;
    for (payload, after) in [("c", 20), ("a", 0), ("b", 10), ("b2", 10)] {
        let message = Envelope { deliver_at_ms: due + after, ..envelope(payload) };
        first.publish("orders", message, None).await.unwrap();
    }
    first.stop().await;
    let second = broker(store).await;
    let came = async { while stored(&second, "orders").await.len() < 4 {} };
    tokio::time::timeout(PATIENCE, came).await.expect("they come by themselves");
    assert_eq!(stored(&second, "orders").await, ["a", "b", "b2", "c"]);
}

#[tokio::test]
async fn a_batch_may_hold_messages_for_now_and_for_later() {
    let broker = started().await;
    let due = broker.now_ms() + 1_000_000;
    let messages = [0, due, 1, due].map(|deliver_at_ms| Message { deliver_at_ms, ..Message::default() });
    let results = broker.publish_frame("orders", Frame::encode(&messages), Confirm::Commit).await;
    let brief = |result: &Result<liminal::broker::Outcome, BrokerError>| {
        let outcome = result.as_ref().unwrap();
        outcome.scheduled_ms.map_or((Some(outcome.seq), None), |due| (None, Some(due)))
    };
    let expected = [(Some(0), None), (None, Some(due)), (Some(1), None), (None, Some(due))];
    assert_eq!(results.iter().map(brief).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn what_waits_can_be_looked_at_and_taken_back_and_then_never_comes() {
    let broker = started().await;
    let due = broker.now_ms() + 60_000;
    for (number, key) in [(0, Some("a")), (1, None), (2, Some("c"))] {
        let later = Envelope { deliver_at_ms: due - number, ..envelope(&number.to_string()) };
        broker.publish("orders", later, key).await.unwrap();
    }
    let ids = |page: &liminal::broker::DelayedPage| page.messages.iter().map(|one| one.id).collect::<Vec<_>>();
    let all = broker.delayed_messages("orders", 0, 0).await.unwrap();
    assert_eq!((ids(&all), all.next_after), (vec![1, 2, 3], None));
    let shown = &all.messages[2];
    assert_eq!(
        (shown.due_ms, shown.message.key.as_deref(), &shown.message.payload[..]),
        (due - 2, Some("c"), &b"2"[..])
    );
    let page = broker.delayed_messages("orders", 1, 1).await.unwrap();
    assert_eq!((ids(&page), page.next_after), (vec![2], Some(2)), "a page after the first message");
    assert_eq!(ids(&broker.delayed_messages("orders", 2, 1).await.unwrap()), [3]);

    assert!(broker.withdraw_delayed("orders", 3).await.unwrap());
    assert!(!broker.withdraw_delayed("orders", 3).await.unwrap(), "it is gone already");
    assert_eq!(ids(&broker.delayed_messages("orders", 0, 0).await.unwrap()), [1, 2]);
    assert_eq!(broker.channel("orders").await.unwrap().delayed, 2);
    // Its key is free: another message may have it.
    let again = broker.publish("orders", envelope("other"), Some("c")).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (0, false));
    for error in [
        broker.delayed_messages("ordres", 0, 0).await.unwrap_err(),
        broker.withdraw_delayed("ordres", 1).await.unwrap_err(),
    ] {
        assert_eq!(error.code().as_str(), "CHANNEL_NOT_FOUND");
    }
}

#[tokio::test]
async fn what_waits_is_bounded_and_an_unfit_delay_is_refused() {
    let mut config = config();
    config.limits = Limits { delayed_messages: 1, max_delay: Duration::from_secs(3600), ..Limits::default() };
    let broker = Broker::embedded(&config, Arc::new(MemoryStore::new())).await.unwrap();
    let later = |seconds: u64| Envelope { deliver_at_ms: broker.now_ms() + seconds * 1000, ..envelope("a") };
    let refused = [
        broker.publish("orders", later(4000), None).await,
        broker.publish("ticks", later(60), None).await,
        broker.publish_with("orders", later(60), None, expecting(0)).await,
    ];
    let codes = refused.map(|result| result.unwrap_err().code().as_str());
    assert_eq!(codes, ["LIMIT_EXCEEDED", "INVALID_ARGUMENT", "INVALID_ARGUMENT"]);
    broker.publish("orders", later(60), None).await.unwrap();
    assert_eq!(broker.channel("orders").await.unwrap().delayed, 1);
    assert_eq!(broker.publish("orders", later(60), None).await.unwrap_err().code().as_str(), "LIMIT_EXCEEDED");
    broker.delete_channel("orders").await.unwrap();
    broker.create_channel("orders", ChannelConfig::default()).await.unwrap();
    broker.publish("orders", later(60), None).await.expect("they went with their channel");
}

fn inbox_of(message: &Message) -> String {
    message.headers.iter().find(|header| header.name == REPLY_TO).unwrap().value.clone()
}

/// Answers the first request with its payload and an exclamation mark.
async fn respond(broker: Broker, mut subscription: Subscription) -> String {
    let batch = subscription.next().await.unwrap();
    let message = batch.frame.messages().next().unwrap().unwrap();
    let inbox = inbox_of(&message);
    broker.reply(&inbox, envelope(&format!("{}!", String::from_utf8_lossy(&message.payload)))).await.unwrap();
    inbox
}

#[tokio::test]
async fn a_request_gets_the_first_reply_and_later_ones_find_nobody() {
    let broker = started().await;
    let subscription = broker.subscribe("orders", Start::Latest).await.unwrap();
    let responder = tokio::spawn(respond(broker.clone(), subscription));
    let reply = broker.request("orders", envelope("ping"), PATIENCE).await.unwrap();
    assert_eq!(reply.payload, "ping!");
    let inbox = responder.await.unwrap();
    let error = broker.reply(&inbox, envelope("again")).await.unwrap_err();
    assert_eq!(error.code().as_str(), "INBOX_GONE");
    assert_eq!(broker.reply("nonsense", envelope("x")).await.unwrap_err().code().as_str(), "INVALID_ARGUMENT");
}

#[tokio::test]
async fn a_request_that_nobody_hears_is_told_so_before_its_time_is_up() {
    let broker = started().await;
    let error = broker.request("orders", envelope("ping"), Duration::from_secs(300)).await.unwrap_err();
    assert_eq!(error, BrokerError::NoResponders { channel: "orders".into() });
    assert!(!error.outcome_unknown());
    assert_eq!(broker.channel("orders").await.unwrap().stats.next_seq, 0, "what is refused for certain is not stored");
    let error = broker.request("ticks", envelope("ping"), Duration::from_secs(300)).await.unwrap_err();
    assert_eq!(error, BrokerError::NoResponders { channel: "ticks".into() });
}

#[tokio::test]
async fn a_request_that_is_stored_waits_for_whoever_may_yet_answer_it() {
    let broker = started().await;
    let filter = filter_of("kind == 1").unwrap();
    let options = SubscribeOptions { filter, ..SubscribeOptions::default() };
    let deaf = broker.subscribe_with("orders", Start::Latest, options).await.unwrap();
    let asker = broker.clone();
    let asking = tokio::spawn(async move { asker.request("orders", envelope("ping"), PATIENCE).await });
    let stored = async { while broker.channel("orders").await.unwrap().stats.next_seq == 0 {} };
    tokio::time::timeout(PATIENCE, stored).await.expect("the request is stored");
    let late = broker.subscribe("orders", Start::Earliest).await.unwrap();
    respond(broker.clone(), late).await;
    assert_eq!(asking.await.unwrap().unwrap().payload, "ping!");
    drop(deaf);
}

#[tokio::test]
async fn a_member_of_a_consumer_answers_a_request_that_no_subscriber_hears() {
    let broker = started().await;
    broker.create_consumer("orders", "w", ConsumerConfig::default(), Start::Earliest).await.unwrap();
    let asker = broker.clone();
    let asking = tokio::spawn(async move { asker.request("orders", envelope("ping"), Duration::from_secs(5)).await });
    let mut member = broker.join_consumer("orders", "w", 1).await.unwrap();
    let request = tokio::time::timeout(PATIENCE, member.next()).await.unwrap().unwrap().remove(0);
    broker.reply(&inbox_of(&request.message), envelope("pong")).await.unwrap();
    assert_eq!(asking.await.unwrap().unwrap().payload, "pong");
}

#[tokio::test]
async fn a_request_without_a_reply_in_time_says_that_it_may_have_been_handled() {
    let broker = started().await;
    let mut subscription = broker.subscribe("orders", Start::Latest).await.unwrap();
    let silent =
        tokio::spawn(async move { subscription.next().await.unwrap().frame.messages().next().unwrap().unwrap() });
    let error = broker.request("orders", envelope("ping"), Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error, BrokerError::ReplyTimeout { waited_ms: 50 });
    assert!(error.outcome_unknown());
    let late = broker.reply(&inbox_of(&silent.await.unwrap()), envelope("late")).await.unwrap_err();
    assert_eq!(late.code().as_str(), "INBOX_GONE");
}

#[tokio::test]
async fn requests_that_wait_are_bounded() {
    let mut config = config();
    config.limits.requests = 1;
    config.limits.request_timeout = Duration::from_secs(60);
    let broker = Broker::embedded(&config, Arc::new(MemoryStore::new())).await.unwrap();
    let mut subscription = broker.subscribe("orders", Start::Latest).await.unwrap();
    let asker = broker.clone();
    let first = tokio::spawn(async move { asker.request("orders", envelope("ping"), Duration::from_secs(60)).await });
    let request = subscription.next().await.unwrap().frame.messages().next().unwrap().unwrap();
    let second = broker.request("orders", envelope("ping"), Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(second.code().as_str(), "LIMIT_EXCEEDED");
    broker.reply(&inbox_of(&request), envelope("pong")).await.unwrap();
    assert_eq!(first.await.unwrap().unwrap().payload, "pong");
    let long = broker.request("orders", envelope("ping"), Duration::from_secs(61)).await.unwrap_err();
    assert_eq!(long.code().as_str(), "LIMIT_EXCEEDED");
}

#[tokio::test]
async fn what_a_transaction_or_its_time_makes_visible_is_copied_by_the_rules() {
    let broker = started().await;
    broker.create_channel("audit", ChannelConfig::default()).await.unwrap();
    broker.put_rule("orders", "audit", None).await.unwrap();
    broker.publish_transaction(vec![one("orders", "a", ""), one("orders", "b", "")], Confirm::Commit).await.unwrap();
    assert_eq!(stored(&broker, "audit").await, ["a", "b"]);
    let mut copies = broker.subscribe("audit", Start::Latest).await.unwrap();
    let later = Envelope { deliver_at_ms: broker.now_ms() + 20, ..envelope("c") };
    broker.publish("orders", later, None).await.unwrap();
    tokio::time::timeout(PATIENCE, copies.next()).await.unwrap().unwrap();
    assert_eq!(stored(&broker, "audit").await, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_filter_looks_only_at_what_has_not_expired() {
    let broker = started().await;
    let messages = [("5", 1), ("6", 0), ("1", 0), ("7", 1), ("8", 0)];
    let messages = messages.map(|(payload, ttl_ms)| Message { payload: payload.into(), ttl_ms, ..Message::default() });
    for result in broker.publish_frame("orders", Frame::encode(&messages), Confirm::Commit).await {
        result.unwrap();
    }
    clock_passes(&broker, broker.view().time_ms() + 1).await;
    let filter = "$payload > 4".parse().unwrap();
    let mut filtered = broker.subscribe_filtered("orders", Start::Earliest, Some(filter)).await.unwrap();
    for expected in [1, 4] {
        let batch = tokio::time::timeout(PATIENCE, filtered.next()).await.unwrap().unwrap();
        assert_eq!((batch.first_seq, batch.frame.count()), (expected, 1));
    }
    assert_eq!(filtered.position(), 5);
}

#[tokio::test]
async fn a_transaction_and_a_delayed_message_count_against_quotas_whole_or_not_at_all() {
    let broker = started().await;
    broker.create_channel("invoices", ChannelConfig::default()).await.unwrap();
    // A message that is taken uses up hours of it.
    let quota = Quota { messages_per_second: None, bytes_per_second: Some(1) };
    for channel in ["orders", "invoices"] {
        let update = ChannelUpdate { quota: Some(quota), ..ChannelUpdate::default() };
        broker.update_channel(channel, update).await.unwrap();
    }
    let large = "x".repeat(10_000);
    let deliver_at_ms = broker.now_ms() + 3_600_000;
    let later = Message { payload: Bytes::from(large.clone()), deliver_at_ms, ..Message::default() };
    let scheduled = broker.publish_frame("invoices", Frame::encode([&later]), Confirm::Commit).await.remove(0).unwrap();
    assert_eq!(scheduled.scheduled_ms, Some(deliver_at_ms));
    let both = TransactionRequest {
        messages: vec![one("orders", &large, ""), one("invoices", &large, "")],
        ..TransactionRequest::default()
    };
    let error = broker.transact(&both, Confirm::Commit).await.unwrap_err();
    assert!(matches!(&error, BrokerError::QuotaExceeded { what, .. } if what.contains("`invoices`")), "{error:?}");
    // Nothing was stored, and nothing counted.
    broker.publish("orders", envelope(&large), None).await.unwrap();
    let error = broker.publish("orders", envelope("x"), None).await.unwrap_err();
    assert!(matches!(&error, BrokerError::QuotaExceeded { what, .. } if what.contains("`orders`")), "{error:?}");
    assert_eq!(stored(&broker, "orders").await, [large]);
}

/// Sixty bytes that double the steps of a check with each level of a payload.
const DOUBLING: &str = r##"{"properties":{"a":{"anyOf":[{"$ref":"#"},{"$ref":"#"}]},"b":false}}"##;

#[tokio::test]
async fn a_payload_that_is_too_expensive_to_check_is_refused_by_name_and_holds_nobody_up() {
    let broker = started().await;
    let config = ChannelConfig { schema: Some(DOUBLING.into()), ..ChannelConfig::default() };
    broker.create_channel("doubling", config).await.unwrap();
    broker.publish("doubling", envelope(r#"{"a":{"a":{}}}"#), None).await.unwrap();
    let deep = (0..60).fold(r#"{"b":1}"#.to_owned(), |inner, _| format!(r#"{{"a":{inner}}}"#));
    let error = broker.publish("doubling", envelope(&deep), None).await.unwrap_err();
    assert_eq!(error.code().as_str(), "SCHEMA_TOO_EXPENSIVE");
    assert_eq!(
        error.to_string(),
        "the payload cannot be checked with the schema of channel `doubling`: it takes more than 500000 steps"
    );
    assert!(!error.outcome_unknown() && !error.help().is_empty());
    assert_eq!(stored(&broker, "doubling").await.len(), 1);
    // Stored messages are looked at under the same rule.
    broker.publish("orders", envelope(&deep), None).await.unwrap();
    let report = broker.validate_history("orders", DOUBLING, Start::Earliest, 0).await.unwrap();
    assert_eq!((report.checked, report.invalid), (1, 1));
    let reason = &report.samples[0].1[0].message;
    assert!(reason.contains("it was not checked: it takes more than 500000 steps"), "{reason}");
}
