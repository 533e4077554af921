//! Dead letters that are looked at and sent back, on one embedded node.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use liminal::{
    broker::{
        Broker, BrokerError, Confirm, Consistency, ConsumerDelivery, Envelope, Letters, REDRIVEN, RedriveTo, Redriven,
        Start,
    },
    model::{ChannelConfig, ConsumerConfig, Frame, Retention, Settlement, WhenFull},
    proto::v1::{Header, Message},
    store::{HaematiteConfig, HaematiteStore, MemoryStore},
};

use super::{broker, envelope};

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn letters() -> Letters {
    Letters { channel: "orders".into(), consumer: "w".into(), ..Letters::default() }
}

fn header(name: &str, value: impl ToString) -> Header {
    Header { name: name.into(), value: value.to_string() }
}

/// A letter as the broker writes it, without anybody who has to die for it.
fn letter(number: u64, payload: &str) -> Message {
    let said = [("channel", "orders".to_owned()), ("seq", number.to_string()), ("consumer", "w".to_owned())];
    let said =
        said.into_iter().chain([("attempts", "1".to_owned()), ("reason", "x".to_owned()), ("hops", "1".to_owned())]);
    let headers = said.map(|(name, value)| header(&format!("liminal-dead-letter-{name}"), value)).collect();
    Message { payload: payload.to_owned().into(), headers, ..Message::default() }
}

async fn write(broker: &Broker, channel: &str, messages: &[Message]) {
    for message in messages {
        broker.publish_frame(channel, Frame::encode([message]), Confirm::Commit).await.remove(0).unwrap();
    }
}

/// With a consumer whose messages die at the first nack.
async fn mortal(broker: &Broker) {
    let config = ConsumerConfig { ack_timeout_ms: 600_000, max_attempts: 1, ..ConsumerConfig::default() };
    broker.create_consumer("orders", "w", config, Start::Earliest).await.unwrap();
}

async fn pull(broker: &Broker) -> ConsumerDelivery {
    broker.pull("orders", "w", 1, PATIENCE).await.unwrap().pop().expect("a message")
}

async fn kill(broker: &Broker, reason: &str) {
    let token = pull(broker).await.token;
    let verdict = Broker::nack(0, reason.into()).unwrap();
    broker.settle("orders", "w", vec![Settlement { token, verdict }]).await.unwrap().remove(0).unwrap();
}

/// Waits until so many letters are written.
async fn listed(broker: &Broker, count: usize) -> Vec<liminal::broker::Letter> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let page = broker.dead_letters_of(&letters()).await.unwrap();
        if page.letters.len() == count {
            assert!(page.done);
            return page.letters;
        }
        assert!(tokio::time::Instant::now() < until, "{page:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Calls until there is nothing left to do.
async fn redrive(broker: &Broker, wanted: Letters, to: RedriveTo) -> Redriven {
    let (mut from_seq, mut sum) = (wanted.from_seq, Redriven::default());
    loop {
        let done = broker.redrive(&Letters { from_seq, ..wanted.clone() }, &to).await.unwrap();
        let (moved, refused) = (sum.moved + done.moved, sum.refused + done.refused);
        from_seq = done.next_seq;
        sum = Redriven { moved, refused, ..done };
        if sum.done || sum.stopped.is_some() {
            return sum;
        }
    }
}

async fn stored(broker: &Broker, channel: &str) -> Vec<Message> {
    let (mut all, mut from) = (Vec::new(), Start::Earliest);
    loop {
        let page = broker.read(channel, from, 0, Consistency::Linearizable, None).await.unwrap();
        all.extend(page.batches.iter().flat_map(|batch| batch.frame.messages().map(Result::unwrap)));
        if page.next_seq >= page.end_seq {
            return all;
        }
        from = Start::Seq(page.next_seq);
    }
}

fn counted(messages: &[Message]) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for message in messages {
        *counted.entry(String::from_utf8(message.payload.to_vec()).unwrap()).or_default() += 1;
    }
    counted
}

