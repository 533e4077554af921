//! Rebuilds the machine from the plain keys that it put into its store, and refuses anything that it would not have
//! put there: a machine that guesses would differ from those of the other nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    ClaimEntry, Consumers, Machine, MachineRecord, calendar::Calendar, channel::Channel, claims::Namespaces,
    cold::StoredClaims, key_limit::KeyLimit, keys::Key, members::Members,
};
use crate::{
    codec::decode_record,
    model::{ChannelId, ChannelMeta, ChannelStats, Rule, RuleSet, StateLimits},
};

/// A machine that is being rebuilt. Where a store holds more than memory, its keys are read a page at a time.
pub struct Restoring {
    machine: Machine,
    stats: BTreeMap<ChannelId, ChannelStats>,
    rules: RuleSet,
}

impl Machine {
    /// From the plain keys of a store (all of them, in byte order).
    ///
    /// # Errors
    /// Names the key whose value cannot be read or does not fit the others.
    pub fn restore(entries: impl IntoIterator<Item = (Bytes, Bytes)>) -> Result<Self, String> {
        let mut restoring = Restoring::begin();
        entries.into_iter().try_for_each(|(key, value)| restoring.add(&key, &value))?;
        restoring.finish()
    }
}

impl Restoring {
    /// Of nothing yet.
    pub fn begin() -> Self {
        let machine = Machine {
            key_limit: KeyLimit::BEFORE_ANY,
            key_limit_written: false,
            keys: 0,
            cold_keys: 0,
            recalled: BTreeSet::new(),
            departed: BTreeMap::new(),
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
            security: Arc::default(),
        };
        Self { machine, stats: BTreeMap::new(), rules: RuleSet::default() }
    }

    /// The entries of a channel's keys that memory is not to hold, in the place of their plain keys.
    ///
    /// # Errors
    /// When the channel has newer keys already, or is not there.
    pub fn add_cold(&mut self, id: ChannelId, entries: impl IntoIterator<Item = ClaimEntry>) -> Result<(), String> {
        self.machine.restore_cold(id, entries)
    }

    /// The next plain key. In byte order a channel comes before its claims, and a channel's claims come in the order of
    /// their time.
    ///
    /// # Errors
    /// Names the key when its value cannot be read or does not fit the others.
    pub fn add(&mut self, key: &[u8], value: &Bytes) -> Result<(), String> {
        let Self { machine, stats, rules } = self;
        let name = |reason: String| format!("key `{}`: {reason}", key.escape_ascii());
        let kind = Key::decode(key).ok_or_else(|| name("the machine has no such key".into()))?;
        match kind {
            Key::Machine => {
                machine.record = decode_record("machine record", value).map_err(|e| name(e.to_string()))?;
            }
            Key::Meta(id) => {
                let meta = decode_record("channel", value).map_err(|e| name(e.to_string()))?;
                machine.restore_channel(id, meta).map_err(name)?;
            }
            Key::Stats(id) => {
                let record: ChannelStats = decode_record("channel counters", value).map_err(|e| name(e.to_string()))?;
                stats.insert(id, record);
            }
            Key::Epoch => {
                machine.epoch = decode_record("epoch", value).map_err(|e| name(e.to_string()))?;
            }
            Key::Calendar => {
                machine.calendar = decode_record("calendar", value).map_err(|e| name(e.to_string()))?;
            }
            Key::MostKeys => {
                machine.key_limit = decode_record("limit of keys", value).map_err(|e| name(e.to_string()))?;
                machine.key_limit_written = true;
            }
            Key::StateLimits => {
                let limits = decode_record("limits of the state", value).map_err(|e| name(e.to_string()))?;
                machine.restore_state_limits(limits);
            }
            Key::Member(id) => {
                let record = decode_record("member", value).map_err(|e| name(e.to_string()))?;
                machine.members.records.insert(id, record);
            }
            Key::MemberEvent(number) => {
                let entry = decode_record("member event", value).map_err(|e| name(e.to_string()))?;
                machine.members.log.insert(number, entry);
            }
            Key::Rule(source, target) => {
                let rule: Rule = decode_record("rule", value).map_err(|e| name(e.to_string()))?;
                if (rule.source, rule.target) != (source, target) {
                    return Err(name(format!("it is from {} to {}", rule.source.0, rule.target.0)));
                }
                rules.insert(rule);
            }
            Key::ClaimTotals | Key::Namespace(_) | Key::WorkClaim(..) | Key::Receipt(..) => {
                machine.namespaces.restore(kind, value).map_err(name)?;
            }
            Key::Schema(id, schema_id) => {
                let stored = decode_record("schema", value).map_err(|e| name(e.to_string()))?;
                machine.restore_schema(id, schema_id, &stored).map_err(name)?;
            }
            Key::Mark(id, seq) => {
                let mark = decode_record("mark", value).map_err(|e| name(e.to_string()))?;
                let channel = machine.channels.get_mut(&id);
                channel.ok_or_else(|| name(format!("there is no channel {}", id.0)))?.marks.restore(seq, mark);
            }
            Key::Consumers => {
                let last = decode_record("newest consumer", value).map_err(|e| name(e.to_string()))?;
                machine.restore_last_consumer(last);
            }
            Key::Consumer(id) => {
                let meta = decode_record("consumer", value).map_err(|e| name(e.to_string()))?;
                machine.restore_consumer(id, meta).map_err(name)?;
            }
            Key::Cursor(id) => {
                let cursor = decode_record("cursor", value).map_err(|e| name(e.to_string()))?;
                machine.restore_cursor(id, cursor).map_err(name)?;
            }
            Key::Lost(id) => {
                let lost = decode_record("lost messages", value).map_err(|e| name(e.to_string()))?;
                machine.restore_lost(id, lost).map_err(name)?;
            }
            Key::Deferred(id, block) => {
                let mask = decode_record("messages passed over", value).map_err(|e| name(e.to_string()))?;
                machine.restore_deferred(id, block, mask).map_err(name)?;
            }
            Key::Pending(id, block) => {
                let stored = decode_record("pending messages", value).map_err(|e| name(e.to_string()))?;
                machine.restore_pending(id, block, stored).map_err(name)?;
            }
            Key::Delayed(channel, id) => {
                let record = decode_record("delayed message", value).map_err(|e| name(e.to_string()))?;
                machine.restore_delayed(channel, id, &record).map_err(name)?;
            }
            Key::LastDelayed => {
                machine.last_delayed = decode_record("delayed messages", value).map_err(|e| name(e.to_string()))?;
            }
            Key::Compaction(id) => {
                let record = decode_record("compaction", value).map_err(|e| name(e.to_string()))?;
                let channel = machine.channels.get_mut(&id);
                channel.ok_or_else(|| name(format!("there is no channel {}", id.0)))?.compaction = record;
            }
            Key::Orphans(id) => {
                let record = decode_record("orphans", value).map_err(|e| name(e.to_string()))?;
                let channel = machine.channels.get_mut(&id);
                channel.ok_or_else(|| name(format!("there is no channel {}", id.0)))?.orphans = Some(record);
            }
            Key::Settled(id) => {
                let record = decode_record("settled messages", value).map_err(|e| name(e.to_string()))?;
                machine.restore_settled(id, record);
            }
            Key::Redriven(id) => {
                let record = decode_record("redriven letter", value).map_err(|e| name(e.to_string()))?;
                let channel = machine.channels.get_mut(&id);
                channel.ok_or_else(|| name(format!("there is no channel {}", id.0)))?.redriven = Some(record);
            }
            Key::Forks(id) => {
                let record = decode_record("forks", value).map_err(|e| name(e.to_string()))?;
                let channel = machine.channels.get_mut(&id);
                channel.ok_or_else(|| name(format!("there is no channel {}", id.0)))?.forks = record;
            }
            Key::Role(_) | Key::Token(_) => machine.restore_security(kind, value).map_err(name)?,
            Key::Claims(id, first_seq) => {
                let claims = StoredClaims::decode(first_seq, value).map_err(name)?;
                machine.restore_claims(id, &claims).map_err(name)?;
            }
        }
        Ok(())
    }

