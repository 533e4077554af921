//! The machine against the least that its rules say: lists, linear search, no batching, no index of expiries.

mod publishing;

use proptest::{collection::vec, option, prelude::*};

use self::publishing::{NaiveWaiting, plain};
use super::*;
use crate::model::SchemaVersion;
use crate::{
    machine::dedup::{Claims, Run},
    model::Retention,
};

/// A claim with the time and the name of its log entry.
#[derive(Clone, Debug)]
struct NaiveClaim {
    key: KeyHash,
    digest: Digest,
    seq: u64,
    time_ms: u64,
    entry: u64,
}

#[derive(Clone, Debug)]
struct NaiveChannel {
    meta: ChannelMeta,
    first_seq: u64,
    next_seq: u64,
    /// Sequence number, time, schema and payload of every stored message.
    messages: Vec<(u64, u64, u64, Bytes)>,
    /// Of every stored message.
    sizes: Vec<u64>,
    appended_bytes: u64,
    newest_ms: u64,
    claims: Vec<NaiveClaim>,
    waiting: Vec<NaiveWaiting>,
    schemas: Vec<SchemaVersion>,
}

#[derive(Clone, Debug)]
struct Naive {
    limits: Limits,
    record: MachineRecord,
    channels: Vec<NaiveChannel>,
    last_delayed: u64,
}

impl NaiveChannel {
    fn keep_schema(&mut self, time_ms: u64) {
        if let Some(text) = self.meta.config.schema.clone() {
            let version = self.schemas.len() as u64 + 1;
            self.schemas.push(SchemaVersion { id: self.meta.schema_id, version, time_ms, text });
        }
    }

    fn stats(&self) -> ChannelStats {
        let durable = self.meta.config.durability == Durability::Durable;
        let first_seq = if durable { self.first_seq } else { self.next_seq };
        ChannelStats {
            first_seq,
            next_seq: self.next_seq,
            live_keys: self.claims.len() as u64,
            bytes: self.sizes.iter().sum(),
            appended_bytes: self.appended_bytes,
            newest_ms: self.newest_ms,
        }
    }

    fn reply(&self) -> ChannelReply {
        ChannelReply { meta: self.meta.clone(), stats: self.stats() }
    }

    /// Lets the oldest messages go, one by one.
    fn retain(&mut self, now: u64, trim: u64) {
        let Retention { max_messages, max_bytes, max_age_ms, .. } = self.meta.config.retention.clone();
        while let Some((seq, time, ..)) = self.messages.first()
            && (*seq < trim
                || max_messages.is_some_and(|most| self.messages.len() as u64 > most)
                || max_bytes.is_some_and(|most| self.sizes.iter().sum::<u64>() > most)
                || max_age_ms.is_some_and(|age| time + age <= now))
        {
            self.first_seq = seq + 1;
            self.messages.remove(0);
            self.sizes.remove(0);
        }
    }

    fn publish(&mut self, group: &PublishGroup, now: u64, live_keys: u64) -> GroupReply {
        if group.schema_id != self.meta.schema_id {
            return Err(Refusal::StaleSchema { current: self.meta.schema_id });
        }
        let mut assigned = Assigned { first_seq: self.next_seq, except: Vec::new() };
        let mut entry = None;
        for (position, message) in (0u32..).zip(group.frame.messages()) {
            let message = message.unwrap();
            if let Some(wanted) = group.keys.iter().find(|claim| claim.position == position) {
                let full =
                    (self.claims.len() as u64 >= live_keys).then_some(KeyOutcome::TooManyKeys { limit: live_keys });
                let outcome = self.known(wanted.key, wanted.digest).or(full);
                if let Some(outcome) = outcome {
                    assigned.except.push((position, outcome));
                    continue;
                }
                let entry = *entry.get_or_insert(self.next_seq);
                let (key, digest, seq) = (wanted.key, wanted.digest, self.next_seq);
                self.claims.push(NaiveClaim { key, digest, seq, time_ms: now, entry });
            }
            if self.meta.config.durability == Durability::Durable {
                let size = Frame::encode([&message]).bytes().len() as u64;
                self.sizes.push(size);
                self.appended_bytes += size;
                self.newest_ms = now;
                self.messages.push((self.next_seq, now, group.schema_id, message.payload));
            }
            self.next_seq += 1;
        }
        Ok(assigned)
    }
}

