//! What consumers promise, on one embedded node.

use std::{sync::Arc, time::Duration};

use liminal::{
    broker::{
        Broker, BrokerError, Consistency, ConsumerDelivery, ConsumerUpdate, DeadLetters, Envelope, Member, Start, Trim,
    },
    model::{
        ChannelConfig, ChannelUpdate, ConsumeOrder, ConsumerConfig, DeliveryToken, HistoryChange, OrderingKey,
        Retention, Settlement, Verdict, WhenFull,
    },
    store::{DurableStore, MemoryStore},
};

use super::{broker, envelope};

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn config() -> ConsumerConfig {
    ConsumerConfig { ack_timeout_ms: 600_000, ..ConsumerConfig::default() }
}

async fn consuming(config: ConsumerConfig) -> Broker {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    broker.create_channel("dead", liminal::model::ChannelConfig::default()).await.unwrap();
    broker.create_consumer("orders", "w", config, Start::Earliest).await.unwrap();
    broker
}

async fn publish(broker: &Broker, payloads: &[&str]) {
    for payload in payloads {
        broker.publish("orders", envelope(payload), None).await.unwrap();
    }
}

/// The next messages, this many.
async fn take(member: &mut Member, count: usize) -> Vec<ConsumerDelivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = tokio::time::timeout(PATIENCE, member.next()).await;
        taken.extend(next.unwrap_or_else(|_| panic!("only {taken:?}")).unwrap());
    }
    assert_eq!(taken.len(), count, "{taken:?}");
    taken
}

async fn take_some(member: &mut Member) -> Vec<ConsumerDelivery> {
    tokio::time::timeout(PATIENCE, member.next()).await.expect("something comes").unwrap()
}

fn shown(deliveries: &[ConsumerDelivery]) -> Vec<(String, u32)> {
    let one = |delivery: &ConsumerDelivery| {
        (String::from_utf8(delivery.message.payload.to_vec()).unwrap(), delivery.token.attempt)
    };
    deliveries.iter().map(one).collect()
}

async fn say(broker: &Broker, token: DeliveryToken, verdict: Verdict) -> Result<(), BrokerError> {
    broker.settle("orders", "w", vec![Settlement { token, verdict }]).await.unwrap().remove(0)
}

fn nack() -> Verdict {
    Broker::nack(0, "busy".into()).unwrap()
}

async fn lag(broker: &Broker) -> u64 {
    broker.consumer("orders", "w").await.unwrap().status.lag
}

#[tokio::test]
async fn what_is_acknowledged_never_comes_again_and_what_is_not_comes_again_when_the_member_is_gone() {
    let broker = consuming(config()).await;
    publish(&broker, &["a", "b", "c"]).await;
    let mut member = broker.join_consumer("orders", "w", 10).await.unwrap();
    let got = take(&mut member, 3).await;
    assert_eq!(shown(&got), [("a".into(), 1), ("b".into(), 1), ("c".into(), 1)]);
    say(&broker, got[1].token, Verdict::Ack).await.unwrap();
    drop(member);
    let mut next = broker.join_consumer("orders", "w", 10).await.unwrap();
    assert_eq!(shown(&take(&mut next, 2).await), [("a".into(), 2), ("c".into(), 2)]);
    assert_eq!(lag(&broker).await, 2);
}

#[tokio::test]
async fn a_member_gets_what_is_published_while_it_waits_and_no_more_than_it_takes() {
    let broker = consuming(config()).await;
    let mut member = broker.join_consumer("orders", "w", 2).await.unwrap();
    let waiting = tokio::spawn(async move { (take(&mut member, 1).await, member) });
    publish(&broker, &["a"]).await;
    let (first, mut member) = waiting.await.unwrap();
    publish(&broker, &["b", "c"]).await;
    let second = take(&mut member, 1).await;
    assert_eq!(shown(&second), [("b".into(), 1)], "it has two already");
    say(&broker, first[0].token, Verdict::Ack).await.unwrap();
    assert_eq!(shown(&take(&mut member, 1).await), [("c".into(), 1)]);
}

#[tokio::test]
async fn a_group_shares_the_messages_and_each_consumer_gets_them_all() {
    let broker = consuming(config()).await;
    broker.create_consumer("orders", "other", config(), Start::Earliest).await.unwrap();
    let mut members = Vec::new();
    for name in ["w", "w", "other"] {
        members.push(broker.join_consumer("orders", name, 3).await.unwrap());
    }
    publish(&broker, &["1", "2", "3", "4", "5", "6"]).await;
    let mut group = Vec::new();
    for member in &mut members[..2] {
        group.extend(shown(&take(member, 3).await));
    }
    group.sort();
    assert_eq!(group.iter().map(|(payload, _)| payload.as_str()).collect::<String>(), "123456");
    members[2].set_window(6);
    assert_eq!(take(&mut members[2], 6).await.len(), 6);
    let stored = broker.read("orders", Start::Earliest, 0, Consistency::Local, None).await.unwrap();
    assert_eq!(stored.end_seq, 6, "stored once, whoever consumes");
}

