mod compaction;
mod consumers;
mod keys;
mod naive;
mod owners;
mod publishing;
mod redrive;
mod retention;
mod rules;
mod security;
mod stored;
mod version;

use bytes::Bytes;

use super::*;
use crate::{
    codec,
    model::{
        Assigned, ChannelConfig, ChannelReply, ChannelUpdate, ConsumerId, Digest, Durability, Frame, KeyClaim, KeyHash,
        KeyOutcome, Limits, SchemaVersion, StateLimits, StoredBatch,
    },
    proto::v1::Message,
};

/// A machine with what its effects have written.
struct Node {
    machine: Machine,
    stored: BTreeMap<Bytes, Bytes>,
    streams: BTreeMap<Arc<str>, Vec<StoredBatch>>,
    /// Keys of each channel that become cold with each command.
    cools: u64,
}

impl Node {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let (mut machine, mut effects) = (Machine::restore([]).unwrap(), Effects::default());
        machine.limit_state(StateLimits::from(&limits), &mut effects);
        if limits.live_keys != Limits::default().live_keys {
            // As a leader does with a limit that somebody chose.
            machine.limit_keys(KeyLimit { live_keys: limits.live_keys, all_keys: u64::MAX }, &mut effects);
        }
        let puts = effects.writes.puts.into_iter().filter_map(|(key, value)| Some((key, value?)));
        Self { machine, stored: puts.collect(), streams: BTreeMap::new(), cools: 0 }
    }

    fn operate(&mut self, time_ms: u64, operation: Operation) -> (Result<OperationReply, Refusal>, Effects) {
        let (reply, effects) = self.apply(Command::Operations { time_ms, operations: vec![operation] });
        let Reply::Operations(mut replies) = reply else { panic!("{reply:?}") };
        (replies.remove(0), effects)
    }

    fn apply(&mut self, command: Command) -> (Reply, Effects) {
        self.recall(&command);
        let (reply, effects) = self.machine.apply(command);
        for cut in &effects.writes.cuts {
            self.stored.retain(|key, _| !cut.contains(key));
        }
        for (key, value) in &effects.writes.puts {
            match value {
                Some(value) => self.stored.insert(key.clone(), value.clone()),
                None => self.stored.remove(key),
            };
        }
        effects.writes.drops.iter().for_each(|stream| {
            self.streams.remove(stream);
        });
        for (stream, up_to) in &effects.writes.removes {
            if let Some(batches) = self.streams.get_mut(stream) {
                batches.retain(|batch| batch.end_seq() > *up_to);
            }
        }
        for (stream, ranges) in &effects.writes.thins {
            if let Some(batches) = self.streams.get_mut(stream) {
                *batches = batches.iter().flat_map(|batch| batch.without(ranges)).collect();
            }
        }
        for (stream, batch) in &effects.writes.appends {
            self.streams.entry(stream.clone()).or_default().push(batch.clone());
        }
        let ids: Vec<ChannelId> = self.machine.channels.keys().copied().collect();
        for id in ids {
            self.machine.cool(id, u64::MAX, self.cools);
        }
        (reply, effects)
    }

    /// Looks up what a command asks for, as whoever applies commands does.
    fn recall(&mut self, command: &Command) {
        for (id, keys) in self.machine.asks(command) {
            for (key, seq, digest) in self.claims().filter(|(of, _)| *of == id).flat_map(|(_, claims)| keys_of(&claims))
            {
                if keys.contains(&key) {
                    self.machine.recall(id, key, seq, digest);
                }
            }
        }
    }

    /// All stored claims, by channel.
    fn claims(&self) -> impl Iterator<Item = (ChannelId, StoredClaims)> + use<> {
        let stored = self.stored.clone().into_iter();
        stored.filter_map(|(key, value)| {
            let (id, first_seq) = claims_of(&key)?;
            Some((id, StoredClaims::decode(first_seq, &value).unwrap()))
        })
    }

    /// As many keys as were cold are cold again.
    fn restart(&mut self) {
        let mut restoring = Restoring::begin();
        let mut cold: BTreeMap<ChannelId, u64> =
            self.machine.channels.iter().map(|(id, channel)| (*id, channel.dedup.cold())).collect();
        for (key, value) in &self.stored {
            let claims = claims_of(key).map(|(id, first_seq)| (id, StoredClaims::decode(first_seq, value).unwrap()));
            match claims {
                Some((id, claims)) if cold.get(&id).is_some_and(|cold| *cold >= claims.entry.keys) => {
                    restoring.add_cold(id, [claims.entry]).unwrap();
                    *cold.entry(id).or_default() -= claims.entry.keys;
                }
                other => {
                    restoring.add(key, value).unwrap();
                    // Behind an entry that is in memory none is cold.
                    cold.extend(other.map(|(id, _)| (id, 0)));
                }
            }
        }
        self.machine = restoring.finish().unwrap();
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

fn keys_of(claims: &StoredClaims) -> Vec<(KeyHash, u64, Digest)> {
    claims.keys().collect()
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
            key: key.map(Into::into),
            ..Message::default()
        })
        .collect();
    let keys = (0u32..)
        .zip(messages)
        .filter_map(|(position, (payload, key))| {
            Some(KeyClaim { position, key: KeyHash::of((*key)?), digest: Digest::of(payload.as_bytes()) })
        })
        .collect();
    PublishGroup { channel, schema_id, keys, frame: Frame::encode(&encoded), ..PublishGroup::default() }
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
fn limits_of_the_state_are_what_the_log_says_and_before_that_the_same_on_every_node() {
    let mut node = Node::new();
    assert_eq!(node.machine.state_limits(), StateLimits::BEFORE_ANY);
    let limits = StateLimits { channels: 1, ..StateLimits::BEFORE_ANY };
    let reply = node.operate(1, Operation::LimitState(limits)).0;
    assert_eq!(reply, Ok(OperationReply::StateLimited));
    node.restart();
    assert_eq!(node.machine.state_limits(), limits);
    node.create("c", window(100));
    let create = Command::CreateChannel { time_ms: 1, name: "d".parse().unwrap(), config: window(100) };
    assert_eq!(node.apply(create).0, Reply::Channel(Err(Refusal::TooManyChannels { limit: 1 })));
    let (_, effects) = node.operate(2, Operation::LimitState(limits));
    assert!(effects.writes.puts.iter().all(|(key, _)| *key != Key::StateLimits.encode()), "it is there already");
    node.operate(2, Operation::LimitState(StateLimits::BEFORE_ANY)).0.unwrap();
    node.create("d", window(100));
}