impl Naive {
    fn apply(&mut self, command: &Command) -> Reply {
        self.record.time_ms = self.record.time_ms.max(command.time_ms());
        self.expire();
        match command {
            Command::Publish { groups, .. } => {
                let replies = groups.iter().map(|group| self.publish(group)).collect();
                let now = self.record.time_ms;
                self.channels.iter_mut().for_each(|channel| channel.retain(now, 0));
                Reply::Published(replies)
            }
            Command::CreateChannel { name, config, .. } => Reply::Channel(self.create(name, config)),
            Command::UpdateChannel { name, update, .. } | Command::ChangeChannel { name, update, .. } => {
                if let (Some(retention), Some(channel)) = (update.retention.clone(), self.named(name)) {
                    channel.meta.config.retention = retention;
                }
                Reply::Channel(self.update(name, update.schema.as_deref(), update.dedup_window_ms))
            }
            Command::DeleteChannel { name, .. } => {
                let reply = self.named(name).map(|channel| channel.reply()).ok_or(Refusal::NoSuchChannel);
                self.channels.retain(|channel| channel.meta.name != *name);
                Reply::Channel(reply)
            }
            Command::Tick { .. } | Command::Checkpoint { .. } => Reply::Done,
            Command::Operations { operations, .. } => {
                let replies = operations.iter().map(|operation| self.operate(operation)).collect();
                let now = self.record.time_ms;
                self.channels.iter_mut().for_each(|channel| channel.retain(now, 0));
                Reply::Operations(replies)
            }
            Command::CreateChannelFor { .. }
            | Command::Member { .. }
            | Command::Calendar { .. }
            | Command::RaiseVersion { .. } => {
                unreachable!("no step makes one: they have tests of their own")
            }
        }
    }

    fn named(&mut self, name: &ChannelName) -> Option<&mut NaiveChannel> {
        self.channels.iter_mut().find(|channel| channel.meta.name == *name)
    }

    fn expire(&mut self) {
        let now = self.record.time_ms;
        for channel in &mut self.channels {
            let window = channel.meta.config.dedup_window_ms;
            channel.claims.retain(|claim| claim.time_ms + window > now);
            channel.retain(now, 0);
        }
    }

    fn publish(&mut self, group: &PublishGroup) -> GroupReply {
        let (now, live_keys) = (self.record.time_ms, self.limits.live_keys);
        let channel = self.channels.iter_mut().find(|channel| channel.meta.id == group.channel);
        channel.ok_or(Refusal::NoSuchChannel)?.publish(group, now, live_keys)
    }

    fn create(&mut self, name: &ChannelName, config: &ChannelConfig) -> Result<ChannelReply, Refusal> {
        if let Some(channel) = self.named(name) {
            let reply = channel.reply();
            return if reply.meta.config == *config { Ok(reply) } else { Err(Refusal::ChannelExists(Box::new(reply))) };
        }
        if self.channels.len() as u64 == self.limits.channels {
            return Err(Refusal::TooManyChannels { limit: self.limits.channels });
        }
        self.record.last_channel_id += 1;
        let schema_id = self.schema_id(config.schema.is_some());
        let meta = ChannelMeta {
            id: ChannelId(self.record.last_channel_id),
            name: name.clone(),
            config: config.clone(),
            schema_id,
            created_ms: self.record.time_ms,
        };
        self.channels.push(NaiveChannel {
            meta,
            first_seq: 0,
            next_seq: 0,
            messages: vec![],
            sizes: vec![],
            appended_bytes: 0,
            newest_ms: 0,
            claims: vec![],
            waiting: vec![],
            schemas: vec![],
        });
        let now = self.record.time_ms;
        let channel = self.channels.last_mut().unwrap();
        channel.keep_schema(now);
        Ok(channel.reply())
    }

