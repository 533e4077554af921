//! Keys that go in great numbers.

use super::*;
use crate::model::ConsumerOperation;

/// One key in each of so many entries.
fn filled(entries: u64) -> (Node, ChannelId) {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    for number in 0..entries {
        node.publish(5, group(id, 0, &[("a", Some(&number.to_string()))])).0.unwrap();
    }
    (node, id)
}

fn tick(node: &mut Node, time_ms: u64) -> usize {
    node.apply(Command::Tick { time_ms }).1.writes.puts.len()
}

#[test]
fn keys_that_are_due_all_at_once_are_forgotten_in_steps_and_are_known_until_then() {
    let (mut node, id) = filled(20_000);
    assert!((8_192..8_200).contains(&tick(&mut node, 105)));
    assert_eq!(node.machine.stats(id).unwrap().live_keys, 20_000 - 8_192);
    assert_eq!(node.machine.next_expiry_ms(), Some(105), "whoever lets time pass has to go on");
    node.restart();
    let repeated = group(id, 0, &[("a", Some("19999"))]);
    assert_eq!(node.publish(105, repeated).0.unwrap().except, [(0, KeyOutcome::Duplicate { seq: 19_999 })]);
    tick(&mut node, 105);
    assert_eq!((node.machine.stats(id).unwrap().live_keys, node.machine.next_expiry_ms()), (0, None));
    assert_eq!(node.claims().count(), 0);
    assert_eq!(node.publish(105, group(id, 0, &[("a", Some("19999"))])).0.unwrap().except, []);
}

#[test]
fn the_keys_of_a_deleted_channel_go_after_it_in_steps() {
    let (mut node, _) = filled(10_000);
    let name: ChannelName = "c".parse().unwrap();
    node.apply(Command::DeleteChannel { time_ms: 6, name });
    assert_eq!((node.machine.live_keys().all, node.claims().count()), (0, 10_000 - 8_192));
    assert_eq!(node.machine.next_expiry_ms(), Some(6));
    node.restart();
    // Another channel of that name has nothing to do with them.
    let id = node.create("c", window(100)).meta.id;
    assert_eq!(node.publish(7, group(id, 0, &[("b", Some("9999"))])).0.unwrap().except, []);
    tick(&mut node, 7);
    assert_eq!(node.claims().map(|(of, _)| of).collect::<Vec<_>>(), [id]);
    assert_eq!(node.machine.next_expiry_ms(), Some(107));
}

#[test]
fn the_keys_of_a_channel_that_never_was_are_not_believed() {
    let (mut node, id) = filled(1);
    let claims = node.stored[&Key::Claims(id, 0).encode()].clone();
    node.stored.insert(Key::Claims(ChannelId(9), 0).encode(), claims);
    let error = Machine::restore(node.stored).unwrap_err();
    assert!(error.contains("does not know of channel 9"), "{error}");
}

#[test]
fn the_key_of_a_dead_letter_is_asked_for_under_every_rule() {
    let (mut node, id) = filled(1);
    node.machine.cool(id, u64::MAX, 1);
    let letter = Some(group(id, 0, &[("a", Some("0"))]));
    let bury = ConsumerOperation::DeadLetter { consumer: ConsumerId(1), seq: 0, letter };
    let keeping = ConsumerOperation::Keeping(Box::new(bury.clone()));
    let judged = ConsumerOperation::Judged { operation: Box::new(bury.clone()), settle_skipped: false };
    for operation in [bury, keeping, judged] {
        let command = Command::Operations { time_ms: 6, operations: vec![Operation::Consumer(operation)] };
        assert_eq!(node.machine.asks(&command), BTreeMap::from([(id, vec![KeyHash::of("0")])]), "{command:?}");
    }
}
