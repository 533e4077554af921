//! Expected sequence numbers, transactions and messages that wait for their time.

use super::*;
use crate::model::{Delayed, Due, Full, Part, PartReply, Retention, Route, Schedule, Scheduled, Transaction, WhenFull};

impl Node {
    fn transact(&mut self, time_ms: u64, groups: Vec<PublishGroup>) -> (Result<OperationReply, Refusal>, Effects) {
        let parts = groups.into_iter().map(Part::Publish).collect();
        self.operate(time_ms, Operation::Transaction(Transaction { parts }))
    }

    fn schedule(&mut self, time_ms: u64, channel: ChannelId, messages: &[(&str, Option<&str>, u64)]) -> Vec<Scheduled> {
        let messages = messages.iter().map(|(payload, key, due_ms)| delayed(payload, *key, *due_ms)).collect();
        match self.operate(time_ms, Operation::Schedule(Schedule { channel, schema_id: 0, messages })).0 {
            Ok(OperationReply::Scheduled(scheduled)) => scheduled,
            other => panic!("{other:?}"),
        }
    }

    fn release(&mut self, time_ms: u64, channel: ChannelId, ids: &[u64], payloads: &[&str]) -> (u32, Effects) {
        let messages: Vec<_> = payloads.iter().map(|payload| (*payload, None)).collect();
        let due = Due { ids: ids.to_vec(), group: group(channel, 0, &messages) };
        match self.operate(time_ms, Operation::Due(due)) {
            (Ok(OperationReply::Due(count)), effects) => (count, effects),
            other => panic!("{other:?}"),
        }
    }

    fn unchanged(&self, before: &BTreeMap<Bytes, Bytes>) -> bool {
        let but_time = |stored: &BTreeMap<Bytes, Bytes>| {
            stored.clone().into_iter().filter(|(key, _)| *key != Key::Machine.encode()).collect::<Vec<_>>()
        };
        but_time(&self.stored) == but_time(before)
    }
}

fn delayed(payload: &str, key: Option<&str>, due_ms: u64) -> Delayed {
    let message = Message { payload: Bytes::from(payload.to_owned()), ..Message::default() };
    let claim = key.map(|key| (KeyHash::of(key), Digest::of(payload.as_bytes())));
    Delayed { due_ms, claim, expires: false, frame: Frame::encode([&message]) }
}

fn expecting(group: PublishGroup, seq: u64) -> PublishGroup {
    PublishGroup { expected_seq: Some(seq), ..group }
}

