//! Rules between channels, and publishes that name where the channel ends.

use super::*;
use crate::model::{Route, Rule};

fn name(name: &str) -> ChannelName {
    name.parse().unwrap()
}

impl Node {
    fn put_rule(&mut self, source: &str, target: &str, predicate: Option<&str>) -> Result<OperationReply, Refusal> {
        let operation =
            Operation::PutRule { source: name(source), target: name(target), predicate: predicate.map(str::to_owned) };
        self.operate(5, operation).0
    }

    fn stored_payloads(&self, stream: &str) -> Vec<String> {
        self.streams.get(stream).into_iter().flatten().flat_map(payloads).collect()
    }
}

fn three() -> (Node, [ChannelId; 3]) {
    let mut node = Node::new();
    let ids = ["a", "b", "c"].map(|name| node.create(name, window(100)).meta.id);
    (node, ids)
}

#[test]
fn a_rule_that_would_close_a_circle_is_refused() {
    let (mut node, [a, b, _]) = three();
    assert_eq!(
        node.put_rule("a", "b", Some("x")).unwrap(),
        OperationReply::Rule(Rule { source: a, target: b, predicate: Some("x".into()) })
    );
    node.put_rule("b", "c", None).unwrap();
    assert_eq!(node.put_rule("c", "a", None), Err(Refusal::RuleCycle));
    assert_eq!(node.put_rule("a", "a", None), Err(Refusal::RuleCycle));
    assert_eq!(node.put_rule("a", "nothing", None), Err(Refusal::NoChannelNamed(name("nothing"))));
    assert_eq!(node.machine.rules().len(), 2);
    // The predicate may change, also where the rule is there already.
    node.put_rule("a", "b", Some("y")).unwrap();
    assert_eq!(node.machine.rules().get(a, b).unwrap().predicate.as_deref(), Some("y"));
}

#[test]
fn rules_come_back_after_a_restart_and_go_with_their_channels() {
    let (mut node, [a, b, c]) = three();
    node.put_rule("a", "b", Some("x")).unwrap();
    node.put_rule("b", "c", None).unwrap();
    let before = node.machine.rules().clone();
    node.restart();
    assert_eq!(*node.machine.rules(), before);
    let (_, effects) = node.apply(Command::DeleteChannel { time_ms: 6, name: name("b") });
    assert!(node.machine.rules().is_empty() && node.machine.rules().version > before.version);
    assert!(effects.catalog.iter().any(|change| matches!(change, CatalogChange::Rules(rules) if rules.is_empty())));
    assert!(
        !node.stored.contains_key(&Key::Rule(a, b).encode()) && !node.stored.contains_key(&Key::Rule(b, c).encode())
    );
    node.restart();
    assert_eq!(
        node.operate(5, Operation::DeleteRule { source: name("a"), target: name("c") }).0,
        Err(Refusal::NoSuchRule)
    );
}

#[test]
fn there_are_never_more_rules_than_the_limit() {
    let mut node = Node::with(Limits { rules: 1, ..Limits::default() });
    for channel in ["a", "b", "c"] {
        node.create(channel, window(100));
    }
    node.put_rule("a", "b", None).unwrap();
    assert_eq!(node.put_rule("a", "c", None), Err(Refusal::TooManyRules { limit: 1 }));
    node.put_rule("a", "b", Some("x")).unwrap();
}