    fn update(&mut self, name: &ChannelName, text: Option<&str>, window: Option<u64>) -> Result<ChannelReply, Refusal> {
        let present = self.named(name).ok_or(Refusal::NoSuchChannel)?.meta.config.schema.clone().unwrap_or_default();
        if let Some(text) = text
            && text != present
        {
            let schema_id = self.schema_id(!text.is_empty());
            let meta = &mut self.named(name).unwrap().meta;
            meta.schema_id = schema_id;
            meta.config.schema = (!text.is_empty()).then(|| text.to_owned());
            let now = self.record.time_ms;
            self.named(name).unwrap().keep_schema(now);
        }
        let config = &mut self.named(name).unwrap().meta.config;
        config.dedup_window_ms = window.unwrap_or(config.dedup_window_ms);
        self.expire();
        Ok(self.named(name).unwrap().reply())
    }

    fn schema_id(&mut self, any: bool) -> u64 {
        if !any {
            return 0;
        }
        self.record.last_schema_id += 1;
        self.record.last_schema_id
    }

    /// All plain keys that a machine in this state has stored.
    fn stored(&self) -> BTreeMap<Bytes, Bytes> {
        let mut stored = BTreeMap::from([(Key::Machine.encode(), codec::encode_record(&self.record))]);
        self.stored_delayed(&mut stored);
        for channel in &self.channels {
            let id = channel.meta.id;
            stored.insert(Key::Meta(id).encode(), codec::encode_record(&channel.meta));
            stored.insert(Key::Stats(id).encode(), codec::encode_record(&channel.stats()));
            for schema in &channel.schemas {
                stored.insert(Key::Schema(id, schema.id).encode(), codec::encode_record(schema));
            }
            for first in &channel.claims {
                let mut runs: Vec<Run> = Vec::new();
                for claim in channel.claims.iter().filter(|claim| claim.entry == first.entry) {
                    match runs.iter_mut().find(|run| run.first_seq + run.keys.len() as u64 == claim.seq) {
                        Some(run) => run.keys.push((claim.key, claim.digest)),
                        None => runs.push(Run { first_seq: claim.seq, keys: vec![(claim.key, claim.digest)] }),
                    }
                }
                let claims = Claims { time_ms: first.time_ms, runs: runs.into() };
                stored.insert(Key::Claims(id, first.entry).encode(), codec::encode_record(&claims));
            }
        }
        stored
    }

    fn next_expiry_ms(&self) -> Option<u64> {
        let expiries = |channel: &NaiveChannel| {
            let window = channel.meta.config.dedup_window_ms;
            let claims = channel.claims.iter().map(|claim| claim.time_ms + window).min();
            let age = channel.meta.config.retention.max_age_ms;
            let oldest = channel.messages.first().and_then(|(_, time, ..)| age.map(|age| time + age));
            claims.into_iter().chain(oldest).min()
        };
        self.channels.iter().filter_map(expiries).min()
    }
}

/// A channel, whether to name one that does not exist, whether to name a stale schema, payloads and keys.
type GroupStep = (ChannelName, bool, bool, Vec<(String, Option<String>)>);

/// What to do next, before ids are known.
#[derive(Clone, Debug)]
enum Step {
    Publish(Vec<GroupStep>),
    Create(ChannelName, ChannelConfig),
    Update(ChannelName, Option<String>, Option<u64>),
    Delete(ChannelName),
    Transaction(Vec<(GroupStep, Option<u64>)>),
    Schedule(ChannelName, Vec<(String, Option<String>, u64)>),
    Due(ChannelName),
    Withdraw(ChannelName),
    Retain(ChannelName, Retention),
    Trim(ChannelName, u64),
    Tick,
    Checkpoint,
}