#[tokio::test]
async fn a_message_that_died_is_looked_at_and_sent_back_as_it_was() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    mortal(&broker).await;
    let poison = Envelope { headers: vec![header("colour", "red")], ..envelope("poison") };
    broker.publish("orders", poison.clone(), Some("k")).await.unwrap();
    broker.publish("orders", envelope("other"), None).await.unwrap();
    kill(&broker, "cannot read it").await;
    kill(&broker, "busy").await;
    let found = listed(&broker, 2).await;
    assert_eq!((found[0].origin_seq, found[0].attempts, found[0].hops, found[0].redriven), (0, 1, 1, 0));
    assert_eq!((found[0].reason.as_str(), &found[0].message.payload[..]), ("nacked: cannot read it", &b"poison"[..]));
    assert!(found[0].bytes > 0 && found[0].time_ms > 0);

    let filter = r#"$headers.liminal-dead-letter-reason == "nacked: cannot read it""#;
    let wanted = Letters { filter: filter.into(), ..letters() };
    let dry = redrive(&broker, wanted.clone(), RedriveTo { dry_run: true, ..RedriveTo::default() }).await;
    assert_eq!((dry.moved, dry.target.as_str(), dry.dead_letter.as_str()), (1, "orders", "orders.dead"));
    assert_eq!(listed(&broker, 2).await, found, "a dry run moves nothing");
    let done = redrive(&broker, wanted, RedriveTo::default()).await;
    assert_eq!((done.moved, done.refused, done.unsure), (1, 0, 0));
    assert_eq!(listed(&broker, 1).await[0].message.payload, "other");

    let again = pull(&broker).await;
    assert_eq!((again.token.seq, again.token.attempt, &again.message.payload[..]), (2, 1, &b"poison"[..]));
    let headers = &again.message.headers;
    assert_eq!((again.message.key(), &headers[0]), ("k", &header("colour", "red")));
    assert!(headers.contains(&header(REDRIVEN, 1)), "{headers:?}");
    assert!(headers.contains(&header(
        "liminal-dead-letter-history",
        "orders@0 consumer=w attempts=1 reason=nacked: cannot read it"
    )));
    // Its key's claim did not stand in the way, and still answers its publisher.
    let retry = broker.publish("orders", poison, Some("k")).await.unwrap();
    assert_eq!((retry.seq, retry.duplicate), (0, true));
    // It dies again, and its letter knows of both deaths.
    let verdict = Broker::nack(0, "still not".into()).unwrap();
    broker.settle("orders", "w", vec![Settlement { token: again.token, verdict }]).await.unwrap().remove(0).unwrap();
    let found = listed(&broker, 2).await;
    assert_eq!((found[1].origin_seq, found[1].hops, found[1].redriven), (2, 2, 1));
}

#[tokio::test]
async fn letters_of_other_consumers_and_what_is_no_letter_stay() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    broker.create_channel("dead", ChannelConfig::default()).await.unwrap();
    broker.create_channel("fixed", ChannelConfig::default()).await.unwrap();
    let mut foreign = letter(1, "foreign");
    foreign.headers[2].value = "another".into();
    let plain = Message { payload: "plain".into(), ..Message::default() };
    write(&broker, "dead", &[letter(0, "a"), foreign, letter(2, "b"), plain, letter(4, "c")]).await;
    let to = RedriveTo { channel: Some("fixed".into()), dry_run: false };
    let missing = broker.redrive(&letters(), &to).await.unwrap_err();
    assert!(matches!(missing, BrokerError::ConsumerNotFound { .. }), "{missing:?}");
    let wanted = Letters { dead_letter: Some("dead".into()), ..letters() };
    let limited = broker.redrive(&Letters { limit: 1, ..wanted.clone() }, &to).await.unwrap();
    assert_eq!((limited.moved, limited.done, limited.next_seq), (1, false, 2));
    assert_eq!(redrive(&broker, wanted.clone(), to).await.moved, 2);
    assert_eq!(
        stored(&broker, "fixed").await.iter().map(|one| one.payload.clone()).collect::<Vec<_>>(),
        ["a", "b", "c"]
    );
    let page = broker.dead_letters_of(&wanted).await.unwrap();
    assert!(page.letters.is_empty() && page.done);
    let info = broker.channel("dead").await.unwrap();
    assert_eq!(info.stats.next_seq - info.stats.first_seq - info.compacted, 2, "the two that are no letters of it");
    let itself = RedriveTo { channel: Some("dead".into()), dry_run: false };
    assert!(matches!(broker.redrive(&wanted, &itself).await.unwrap_err(), BrokerError::InvalidArgument { .. }));
    let volatile = RedriveTo { channel: Some("ticks".into()), dry_run: false };
    assert!(matches!(broker.redrive(&wanted, &volatile).await.unwrap_err(), BrokerError::NotStored { .. }));
}

