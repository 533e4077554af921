//! The replicated state machine: what each command of the log does to channels, messages and idempotency keys.
//!
//! It is pure and deterministic: no I/O, no clock, no randomness, and nothing depends on the order of a hash map.
//! The same log gives the same replies and the same [`Effects`] on every node, and a machine that was restored from
//! the store goes on as one that never stopped.

mod calendar;
mod channel;
mod channels;
mod claims;
mod cold;
mod compaction;
mod consumers;
mod dedup;
mod delayed;
mod effects;
mod entry_list;
mod epochs;
mod key_limit;
mod key_queue;
mod keys;
mod marks;
mod members;
mod owners;
mod reclaim;
mod redrive;
mod restore;
mod retention;
mod rules;
mod schemas;
mod security;
mod state_limits;
mod transactions;
mod version;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use self::{
    calendar::Calendar,
    channel::Channel,
    claims::Namespaces,
    dedup::{Claims, ExpiryRoom},
    entry_list::EntryList,
    key_limit::KeyLimit,
    keys::Key,
    members::Members,
    owners::Owners,
    retention::Room,
};
pub use self::{
    calendar::behind,
    channel::ChannelFigures,
    claims::receipt_key,
    cold::{COUNTERS_PREFIX, StoredClaims, claims_key, claims_of, claims_prefix, counted_keys},
    consumers::{Consumer, Consumers, Deferred, Held, Holder, Laggards, Totals},
    delayed::delayed_key,
    effects::{CatalogChange, Effects},
    entry_list::{ClaimEntry, EntryBytes, decode_entries},
    epochs::{HISTORY_PREFIXES, begin_epoch},
    key_limit::{KeyLimit as MostKeys, LiveKeys},
    restore::Restoring,
    schemas::{schema_key, schemas_prefix},
    version::{VERSION_KEY, check_version},
};
use crate::model::{
    ChannelId, ChannelMeta, ChannelName, ChannelStats, Command, GroupReply, MemberLogEntry, MemberRecord, OnBehalf,
    Operation, OperationReply, PeerVersion, PublishGroup, Refusal, Reply, RuleSet, SecurityState, StateLimits,
};

/// State of all channels.
#[derive(Debug)]
pub struct Machine {
    key_limit: KeyLimit,
    /// Whether it is in the log.
    key_limit_written: bool,
    /// Live keys of all channels.
    keys: u64,
    /// Those of them that are not in memory: a matter of each node, on which nothing else may depend.
    cold_keys: u64,
    /// Channels whose windows were told of such keys for the command that is applied now.
    recalled: BTreeSet<ChannelId>,
    /// Channels that were deleted, with the entries of keys that are still to be deleted.
    departed: BTreeMap<ChannelId, EntryList>,
    state_limits: StateLimits,
    record: MachineRecord,
    channels: BTreeMap<ChannelId, Channel>,
    names: BTreeMap<ChannelName, ChannelId>,
    rules: Arc<RuleSet>,
    /// When each channel's oldest keys expire, so that a command need not walk all channels.
    expiries: BTreeSet<(u64, ChannelId)>,
    /// When each channel's oldest messages are too old.
    agings: BTreeSet<(u64, ChannelId)>,
    /// The messages that wait, in the order in which they come: when, their id and their channel.
    dues: BTreeSet<(u64, u64, ChannelId)>,
    /// Bytes of those messages.
    delayed_bytes: u64,
    /// The newest id of such a message.
    last_delayed: u64,
    members: Members,
    namespaces: Namespaces,
    consumers: Consumers,
    /// How often the state was restored from a backup, plus one.
    epoch: u64,
    calendar: Calendar,
    security: Arc<SecurityState>,
    /// What all nodes are known to speak.
    version: PeerVersion,
    /// Which channels count for which tokens.
    channel_owners: Owners<ChannelId>,
}

/// How the plain keys begin that speak of the cluster's nodes, and not of what they hold.
pub const NODES_PREFIX: &[u8] = b"member";

/// What is stored of the machine itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct MachineRecord {
    time_ms: u64,
    last_channel_id: u64,
    last_schema_id: u64,
    rules_version: u64,
}