impl Step {
    fn command(self, time_ms: u64, state: &mut Naive) -> Command {
        match self {
            Self::Publish(groups) => {
                let groups = groups.into_iter().map(|step| group_of(step, state));
                Command::Publish { time_ms, groups: groups.collect() }
            }
            Self::Transaction(parts) => state.transaction(parts, time_ms),
            Self::Schedule(name, messages) => state.scheduling(&name, &messages, time_ms),
            Self::Due(name) => state.due(&name, time_ms),
            Self::Withdraw(name) => state.withdrawal(&name, time_ms),
            Self::Create(name, config) => Command::CreateChannel { time_ms, name, config },
            Self::Update(name, schema, dedup_window_ms) => {
                let update = ChannelUpdate { schema, dedup_window_ms, ..ChannelUpdate::default() };
                Command::UpdateChannel { time_ms, name, update }
            }
            Self::Delete(name) => Command::DeleteChannel { time_ms, name },
            Self::Retain(name, retention) if exact(state, &name) => {
                let update = ChannelUpdate { retention: Some(retention), ..ChannelUpdate::default() };
                Command::UpdateChannel { time_ms, name, update }
            }
            Self::Trim(channel, up_to) if exact(state, &channel) => {
                Command::Operations { time_ms, operations: vec![Operation::Trim { channel, up_to }] }
            }
            Self::Retain(..) | Self::Trim(..) => Command::Tick { time_ms },
            Self::Tick => Command::Tick { time_ms },
            Self::Checkpoint => Command::Checkpoint { time_ms },
        }
    }
}

fn group_of((name, gone, stale, messages): GroupStep, state: &mut Naive) -> PublishGroup {
    let known = state.named(&name).map(|channel| (channel.meta.id, channel.meta.schema_id));
    let (id, schema_id) = known.filter(|_| !gone).unwrap_or((ChannelId(77), 0));
    let messages: Vec<_> = messages.iter().map(|(payload, key)| (payload.as_str(), key.as_deref())).collect();
    group(id, schema_id + u64::from(stale), &messages)
}

/// Whether the channel's marks stand at each message, as its limits are so small: then nothing is an estimate.
fn exact(state: &mut Naive, name: &ChannelName) -> bool {
    state.named(name).is_some_and(|channel| channel.meta.config.retention.max_bytes.is_some())
}