#[tokio::test]
async fn a_letter_goes_once_however_many_redrive_at_the_same_time() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    mortal(&broker).await;
    let all: Vec<Message> = (0..1_000).map(|number| letter(number, &number.to_string())).collect();
    for part in all.chunks(100) {
        broker.publish_frame("orders.dead", Frame::encode(part), Confirm::Commit).await.remove(0).unwrap();
    }
    let even = Letters { filter: "$payload in [4, 8, 15, 16, 23, 42]".into(), ..letters() };
    let filtered = redrive(&broker, even, RedriveTo::default());
    let whole = || redrive(&broker, letters(), RedriveTo::default());
    let (some, first, second, third) = tokio::join!(filtered, whole(), whole(), whole());
    assert_eq!(some.moved + first.moved + second.moved + third.moved, 1_000);
    let counted = counted(&stored(&broker, "orders").await);
    assert_eq!(counted.len(), 1_000, "none is lost");
    assert!(counted.values().all(|times| *times == 1), "none is there twice");
    assert!(listed(&broker, 0).await.is_empty());
    let stats = broker.channel("orders.dead").await.unwrap().stats;
    assert_eq!((stats.first_seq, stats.next_seq), (1_000, 1_000));
}

#[tokio::test]
async fn a_letter_that_its_target_does_not_take_stays_and_is_counted_with_the_reason() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    mortal(&broker).await;
    let schema = Some(r#"{"type":"integer"}"#.to_owned());
    broker.create_channel("whole", ChannelConfig { schema, ..ChannelConfig::default() }).await.unwrap();
    let retention = Retention { max_messages: Some(2), when_full: WhenFull::RefuseNew, ..Retention::default() };
    broker.create_channel("small", ChannelConfig { retention, ..ChannelConfig::default() }).await.unwrap();
    let mut often = letter(3, "7");
    often.headers[5].value = "16".into();
    write(&broker, "orders.dead", &[letter(0, "1"), letter(1, "no"), letter(2, "2"), often, letter(4, "3")]).await;

    let done = redrive(&broker, letters(), RedriveTo { channel: Some("whole".into()), dry_run: false }).await;
    assert_eq!((done.moved, done.refused), (3, 2));
    let why: Vec<_> = done.refusals.iter().map(|(seq, error)| (*seq, error.code().as_str())).collect();
    assert_eq!(why, [(1, "SCHEMA_VIOLATION"), (3, "INVALID_ARGUMENT")]);
    let left: Vec<_> = listed(&broker, 2).await.iter().map(|letter| letter.seq).collect();
    assert_eq!(left, [1, 3]);

    write(&broker, "orders.dead", &[letter(5, "4"), letter(6, "5"), letter(7, "6")]).await;
    let to = || RedriveTo { channel: Some("small".into()), dry_run: false };
    let full = redrive(&broker, letters(), to()).await;
    assert_eq!((full.moved, full.done, full.next_seq), (2, false, 6));
    assert_eq!(full.refusals.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [3]);
    assert_eq!(full.stopped.unwrap().code().as_str(), "CHANNEL_FULL");
    assert_eq!(listed(&broker, 3).await.len(), 3);
    broker.trim_channel("small", liminal::broker::Trim::Keep(0)).await.unwrap();
    let rest = redrive(&broker, letters(), to()).await;
    assert_eq!((rest.moved, rest.refused, rest.stopped.is_none()), (2, 1, true));
    assert_eq!(listed(&broker, 1).await[0].seq, 3);
}

