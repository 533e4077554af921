//! Rebuilds the machine from the plain keys that it put into its store, and refuses anything that it would not have
//! put there: a machine that guesses would differ from those of the other nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Consumers, Machine, MachineRecord, calendar::Calendar, channel::Channel, claims::Namespaces, dedup::Claims,
    key_limit::KeyLimit, keys::Key, members::Members,
};
use crate::{
    codec::decode_record,
    model::{ChannelId, ChannelMeta, ChannelStats, Rule, RuleSet, StateLimits},
};

impl Machine {
    /// From the plain keys of a store (all of them, in byte order).
    ///
    /// # Errors
    /// Names the key whose value cannot be read or does not fit the others.
    pub fn restore(entries: impl IntoIterator<Item = (Bytes, Bytes)>) -> Result<Self, String> {
        let mut machine = Self {
            key_limit: KeyLimit::BEFORE_ANY,
            key_limit_written: false,
            keys: 0,
            state_limits: StateLimits::BEFORE_ANY,
            record: MachineRecord::default(),
            channels: BTreeMap::new(),
            names: BTreeMap::new(),
            rules: Arc::default(),
            expiries: BTreeSet::new(),
            agings: BTreeSet::new(),
            dues: BTreeSet::new(),
            delayed_bytes: 0,
            last_delayed: 0,
            members: Members::default(),
            namespaces: Namespaces::new(),
            consumers: Consumers::default(),
            epoch: 1,
            calendar: Calendar::default(),
        };
        let mut stats = BTreeMap::new();
        let mut rules = RuleSet::default();
        // In byte order a channel comes before its claims, and a channel's claims come in the order of their time.
        for (key, value) in entries {
            let name = |reason: String| format!("key `{}`: {reason}", key.escape_ascii());
            let kind = Key::decode(&key).ok_or_else(|| name("the machine has no such key".into()))?;
            match kind {
                Key::Machine => {
                    machine.record = decode_record("machine record", &value).map_err(|e| name(e.to_string()))?;
                }
                Key::Meta(id) => {
                    let meta = decode_record("channel", &value).map_err(|e| name(e.to_string()))?;
                    machine.restore_channel(id, meta).map_err(name)?;
                }
                Key::Stats(id) => {
                    let record: ChannelStats =
                        decode_record("channel counters", &value).map_err(|e| name(e.to_string()))?;
                    stats.insert(id, record);
                }
                Key::Epoch => {
                    machine.epoch = decode_record("epoch", &value).map_err(|e| name(e.to_string()))?;
                }
                Key::Calendar => {
                    machine.calendar = decode_record("calendar", &value).map_err(|e| name(e.to_string()))?;
                }
                Key::MostKeys => {
                    machine.key_limit = decode_record("limit of keys", &value).map_err(|e| name(e.to_string()))?;
                    machine.key_limit_written = true;
                }
                Key::StateLimits => {
                    let limits = decode_record("limits of the state", &value).map_err(|e| name(e.to_string()))?;
                    machine.restore_state_limits(limits);
                }
                Key::Member(id) => {
                    let record = decode_record("member", &value).map_err(|e| name(e.to_string()))?;
                    machine.members.records.insert(id, record);
                }
                Key::MemberEvent(number) => {
                    let entry = decode_record("member event", &value).map_err(|e| name(e.to_string()))?;
                    machine.members.log.insert(number, entry);
                }
                Key::Rule(source, target) => {
                    let rule: Rule = decode_record("rule", &value).map_err(|e| name(e.to_string()))?;
                    if (rule.source, rule.target) != (source, target) {
                        return Err(name(format!("it is from {} to {}", rule.source.0, rule.target.0)));
                    }
                    rules.insert(rule);
                }
                Key::ClaimTotals | Key::Namespace(_) | Key::WorkClaim(..) | Key::Receipt(..) => {
                    machine.namespaces.restore(kind, &value).map_err(name)?;
                }
                Key::Schema(id, schema_id) => {
                    let stored = decode_record("schema", &value).map_err(|e| name(e.to_string()))?;
                    machine.restore_schema(id, schema_id, &stored).map_err(name)?;
                }
                Key::Mark(id, seq) => {
                    let mark = decode_record("mark", &value).map_err(|e| name(e.to_string()))?;
                    let channel = machine.channels.get_mut(&id);
                    channel.ok_or_else(|| name(format!("there is no channel {}", id.0)))?.marks.restore(seq, mark);
                }
                Key::Consumers => {
                    let last = decode_record("newest consumer", &value).map_err(|e| name(e.to_string()))?;
                    machine.restore_last_consumer(last);
                }
                Key::Consumer(id) => {
                    let meta = decode_record("consumer", &value).map_err(|e| name(e.to_string()))?;
                    machine.restore_consumer(id, meta).map_err(name)?;
                }
                Key::Cursor(id) => {
                    let cursor = decode_record("cursor", &value).map_err(|e| name(e.to_string()))?;
                    machine.restore_cursor(id, cursor).map_err(name)?;
                }
                Key::Lost(id) => {
                    let lost = decode_record("lost messages", &value).map_err(|e| name(e.to_string()))?;
                    machine.restore_lost(id, lost).map_err(name)?;
                }
                Key::Pending(id, block) => {
                    let stored = decode_record("pending messages", &value).map_err(|e| name(e.to_string()))?;
                    machine.restore_pending(id, block, stored).map_err(name)?;
                }
                Key::Delayed(channel, id) => {
                    let record = decode_record("delayed message", &value).map_err(|e| name(e.to_string()))?;
                    machine.restore_delayed(channel, id, &record).map_err(name)?;
                }
                Key::LastDelayed => {
                    machine.last_delayed =
                        decode_record("delayed messages", &value).map_err(|e| name(e.to_string()))?;
                }
                Key::Compaction(id) => {
                    let record = decode_record("compaction", &value).map_err(|e| name(e.to_string()))?;
                    let channel = machine.channels.get_mut(&id);
                    channel.ok_or_else(|| name(format!("there is no channel {}", id.0)))?.compaction = record;
                }
                Key::Orphans(id) => {
                    let record = decode_record("orphans", &value).map_err(|e| name(e.to_string()))?;
                    let channel = machine.channels.get_mut(&id);
                    channel.ok_or_else(|| name(format!("there is no channel {}", id.0)))?.orphans = Some(record);
                }
                Key::Settled(id) => {
                    let record = decode_record("settled messages", &value).map_err(|e| name(e.to_string()))?;
                    machine.restore_settled(id, record);
                }
                Key::Redriven(id) => {
                    let record = decode_record("redriven letter", &value).map_err(|e| name(e.to_string()))?;
                    let channel = machine.channels.get_mut(&id);
                    channel.ok_or_else(|| name(format!("there is no channel {}", id.0)))?.redriven = Some(record);
                }
                Key::Forks(id) => {
                    let record = decode_record("forks", &value).map_err(|e| name(e.to_string()))?;
                    let channel = machine.channels.get_mut(&id);
                    channel.ok_or_else(|| name(format!("there is no channel {}", id.0)))?.forks = record;
                }
                Key::Claims(id, first_seq) => {
                    let claims = decode_record("idempotency keys", &value).map_err(|e| name(e.to_string()))?;
                    machine.restore_claims(id, first_seq, &claims).map_err(name)?;
                }
            }
        }
        machine.restore_stats(stats)?;
        machine.check_counters()?;
        machine.check_last_delayed()?;
        machine.restore_rules(rules)?;
        machine.namespaces.restored()?;
        machine.check_consumers()?;
        Ok(machine)
    }