impl Machine {
    /// Takes the next command of the log.
    pub fn apply(&mut self, command: Command) -> (Reply, Effects) {
        let mut effects = Effects::default();
        let before = self.record;
        self.record.time_ms = self.record.time_ms.max(command.time_ms());
        self.expire(&mut effects);
        let reply = match command {
            Command::Publish { groups, .. } => {
                Reply::Published(groups.into_iter().map(|group| self.publish(group, &mut effects)).collect())
            }
            Command::CreateChannel { name, config, .. } => Reply::Channel(self.create(name, config, &mut effects)),
            Command::CreateChannelFor { name, config, token, .. } => {
                Reply::Channel(self.create_for(token, name, config, &mut effects))
            }
            Command::UpdateChannel { name, update, .. } => Reply::Channel(self.update(&name, update, &mut effects)),
            Command::ChangeChannel { name, update, .. } => {
                let judged = self.check_work_queue(&name, &update);
                Reply::Channel(judged.and_then(|()| self.update(&name, update, &mut effects)))
            }
            Command::DeleteChannel { name, .. } => Reply::Channel(self.delete(&name, &mut effects)),
            Command::Tick { .. } => Reply::Done,
            Command::Checkpoint { .. } => {
                effects.checkpoint = true;
                Reply::Done
            }
            Command::Member { node, name, event, .. } => {
                let entry = MemberLogEntry { time_ms: self.today_ms(), node, name, event };
                Reply::Member(self.members.apply(entry, &mut effects))
            }
            Command::Operations { operations, .. } => {
                let replies = operations.into_iter().map(|operation| self.operate(operation, &mut effects));
                Reply::Operations(replies.collect())
            }
            Command::Calendar { ahead_ms, .. } => {
                self.set_ahead(ahead_ms, &mut effects);
                Reply::Done
            }
            Command::RaiseVersion { version, .. } => {
                self.raise_version(version, &mut effects);
                Reply::Done
            }
        };
        let appended = effects.deliveries.iter().map(|(id, _)| *id);
        let changed: BTreeSet<ChannelId> = appended.chain(self.consumers.touched_channels()).collect();
        changed.into_iter().for_each(|id| self.retain(id, &mut effects));
        self.consumers.flush(&mut effects);
        if self.record != before {
            effects.put(Key::Machine, &self.record);
        }
        self.namespaces.seal(&mut effects);
        self.recalled_no_more();
        (reply, effects)
    }

    /// All channels with their counters, by name.
    pub fn channels(&self) -> impl Iterator<Item = (&Arc<ChannelMeta>, ChannelStats)> {
        self.names.values().filter_map(|id| self.channels.get(id)).map(|channel| (&channel.meta, channel.stats))
    }

    /// What a channel is.
    pub fn meta(&self, channel: ChannelId) -> Option<&Arc<ChannelMeta>> {
        self.channels.get(&channel).map(|channel| &channel.meta)
    }

    /// The counters of a channel.
    pub fn stats(&self, channel: ChannelId) -> Option<ChannelStats> {
        self.channels.get(&channel).map(|channel| channel.stats)
    }

    /// 1, and one more for each time that the state was restored from a backup.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A node that is or was in the cluster, by id.
    pub fn member(&self, node: u64) -> Option<&MemberRecord> {
        self.members.records.get(&node)
    }

    /// What happened to the cluster's nodes, oldest first.
    pub fn member_log(&self) -> impl Iterator<Item = &MemberLogEntry> {
        self.members.log.values()
    }

    /// The log's time at the newest command: see [`Machine::time_of_day`].
    pub fn time_ms(&self) -> u64 {
        self.record.time_ms
    }