#[tokio::test]
async fn a_message_that_nobody_settles_comes_again_by_itself() {
    let broker = consuming(ConsumerConfig { ack_timeout_ms: 100, ..config() }).await;
    publish(&broker, &["a"]).await;
    let mut member = broker.join_consumer("orders", "w", 1).await.unwrap();
    let first = take(&mut member, 1).await;
    let second = take(&mut member, 1).await;
    assert_eq!((first[0].token.attempt, second[0].token.attempt), (1, 2));
    assert_eq!(first[0].token.seq, second[0].token.seq);
    let late = say(&broker, first[0].token, Verdict::Ack).await.unwrap_err();
    assert_eq!((late.code().as_str(), late), ("STALE_DELIVERY", BrokerError::StaleDelivery { seq: 0 }));
}

#[tokio::test]
async fn a_nack_brings_a_message_back_and_after_the_last_attempt_it_is_a_dead_letter_written_once() {
    let config = ConsumerConfig { max_attempts: 2, dead_letter: Some("dead".parse().unwrap()), ..config() };
    let broker = consuming(config).await;
    publish(&broker, &["poison", "good"]).await;
    let mut member = broker.join_consumer("orders", "w", 1).await.unwrap();
    for attempt in 1..=2 {
        let got = take(&mut member, 1).await;
        assert_eq!(shown(&got), [("poison".into(), attempt)]);
        say(&broker, got[0].token, nack()).await.unwrap();
    }
    assert_eq!(shown(&take(&mut member, 1).await), [("good".into(), 1)]);
    let mut dead = broker.subscribe("dead", Start::Earliest).await.unwrap();
    let letter = tokio::time::timeout(PATIENCE, dead.next()).await.expect("a dead letter").unwrap();
    let letter = letter.frame.messages().next().unwrap().unwrap();
    assert_eq!(letter.payload, "poison");
    let headers: Vec<(&str, &str)> = letter.headers.iter().map(|h| (h.name.as_str(), h.value.as_str())).collect();
    assert_eq!(
        headers,
        [
            ("liminal-dead-letter-reason", "nacked: busy"),
            ("liminal-dead-letter-channel", "orders"),
            ("liminal-dead-letter-seq", "0"),
            ("liminal-dead-letter-consumer", "w"),
            ("liminal-dead-letter-attempts", "2"),
            ("liminal-dead-letter-hops", "1"),
        ]
    );
    let status = broker.consumer("orders", "w").await.unwrap().status;
    assert_eq!((status.cursor.dead, status.dying, status.lag), (1, 0, 1));
    assert_eq!(broker.channel("dead").await.unwrap().stats.next_seq, 1);
}

#[tokio::test]
async fn an_exclusive_consumer_hands_on_in_order_to_one_member_at_a_time() {
    let broker = consuming(ConsumerConfig { order: ConsumeOrder::Exclusive, ..config() }).await;
    publish(&broker, &["a", "b", "c"]).await;
    let mut first = broker.join_consumer("orders", "w", 2).await.unwrap();
    let got = take(&mut first, 2).await;
    let mut second = broker.join_consumer("orders", "w", 2).await.unwrap();
    let waiting = tokio::spawn(async move { (take(&mut second, 2).await, second) });
    // It comes back before anything after it.
    say(&broker, got[0].token, nack()).await.unwrap();
    let again = take(&mut first, 1).await;
    assert_eq!(shown(&again), [("a".into(), 2)]);
    first.set_window(0);
    drop(first);
    let (rest, _second) = waiting.await.unwrap();
    assert_eq!(shown(&rest), [("a".into(), 3), ("b".into(), 2)]);
}