#[tokio::test]
async fn a_letter_whose_copy_its_channel_does_not_take_is_named_and_holds_up_no_other() {
    let broker = broker(Arc::new(MemoryStore::new())).await;
    mortal(&broker).await;
    let keeping = |retention| ChannelConfig { retention, ..ChannelConfig::default() };
    let tiny = Retention { max_bytes: Some(400), ..Retention::default() };
    broker.create_channel("tiny", keeping(tiny)).await.unwrap();
    broker.put_rule("orders", "tiny", None).await.unwrap();
    let large = "x".repeat(400);
    write(&broker, "orders.dead", &[letter(0, "0"), letter(1, &large), letter(2, "2")]).await;
    let done = redrive(&broker, letters(), RedriveTo::default()).await;
    assert_eq!((done.moved, done.refused, done.done), (2, 1, true));
    let (seq, why) = &done.refusals[0];
    assert!(*seq == 1 && why.code().as_str() == "LIMIT_EXCEEDED" && why.to_string().contains("`tiny`"), "{why}");

    // One that is full stops it, at the first letter that does not fit.
    let few = Retention { max_messages: Some(1), when_full: WhenFull::RefuseNew, ..Retention::default() };
    broker.create_channel("few", keeping(few)).await.unwrap();
    broker.put_rule("orders", "few", Some("few == true")).await.unwrap();
    let some = r#"{"few":true}"#;
    write(&broker, "orders.dead", &[letter(3, "3"), letter(4, some), letter(5, "5"), letter(6, some)]).await;
    write(&broker, "orders.dead", &[letter(7, "7")]).await;
    let full = redrive(&broker, letters(), RedriveTo::default()).await;
    let stopped = full.stopped.unwrap();
    assert_eq!((full.moved, full.next_seq, stopped.code().as_str()), (3, 6, "CHANNEL_FULL"), "{stopped}");
    let past = Letters { from_seq: full.next_seq + 1, ..letters() };
    assert_eq!(redrive(&broker, past, RedriveTo::default()).await.moved, 1);
    let left: Vec<_> = listed(&broker, 2).await.iter().map(|letter| letter.seq).collect();
    assert_eq!(left, [1, 6]);
}

#[tokio::test]
async fn what_was_redriven_stays_so_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let fraction = |name: &str| Letters { filter: format!("$payload == {name}"), ..letters() };
    for round in 0..3u64 {
        let store = HaematiteStore::open(dir.path(), HaematiteConfig::default()).unwrap();
        let broker = broker(Arc::new(store)).await;
        if round == 0 {
            mortal(&broker).await;
            write(&broker, "orders.dead", &[letter(0, "0"), letter(1, "1"), letter(2, "2")]).await;
        }
        // The newest first, which cannot leave its channel before the others.
        assert_eq!(redrive(&broker, fraction(&(2 - round).to_string()), RedriveTo::default()).await.moved, 1);
        assert_eq!(redrive(&broker, fraction(&(2 - round).to_string()), RedriveTo::default()).await.moved, 0);
        listed(&broker, 2 - round as usize).await;
        assert_eq!(stored(&broker, "orders").await.len() as u64, round + 1);
        broker.flush().await.unwrap();
        broker.stop().await;
        broker.store().close().await.unwrap();
    }
}