fn any_retention() -> impl Strategy<Value = Retention> {
    let max_bytes = prop_oneof![Just(12u64), Just(40), Just(500)];
    let max_age_ms = prop_oneof![Just(1u64), Just(30), Just(60)];
    (option::of(1u64..9), max_bytes, option::of(max_age_ms)).prop_map(|(max_messages, max_bytes, max_age_ms)| {
        Retention { max_messages, max_bytes: Some(max_bytes), max_age_ms, ..Retention::default() }
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let name = || "[xyz]".prop_map(|name| name.parse::<ChannelName>().unwrap());
    let window_ms = || prop_oneof![Just(0u64), Just(15), Just(60)];
    let durability = prop_oneof![3 => Just(Durability::Durable), 1 => Just(Durability::Ephemeral)];
    let schema = || option::of(prop_oneof![Just("{}".to_owned()), Just("true".to_owned())]);
    let retention = prop_oneof![Just(Retention::default()), any_retention()];
    let config =
        (durability, schema(), window_ms(), retention).prop_map(|(durability, schema, dedup_window_ms, retention)| {
            ChannelConfig { durability, schema, dedup_window_ms, retention, ..ChannelConfig::default() }
        });
    let messages = vec(("[ab]", option::of("[k-q]")), 0..5);
    let group = (name(), prop::bool::weighted(0.05), prop::bool::weighted(0.05), messages);
    let part = (group.clone(), option::weighted(0.2, 0u64..6));
    let delayed = vec(("[ab]", option::of("[k-q]"), 0u64..60), 0..4);
    let text = prop_oneof![Just(String::new()), Just("{}".to_owned()), Just("true".to_owned())];
    prop_oneof![
        8 => vec(group, 0..4).prop_map(Step::Publish),
        4 => (name(), config).prop_map(|(name, config)| Step::Create(name, config)),
        2 => (name(), option::of(text), option::of(window_ms()))
            .prop_map(|(name, schema, window)| Step::Update(name, schema, window)),
        1 => name().prop_map(Step::Delete),
        4 => vec(part, 0..4).prop_map(Step::Transaction),
        3 => (name(), delayed).prop_map(|(name, messages)| Step::Schedule(name, messages)),
        3 => name().prop_map(Step::Due),
        1 => name().prop_map(Step::Withdraw),
        1 => (name(), any_retention()).prop_map(|(name, retention)| Step::Retain(name, retention)),
        1 => (name(), 0u64..20).prop_map(|(name, up_to)| Step::Trim(name, up_to)),
        1 => Just(Step::Tick),
        1 => Just(Step::Checkpoint),
    ]
}

fn messages(batches: &[StoredBatch]) -> Vec<(u64, u64, u64, Bytes)> {
    let each = |batch: &StoredBatch| {
        let (time_ms, schema_id) = (batch.time_ms, batch.schema_id);
        let numbered = (batch.first_seq..).zip(batch.frame.messages().collect::<Vec<_>>());
        numbered.map(move |(seq, message)| (seq, time_ms, schema_id, message.unwrap().payload)).collect::<Vec<_>>()
    };
    batches.iter().flat_map(each).collect()
}

proptest! {
    #[test]
    fn any_commands_and_restarts_agree_with_the_naive_machine(
        steps in vec((any_step(), -10i64..30, prop::bool::weighted(0.2)), 1..60),
        cools in 0_u64..4
    ) {
        let limits =
            Limits { live_keys: 4, channels: 2, delayed_messages: 3, delayed_bytes: 25, ..Limits::default() };
        let record = MachineRecord::default();
        let mut naive = Naive { limits: limits.clone(), record, channels: Vec::new(), last_delayed: 0 };
        let mut steady = Node::with(limits.clone());
        let mut restarted = Node { cools, ..Node::with(limits) };
        let start = Command::Tick { time_ms: 1 };
        let _ = (naive.apply(&start), steady.apply(start.clone()), restarted.apply(start));
        for (step, advance, restart) in steps {
            // Times may go back: the machine's must not.
            let time_ms = naive.record.time_ms.saturating_add_signed(advance);
            let command = step.command(time_ms, &mut naive);
            if restart {
                restarted.restart();
            }
            let (reply, effects) = steady.apply(command.clone());
            prop_assert_eq!(&restarted.apply(command.clone()), &(reply.clone(), effects));
            prop_assert_eq!(plain(reply), plain(naive.apply(&command)));

            let stored = steady.stored.clone().into_iter();
            let stored: BTreeMap<_, _> =
                stored.filter(|(key, _)| !matches!(Key::decode(key), Some(Key::Mark(..) | Key::MostKeys | Key::StateLimits))).collect();
            prop_assert_eq!(&stored, &naive.stored());
            prop_assert_eq!(steady.machine.time_ms(), naive.record.time_ms);
            prop_assert_eq!(steady.machine.next_expiry_ms(), naive.next_expiry_ms());
            prop_assert_eq!(steady.machine.next_due_ms(), naive.next_due_ms());
            let claimed: usize = naive.channels.iter().map(|channel| channel.claims.len()).sum();
            prop_assert_eq!(steady.machine.live_keys().all, claimed as u64);
            let mut listed: Vec<ChannelReply> = naive.channels.iter().map(NaiveChannel::reply).collect();
            listed.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
            let channels = steady.machine.channels();
            let channels: Vec<_> =
                channels.map(|(meta, stats)| ChannelReply { meta: ChannelMeta::clone(meta), stats }).collect();
            prop_assert_eq!(channels, listed);
            for channel in &naive.channels {
                let stream = format!("{}:0", channel.meta.name);
                let stored = steady.streams.get(stream.as_str()).map_or(&[][..], Vec::as_slice);
                let mut stored = messages(stored);
                // What is gone may be cut later.
                stored.retain(|(seq, ..)| *seq >= channel.first_seq);
                prop_assert_eq!(stored, channel.messages.clone());
            }
            prop_assert!(steady.streams.len() <= naive.channels.len());
        }
    }
}