#[tokio::test]
async fn messages_of_one_key_stay_with_one_member_and_in_order_whoever_else_is_idle() {
    let broker =
        consuming(ConsumerConfig { order: ConsumeOrder::Key(OrderingKey::Header("user".into())), ..config() }).await;
    let user = |payload: &str, user: &str| {
        let header = liminal::proto::v1::Header { name: "user".into(), value: user.into() };
        liminal::broker::Envelope { headers: vec![header], ..envelope(payload) }
    };
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(broker.join_consumer("orders", "w", 2).await.unwrap());
    }
    let all: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    for (number, payload) in all.iter().enumerate() {
        broker.publish("orders", user(payload, &format!("u{}", number % 4)), None).await.unwrap();
    }
    // Whoever gets something settles it; the messages of a user come in order, one member at a time.
    let (sender, mut results) = tokio::sync::mpsc::channel(1_024);
    for mut member in members {
        let (broker, sender) = (broker.clone(), sender.clone());
        tokio::spawn(async move {
            while let Ok(deliveries) = member.next().await {
                for delivery in deliveries {
                    let payload: usize = std::str::from_utf8(&delivery.message.payload).unwrap().parse().unwrap();
                    if sender.try_send(payload).is_err() {
                        return;
                    }
                    say(&broker, delivery.token, Verdict::Ack).await.unwrap();
                }
            }
        });
    }
    let mut seen = Vec::new();
    while seen.len() < 30 {
        seen.push(tokio::time::timeout(PATIENCE, results.recv()).await.unwrap().unwrap());
    }
    for user in 0..4 {
        let of: Vec<usize> = seen.iter().copied().filter(|number| number % 4 == user).collect();
        assert!(of.is_sorted(), "{of:?} of {seen:?}");
    }
}

#[tokio::test]
async fn a_reset_brings_everything_again_from_there_and_a_restart_changes_nothing() {
    let store: Arc<dyn DurableStore> = Arc::new(MemoryStore::new());
    let first = broker(store.clone()).await;
    first.create_consumer("orders", "w", config(), Start::Earliest).await.unwrap();
    publish(&first, &["a", "b", "c"]).await;
    let got = first.pull("orders", "w", 2, PATIENCE).await.unwrap();
    assert_eq!(got.len(), 2);
    say(&first, got[0].token, Verdict::Ack).await.unwrap();
    first.flush().await.unwrap();
    first.stop().await;
    let second = broker(store).await;
    assert_eq!(lag(&second).await, 2);
    say(&second, got[1].token, Verdict::Ack).await.unwrap();
    assert_eq!(lag(&second).await, 1);
    let info = second.reset_consumer("orders", "w", Start::Seq(1)).await.unwrap();
    assert_eq!((info.status.cursor.next, info.status.lag), (1, 2));
    let again = second.pull("orders", "w", 10, PATIENCE).await.unwrap();
    assert_eq!(shown(&again), [("b".into(), 1), ("c".into(), 1)]);
    let gone = second.pull("orders", "w", 10, Duration::from_millis(30)).await.unwrap();
    assert!(gone.is_empty());
}