#[test]
fn a_limit_of_keys_is_what_the_log_says_and_before_that_what_earlier_builds_had() {
    let machine = Machine::restore([]).unwrap();
    let (limit, written) = (machine.live_keys().limit, machine.live_keys().written);
    assert_eq!((limit.live_keys, limit.all_keys, written), (1_000_000, u64::MAX, false), "whatever this node says");
    let mut node = Node::with(Limits { live_keys: 2, ..Limits::default() });
    let id = node.create("c", window(100)).meta.id;
    let three = [("a", Some("1")), ("b", Some("2")), ("c", Some("3"))];
    let full = |limit| vec![(2, KeyOutcome::TooManyKeys { limit })];
    assert_eq!(node.publish(5, group(id, 0, &three)).0.unwrap().except, full(2));
    let to = |live_keys, all_keys| Operation::LimitKeys { live_keys, all_keys };
    let raise = |live_keys| Command::Operations { time_ms: 6, operations: vec![to(live_keys, 9)] };
    let done = Reply::Operations(vec![Ok(OperationReply::KeysLimited)]);
    assert_eq!(node.apply(raise(3)).0, done);
    node.restart();
    let keys = node.machine.live_keys();
    assert!(keys.written);
    assert_eq!((keys.all, keys.most, keys.limit.live_keys, keys.limit.all_keys), (2, 2, 3, 9));
    assert_eq!(node.publish(7, group(id, 0, &three[2..])).0.unwrap().except, []);
    // A lower one takes nothing away.
    node.apply(raise(1));
    assert_eq!(
        node.publish(8, group(id, 0, &[("d", Some("4"))])).0.unwrap().except[0].1,
        KeyOutcome::TooManyKeys { limit: 1 }
    );
    assert_eq!(node.publish(8, group(id, 0, &three[..1])).0.unwrap().except[0].1, KeyOutcome::Duplicate { seq: 0 });
}

