//! Rebuilds the machine from the plain keys that it put into its store, and refuses anything that it would not have
//! put there: a machine that guesses would differ from those of the other nodes. Each part of the machine reads its own keys
//! back, next to where it writes them; here is what they have in common, and what has to fit together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    ClaimEntry, Consumers, Machine, MachineRecord,
    calendar::Calendar,
    claims::Namespaces,
    key_limit::KeyLimit,
    keys::{Key, record},
    members::Members,
    owners::Owners,
    rules::restore_rule,
};
use crate::model::{ChannelId, ChannelStats, PeerVersion, RuleSet, StateLimits};

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
            version: PeerVersion::UNWRITTEN,
            channel_owners: Owners::default(),
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
        let restored = match kind {
            Key::Machine => record("machine record", value).map(|record| machine.record = record),
            Key::Stats(id) => record("channel counters", value).map(|record| {
                stats.insert(id, record);
            }),
            Key::Meta(id) => machine.restore_channel(id, value),
            Key::Epoch => machine.restore_epoch(value),
            Key::Calendar => machine.restore_calendar(value),
            Key::MostKeys => machine.restore_key_limit(value),
            Key::StateLimits => record("limits of the state", value).map(|limits| machine.restore_state_limits(limits)),
            Key::Member(_) | Key::MemberEvent(_) => machine.members.restore(kind, value),
            Key::Rule(source, target) => restore_rule(rules, (source, target), value),
            Key::ClaimTotals | Key::Namespace(_) | Key::WorkClaim(..) | Key::Receipt(..) => {
                machine.namespaces.restore(kind, value)
            }
            Key::Schema(id, schema_id) => machine.restore_schema(id, schema_id, value),
            Key::Mark(id, seq) => machine.restore_mark(id, seq, value),
            Key::Consumers
            | Key::Consumer(_)
            | Key::Cursor(_)
            | Key::Lost(_)
            | Key::Deferred(..)
            | Key::Pending(..)
            | Key::Orphans(_)
            | Key::Settled(_) => machine.restore_consumers(kind, value),
            Key::Delayed(channel, id) => machine.restore_delayed(channel, id, value),
            Key::LastDelayed => machine.restore_last_delayed(value),
            Key::Compaction(id) => machine.restore_compaction(id, value),
            Key::Reclaimed(id) => machine.restore_reclaimed(id, value),
            Key::Redriven(id) => machine.restore_redriven(id, value),
            Key::Forks(id) => machine.restore_forks(id, value),
            Key::Role(_) | Key::Token(_) | Key::Invitation(_) | Key::RoleQuota(_) | Key::Certificate(_) => {
                machine.restore_security(kind, value)
            }
            Key::Version => machine.restore_version(value),
            Key::ChannelOwner(_) | Key::ConsumerOwner(_) | Key::ClaimOwner(..) => machine.restore_owner(kind, value),
            Key::Claims(id, first_seq) => machine.restore_claims(id, first_seq, value),
        };
        restored.map_err(name)
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
        machine.check_owners()?;
        Ok(machine)
    }
}

impl Machine {
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
            channel.check_reclaimed().map_err(|reason| format!("key `{key}`: {reason}"))?;
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
