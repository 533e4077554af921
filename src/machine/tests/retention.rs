//! What a channel keeps: limits, age, trims, and what is refused.

use super::*;
use crate::model::{Full, Retention, Route, WhenFull};

fn keeping(retention: Retention) -> ChannelConfig {
    ChannelConfig { retention, ..window(100) }
}

fn most(max_messages: u64) -> Retention {
    Retention { max_messages: Some(max_messages), ..Retention::default() }
}

fn full(retention: Retention) -> Retention {
    Retention { when_full: WhenFull::RefuseNew, ..retention }
}

impl Node {
    fn stats(&self, id: ChannelId) -> ChannelStats {
        self.machine.stats(id).unwrap()
    }

    fn send(&mut self, time_ms: u64, id: ChannelId, payloads: &[&str]) -> (GroupReply, Effects) {
        let messages: Vec<_> = payloads.iter().map(|payload| (*payload, None)).collect();
        self.publish(time_ms, group(id, 0, &messages))
    }

    fn trim(&mut self, up_to: u64) -> (u64, Effects) {
        let operation = Operation::Trim { channel: "c".parse().unwrap(), up_to };
        let (reply, effects) = self.apply(Command::Operations { time_ms: 1, operations: vec![operation] });
        match reply {
            Reply::Operations(replies) => match replies[..] {
                [Ok(OperationReply::Trimmed { first_seq })] => (first_seq, effects),
                _ => panic!("{replies:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn retain(&mut self, time_ms: u64, retention: Retention) -> Effects {
        let update = ChannelUpdate { retention: Some(retention), ..ChannelUpdate::default() };
        self.apply(Command::UpdateChannel { time_ms, name: "c".parse().unwrap(), update }).1
    }

    /// A restarted machine has to do the same.
    fn restarts_as_it_was(&mut self) {
        let (stats, expiry): (Vec<_>, _) =
            (self.machine.channels().map(|(_, stats)| stats).collect(), self.machine.next_expiry_ms());
        self.restart();
        assert_eq!(self.machine.channels().map(|(_, stats)| stats).collect::<Vec<_>>(), stats);
        assert_eq!(self.machine.next_expiry_ms(), expiry);
    }
}

#[test]
fn a_limit_of_messages_is_met_exactly_even_within_one_batch() {
    let mut node = Node::new();
    let id = node.create("c", keeping(most(3))).meta.id;
    node.send(5, id, &["a", "b"]).0.unwrap();
    assert_eq!(node.stats(id).first_seq, 0);
    node.send(6, id, &["c", "d"]).0.unwrap();
    assert_eq!((node.stats(id).first_seq, node.stats(id).next_seq), (1, 4));
    node.send(7, id, &["e", "f", "g", "h", "i"]).0.unwrap();
    assert_eq!((node.stats(id).first_seq, node.stats(id).bytes), (6, 15));
    node.restarts_as_it_was();
}

#[test]
fn a_limit_of_bytes_is_never_exceeded_and_keeps_the_newest_messages_of_a_batch_that_is_larger() {
    let mut node = Node::new();
    // Each message takes 5 bytes.
    let id = node.create("c", keeping(Retention { max_bytes: Some(12), ..Retention::default() })).meta.id;
    node.send(5, id, &["a", "b"]).0.unwrap();
    node.send(6, id, &["c"]).0.unwrap();
    assert_eq!((node.stats(id).first_seq, node.stats(id).bytes), (1, 10));
    node.send(7, id, &["d", "e", "f", "g"]).0.unwrap();
    assert_eq!((node.stats(id).first_seq, node.stats(id).bytes), (5, 10));
    node.restarts_as_it_was();
}

#[test]
fn messages_go_when_they_are_too_old_in_log_time() {
    let mut node = Node::new();
    let id = node.create("c", keeping(Retention { max_age_ms: Some(100), ..Retention::default() })).meta.id;
    node.send(10, id, &["a", "b"]).0.unwrap();
    node.send(50, id, &["c"]).0.unwrap();
    assert_eq!(node.machine.next_expiry_ms(), Some(110));
    node.apply(Command::Tick { time_ms: 109 });
    assert_eq!(node.stats(id).first_seq, 0);
    node.restarts_as_it_was();
    node.apply(Command::Tick { time_ms: 110 });
    assert_eq!((node.stats(id).first_seq, node.machine.next_expiry_ms()), (2, Some(150)));
    let (_, effects) = node.apply(Command::Tick { time_ms: 400 });
    assert_eq!((node.stats(id).first_seq, node.stats(id).bytes), (3, 0));
    assert_eq!((&effects.writes.removes[..], node.machine.next_expiry_ms()), (&[("c:0".into(), 3)][..], None));
    node.restarts_as_it_was();
    // Nothing is left of it but the numbers.
    node.send(500, id, &["d"]).0.unwrap();
    assert_eq!((node.stats(id).first_seq, node.machine.next_expiry_ms()), (3, Some(600)));
}

#[test]
fn a_channel_that_refuses_takes_what_fits_in_order_and_refuses_the_rest() {
    let mut node = Node::new();
    let id = node.create("c", keeping(full(most(2)))).meta.id;
    let first = group(id, 0, &[("a", Some("k")), ("b", None), ("c", Some("l"))]);
    let full = KeyOutcome::Full(Full::Messages(2));
    let (reply, _) = node.publish(5, first);
    assert_eq!(reply.unwrap(), Assigned { first_seq: 0, except: vec![(2, full)] });
    // A retry of what is there is told where.
    let again = group(id, 0, &[("a", Some("k")), ("c", Some("l")), ("d", None)]);
    let (reply, effects) = node.publish(6, again);
    assert_eq!(reply.unwrap().except, [(0, KeyOutcome::Duplicate { seq: 0 }), (1, full), (2, full)]);
    assert!(effects.writes.appends.is_empty());
    // A refused key is free.
    assert_eq!(node.trim(1).0, 1);
    assert_eq!(node.publish(7, group(id, 0, &[("c", Some("l"))])).0.unwrap().first_seq, 2);
}

#[test]
fn a_channel_full_of_bytes_refuses_a_message_and_those_after_it_that_would_overtake_it() {
    let mut node = Node::new();
    let id = node.create("c", keeping(full(Retention { max_bytes: Some(12), ..Retention::default() }))).meta.id;
    let refused = KeyOutcome::Full(Full::Bytes(12));
    let (reply, _) = node.send(5, id, &["a", "bbbb", "c"]);
    assert_eq!(reply.unwrap().except, [(1, refused), (2, refused)]);
    assert_eq!(node.send(6, id, &["c"]).0.unwrap(), Assigned { first_seq: 1, except: vec![] });
}

#[test]
fn a_message_that_is_larger_than_all_that_the_channel_may_hold_is_refused_alone() {
    let mut node = Node::new();
    let retention = Retention { max_bytes: Some(8), ..Retention::default() };
    for (name, retention) in [("drops", retention.clone()), ("refuses", full(retention))] {
        let id = node.create(name, keeping(retention)).meta.id;
        let (reply, _) = node.send(5, id, &["bbbbbbbb", "c"]);
        let too_large = KeyOutcome::TooLarge { bytes: 12, limit: 8 };
        assert_eq!(reply.unwrap(), Assigned { first_seq: 0, except: vec![(0, too_large)] });
        assert_eq!((node.stats(id).first_seq, node.stats(id).next_seq), (0, 1));
    }
}

#[test]
fn a_full_target_of_a_rule_refuses_the_publish_but_not_its_retry() {
    let mut node = Node::new();
    let source = node.create("s", window(100)).meta.id;
    let target = node.create("c", keeping(full(most(1)))).meta.id;
    let routed = |payload, key| PublishGroup {
        routes: vec![Route { target, schema_id: 0, positions: vec![0] }],
        ..group(source, 0, &[(payload, key)])
    };
    node.publish(5, routed("a", Some("k"))).0.unwrap();
    let outcome = KeyOutcome::Full(Full::Messages(1));
    let full = Refusal::CopyRefused { channel: target, position: 0, outcome };
    assert_eq!(node.publish(6, routed("b", None)).0, Err(full));
    let retried = node.publish(7, routed("a", Some("k"))).0.unwrap();
    assert_eq!(retried.except, [(0, KeyOutcome::Duplicate { seq: 0 })]);
    assert_eq!((node.stats(source).next_seq, node.stats(target).next_seq), (1, 1));
}

#[test]
fn it_is_told_beforehand_which_groups_have_copies_that_may_be_refused() {
    let mut node = Node::new();
    let source = node.create("s", window(100)).meta.id;
    let few = node.create("c", keeping(full(most(10)))).meta.id;
    let small = node.create("d", keeping(Retention { max_bytes: Some(6), ..Retention::default() })).meta.id;
    let takes = |node: &Node, target, positions: &[u32], before| {
        let routes = vec![Route { target, schema_id: 0, positions: positions.to_vec() }];
        let group = PublishGroup { routes, ..group(source, 0, &[("a", None), ("long", None)]) };
        node.machine.takes_copies(&group, before)
    };
    assert!(takes(&node, few, &[0, 1], (8, 0)));
    assert!(!takes(&node, few, &[0, 1], (9, 0)));
    assert!(takes(&node, small, &[0], (1_000, 1_000)), "it drops the oldest");
    assert!(!takes(&node, small, &[0, 1], (0, 0)), "this one never fits");
    assert!(takes(&node, source, &[0, 1], (1_000, 1_000)));
}

#[test]
fn the_first_message_whose_copy_does_not_fit_is_named_whichever_channel_refuses_it() {
    let mut node = Node::new();
    let source = node.create("s", window(100)).meta.id;
    let few = node.create("c", keeping(full(most(1)))).meta.id;
    let retention = Retention { max_bytes: Some(6), ..Retention::default() };
    let small = node.create("d", keeping(retention)).meta.id;
    let route = |target, positions: &[u32]| Route { target, schema_id: 0, positions: positions.to_vec() };
    let messages = [("a", None), ("b", None), ("long", None), ("e", None)];
    let routed = |routes| PublishGroup { routes, ..group(source, 0, &messages) };
    let (reply, _) = node.publish(5, routed(vec![route(few, &[0, 3]), route(small, &[1, 2])]));
    let outcome = KeyOutcome::TooLarge { bytes: 8, limit: 6 };
    assert_eq!(reply, Err(Refusal::CopyRefused { channel: small, position: 2, outcome }));
    let (reply, _) = node.publish(5, routed(vec![route(few, &[0, 1]), route(small, &[2])]));
    let outcome = KeyOutcome::Full(Full::Messages(1));
    assert_eq!(reply, Err(Refusal::CopyRefused { channel: few, position: 1, outcome }));
    assert_eq!(node.stats(source).next_seq, 0);
}

#[test]
fn a_trim_moves_the_beginning_and_cuts_the_store_at_once() {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    node.send(5, id, &["a", "b", "c"]).0.unwrap();
    node.send(6, id, &["d"]).0.unwrap();
    let (first_seq, effects) = node.trim(2);
    assert_eq!((first_seq, &effects.writes.removes[..]), (2, &[("c:0".into(), 2)][..]));
    assert_eq!(node.stats(id).bytes, 10);
    node.restarts_as_it_was();
    let (first_seq, effects) = node.trim(1);
    assert_eq!((first_seq, effects.writes.is_empty()), (2, true), "it never moves back");
    assert_eq!(node.trim(99).0, 4);
    assert_eq!((node.stats(id).bytes, node.streams["c:0"].len()), (0, 0));
    node.restarts_as_it_was();
    assert_eq!(node.send(7, id, &["e"]).0.unwrap().first_seq, 4);
    node.restarts_as_it_was();
}

#[test]
fn a_trim_of_a_channel_that_is_not_there_is_refused() {
    let mut node = Node::new();
    let operation = Operation::Trim { channel: "c".parse().unwrap(), up_to: 1 };
    let (reply, effects) = node.apply(Command::Operations { time_ms: 0, operations: vec![operation] });
    assert_eq!(reply, Reply::Operations(vec![Err(Refusal::NoChannelNamed("c".parse().unwrap()))]));
    assert!(effects.writes.is_empty());
}

#[test]
fn new_limits_apply_at_once() {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    for number in 0..50u64 {
        node.send(number, id, &["a", "b"]).0.unwrap();
    }
    node.retain(50, most(60));
    assert_eq!((node.stats(id).first_seq, node.stats(id).bytes), (40, 300));
    node.restarts_as_it_was();
    // All of it lay between two marks: the bytes are split in proportion, and the next append does not take it all.
    node.retain(51, Retention { max_bytes: Some(100), ..Retention::default() });
    assert_eq!((node.stats(id).first_seq, node.stats(id).bytes), (80, 100));
    node.restarts_as_it_was();
    node.send(52, id, &["c"]).0.unwrap();
    assert_eq!((node.stats(id).first_seq, node.stats(id).bytes), (81, 100));
    node.retain(53, Retention { max_age_ms: Some(1), ..Retention::default() });
    assert_eq!((node.stats(id).first_seq, node.stats(id).next_seq), (101, 101));
    node.restarts_as_it_was();
}

#[test]
fn an_append_writes_no_more_however_much_a_channel_holds() {
    let mut node = Node::new();
    let id = node.create("c", keeping(most(100_000))).meta.id;
    let payload = "x".repeat(1000);
    let batch = vec![payload.as_str(); 100];
    let mut puts = 0;
    for number in 0..2000u64 {
        puts += node.send(number, id, &batch).1.writes.puts.len();
    }
    assert_eq!(node.stats(id).first_seq, 100_000);
    // The time and the counters with each entry, which are written again when the beginning moves; now and then a mark.
    assert!(puts < 2000 * 4, "{puts} puts");
    let kept = node.streams["c:0"].len();
    assert!((1000..1030).contains(&kept), "{kept} batches of 1,000 that are needed");
    node.restarts_as_it_was();
}

#[test]
fn a_deleted_channel_takes_its_marks_and_its_age_along() {
    let mut node = Node::new();
    let id = node.create("c", keeping(Retention { max_age_ms: Some(100), ..Retention::default() })).meta.id;
    node.send(5, id, &["a"]).0.unwrap();
    node.apply(Command::DeleteChannel { time_ms: 6, name: "c".parse().unwrap() });
    assert_eq!(node.stored.keys().collect::<Vec<_>>(), [&Key::Machine.encode()]);
    assert_eq!(node.machine.next_expiry_ms(), None);
}

#[test]
fn an_ephemeral_channel_has_nothing_to_keep() {
    let mut node = Node::new();
    let config = ChannelConfig { durability: Durability::Ephemeral, ..keeping(full(most(1))) };
    let id = node.create("c", config).meta.id;
    assert!(node.send(5, id, &["a", "b"]).0.unwrap().except.is_empty());
    assert_eq!(node.trim(9).0, 2);
    node.restarts_as_it_was();
}

#[test]
fn marks_that_do_not_fit_the_counters_are_refused_by_name() {
    let damaged = |change: fn(ChannelId, &mut BTreeMap<Bytes, Bytes>)| {
        let mut node = Node::new();
        let id = node.create("c", keeping(Retention { max_bytes: Some(100), ..Retention::default() })).meta.id;
        node.send(5, id, &["a"]).0.unwrap();
        node.send(6, id, &["b"]).0.unwrap();
        change(id, &mut node.stored);
        Machine::restore(node.stored).unwrap_err()
    };
    let missing = damaged(|id, stored| drop(stored.remove(&Key::Mark(id, 0).encode())));
    assert!(missing.contains("the mark at 1 does not fit"), "{missing}");
    let none =
        damaged(|id, stored| stored.retain(|key, _| !matches!(Key::decode(key), Some(Key::Mark(..))) || id.0 == 0));
    assert!(none.contains("a mark is missing"), "{none}");
    let beyond = damaged(|id, stored| {
        let mark = marks::Mark { bytes_before: 5, before_ms: 5, time_ms: 6 };
        drop(stored.insert(Key::Mark(id, 2).encode(), codec::encode_record(&mark)));
    });
    assert!(beyond.contains("the mark at 1 does not fit") || beyond.contains("the mark at 2"), "{beyond}");
    let heavy = damaged(|id, stored| {
        let mark = marks::Mark { bytes_before: 99, before_ms: 5, time_ms: 6 };
        drop(stored.insert(Key::Mark(id, 1).encode(), codec::encode_record(&mark)));
    });
    assert!(heavy.contains("does not fit"), "{heavy}");
    let stranger = damaged(|_, stored| {
        let mark = marks::Mark { bytes_before: 1, before_ms: 5, time_ms: 6 };
        drop(stored.insert(Key::Mark(ChannelId(9), 1).encode(), codec::encode_record(&mark)));
    });
    assert!(stranger.contains("there is no channel 9"), "{stranger}");
}

#[test]
fn what_other_limits_would_remove_is_what_they_remove() {
    let tight = |bytes, age| Retention { max_bytes: bytes, max_age_ms: age, ..Retention::default() };
    for retention in [most(3), full(most(3)), tight(Some(40), None), tight(None, Some(4)), Retention::default()] {
        let mut node = Node::new();
        let id = node.create("c", keeping(Retention::default())).meta.id;
        for time_ms in 1..10 {
            node.send(time_ms, id, &["a", "b"]).0.unwrap();
        }
        let before = (node.stats(id), node.stored.clone());
        let foreseen = node.machine.would_remove(id, &retention);
        assert_eq!((node.stats(id), node.stored.clone()), before, "nothing has changed");
        node.retain(9, retention.clone());
        assert_eq!(foreseen, node.stats(id).first_seq, "{retention:?}");
    }
}

#[test]
fn messages_of_very_many_channels_that_are_too_old_at_once_go_with_some_commands() {
    const CHANNELS: u64 = 20_000;
    let mut machine = Machine::restore([]).unwrap();
    let retention = Retention { max_age_ms: Some(100), ..Retention::default() };
    let config = ChannelConfig { retention, ..ChannelConfig::default() };
    for number in 0..CHANNELS {
        let name = format!("c{number}").parse().unwrap();
        machine.apply(Command::CreateChannel { time_ms: 1, name, config: config.clone() });
    }
    let groups = (1..=CHANNELS).map(|id| group(ChannelId(id), 0, &[("m", None)])).collect();
    machine.apply(Command::Publish { time_ms: 1, groups });
    let mut commands = 0;
    while machine.next_expiry_ms().is_some_and(|expiry| expiry <= 1_000) {
        let (_, effects) = machine.apply(Command::Tick { time_ms: 1_000 });
        // The last channel may have some more than there is room for.
        assert!(
            effects.writes.puts.len() <= crate::machine::retention::AGED_AT_ONCE + marks::MOST,
            "{}",
            effects.writes.puts.len()
        );
        commands += 1;
    }
    assert!((2..10).contains(&commands), "{commands} commands");
    assert!((1..=CHANNELS).all(|id| machine.stats(ChannelId(id)).unwrap().bytes == 0));
}