#[test]
fn all_channels_together_have_a_limit_of_keys_too() {
    let mut node = Node::with(Limits::default());
    let [c, d] = ["c", "d"].map(|name| node.create(name, window(100)).meta.id);
    let limit = Operation::LimitKeys { live_keys: 9, all_keys: 3 };
    node.apply(Command::Operations { time_ms: 1, operations: vec![limit] });
    node.publish(2, group(c, 0, &[("a", Some("1")), ("b", Some("2"))])).0.unwrap();
    let full = KeyOutcome::TooManyKeysInAll { limit: 3 };
    let two = [("a", Some("1")), ("b", Some("2"))];
    let parts = |id| vec![crate::model::Part::Publish(group(id, 0, &two))];
    let transact = |id| Operation::Transaction(crate::model::Transaction { parts: parts(id) });
    let outcome = |position| Refusal::Part { part: 0, why: Box::new(Refusal::Key { position, outcome: full }) };
    let transacted = node.apply(Command::Operations { time_ms: 3, operations: vec![transact(d)] }).0;
    assert_eq!(transacted, Reply::Operations(vec![Err(outcome(1))]), "the second of them is one too many");
    node.restart();
    assert_eq!(node.publish(4, group(d, 0, &two)).0.unwrap().except, [(1, full)]);
    assert_eq!(node.machine.live_keys().all, 3);
    // What expires, and what goes with its channel, makes room.
    node.apply(Command::Tick { time_ms: 102 });
    assert_eq!(node.machine.live_keys().all, 1);
    node.apply(Command::DeleteChannel { time_ms: 103, name: "d".parse().unwrap() });
    assert_eq!(node.machine.live_keys().all, 0);
    assert_eq!(
        node.publish(104, group(c, 0, &[("a", Some("1")), ("b", Some("2")), ("c", Some("3"))])).0.unwrap().except,
        []
    );
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
    assert_eq!(
        node.machine.stats(id).unwrap(),
        ChannelStats { first_seq: 1, next_seq: 1, live_keys: 1, ..ChannelStats::default() }
    );
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
        update: ChannelUpdate { schema: Some(schema.into()), ..ChannelUpdate::default() },
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

fn update(time_ms: u64, schema: Option<&str>, dedup_window_ms: Option<u64>) -> Command {
    let update = ChannelUpdate { schema: schema.map(str::to_owned), dedup_window_ms, ..ChannelUpdate::default() };
    Command::UpdateChannel { time_ms, name: "c".parse().unwrap(), update }
}

#[test]
fn a_shorter_window_forgets_at_once_and_a_longer_one_remembers_longer() {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    node.publish(10, group(id, 0, &[("a", Some("k"))])).0.unwrap();
    node.publish(40, group(id, 0, &[("b", Some("l"))])).0.unwrap();
    let (reply, effects) = node.apply(update(50, None, Some(40)));
    let Reply::Channel(Ok(reply)) = reply else { panic!("{reply:?}") };
    assert_eq!((reply.meta.config.dedup_window_ms, reply.stats.live_keys), (40, 1));
    assert!(effects.writes.puts.contains(&(Key::Claims(id, 0).encode(), None)));
    assert_eq!(node.machine.next_expiry_ms(), Some(80));
    node.apply(update(60, None, Some(1000)));
    assert_eq!(node.machine.next_expiry_ms(), Some(1040));
    assert_eq!(node.publish(1039, group(id, 0, &[("b", Some("l"))])).0.unwrap().except.len(), 1);
}

#[test]
fn an_update_that_changes_nothing_writes_only_the_time() {
    let mut node = Node::new();
    node.create("c", ChannelConfig { schema: Some("{}".into()), ..window(100) });
    let (reply, effects) = node.apply(update(50, Some("{}"), Some(100)));
    assert!(matches!(reply, Reply::Channel(Ok(reply)) if reply.meta.schema_id == 1));
    assert_eq!(effects.writes.puts.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), [Key::Machine.encode()]);
    assert!(effects.catalog.is_empty());
}

#[test]
fn a_schema_id_is_never_given_twice_on_one_machine() {
    let mut node = Node::new();
    assert_eq!(node.create("c", ChannelConfig { schema: Some("{}".into()), ..window(100) }).meta.schema_id, 1);
    assert_eq!(node.create("d", ChannelConfig { schema: Some("{}".into()), ..window(100) }).meta.schema_id, 2);
    node.apply(update(2, Some(""), None));
    node.restart();
    let Reply::Channel(Ok(reply)) = node.apply(update(3, Some("{}"), None)).0 else { panic!("refused") };
    assert_eq!(reply.meta.schema_id, 3);
}

#[test]
fn the_empty_schema_is_no_schema() {
    let mut node = Node::new();
    let reply = node.create("c", ChannelConfig { schema: Some(String::new()), ..window(100) });
    assert_eq!((reply.meta.schema_id, &reply.meta.config.schema), (0, &None));
    assert_eq!(node.create("c", window(100)), reply);
}

#[test]
fn the_groups_of_an_entry_are_taken_in_order_and_one_refusal_spares_the_others() {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    let groups = vec![
        group(id, 0, &[("a", Some("k"))]),
        group(ChannelId(99), 0, &[("x", None)]),
        group(id, 7, &[("x", None)]),
        group(id, 0, &[("a", Some("k")), ("b", None)]),
    ];
    let (reply, effects) = node.apply(Command::Publish { time_ms: 5, groups });
    let expected = vec![
        Ok(Assigned { first_seq: 0, except: vec![] }),
        Err(Refusal::NoSuchChannel),
        Err(Refusal::StaleSchema { current: 0 }),
        Ok(Assigned { first_seq: 1, except: vec![(0, KeyOutcome::Duplicate { seq: 0 })] }),
    ];
    assert_eq!(reply, Reply::Published(expected));
    assert_eq!(effects.deliveries.iter().map(|(_, batch)| payloads(batch)).collect::<Vec<_>>(), [["a"], ["b"]]);
}