    /// When something will expire, in log time; `None` while nothing can.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        let next = |due: &BTreeSet<(u64, ChannelId)>| due.first().map(|(expiry, _)| *expiry);
        let (namespaces, consumers) = (self.namespaces.next_expiry_ms(), self.consumers.next_due_ms());
        let departed = (!self.departed.is_empty()).then_some(self.record.time_ms);
        [next(&self.expiries), next(&self.agings), namespaces, consumers, departed].into_iter().flatten().min()
    }

    fn publish(&mut self, group: PublishGroup, effects: &mut Effects) -> GroupReply {
        let id = group.channel;
        self.check_current(&group)?;
        let channel = self.channels.get(&id).ok_or(Refusal::NoSuchChannel)?;
        let actual = channel.stats.next_seq;
        // A retry of a group that was appended before is no surprise, wherever the channel ends by now.
        if !channel.knows_all(&group) {
            if let Some(expected) = group.expected_seq.filter(|expected| *expected != actual) {
                return Err(Refusal::WrongSeq { expected, actual });
            }
            self.check_room(&group.routes, &group.frame)?;
        }
        let room = channel.room(&group.frame);
        self.append(&group, room, effects)
    }

    /// Whether a group was checked against what holds now.
    fn check_current(&self, group: &PublishGroup) -> Result<(), Refusal> {
        let channel = self.channels.get(&group.channel).ok_or(Refusal::NoSuchChannel)?;
        if group.schema_id != channel.meta.schema_id {
            return Err(Refusal::StaleSchema { current: channel.meta.schema_id });
        }
        self.check_routing(group)
    }

    /// Appends a group that passed the checks, and makes its copies.
    fn append(&mut self, group: &PublishGroup, room: Option<Room>, effects: &mut Effects) -> GroupReply {
        let (id, time_ms) = (group.channel, self.record.time_ms);
        let channel = self.channels.get_mut(&id).ok_or(Refusal::NoSuchChannel)?;
        let expiry_before = channel.next_expiry_ms();
        let others = self.keys - channel.dedup.len();
        let appended = channel.append(group, room, time_ms, self.key_limit.beside(others));
        self.keys = others + channel.dedup.len();
        let expiry = channel.next_expiry_ms();
        if let Some(first) = appended.runs.first() {
            effects.put(Key::Claims(id, first.first_seq), &Claims { time_ms, runs: Cow::Borrowed(&appended.runs) });
        }
        if let Some(batch) = appended.batch {
            effects.appended(channel, batch);
            if !group.routes.is_empty() {
                let except: Vec<u32> = appended.assigned.except.iter().map(|(position, _)| *position).collect();
                self.copy(&group.routes, &group.frame, group.expires, &except, effects);
            }
        }
        self.reschedule(id, expiry_before, expiry);
        Ok(appended.assigned)
    }

    fn operate(&mut self, operation: Operation, effects: &mut Effects) -> Result<OperationReply, Refusal> {
        match operation {
            Operation::PutRule { source, target, predicate } => self.put_rule(&source, &target, predicate, effects),
            Operation::DeleteRule { source, target } => self.delete_rule(&source, &target, effects),
            Operation::Claim(operation) => self.operate_claim(operation, effects),
            Operation::Trim { channel, up_to } => self.trim(&channel, up_to, effects),
            Operation::Consumer(operation) => self.operate_consumer(operation, effects),
            Operation::Transaction(transaction) => self.transact(transaction, effects),
            Operation::Schedule(schedule) => self.schedule(schedule, effects),
            Operation::Due(due) => self.release(due, effects),
            Operation::Compact(compact) => self.compact(compact, effects),
            Operation::Reclaim(reclaim) => self.reclaim(reclaim, effects),
            Operation::Redrive(redrive) => self.redrive(redrive, effects),
            Operation::Withdraw { channel, id } => self.withdraw(channel, id, effects),
            Operation::LimitKeys { live_keys, all_keys } => {
                Ok(self.limit_keys(KeyLimit { live_keys, all_keys }, effects))
            }
            Operation::LimitState(limits) => Ok(self.limit_state(limits, effects)),
            Operation::Security(operation) => self.operate_security(operation, effects),
            Operation::OnBehalf(OnBehalf { token, made }) => self.operate_for(token, made, effects),
        }
    }

    /// The channel of a name that an operation gives.
    fn id_of(&self, name: &ChannelName) -> Result<ChannelId, Refusal> {
        self.names.get(name).copied().ok_or_else(|| Refusal::NoChannelNamed(name.clone()))
    }

    fn expire(&mut self, effects: &mut Effects) {
        let now = self.record.time_ms;
        let bounded = self.version >= PeerVersion::BOUNDED_TIMEOUTS;
        self.consumers.expire(now, if bounded { consumers::TIMEOUTS } else { usize::MAX });
        let mut room = ExpiryRoom::COMMAND;
        while let Some((expiry, id)) = self.expiries.first().copied()
            && expiry <= now
            && !room.is_taken()
        {
            self.expiries.pop_first();
            let Some(channel) = self.channels.get_mut(&id) else { continue };
            let (others, cold) = (self.keys - channel.dedup.len(), self.cold_keys - channel.dedup.cold());
            channel.expire(now, &mut room).into_iter().for_each(|seq| effects.delete(Key::Claims(id, seq)));
            (self.keys, self.cold_keys) = (others + channel.dedup.len(), cold + channel.dedup.cold());
            effects.put(Key::Stats(id), &channel.stats);
            self.expiries.extend(channel.next_expiry_ms().map(|expiry| (expiry, id)));
        }
        self.expire_departed(&mut room, effects);
        self.namespaces.expire(now, effects);
        self.expire_messages(effects);
    }

    fn reschedule(&mut self, id: ChannelId, before: Option<u64>, after: Option<u64>) {
        if before != after {
            before.map(|expiry| self.expiries.remove(&(expiry, id)));
            self.expiries.extend(after.map(|expiry| (expiry, id)));
        }
    }
}

#[cfg(test)]
mod tests;