#[test]
fn a_message_and_its_copies_are_appended_together_or_not_at_all() {
    let (mut node, [a, b, c]) = three();
    node.put_rule("a", "b", None).unwrap();
    let routed = |rules_version, schema_id| PublishGroup {
        rules_version,
        routes: vec![
            Route { target: b, schema_id, positions: vec![0, 2] },
            Route { target: c, schema_id: 0, positions: vec![1, 2] },
        ],
        ..group(a, 0, &[("x", Some("k")), ("y", None), ("z", None)])
    };
    assert_eq!(node.publish(5, routed(0, 0)).0, Err(Refusal::StaleRules { current: 1 }));
    assert_eq!(node.publish(5, routed(1, 9)).0, Err(Refusal::StaleSchema { current: 0 }));
    assert!(node.streams.is_empty());
    let (reply, effects) = node.publish(5, routed(1, 0));
    assert_eq!(reply.unwrap().first_seq, 0);
    assert_eq!(effects.deliveries.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [a, b, c]);
    assert_eq!(node.stored_payloads("b:0"), ["x", "z"]);
    // What is a duplicate in its own channel is not copied again.
    node.publish(6, routed(1, 0)).0.unwrap();
    assert_eq!(node.stored_payloads("a:0"), ["x", "y", "z", "y", "z"]);
    assert_eq!(node.stored_payloads("b:0"), ["x", "z", "z"]);
    assert_eq!(node.stored_payloads("c:0"), ["y", "z", "y", "z"]);
    assert_eq!(node.machine.stats(b).unwrap().next_seq, 3);
    node.restart();
    assert_eq!(node.machine.stats(c).unwrap().next_seq, 4);
}

#[test]
fn a_group_that_expects_another_end_of_its_channel_is_refused_and_claims_nothing() {
    let (mut node, [a, ..]) = three();
    let expecting = |seq, payload| PublishGroup { expected_seq: Some(seq), ..group(a, 0, &[(payload, Some(payload))]) };
    assert_eq!(node.publish(5, expecting(1, "x")).0, Err(Refusal::WrongSeq { expected: 1, actual: 0 }));
    assert_eq!(node.machine.stats(a).unwrap(), ChannelStats::default());
    assert_eq!(node.publish(5, expecting(0, "x")).0.unwrap().first_seq, 0);
    // The retry of what was stored gets its answer, wherever the channel ends by now.
    assert_eq!(node.publish(6, expecting(0, "x")).0.unwrap().except, [(0, KeyOutcome::Duplicate { seq: 0 })]);
    assert_eq!(node.publish(6, expecting(0, "y")).0, Err(Refusal::WrongSeq { expected: 0, actual: 1 }));
}

/// The bytes that some frames hold, those that they share counted once.
fn held<'a>(frames: impl Iterator<Item = &'a Frame>) -> usize {
    let held: BTreeMap<usize, usize> =
        frames.map(Frame::held).map(|bytes| (bytes.as_ptr().addr(), bytes.len())).collect();
    held.into_values().sum()
}

#[test]
fn an_entry_that_makes_more_copies_than_memory_holds_is_applied_without_them() {
    const LARGE: usize = 1 << 20;
    let mut node = Node::new();
    let source = node.create("source", window(100)).meta.id;
    let targets: Vec<ChannelId> =
        (0..990).map(|number| node.create(&format!("t{number}"), window(100)).meta.id).collect();
    let message = |byte: u8| Message { payload: vec![byte; LARGE].into(), ..Message::default() };
    let frame = Frame::encode(&[1, 2, 3, 4].map(message));
    let some = [vec![0, 1, 2, 3], vec![0, 2], vec![1, 2, 3]];
    let route = |(target, positions): (&ChannelId, &Vec<u32>)| Route {
        target: *target,
        schema_id: 0,
        positions: positions.clone(),
    };
    let routes: Vec<Route> = targets.iter().zip(some.iter().cycle()).map(route).collect();
    let group = PublishGroup { channel: source, routes, frame: frame.clone(), ..PublishGroup::default() };
    assert!(group.copied_bytes() > 2 << 30);
    let (reply, effects) = node.machine.apply(Command::Publish { time_ms: 7, groups: vec![group] });
    assert!(matches!(reply, Reply::Published(groups) if groups[0].is_ok()));
    let appends = &effects.writes.appends;
    assert_eq!(appends.len(), 991);
    assert!(appends.iter().map(|(_, batch)| batch.frame.len()).sum::<usize>() > 2 << 30, "all of it is to be stored");
    let delivered = effects.deliveries.iter().map(|(_, batch)| &batch.frame);
    let bytes = held(appends.iter().map(|(_, batch)| &batch.frame).chain(delivered));
    assert!(bytes < 24 << 20, "{bytes} bytes are held");
    for ((_, batch), positions) in appends[1..].iter().zip(some.iter().cycle()).step_by(97) {
        assert_eq!(batch.frame, frame.select(positions));
    }
}