#[test]
fn a_tick_moves_time_and_a_checkpoint_asks_for_a_hash() {
    let mut node = Node::new();
    let (reply, effects) = node.apply(Command::Tick { time_ms: 9 });
    assert_eq!((reply, effects.writes.puts.len(), effects.checkpoint), (Reply::Done, 1, false));
    node.restart();
    assert_eq!(node.machine.time_ms(), 9);
    let (reply, effects) = node.apply(Command::Checkpoint { time_ms: 9 });
    assert_eq!((reply, effects.writes.is_empty(), effects.checkpoint), (Reply::Done, true, true));
}

#[test]
fn channels_are_listed_by_name() {
    let mut node = Node::new();
    for name in ["b", "c", "a"] {
        node.create(name, window(100));
    }
    assert_eq!(node.machine.channels().map(|(meta, _)| meta.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn a_channel_that_comes_back_under_its_old_name_remembers_nothing() {
    let mut node = Node::new();
    let old = node.create("c", window(100)).meta.id;
    node.publish(5, group(old, 0, &[("a", Some("k"))])).0.unwrap();
    node.apply(Command::DeleteChannel { time_ms: 6, name: "c".parse().unwrap() });
    let new = node.create("c", window(100)).meta.id;
    assert_eq!(node.publish(7, group(new, 0, &[("z", Some("k"))])).0, Ok(Assigned { first_seq: 0, except: vec![] }));
    // The old channel's expiry went with it.
    assert_eq!(node.machine.next_expiry_ms(), Some(107));
}

#[test]
fn every_schema_of_a_channel_is_kept_with_its_version_until_the_channel_is_gone() {
    let mut node = Node::new();
    let id = node.create("c", ChannelConfig { schema: Some("{}".into()), ..window(100) }).meta.id;
    node.create("d", ChannelConfig { schema: Some("true".into()), ..window(100) });
    for (time_ms, schema) in [(5, Some("true")), (6, Some("")), (7, Some("true")), (8, None)] {
        node.apply(update(time_ms, schema, None));
    }
    node.restart();
    let prefix = schemas_prefix(id);
    let kept = |node: &Node| -> Vec<(u64, u64, u64, String)> {
        let of_channel = node.stored.iter().filter(|(key, _)| key.starts_with(&prefix));
        let versions = of_channel.map(|(_, value)| codec::decode_record::<SchemaVersion>("schema", value).unwrap());
        versions.map(|schema| (schema.id, schema.version, schema.time_ms, schema.text)).collect()
    };
    let expected = [(1, 1, 1, "{}"), (3, 2, 5, "true"), (4, 3, 7, "true")];
    assert_eq!(kept(&node), expected.map(|(id, version, time_ms, text)| (id, version, time_ms, text.to_owned())));
    for number in 0..200 {
        node.apply(update(9 + number, Some(&number.to_string()), None));
    }
    assert_eq!((kept(&node).len(), kept(&node)[0].1, kept(&node)[99].1), (100, 104, 203));
    node.apply(Command::DeleteChannel { time_ms: 300, name: "c".parse().unwrap() });
    assert!(kept(&node).is_empty());
    node.restart();
}

#[test]
fn the_figures_of_a_channel_say_what_it_holds_and_what_it_has_taken() {
    let mut node = Node::new();
    let id = node.create("c", window(100)).meta.id;
    let ephemeral = ChannelConfig { durability: Durability::Ephemeral, ..window(100) };
    let passing = node.create("d", ephemeral).meta.id;
    node.publish(5, group(id, 0, &[("a", Some("1")), ("b", None), ("c", None)])).0.unwrap();
    node.publish(5, group(passing, 0, &[("a", None)])).0.unwrap();
    node.operate(6, Operation::Trim { channel: "c".parse().unwrap(), up_to: 1 }).0.unwrap();
    let figures: Vec<_> = node.machine.channel_figures().collect();
    let counts = |one: &ChannelFigures| (one.id, one.messages, one.published, one.live_keys);
    assert_eq!(figures.iter().map(counts).collect::<Vec<_>>(), [(id, 2, 3, 1), (passing, 0, 1, 0)]);
    assert!(figures[0].bytes > 0 && figures[0].bytes < figures[0].published_bytes);
    assert_eq!((figures[1].bytes, figures[1].published_bytes), (0, 0));
}