#[tokio::test]
async fn a_message_whose_time_to_live_has_passed_is_handed_to_no_member_and_is_settled() {
    let broker = consuming(config()).await;
    let short = |payload| Envelope { ttl_ms: 1, ..envelope(payload) };
    for message in [envelope("a"), short("b"), envelope("c"), short("d")] {
        broker.publish("orders", message, None).await.unwrap();
    }
    let published = broker.now_ms();
    while broker.now_ms() <= published + 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut member = broker.join_consumer("orders", "w", 10).await.unwrap();
    let got = take(&mut member, 2).await;
    assert_eq!(shown(&got), [("a".into(), 1), ("c".into(), 1)]);
    for delivery in &got {
        say(&broker, delivery.token, Verdict::Ack).await.unwrap();
    }
    let waiting = tokio::spawn(async move { member.next().await });
    let settled = async {
        while lag(&broker).await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("what has expired is settled");
    waiting.abort();
}

#[tokio::test]
async fn an_ack_up_to_settles_all_that_the_member_has_before() {
    let broker = consuming(config()).await;
    publish(&broker, &["a", "b", "c"]).await;
    let got = broker.pull("orders", "w", 3, PATIENCE).await.unwrap();
    say(&broker, got[1].token, Verdict::AckUpTo).await.unwrap();
    assert_eq!(lag(&broker).await, 1);
    say(&broker, got[2].token, Verdict::Extend).await.unwrap();
    say(&broker, got[2].token, Verdict::Ack).await.unwrap();
    assert_eq!(lag(&broker).await, 0);
}

#[tokio::test]
async fn consumers_are_managed_and_what_cannot_be_is_refused() {
    let broker = consuming(config()).await;
    let again = broker.create_consumer("orders", "w", config(), Start::Latest).await.unwrap();
    assert_eq!(again.status.cursor.next, 0, "it stays where it is");
    let other = broker.create_consumer("orders", "w", ConsumerConfig::default(), Start::Latest).await.unwrap_err();
    assert_eq!(other.code().as_str(), "CONSUMER_EXISTS");
    let error = broker.consumer("orders", "v").await.unwrap_err();
    assert_eq!(
        error,
        BrokerError::ConsumerNotFound { channel: "orders".into(), name: "v".into(), similar: Some("w".into()) }
    );
    let ephemeral = broker.create_consumer("ticks", "w", config(), Start::Latest).await.unwrap_err();
    assert_eq!(ephemeral.code().as_str(), "NOT_STORED");
    let name = broker.create_consumer("orders", "a b", config(), Start::Latest).await.unwrap_err();
    assert_eq!(name.code().as_str(), "INVALID_CONSUMER_NAME");
    let update = ConsumerUpdate { max_in_flight: Some(7), ..ConsumerUpdate::default() };
    let updated = broker.update_consumer("orders", "w", update).await.unwrap();
    assert_eq!((updated.status.meta.config.max_in_flight, updated.status.meta.config.ack_timeout_ms), (7, 600_000));
    let mut member = broker.join_consumer("orders", "w", 1).await.unwrap();
    broker.delete_consumer("orders", "w").await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, member.next()).await.expect("its members end").unwrap_err();
    assert_eq!(ended.code().as_str(), "CONSUMER_NOT_FOUND");
    assert!(broker.consumers("orders").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_consumer_with_a_filter_gets_only_what_it_lets_through_and_lags_behind_nothing_else() {
    let filter = Some("size > 10".to_owned());
    let broker = consuming(ConsumerConfig { filter, ..config() }).await;
    publish(&broker, &[r#"{"size":9}"#, r#"{"size":11}"#, "no json", r#"{"size":12}"#, r#"{"size":1}"#]).await;
    let mut member = broker.join_consumer("orders", "w", 10).await.unwrap();
    let got = take(&mut member, 2).await;
    assert_eq!(shown(&got), [(r#"{"size":11}"#.into(), 1), (r#"{"size":12}"#.into(), 1)]);
    for delivery in &got {
        say(&broker, delivery.token, Verdict::Ack).await.unwrap();
    }
    let caught_up = async {
        while lag(&broker).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, caught_up).await.expect("what the filter kept back is settled");
    let wrong = ConsumerConfig { filter: Some("size >".into()), ..config() };
    let error = broker.create_consumer("orders", "x", wrong, Start::Earliest).await.unwrap_err();
    assert!(error.code().as_str() == "INVALID_ARGUMENT" && error.to_string().contains("column 7"), "{error}");
}

#[tokio::test]
async fn a_work_queue_keeps_a_message_until_every_consumer_has_acknowledged_it() {
    let broker = consuming(config()).await;
    let retention = Retention { work_queue: true, ..Retention::default() };
    let update = ChannelUpdate { retention: Some(retention), ..ChannelUpdate::default() };
    broker.update_channel("orders", update).await.unwrap();
    broker.create_consumer("orders", "second", config(), Start::Earliest).await.unwrap();
    publish(&broker, &["a", "b", "c"]).await;
    let first_seq = async || broker.channel("orders").await.unwrap().stats.first_seq;
    let mut member = broker.join_consumer("orders", "w", 10).await.unwrap();
    for delivery in take(&mut member, 3).await {
        say(&broker, delivery.token, Verdict::Ack).await.unwrap();
    }
    assert_eq!(first_seq().await, 0, "the second consumer has not seen them");
    let mut other = broker.join_consumer("orders", "second", 10).await.unwrap();
    let got = take(&mut other, 3).await;
    for (delivery, first) in [(&got[1], 0), (&got[0], 2)] {
        let settlement = Settlement { token: delivery.token, verdict: Verdict::Ack };
        broker.settle("orders", "second", vec![settlement]).await.unwrap().remove(0).unwrap();
        assert_eq!(first_seq().await, first);
    }
    // What a consumer had not settled when it was deleted stays, for another one or for an operator.
    broker.delete_consumer("orders", "second").await.unwrap();
    assert_eq!(first_seq().await, 2);
    broker.create_consumer("orders", "third", config(), Start::Latest).await.unwrap();
    assert_eq!(first_seq().await, 2);
    broker.create_consumer("orders", "fourth", config(), Start::Earliest).await.unwrap();
    let got = broker.pull("orders", "fourth", 9, PATIENCE).await.unwrap();
    assert_eq!(shown(&got), [("c".into(), 1)]);
    let settlement = Settlement { token: got[0].token, verdict: Verdict::Ack };
    broker.settle("orders", "fourth", vec![settlement]).await.unwrap().remove(0).unwrap();
    assert_eq!(first_seq().await, 3);
}

#[tokio::test]
async fn a_consumer_that_counts_attempts_has_a_place_for_its_dead() {
    let broker = consuming(config()).await;
    let three = ConsumerConfig { max_attempts: 3, ..config() };
    let letters = async |name: &str| broker.consumer("orders", name).await.unwrap().status.meta.config.dead_letter;
    broker.create_consumer("orders", "usual", three.clone(), Start::Earliest).await.unwrap();
    assert_eq!(letters("usual").await, Some("orders.dead".parse().unwrap()));
    assert_eq!(broker.channel("orders.dead").await.unwrap().stats.next_seq, 0);
    let wanted = ConsumerUpdate { dead_letters: Some(DeadLetters::Drop), ..three.clone().into() };
    broker.create_consumer("orders", "dropping", wanted, Start::Earliest).await.unwrap();
    assert_eq!(letters("dropping").await, None);
    // Who made it without a word of its dead may say the same again.
    broker.create_consumer("orders", "dropping", three.clone(), Start::Earliest).await.unwrap();
    broker.create_consumer("orders", "usual", three, Start::Earliest).await.unwrap();
    let attempts = ConsumerUpdate { max_attempts: Some(2), ..ConsumerUpdate::default() };
    broker.update_consumer("orders", "w", attempts.clone()).await.unwrap();
    assert_eq!(letters("w").await, Some("orders.dead".parse().unwrap()));
    broker.update_consumer("orders", "dropping", attempts).await.unwrap();
    assert_eq!(letters("dropping").await, None);
}

#[tokio::test]
async fn a_letter_that_its_channel_refuses_waits_with_its_consumer_until_there_is_room() {
    let broker = consuming(config()).await;
    let full = Retention { max_messages: Some(1), when_full: WhenFull::RefuseNew, ..Retention::default() };
    broker.create_channel("small", ChannelConfig { retention: full, ..ChannelConfig::default() }).await.unwrap();
    let mortal =
        |letters: &str| ConsumerConfig { max_attempts: 1, dead_letter: Some(letters.parse().unwrap()), ..config() };
    broker.create_consumer("orders", "stuck", mortal("small"), Start::Earliest).await.unwrap();
    publish(&broker, &["a", "b", "c"]).await;
    broker.create_channel("large", ChannelConfig::default()).await.unwrap();
    broker.create_consumer("orders", "other", mortal("large"), Start::Earliest).await.unwrap();
    for consumer in ["stuck", "other"] {
        for _ in 0..3 {
            let got = broker.pull("orders", consumer, 1, PATIENCE).await.unwrap();
            let settlement = Settlement { token: got[0].token, verdict: nack() };
            broker.settle("orders", consumer, vec![settlement]).await.unwrap().remove(0).unwrap();
        }
    }
    let settled = async |consumer: &str, dead: u64, dying: u64| {
        let until = async {
            loop {
                let status = broker.consumer("orders", consumer).await.unwrap().status;
                if (status.cursor.dead, status.dying) == (dead, dying) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, until).await.unwrap_or_else(|_| panic!("{consumer}: {dead} {dying}"));
    };
    settled("other", 3, 0).await;
    settled("stuck", 1, 2).await;
    let update = ChannelUpdate { retention: Some(Retention::default()), ..ChannelUpdate::default() };
    broker.update_channel("small", update).await.unwrap();
    settled("stuck", 3, 0).await;
    assert_eq!(broker.channel("small").await.unwrap().stats.next_seq, 3);
}

#[tokio::test]
async fn rules_of_a_dead_letter_channel_see_letters() {
    let broker = consuming(ConsumerConfig { max_attempts: 1, ..config() }).await;
    broker.create_channel("alarms", ChannelConfig::default()).await.unwrap();
    broker.put_rule("orders.dead", "alarms", Some("id > 1")).await.unwrap();
    publish(&broker, &[r#"{"id":1}"#, r#"{"id":2}"#]).await;
    for _ in 0..2 {
        let got = broker.pull("orders", "w", 1, PATIENCE).await.unwrap();
        say(&broker, got[0].token, nack()).await.unwrap();
    }
    let mut alarms = broker.subscribe("alarms", Start::Earliest).await.unwrap();
    let alarm = tokio::time::timeout(PATIENCE, alarms.next()).await.expect("a copy").unwrap();
    assert_eq!(alarm.frame.messages().next().unwrap().unwrap().payload, r#"{"id":2}"#);
}

#[tokio::test]
async fn a_letter_is_written_whatever_the_schema_of_its_channel_and_says_that_it_was_not_checked() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    let schema = Some(r#"{"type":"integer"}"#.to_owned());
    broker.create_channel("numbers", ChannelConfig { schema, ..ChannelConfig::default() }).await.unwrap();
    let dead_letter = Some("numbers".parse().unwrap());
    let mortal = ConsumerConfig { max_attempts: 1, dead_letter, ..config() };
    broker.create_consumer("orders", "w", mortal, Start::Earliest).await.unwrap();
    publish(&broker, &["no number"]).await;
    let got = broker.pull("orders", "w", 1, PATIENCE).await.unwrap();
    say(&broker, got[0].token, nack()).await.unwrap();
    let mut letters = broker.subscribe("numbers", Start::Earliest).await.unwrap();
    let letter = tokio::time::timeout(PATIENCE, letters.next()).await.expect("a letter").unwrap();
    assert_eq!(letter.frame.messages().next().unwrap().unwrap().payload, "no number");
    assert_eq!(letter.schema_id, 0);
    let refused = broker.publish("numbers", envelope("no number"), None).await.unwrap_err();
    assert_eq!(refused.code().as_str(), "SCHEMA_VIOLATION", "publishers are checked as ever");
    broker.publish("numbers", envelope("7"), None).await.unwrap();
    assert_ne!(tokio::time::timeout(PATIENCE, letters.next()).await.unwrap().unwrap().schema_id, 0);
}

#[tokio::test]
async fn a_consumer_that_begins_at_a_job_that_was_left_behind_gets_no_job_that_is_done() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    let retention = Retention { work_queue: true, ..Retention::default() };
    broker.create_channel("jobs", ChannelConfig { retention, ..ChannelConfig::default() }).await.unwrap();
    for payload in ["a", "b", "c", "d"] {
        broker.publish("jobs", envelope(payload), None).await.unwrap();
    }
    for order in [ConsumeOrder::None, ConsumeOrder::Key(OrderingKey::MessageKey)] {
        let slow = ConsumerConfig { order, ..config() };
        broker.create_consumer("jobs", "slow", slow.clone(), Start::Earliest).await.unwrap();
        let mut member = broker.join_consumer("jobs", "slow", 10).await.unwrap();
        let left = if slow.order == ConsumeOrder::None { 4 } else { 1 };
        let got = take(&mut member, left).await;
        assert_eq!(shown(&got)[0].0, "a");
        let done = got[1..].iter().map(|got| Settlement { token: got.token, verdict: Verdict::Ack });
        broker.settle("jobs", "slow", done.collect()).await.unwrap();
        drop(member);
        broker.delete_consumer("jobs", "slow").await.unwrap();
    }
    let info = broker.create_consumer("jobs", "last", config(), Start::Earliest).await.unwrap();
    assert_eq!(info.status.lag, 1);
    let mut member = broker.join_consumer("jobs", "last", 10).await.unwrap();
    let got = take(&mut member, 1).await;
    assert_eq!(shown(&got)[0].0, "a");
    broker.settle("jobs", "last", vec![Settlement { token: got[0].token, verdict: Verdict::Ack }]).await.unwrap();
    assert_eq!(broker.channel("jobs").await.unwrap().stats.first_seq, 4);
}

#[tokio::test]
async fn whoever_gets_the_next_messages_is_told_once_what_was_removed_before_them() {
    let broker = consuming(config()).await;
    publish(&broker, &["0", "1", "2", "3", "4"]).await;
    broker.trim_channel("orders", Trim::To(3)).await.unwrap();
    assert_eq!(broker.consumer("orders", "w").await.unwrap().status.lost, 3);
    let (got, notice) = broker.pull_told("orders", "w", 1, PATIENCE).await.unwrap();
    let notice = notice.expect("three messages are gone");
    assert_eq!((notice.change, notice.from_seq, notice.next.seq), (HistoryChange::Cut, 0, 3));
    assert_eq!(shown(&got), [("3".to_owned(), 1)]);
    let (_, again) = broker.pull_told("orders", "w", 1, PATIENCE).await.unwrap();
    assert_eq!(again, None, "it was told");

    // A member that stays is told of what goes while it waits.
    publish(&broker, &["5", "6"]).await;
    broker.trim_channel("orders", Trim::To(6)).await.unwrap();
    let mut member = broker.join_consumer("orders", "w", 10).await.unwrap();
    assert_eq!(shown(&take(&mut member, 1).await)[0].0, "6");
    let notice = member.take_notice().expect("what was in hand, and what nobody had read");
    assert_eq!((notice.from_seq, notice.next.seq), (3, 6));
    assert_eq!(member.take_notice(), None);
    assert_eq!(broker.consumer("orders", "w").await.unwrap().status.lost, 6);
}

#[tokio::test]
async fn a_message_is_handed_out_alone_for_its_last_attempt() {
    let broker = consuming(ConsumerConfig { max_attempts: 2, ..config() }).await;
    publish(&broker, &["poison", "b", "c"]).await;
    let mut member = broker.join_consumer("orders", "w", 10).await.unwrap();
    let got = take(&mut member, 3).await;
    // The worker goes down: nobody knows with which message.
    drop((got, member));
    for _ in 0..3 {
        let mut member = broker.join_consumer("orders", "w", 10).await.unwrap();
        let got = take(&mut member, 1).await;
        let more = tokio::time::timeout(Duration::from_millis(100), member.next()).await;
        assert!(more.is_err(), "{more:?}");
        let last = shown(&got)[0].clone();
        assert_eq!(last.1, 2);
        if last.0 != "poison" {
            say(&broker, got[0].token, Verdict::Ack).await.unwrap();
        }
    }
    let buried = async {
        while broker.consumer("orders", "w").await.unwrap().status.cursor.dead == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, buried).await.expect("the poison is a letter");
    assert_eq!((lag(&broker).await, broker.channel("orders.dead").await.unwrap().stats.next_seq), (0, 1));
}

#[tokio::test]
async fn one_slow_key_holds_up_no_other() {
    let order = ConsumeOrder::Key(OrderingKey::Header("user".into()));
    let broker = consuming(ConsumerConfig { order, max_in_flight: 3, ..config() }).await;
    let user = |payload: &str, user: &str| {
        let header = liminal::proto::v1::Header { name: "user".into(), value: user.into() };
        liminal::broker::Envelope { headers: vec![header], ..envelope(payload) }
    };
    for number in 0..20 {
        broker.publish("orders", user(&format!("a{number}"), "a"), None).await.unwrap();
    }
    for other in ["b", "c"] {
        broker.publish("orders", user(other, other), None).await.unwrap();
    }
    let mut slow = broker.join_consumer("orders", "w", 1).await.unwrap();
    let held = take(&mut slow, 1).await;
    let mut other = broker.join_consumer("orders", "w", 2).await.unwrap();
    assert_eq!(shown(&take(&mut other, 2).await), [("b".into(), 1), ("c".into(), 1)]);
    // The same while it waits for a long time.
    slow.set_window(0);
    say(&broker, held[0].token, Verdict::Nack { delay_ms: 600_000, reason: String::new() }).await.unwrap();
    broker.publish("orders", user("d", "d"), None).await.unwrap();
    other.set_window(3);
    assert_eq!(shown(&take(&mut other, 1).await), [("d".into(), 1)]);
}

#[tokio::test]
async fn a_slow_key_holds_up_no_other_however_many_of_its_messages_wait_and_they_come_in_order() {
    const SLOW: usize = 200;
    let store: Arc<dyn DurableStore> = Arc::new(MemoryStore::new());
    let mut limits = super::config();
    limits.limits.consumer_pending = 8;
    let first = Broker::embedded(&limits, store.clone()).await.unwrap();
    let order = ConsumeOrder::Key(OrderingKey::Header("user".into()));
    let keyed = ConsumerConfig { order, max_in_flight: 4, ..config() };
    first.create_consumer("orders", "w", keyed, Start::Earliest).await.unwrap();
    let user = |payload: &str, user: &str| {
        let header = liminal::proto::v1::Header { name: "user".into(), value: user.into() };
        liminal::broker::Envelope { headers: vec![header], ..envelope(payload) }
    };
    let numbers: Vec<String> = (0..SLOW).map(|number| number.to_string()).collect();
    for (number, payload) in numbers.iter().enumerate() {
        first.publish("orders", user(payload, "slow"), None).await.unwrap();
        if number % 50 == 49 {
            first.publish("orders", user(&format!("quick{number}"), "quick"), None).await.unwrap();
        }
    }
    let mut slow = first.join_consumer("orders", "w", 1).await.unwrap();
    let held = take(&mut slow, 1).await;
    assert_eq!(shown(&held), [("0".into(), 1)]);
    let mut quick = first.join_consumer("orders", "w", 3).await.unwrap();
    let mut quick_ones = Vec::new();
    while quick_ones.len() < 4 {
        for got in take_some(&mut quick).await {
            quick_ones.push(shown(std::slice::from_ref(&got))[0].0.clone());
            say(&first, got.token, Verdict::Ack).await.unwrap();
        }
    }
    assert_eq!(quick_ones, ["quick49", "quick99", "quick149", "quick199"]);
    let status = first.consumer("orders", "w").await.unwrap().status;
    assert_eq!((status.lag, status.floor), (SLOW as u64, 0), "{status:?}");
    drop((slow, quick));
    first.flush().await.unwrap();
    first.stop().await;

    // Another leader knows of what was passed over only what is stored.
    let second = Broker::embedded(&limits, store).await.unwrap();
    let mut member = second.join_consumer("orders", "w", 4).await.unwrap();
    let mut slow_ones = Vec::new();
    while slow_ones.len() < SLOW {
        for got in take_some(&mut member).await {
            slow_ones.push(shown(std::slice::from_ref(&got))[0].0.clone());
            say(&second, got.token, Verdict::Ack).await.unwrap();
        }
    }
    assert_eq!(slow_ones, numbers, "in order, each once");
    let status = second.consumer("orders", "w").await.unwrap().status;
    assert_eq!((status.lag, status.waiting, status.floor), (0, 0, SLOW as u64 + 4));
}

#[tokio::test]
async fn what_was_passed_over_follows_a_trim_and_another_order() {
    let mut limits = super::config();
    limits.limits.consumer_pending = 4;
    let broker = Broker::embedded(&limits, Arc::new(MemoryStore::new())).await.unwrap();
    let keyed = |order| ConsumerConfig { order, max_in_flight: 4, ..config() };
    let by_key = keyed(ConsumeOrder::Key(OrderingKey::Header("user".into())));
    broker.create_consumer("orders", "w", by_key, Start::Earliest).await.unwrap();
    let header = liminal::proto::v1::Header { name: "user".into(), value: "a".into() };
    for number in 0..30 {
        let message = Envelope { headers: vec![header.clone()], ..envelope(&number.to_string()) };
        broker.publish("orders", message, None).await.unwrap();
    }
    let mut slow = broker.join_consumer("orders", "w", 1).await.unwrap();
    let held = take(&mut slow, 1).await;
    let mut idle = broker.join_consumer("orders", "w", 4).await.unwrap();
    // All are looked at: one is held, and the others wait.
    let looked = async {
        while broker.consumer("orders", "w").await.unwrap().status.waiting < 29 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.expect("an idle member is reason enough to look ahead");
    broker.trim_channel("orders", Trim::To(20)).await.unwrap();
    let status = broker.consumer("orders", "w").await.unwrap().status;
    assert_eq!((status.lag, status.lost, status.floor), (10, 20, 20));
    say(&broker, held[0].token, Verdict::Ack).await.unwrap();
    let config = keyed(ConsumeOrder::None);
    let update = ConsumerUpdate { order: Some(config.order), ..ConsumerUpdate::default() };
    broker.update_consumer("orders", "w", update).await.unwrap();
    let mut seen: Vec<Vec<ConsumerDelivery>> = Vec::new();
    while seen.iter().map(Vec::len).sum::<usize>() < 10 {
        tokio::select! {
            got = take_some(&mut slow) => seen.push(got),
            got = take_some(&mut idle) => seen.push(got),
        }
        for got in seen.last().into_iter().flatten() {
            say(&broker, got.token, Verdict::Ack).await.unwrap();
        }
    }
    let mut seen: Vec<u64> = seen.into_iter().flatten().map(|got| got.token.seq).collect();
    seen.sort_unstable();
    assert_eq!(seen, (20..30).collect::<Vec<u64>>());
    assert_eq!(lag(&broker).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_idle_consumers_cost_no_log_entry_and_no_copy_and_each_can_be_used() {
    const IDLE: u64 = 20_000;
    let store = Arc::new(MemoryStore::new());
    let broker = broker(store.clone()).await;
    let numbers: Vec<u64> = (0..IDLE).collect();
    for some in numbers.chunks(500) {
        let created = some.iter().map(|number| {
            let (broker, name) = (broker.clone(), format!("c{number}"));
            async move { broker.create_consumer("orders", &name, config(), Start::Earliest).await }
        });
        for created in futures::future::join_all(created).await {
            created.unwrap();
        }
    }
    let (applied, stored) = (broker.view().applied(), store.usage().unwrap().live_bytes);
    publish(&broker, &["a"; 10]).await;
    let entries = broker.view().applied() - applied;
    // The state is hashed once a minute, by an entry of its own.
    assert!((10..=12).contains(&entries), "{entries} entries for 10 messages");
    let grown = store.usage().unwrap().live_bytes - stored;
    assert!(grown < 4096, "{grown} bytes for 10 small messages, whoever will read them");
    let laggards = broker.view().laggards(3);
    assert_eq!((laggards.count, laggards.lag, laggards.shown.len()), (IDLE, 10 * IDLE, 3));

    let mut member = broker.join_consumer("orders", "c19999", 10).await.unwrap();
    for delivery in take(&mut member, 10).await {
        let settlement = Settlement { token: delivery.token, verdict: Verdict::Ack };
        broker.settle("orders", "c19999", vec![settlement]).await.unwrap().remove(0).unwrap();
    }
    assert_eq!(broker.consumer("orders", "c19999").await.unwrap().status.lag, 0);
    assert_eq!(broker.view().laggards(3).lag, 10 * (IDLE - 1));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_works_for_long_without_asking_for_more_keeps_what_it_has() {
    let broker = consuming(config()).await;
    publish(&broker, &["a"]).await;
    let mut busy = broker.join_consumer("orders", "w", 1).await.unwrap();
    let got = take(&mut busy, 1).await;
    let mut other = broker.join_consumer("orders", "w", 1).await.unwrap();
    // Many times as long as a silent member is waited for.
    let nothing = tokio::time::timeout(Duration::from_secs(120), other.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    say(&broker, got[0].token, Verdict::Ack).await.unwrap();
    assert_eq!(lag(&broker).await, 0);
}