    fn restore_rules(&mut self, mut rules: RuleSet) -> Result<(), String> {
        let gone = |id: &ChannelId| !self.channels.contains_key(id);
        if let Some(rule) = rules.iter().find(|rule| gone(&rule.source) || gone(&rule.target)) {
            let key = Key::Rule(rule.source, rule.target).encode();
            return Err(format!("key `{}`: there is no such channel", key.escape_ascii()));
        }
        rules.version = self.record.rules_version;
        self.rules = Arc::new(rules);
        Ok(())
    }

    fn restore_channel(&mut self, id: ChannelId, meta: ChannelMeta) -> Result<(), String> {
        if meta.id != id {
            return Err(format!("the channel says that its id is {}", meta.id.0));
        }
        if let Some(other) = self.names.insert(meta.name.clone(), id) {
            return Err(format!("the name `{}` belongs to channel {} already", meta.name, other.0));
        }
        self.channels.insert(id, Channel::new(Arc::new(meta)));
        Ok(())
    }

    fn restore_claims(&mut self, id: ChannelId, first_seq: u64, entry: &Claims<'_>) -> Result<(), String> {
        let channel = self.channels.get_mut(&id).ok_or_else(|| format!("there is no channel {}", id.0))?;
        match entry.runs.first() {
            Some(first) if first.first_seq == first_seq => {}
            first => return Err(format!("the first claim is of {:?}", first.map(|run| run.first_seq))),
        }
        for run in entry.runs.iter() {
            for (seq, (key, digest)) in (run.first_seq..).zip(&run.keys) {
                if !channel.dedup.remember(*key, *digest, seq) {
                    return Err(format!("the idempotency key of {seq} is claimed twice"));
                }
            }
        }
        let scheduled = channel.next_expiry_ms().is_some();
        channel.dedup.seal(entry.time_ms, &entry.runs);
        if !scheduled {
            self.expiries.extend(channel.next_expiry_ms().map(|expiry| (expiry, id)));
        }
        Ok(())
    }