fn published(result: Result<OperationReply, Refusal>) -> Vec<Assigned> {
    match result {
        Ok(OperationReply::Transaction(parts)) => {
            let assigned = |part| match part {
                PartReply::Published(assigned) => Some(assigned),
                PartReply::Acked | PartReply::Completed => None,
            };
            parts.into_iter().filter_map(assigned).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn in_part(part: u32, why: Refusal) -> Result<OperationReply, Refusal> {
    Err(Refusal::Part { part, why: Box::new(why) })
}

#[test]
fn a_publish_that_expects_another_end_is_refused_and_claims_no_key() {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    let keyed = expecting(group(id, 0, &[("a", Some("k"))]), 1);
    assert_eq!(node.publish(5, keyed).0, Err(Refusal::WrongSeq { expected: 1, actual: 0 }));
    assert_eq!(node.machine.stats(id).unwrap(), ChannelStats::default());
    let right = expecting(group(id, 0, &[("a", Some("k"))]), 0);
    assert_eq!(node.publish(6, right.clone()).0.unwrap(), Assigned { first_seq: 0, except: vec![] });
    let again = node.publish(7, right).0.unwrap();
    assert_eq!(again.except, [(0, KeyOutcome::Duplicate { seq: 0 })], "a retry gets its original answer");
}

#[test]
fn a_transaction_appends_to_all_channels_in_order() {
    let mut node = Node::new();
    let [c, d] = ["c", "d"].map(|name| node.create(name, window(100)).meta.id);
    let groups = vec![
        group(c, 0, &[("a", None), ("b", None)]),
        expecting(group(d, 0, &[("x", None)]), 0),
        expecting(group(c, 0, &[("c", None)]), 2),
    ];
    let (reply, effects) = node.transact(5, groups);
    assert_eq!(published(reply).iter().map(|assigned| assigned.first_seq).collect::<Vec<_>>(), [0, 0, 2]);
    assert_eq!(
        effects.deliveries.iter().map(|(_, batch)| payloads(batch)).collect::<Vec<_>>().concat(),
        ["a", "b", "x", "c"]
    );
}

#[test]
fn a_transaction_of_which_one_part_is_refused_leaves_nothing_behind() {
    let mut node = Node::new();
    let [c, d] = ["c", "d"].map(|name| node.create(name, window(100)).meta.id);
    node.publish(4, group(d, 0, &[("old", Some("old"))])).0.unwrap();
    let before = node.stored.clone();
    let first = || group(c, 0, &[("a", Some("k"))]);
    let conflict = KeyOutcome::Conflict { seq: 0 };
    for (second, why) in [
        (expecting(group(d, 0, &[("x", Some("x"))]), 0), Refusal::WrongSeq { expected: 0, actual: 1 }),
        (group(d, 7, &[("x", Some("x"))]), Refusal::StaleSchema { current: 0 }),
        (group(ChannelId(99), 0, &[("x", Some("x"))]), Refusal::NoSuchChannel),
        (group(d, 0, &[("new", Some("old"))]), Refusal::Key { position: 0, outcome: conflict }),
        (group(d, 0, &[("x", Some("x")), ("old", Some("old"))]), Refusal::UsedInPart { position: 1 }),
        (group(c, 0, &[("b", Some("k"))]), Refusal::UsedInPart { position: 0 }),
    ] {
        let (reply, effects) = node.transact(5, vec![first(), second]);
        assert_eq!(reply, in_part(1, why));
        assert!(effects.writes.appends.is_empty() && node.unchanged(&before));
    }
    assert_eq!(published(node.transact(5, vec![first()]).0)[0].except, []);
}

#[test]
fn a_transaction_that_was_done_before_gets_its_original_answer_whatever_came_since() {
    let mut node = Node::new();
    let [c, d] = ["c", "d"].map(|name| node.create(name, window(100)).meta.id);
    let whole = || vec![expecting(group(c, 0, &[("a", Some("k"))]), 0), group(d, 0, &[("x", Some("l"))])];
    node.transact(5, whole()).0.unwrap();
    node.publish(6, group(c, 0, &[("later", None)])).0.unwrap();
    let (reply, effects) = node.transact(7, whole());
    let duplicate = Assigned { first_seq: 2, except: vec![(0, KeyOutcome::Duplicate { seq: 0 })] };
    let replies = published(reply);
    assert_eq!(
        (replies[0].clone(), replies[1].except.clone()),
        (duplicate, vec![(0, KeyOutcome::Duplicate { seq: 0 })])
    );
    assert!(effects.writes.appends.is_empty());
}

#[test]
fn a_transaction_sees_the_copies_that_its_own_messages_make() {
    let mut node = Node::new();
    let [c, d] = ["c", "d"].map(|name| node.create(name, window(100)).meta.id);
    let (c_name, d_name) = ("c".parse().unwrap(), "d".parse().unwrap());
    node.operate(2, Operation::PutRule { source: c_name, target: d_name, predicate: None }).0.unwrap();
    let routes = vec![Route { target: d, schema_id: 0, positions: vec![0] }];
    let copied = PublishGroup { rules_version: 1, routes, ..group(c, 0, &[("a", None)]) };
    let after = |seq| PublishGroup { rules_version: 1, ..expecting(group(d, 0, &[("x", None)]), seq) };
    let wrong = node.transact(5, vec![copied.clone(), after(0)]).0;
    assert_eq!(wrong, in_part(1, Refusal::WrongSeq { expected: 0, actual: 1 }));
    assert_eq!(published(node.transact(5, vec![copied, after(1)]).0)[1].first_seq, 1);
}

#[test]
fn keys_of_a_transaction_are_counted_before_any_is_claimed() {
    let mut node = Node::with(Limits { live_keys: 1, ..Limits::default() });
    let id = node.create("c", window(100)).meta.id;
    let two = || vec![group(id, 0, &[("a", Some("k"))]), group(id, 0, &[("b", Some("l"))])];
    let outcome = KeyOutcome::TooManyKeys { limit: 1 };
    assert_eq!(node.transact(5, two()).0, in_part(1, Refusal::Key { position: 0, outcome }));
    assert_eq!(node.machine.stats(id).unwrap().live_keys, 0);
}

#[test]
fn a_delayed_message_has_no_number_until_it_is_due_and_comes_once() {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    let scheduled = node.schedule(5, id, &[("late", Some("k"), 50), ("soon", None, 20)]);
    assert_eq!(scheduled, [Scheduled::New, Scheduled::New]);
    assert_eq!((node.machine.next_due_ms(), node.machine.delayed(id)), (Some(20), 2));
    assert_eq!(node.machine.stats(id).unwrap(), ChannelStats::default());
    node.publish(6, group(id, 0, &[("now", None)])).0.unwrap();
    node.restart();
    assert_eq!(node.machine.due(50, 9).iter().map(|waiting| waiting.id).collect::<Vec<_>>(), [2, 1]);
    // The first is not due yet, whatever its proposer thinks.
    let (count, effects) = node.release(20, id, &[1, 2, 3], &["late", "soon", "never"]);
    assert_eq!(
        (count, payloads(&effects.deliveries[0].1), effects.deliveries[0].1.first_seq),
        (1, vec!["soon".into()], 1)
    );
    assert_eq!(node.release(20, id, &[2], &["soon"]).0, 0, "another leader proposed it too");
    assert_eq!(node.release(50, id, &[1], &["late"]).0, 1);
    assert_eq!((node.machine.next_due_ms(), node.machine.delayed(id), node.machine.delayed_bytes), (None, 0, 0));
    assert!(!node.stored.contains_key(&delayed_key(id, 1)));
}

#[test]
fn the_key_of_a_delayed_message_is_known_while_it_waits_and_for_the_window_after() {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    node.schedule(5, id, &[("a", Some("k"), 500)]);
    node.apply(Command::Tick { time_ms: 400 });
    let waits = KeyOutcome::Waiting { due_ms: 500 };
    assert_eq!(node.schedule(400, id, &[("a", Some("k"), 900)]), [Scheduled::Known(waits)]);
    assert_eq!(node.publish(400, group(id, 0, &[("a", Some("k"))])).0.unwrap().except, [(0, waits)]);
    let other = node.publish(400, group(id, 0, &[("b", Some("k"))])).0.unwrap();
    assert_eq!(other.except, [(0, KeyOutcome::WaitingConflict { due_ms: 500 })]);
    assert_eq!(node.release(500, id, &[1], &["a"]).0, 1);
    node.restart();
    let known = KeyOutcome::Duplicate { seq: 0 };
    assert_eq!(node.schedule(599, id, &[("a", Some("k"), 900)]), [Scheduled::Known(known)]);
    assert_eq!(node.schedule(600, id, &[("a", Some("k"), 900)]), [Scheduled::New]);
}

#[test]
fn a_message_that_is_withdrawn_never_comes_and_its_key_is_free() {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    node.schedule(5, id, &[("a", Some("k"), 50), ("b", None, 60)]);
    let withdraw = |channel, id| Operation::Withdraw { channel, id };
    assert_eq!(node.operate(6, withdraw(id, 1)).0, Ok(OperationReply::Withdrawn(true)));
    assert_eq!(node.operate(6, withdraw(id, 1)).0, Ok(OperationReply::Withdrawn(false)), "it is gone already");
    node.restart();
    assert!(!node.stored.contains_key(&delayed_key(id, 1)));
    assert_eq!((node.machine.next_due_ms(), node.machine.delayed(id)), (Some(60), 1));
    // Who had read it before proposes it in vain.
    assert_eq!(node.release(60, id, &[1, 2], &["a", "b"]).0, 1);
    assert_eq!(node.operate(61, withdraw(id, 2)).0, Ok(OperationReply::Withdrawn(false)), "it is visible already");
    assert_eq!(node.schedule(61, id, &[("other", Some("k"), 90)]), [Scheduled::New]);
    assert_eq!(node.machine.delayed_ids(id, 0).map(|(id, _)| id).collect::<Vec<_>>(), [3], "ids are never used twice");
    assert_eq!(node.machine.delayed_ids(id, 3).count(), 0);
    assert_eq!(node.operate(62, withdraw(ChannelId(77), 3)).0, Err(Refusal::NoSuchChannel));
}

#[test]
fn what_waits_is_bounded_and_goes_with_its_channel() {
    let bytes = delayed("a", None, 0).frame.len();
    let mut node = Node::with(Limits { delayed_messages: 2, delayed_bytes: 3 * bytes, ..Limits::default() });
    let [c, d] = ["c", "d"].map(|name| node.create(name, window(100)).meta.id);
    let three = [("a", None, 50), ("b", None, 60), ("c", None, 70)];
    assert_eq!(node.schedule(5, c, &three)[2], Scheduled::TooMany { limit: 2 });
    let full = Scheduled::TooManyBytes { value: 4 * bytes as u64, limit: 3 * bytes as u64 };
    assert_eq!(node.schedule(5, d, &three[..2]), [Scheduled::New, full]);
    node.apply(Command::DeleteChannel { time_ms: 6, name: "c".parse().unwrap() });
    assert_eq!((node.machine.next_due_ms(), node.machine.delayed_bytes), (Some(50), bytes as u64));
    assert!(!node.stored.contains_key(&delayed_key(c, 1)));
    node.restart();
    assert_eq!((node.machine.delayed(d), node.machine.delayed_bytes), (1, bytes as u64));
}

#[test]
fn an_ephemeral_channel_lets_nothing_wait() {
    let mut node = Node::new();
    let config = ChannelConfig { durability: Durability::Ephemeral, ..window(100) };
    let channel = node.create("c", config).meta.id;
    let schedule = Schedule { channel, schema_id: 0, messages: vec![delayed("a", None, 9)] };
    assert_eq!(node.operate(5, Operation::Schedule(schedule)).0, Err(Refusal::Ephemeral));
}

#[test]
fn a_delayed_message_keeps_the_schema_that_it_was_checked_against() {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    node.schedule(5, id, &[("a", None, 9)]);
    node.apply(update(6, Some("{}"), None));
    let (count, effects) = node.release(9, id, &[1], &["a"]);
    assert_eq!((count, effects.deliveries[0].1.schema_id), (1, 0));
}

#[test]
fn a_store_that_lost_the_newest_id_is_refused() {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    node.schedule(5, id, &[("a", None, 9)]);
    node.stored.remove(&Key::LastDelayed.encode());
    let error = Machine::restore(node.stored).unwrap_err();
    assert!(error.contains("last-delayed") && error.contains("message 1"), "{error}");
}

/// A channel that refuses new messages while it holds so many.
fn at_most(max_messages: u64) -> ChannelConfig {
    let retention =
        Retention { max_messages: Some(max_messages), when_full: WhenFull::RefuseNew, ..Retention::default() };
    ChannelConfig { retention, ..window(100) }
}

#[test]
fn a_transaction_that_would_overfill_a_channel_is_refused_whole_and_its_repeat_is_not() {
    let mut node = Node::new();
    let c = node.create("c", window(100)).meta.id;
    let d = node.create("d", at_most(2)).meta.id;
    let parts = |last: &'static str| {
        let (first, middle) = (group(d, 0, &[("a", Some("k"))]), group(c, 0, &[("b", Some("k"))]));
        vec![first, middle, group(d, 0, &[("e", Some("l")), (last, Some(last))])]
    };
    let full = KeyOutcome::Full(Full::Messages(2));
    let before = node.stored.clone();
    assert_eq!(node.transact(5, parts("f")).0, in_part(2, Refusal::Key { position: 1, outcome: full }));
    assert!(node.unchanged(&before));
    let fitting = || parts("f").into_iter().take(2).collect::<Vec<_>>();
    published(node.transact(5, fitting()).0);
    node.publish(6, group(d, 0, &[("x", None)])).0.unwrap();
    assert_eq!(published(node.transact(7, fitting()).0)[0].except, [(0, KeyOutcome::Duplicate { seq: 0 })]);
}

#[test]
fn a_transaction_whose_copies_find_no_room_is_refused_whole() {
    let mut node = Node::new();
    let c = node.create("c", window(100)).meta.id;
    let d = node.create("d", at_most(1)).meta.id;
    let operation = Operation::PutRule { source: "c".parse().unwrap(), target: "d".parse().unwrap(), predicate: None };
    node.operate(2, operation).0.unwrap();
    let routes = vec![Route { target: d, schema_id: 0, positions: vec![0] }];
    let copied = || PublishGroup { rules_version: 1, routes: routes.clone(), ..group(c, 0, &[("a", None)]) };
    let outcome = KeyOutcome::Full(Full::Messages(1));
    let full = Refusal::CopyRefused { channel: d, position: 0, outcome };
    assert_eq!(node.transact(5, vec![copied(), copied()]).0, in_part(1, full));
    assert_eq!(published(node.transact(5, vec![copied()]).0).len(), 1);
}

#[test]
fn a_transaction_drops_the_oldest_messages_of_a_channel_as_any_publish_does() {
    let mut node = Node::new();
    let retention = Retention { max_messages: Some(2), ..Retention::default() };
    let id = node.create("c", ChannelConfig { retention, ..window(100) }).meta.id;
    let one = |payload: &'static str| group(id, 0, &[(payload, None)]);
    published(node.transact(5, vec![one("a"), one("b"), one("e")]).0);
    assert_eq!(node.machine.stats(id).unwrap().first_seq, 1);
    node.schedule(5, id, &[("f", None, 9)]);
    assert_eq!(node.release(9, id, &[1], &["f"]).0, 1);
    assert_eq!(node.machine.stats(id).unwrap().first_seq, 2);
    node.restart();
}

#[test]
fn a_message_that_waits_has_its_place_in_a_channel_that_refuses_new_ones() {
    let mut node = Node::new();
    let id = node.create("c", at_most(2)).meta.id;
    let full = KeyOutcome::Full(Full::Messages(2));
    let scheduled = node.schedule(5, id, &[("a", None, 9), ("b", None, 9), ("e", None, 9)]);
    assert_eq!(scheduled, [Scheduled::New, Scheduled::New, Scheduled::Known(full)]);
    node.restart();
    let assigned = node.publish(6, group(id, 0, &[("x", None)])).0.unwrap();
    assert_eq!(assigned.except, [(0, full)]);
    assert_eq!(node.release(9, id, &[1, 2], &["a", "b"]).0, 2);
    assert_eq!(node.machine.stats(id).unwrap().next_seq, 2);
}

#[test]
fn a_delayed_message_is_due_by_the_time_of_day_and_what_lasts_is_not_touched_when_the_calendar_is_turned() {
    let mut node = Node::new();
    let id = node.create("jobs", window(1_000)).meta.id;
    node.publish(10_000, group(id, 0, &[("a", Some("k"))])).0.unwrap();
    assert_eq!(node.schedule(10_000, id, &[("late", None, 1_500)]), [Scheduled::New]);
    node.apply(Command::Calendar { time_ms: 10_000, ahead_ms: 9_000 });
    node.restart();
    assert_eq!((node.machine.ahead_ms(), node.machine.today_ms()), (9_000, 1_000));
    assert_eq!(node.release(10_499, id, &[1], &["late"]).0, 0, "it is 1,499");
    assert_eq!(node.release(10_500, id, &[1], &["late"]).0, 1);
    let known = |node: &mut Node, time_ms| node.publish(time_ms, group(id, 0, &[("a", Some("k"))])).0.unwrap().except;
    assert_eq!(known(&mut node, 10_999), [(0, KeyOutcome::Duplicate { seq: 0 })]);
    assert_eq!(known(&mut node, 11_000), []);
    let before = node.stored.clone();
    node.apply(Command::Calendar { time_ms: 11_000, ahead_ms: 9_000 });
    assert_eq!(node.stored, before, "it says so already");
}
