use proptest::prelude::*;

use super::*;
use crate::model::{Assigned, Digest, Durability, Frame, KeyClaim, KeyHash, KeyOutcome};
use crate::proto::v1::Message;

/// A machine with the plain keys that its effects have put.
struct Node {
    limits: Limits,
    machine: Machine,
    stored: BTreeMap<Bytes, Bytes>,
}

impl Node {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self { machine: Machine::restore(&limits, []).unwrap(), stored: BTreeMap::new(), limits }
    }

    fn apply(&mut self, command: Command) -> (Reply, Effects) {
        let (reply, effects) = self.machine.apply(command);
        for (key, value) in &effects.writes.puts {
            match value {
                Some(value) => self.stored.insert(key.clone(), value.clone()),
                None => self.stored.remove(key),
            };
        }
        (reply, effects)
    }

    fn restart(&mut self) {
        self.machine = Machine::restore(&self.limits, self.stored.clone()).unwrap();
    }

    fn create(&mut self, name: &str, config: ChannelConfig) -> ChannelReply {
        let command = Command::CreateChannel { time_ms: 1, name: name.parse().unwrap(), config };
        match self.apply(command).0 {
            Reply::Channel(Ok(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn publish(&mut self, time_ms: u64, group: PublishGroup) -> (GroupReply, Effects) {
        let (reply, effects) = self.apply(Command::Publish { time_ms, groups: vec![group] });
        let Reply::Published(mut groups) = reply else { panic!("{reply:?}") };
        (groups.remove(0), effects)
    }
}

fn window(dedup_window_ms: u64) -> ChannelConfig {
    ChannelConfig { dedup_window_ms, ..ChannelConfig::default() }
}

/// A group of messages, each a payload and perhaps a key.
fn group(channel: ChannelId, schema_id: u64, messages: &[(&str, Option<&str>)]) -> PublishGroup {
    let encoded: Vec<Message> = messages
        .iter()
        .map(|(payload, key)| Message {
            payload: Bytes::from(payload.to_string()),
            key: key.unwrap_or_default().into(),
            ..Message::default()
        })
        .collect();
    let keys = (0u32..)
        .zip(messages)
        .filter_map(|(position, (payload, key))| {
            Some(KeyClaim { position, key: KeyHash::of((*key)?), digest: Digest::of(payload.as_bytes()) })
        })
        .collect();
    PublishGroup { channel, schema_id, keys, frame: Frame::encode(&encoded) }
}

fn payloads(batch: &StoredBatch) -> Vec<String> {
    batch.frame.messages().map(|message| String::from_utf8(message.unwrap().payload.to_vec()).unwrap()).collect()
}

#[test]
fn sequence_numbers_begin_at_zero_and_have_no_gaps() {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    let (first, effects) = node.publish(5, group(id, 0, &[("a", None), ("b", None)]));
    assert_eq!(first.unwrap(), Assigned { first_seq: 0, except: vec![] });
    assert_eq!(effects.writes.appends[0].0.as_ref(), "c:0");
    assert_eq!(effects.deliveries[0].1, effects.writes.appends[0].1);
    assert_eq!(node.publish(5, group(id, 0, &[("c", None)])).0.unwrap().first_seq, 2);
    assert_eq!(node.machine.stats(id).unwrap().next_seq, 3);
}

#[test]
fn a_repeated_key_gets_the_original_number_and_stores_nothing() {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    node.publish(5, group(id, 0, &[("x", None), ("a", Some("k"))])).0.unwrap();
    let (reply, effects) = node.publish(6, group(id, 0, &[("a", Some("k"))]));
    assert_eq!(reply.unwrap().except, [(0, KeyOutcome::Duplicate { seq: 1 })]);
    assert!(effects.writes.appends.is_empty() && effects.deliveries.is_empty());
}

#[test]
fn a_key_with_another_payload_is_a_conflict() {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    node.publish(5, group(id, 0, &[("a", Some("k"))])).0.unwrap();
    let (reply, _) = node.publish(6, group(id, 0, &[("b", Some("k")), ("n", None)]));
    assert_eq!(reply.unwrap(), Assigned { first_seq: 1, except: vec![(0, KeyOutcome::Conflict { seq: 0 })] });
}

#[test]
fn the_same_key_twice_in_one_entry_counts_once() {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    let (reply, effects) =
        node.publish(5, group(id, 0, &[("a", Some("k")), ("n", None), ("a", Some("k")), ("b", Some("l"))]));
    assert_eq!(reply.unwrap().except, [(2, KeyOutcome::Duplicate { seq: 0 })]);
    assert_eq!(payloads(&effects.writes.appends[0].1), ["a", "n", "b"]);
    assert_eq!(
        node.publish(5, group(id, 0, &[("b", Some("l"))])).0.unwrap().except,
        [(0, KeyOutcome::Duplicate { seq: 2 })]
    );
}

#[test]
fn a_key_is_forgotten_after_its_window_in_log_time_and_can_be_used_again() {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    node.publish(10, group(id, 0, &[("a", Some("k"))])).0.unwrap();
    assert_eq!(node.machine.next_expiry_ms(), Some(110));
    assert_eq!(node.publish(109, group(id, 0, &[("a", Some("k"))])).0.unwrap().except.len(), 1);
    let (reply, effects) = node.publish(110, group(id, 0, &[("a", Some("k"))]));
    assert_eq!(reply.unwrap(), Assigned { first_seq: 1, except: vec![] });
    assert!(effects.writes.puts.iter().any(|(key, value)| *key == Key::Claims(id, 0).encode() && value.is_none()));
    // The new claim is not removed with the old one.
    node.apply(Command::Tick { time_ms: 111 });
    node.restart();
    assert_eq!(
        node.publish(150, group(id, 0, &[("a", Some("k"))])).0.unwrap().except,
        [(0, KeyOutcome::Duplicate { seq: 1 })]
    );
}

#[test]
fn time_never_goes_backwards() {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    node.apply(Command::Tick { time_ms: 500 });
    let (_, effects) = node.publish(20, group(id, 0, &[("a", None)]));
    assert_eq!(effects.deliveries[0].1.time_ms, 500);
}

#[test]
fn live_keys_are_never_evicted_early() {
    let mut node = Node::with(Limits { live_keys: 2, ..Limits::default() });
    let id = node.create("c", window(100)).meta.id;
    let (reply, effects) =
        node.publish(5, group(id, 0, &[("a", Some("1")), ("b", Some("2")), ("c", Some("3")), ("d", None)]));
    assert_eq!(reply.unwrap().except, [(2, KeyOutcome::TooManyKeys { limit: 2 })]);
    assert_eq!(payloads(&effects.writes.appends[0].1), ["a", "b", "d"]);
    assert!(node.publish(105, group(id, 0, &[("c", Some("3"))])).0.unwrap().except.is_empty());
}

#[test]
fn an_ephemeral_channel_delivers_and_claims_but_stores_no_message() {
    let mut node = Node::new();
    let config = ChannelConfig { durability: Durability::Ephemeral, ..window(100) };
    let id = node.create("c", config).meta.id;
    let (_, effects) = node.publish(5, group(id, 0, &[("a", Some("k"))]));
    assert_eq!((effects.writes.appends.len(), effects.deliveries.len()), (0, 1));
    node.restart();
    assert_eq!(node.machine.stats(id).unwrap(), ChannelStats { first_seq: 1, next_seq: 1, live_keys: 1, bytes: 0 });
    assert_eq!(node.publish(6, group(id, 0, &[("a", Some("k"))])).0.unwrap().except.len(), 1);
}

#[test]
fn a_publish_checked_against_an_old_schema_is_refused() {
    let mut node = Node::new();
    let config = ChannelConfig { schema: Some("{}".into()), ..window(100) };
    let id = node.create("c", config).meta.id;
    let update = |schema: &str| Command::UpdateChannel {
        time_ms: 2,
        name: "c".parse().unwrap(),
        schema: Some(schema.into()),
        dedup_window_ms: None,
    };
    node.apply(update("true"));
    assert_eq!(node.publish(5, group(id, 1, &[("a", None)])).0, Err(Refusal::StaleSchema { current: 2 }));
    node.apply(update("true"));
    assert!(node.publish(5, group(id, 2, &[("a", None)])).0.is_ok());
    node.apply(update(""));
    assert!(node.publish(5, group(id, 0, &[("a", None)])).0.is_ok());
}

#[test]
fn creating_a_channel_again_is_no_change_and_another_configuration_is_refused() {
    let mut node = Node::new();
    let first = node.create("c", window(100));
    assert_eq!(node.create("c", window(100)), first);
    let other = Command::CreateChannel { time_ms: 1, name: "c".parse().unwrap(), config: window(7) };
    let (reply, effects) = node.apply(other);
    assert_eq!(reply, Reply::Channel(Err(Refusal::ChannelExists(Box::new(first)))));
    assert!(effects.writes.is_empty() && effects.catalog.is_empty());
}

#[test]
fn a_deleted_channel_leaves_nothing_and_its_id_is_not_reused() {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    node.publish(5, group(id, 0, &[("a", Some("k"))])).0.unwrap();
    let (_, effects) = node.apply(Command::DeleteChannel { time_ms: 6, name: "c".parse().unwrap() });
    assert_eq!(effects.writes.drops[0].as_ref(), "c:0");
    assert_eq!(node.stored.keys().collect::<Vec<_>>(), [&Key::Machine.encode()]);
    assert_eq!(node.publish(7, group(id, 0, &[("a", None)])).0, Err(Refusal::NoSuchChannel));
    assert_ne!(node.create("c", window(100)).meta.id, id);
}

#[test]
fn there_are_never_more_channels_than_the_limit() {
    let mut node = Node::with(Limits { channels: 1, ..Limits::default() });
    node.create("c", window(100));
    let other = Command::CreateChannel { time_ms: 1, name: "d".parse().unwrap(), config: window(7) };
    assert_eq!(node.apply(other).0, Reply::Channel(Err(Refusal::TooManyChannels { limit: 1 })));
}

#[test]
fn a_key_that_cannot_be_read_is_named() {
    let error = Machine::restore(&Limits::default(), [(Bytes::from("machine"), Bytes::from("?"))]).unwrap_err();
    assert!(error.contains("machine") && error.contains("ends early"), "{error}");
}

/// The least that the rules say, with linear search and no batching.
#[derive(Default)]
struct Model {
    time: u64,
    next: u64,
    keys: Vec<(String, String, u64, u64)>,
}

const WINDOW: u64 = 50;

impl Model {
    fn publish(&mut self, time: u64, messages: &[(String, Option<String>)]) -> Vec<Result<u64, KeyOutcome>> {
        self.time = self.time.max(time);
        let now = self.time;
        self.keys.retain(|(_, _, _, at)| at + WINDOW > now);
        let mut results = Vec::new();
        for (payload, key) in messages {
            let known = key.as_ref().and_then(|key| self.keys.iter().find(|known| known.0 == *key));
            results.push(match known {
                Some((_, same, seq, _)) if same == payload => Err(KeyOutcome::Duplicate { seq: *seq }),
                Some((_, _, seq, _)) => Err(KeyOutcome::Conflict { seq: *seq }),
                None => {
                    let seq = self.next;
                    self.next += 1;
                    self.keys.extend(key.clone().map(|key| (key, payload.clone(), seq, now)));
                    Ok(seq)
                }
            });
        }
        results
    }
}

fn results(count: usize, assigned: &Assigned) -> Vec<Result<u64, KeyOutcome>> {
    let mut next = assigned.first_seq;
    (0u32..)
        .take(count)
        .map(|position| match assigned.except.iter().find(|(at, _)| *at == position) {
            Some((_, outcome)) => Err(*outcome),
            None => {
                next += 1;
                Ok(next - 1)
            }
        })
        .collect()
}

proptest! {
    #[test]
    fn any_publishes_and_restarts_agree_with_the_model(
        steps in proptest::collection::vec(
            (0u64..40, proptest::collection::vec(("[ab]", proptest::option::of("[k-o]")), 1..5), any::<bool>()),
            1..40,
        )
    ) {
        let mut node = Node::new();
        let mut restarted = Node::new();
        let id = node.create("c", window(WINDOW)).meta.id;
        restarted.create("c", window(WINDOW));
        let mut model = Model { time: 1, ..Model::default() };
        let mut time = 1;
        for (advance, messages, restart) in steps {
            time += advance;
            let borrowed: Vec<(&str, Option<&str>)> =
                messages.iter().map(|(payload, key)| (payload.as_str(), key.as_deref())).collect();
            let (reply, effects) = node.publish(time, group(id, 0, &borrowed));
            prop_assert_eq!(results(messages.len(), &reply.unwrap()), model.publish(time, &messages));
            if restart {
                restarted.restart();
            }
            let (_, same) = restarted.publish(time, group(id, 0, &borrowed));
            prop_assert_eq!(effects, same);
            prop_assert_eq!(&node.stored, &restarted.stored);
        }
        prop_assert_eq!(node.machine.stats(id).unwrap().next_seq, model.next);
    }
}