    /// Every channel has counters, and they count what was restored.
    fn restore_stats(&mut self, mut stats: BTreeMap<ChannelId, ChannelStats>) -> Result<(), String> {
        for (id, channel) in &mut self.channels {
            let key = Key::Stats(*id).encode();
            let key = key.escape_ascii();
            channel.stats = stats.remove(id).ok_or_else(|| format!("key `{key}` is missing"))?;
            if channel.stats.live_keys != channel.dedup.len() {
                let (counted, found) = (channel.stats.live_keys, channel.dedup.len());
                return Err(format!("key `{key}`: it counts {counted} idempotency keys, but there are {found}"));
            }
            channel.marks.check(&channel.stats).map_err(|reason| format!("key `{key}`: {reason}"))?;
            channel.check_compaction().map_err(|reason| format!("key `{key}`: {reason}"))?;
            channel.check_orphans().map_err(|reason| format!("key `{key}`: {reason}"))?;
            channel.check_redriven().map_err(|reason| format!("key `{key}`: {reason}"))?;
            channel.check_forks().map_err(|reason| format!("key `{key}`: {reason}"))?;
            self.keys += channel.dedup.len();
            channel.aging_ms = channel.next_aging_ms();
            self.agings.extend(channel.aging_ms.map(|expiry| (expiry, *id)));
        }
        match stats.first_key_value() {
            Some((id, _)) => {
                Err(format!("key `{}`: there is no channel {}", Key::Stats(*id).encode().escape_ascii(), id.0))
            }
            None => Ok(()),
        }
    }

    /// A lost machine record would give ids a second time.
    fn check_counters(&self) -> Result<(), String> {
        let newest = self.channels.last_key_value().map_or(0, |(id, _)| id.0);
        let schema = self.channels.values().map(|channel| channel.meta.schema_id).max().unwrap_or(0);
        let (record, key) = (self.record, Key::Machine.encode());
        if newest > record.last_channel_id || schema > record.last_schema_id {
            let key = key.escape_ascii();
            return Err(format!("key `{key}`: it does not know of channel {newest} or of schema {schema}"));
        }
        Ok(())
    }
}