    /// The whole.
    ///
    /// # Errors
    /// Names what does not fit.
    pub fn finish(self) -> Result<Machine, String> {
        let Self { mut machine, stats, rules } = self;
        machine.restore_stats(stats)?;
        machine.check_counters()?;
        machine.check_last_delayed()?;
        machine.restore_rules(rules)?;
        machine.namespaces.restored()?;
        machine.check_consumers()?;
        machine.check_security()?;
        Ok(machine)
    }
}

impl Machine {
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

    fn restore_claims(&mut self, id: ChannelId, claims: &StoredClaims) -> Result<(), String> {
        let Some(channel) = self.channels.get_mut(&id) else {
            // The keys of a channel that was deleted go after it, some with each command.
            self.departed.entry(id).or_default().push(claims.entry);
            return Ok(());
        };
        for (key, seq, digest) in claims.keys() {
            if !channel.dedup.remember(key, digest, seq) {
                return Err(format!("the idempotency key of {seq} is claimed twice"));
            }
        }
        let scheduled = channel.next_expiry_ms().is_some();
        channel.dedup.end_entry(claims.entry);
        if !scheduled {
            self.expiries.extend(channel.next_expiry_ms().map(|expiry| (expiry, id)));
        }
        Ok(())
    }

    fn restore_cold(&mut self, id: ChannelId, entries: impl IntoIterator<Item = ClaimEntry>) -> Result<(), String> {
        let channel = self.channels.get_mut(&id).ok_or_else(|| format!("there is no channel {}", id.0))?;
        let scheduled = channel.next_expiry_ms().is_some();
        let cold = channel.dedup.cold();
        for entry in entries {
            if !channel.dedup.restore_cold(entry) {
                return Err(format!("channel {} has keys in memory that are older than {}", id.0, entry.first_seq));
            }
        }
        self.cold_keys += channel.dedup.cold() - cold;
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
        let newest = self.channels.keys().chain(self.departed.keys()).map(|id| id.0).max().unwrap_or(0);
        let schema = self.channels.values().map(|channel| channel.meta.schema_id).max().unwrap_or(0);
        let (record, key) = (self.record, Key::Machine.encode());
        if newest > record.last_channel_id || schema > record.last_schema_id {
            let key = key.escape_ascii();
            return Err(format!("key `{key}`: it does not know of channel {newest} or of schema {schema}"));
        }
        Ok(())
    }
}
