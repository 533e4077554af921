//! Consumers: how far each is, who has which message, and what comes again when.
//!
//! A consumer is one small record and what is pending below its `next`; everything else below is settled. So an ack
//! removes something, nothing grows with what was acknowledged, and an idle consumer is one record that nothing looks
//! at. Ack deadlines of all consumers are one ordered set, by the log's time.

mod assign;
mod consumer;
mod deferred;
mod manage;
mod orphans;
mod restore;
mod settle;
mod settled;

use std::{cmp::Reverse, collections::BTreeMap, ops::Bound};

use self::consumer::{BLOCK, Schedule};
pub(super) use self::{consumer::PendingBlock, settled::Runs};
pub use self::{
    consumer::{Consumer, Held, Holder},
    deferred::Deferred,
};
use super::{Effects, Machine, keys::Key, owners::Owners};
use crate::model::{
    ChannelId, ChannelName, ConsumerId, ConsumerName, ConsumerOperation, ConsumerReply, ConsumerStatus, Failure,
    OperationReply, Refusal,
};

/// Ack timeouts that one command ends at most: a million messages that come back together must be no one entry's work. An
/// ack of one whose turn has not come yet still counts.
pub(super) const TIMEOUTS: usize = 8_192;

/// The consumers that are furthest behind, and all of them summed up.
#[derive(Clone, Debug, Default)]
pub struct Laggards {
    /// How many consumers there are.
    pub count: u64,
    /// Messages that they have not settled.
    pub lag: u64,
    /// Channel and status of some, the furthest behind first.
    pub shown: Vec<(ChannelName, ConsumerStatus)>,
    /// Messages that the others have been handed and not settled.
    pub pending_of_others: u64,
    /// Messages that the others have given up and that have no letter yet.
    pub dying_of_others: u64,
    /// How often each consumer has handed messages out again, given them up and lost them, by id.
    pub counts: Vec<(ConsumerId, [u64; 3])>,
}

/// Channels and consumers summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many channels there are.
    pub channels: u64,
    /// Messages that they have ever stored.
    pub stored: u64,
    /// How many consumers there are.
    pub consumers: u64,
    /// Messages that they have not settled.
    pub backlog: u64,
}

/// All consumers of all channels.
#[derive(Debug, Default)]
pub struct Consumers {
    pub(super) last_id: u64,
    by_id: BTreeMap<ConsumerId, Consumer>,
    names: BTreeMap<ChannelId, BTreeMap<ConsumerName, ConsumerId>>,
    schedule: Schedule,
    settled: settled::Settled,
    /// Which of them count for which tokens.
    pub(super) owners: Owners<ConsumerId>,
}

/// By which rules an operation is taken: those of the version that ordered it.
#[derive(Clone, Copy, Debug)]
struct Rule {
    /// See [`ConsumerOperation::Keeping`].
    keeping: bool,
    /// See [`ConsumerOperation::Judged`].
    judged: bool,
}

impl Consumers {
    /// A consumer by its id.
    pub fn get(&self, consumer: ConsumerId) -> Option<&Consumer> {
        self.by_id.get(&consumer)
    }

    /// A consumer by its name.
    pub fn named(&self, channel: ChannelId, name: &str) -> Option<&Consumer> {
        self.by_id.get(self.names.get(&channel)?.get(name)?)
    }

    /// The consumers of a channel, by name.
    pub fn of(&self, channel: ChannelId) -> impl Iterator<Item = &Consumer> {
        self.names.get(&channel).into_iter().flat_map(BTreeMap::values).filter_map(|id| self.by_id.get(id))
    }

    /// The consumers of a channel whose names are in a range, by name.
    pub fn of_after<'a>(
        &'a self,
        channel: ChannelId,
        names: (Bound<&'a str>, Bound<&'a str>),
    ) -> impl Iterator<Item = &'a Consumer> {
        let named = self.names.get(&channel);
        let named = named.into_iter().flat_map(move |all| all.range::<str, _>(names).map(|(_, id)| id));
        named.filter_map(|id| self.by_id.get(id))
    }

    /// All consumers, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.by_id.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Dead messages that have to go to their dead-letter channel.
    pub fn dying(&self) -> impl Iterator<Item = (ConsumerId, u64)> {
        self.schedule.dying.iter().copied()
    }

    /// The same for each consumer that has any: its messages, the oldest first.
    pub fn dying_of_each(&self) -> impl Iterator<Item = (ConsumerId, impl Iterator<Item = u64> + Clone)> {
        let first_of = |id| self.schedule.dying.range((id, 0)..).next().map(|(consumer, _)| *consumer);
        let consumers = std::iter::successors(first_of(ConsumerId(0)), move |id| first_of(ConsumerId(id.0 + 1)));
        consumers.map(|id| (id, self.schedule.dying.range((id, 0)..=(id, u64::MAX)).map(|(_, seq)| *seq)))
    }

    /// When the next message comes back from its member, in log time.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.schedule.due.first().map(|(due, _, _)| *due)
    }

    /// The channels of the consumers that this command has changed so far.
    pub(super) fn touched_channels(&self) -> impl Iterator<Item = ChannelId> {
        self.schedule.touched.iter().filter_map(|id| self.by_id.get(id)).map(|consumer| consumer.meta.channel)
    }

    /// Takes at most `most` messages back whose ack timeout has passed. The next command goes on with the others.
    pub(super) fn expire(&mut self, now_ms: u64, most: usize) {
        for _ in 0..most {
            let Some((due, id, seq)) = self.schedule.due.first().copied() else { return };
            if due > now_ms {
                return;
            }
            match self.by_id.get_mut(&id) {
                Some(consumer) => consumer.fail(seq, Failure::Timeout, due, &mut self.schedule),
                None => drop(self.schedule.due.pop_first()),
            }
        }
    }

    /// Writes what the command changed. Nothing is written twice, however many acks shared the log entry.
    pub(super) fn flush(&mut self, effects: &mut Effects) {
        for (id, block) in std::mem::take(&mut self.schedule.blocks) {
            let key = Key::Pending(id, block);
            match self.by_id.get(&id).and_then(|consumer| consumer.block(block)) {
                Some(stored) => effects.put(key, &stored),
                None => effects.delete(key),
            }
        }
        for (id, block) in std::mem::take(&mut self.schedule.deferred_from) {
            effects.writes.cuts.push(Key::Deferred(id, 0).encode()..Key::Deferred(id, block).encode());
        }
        for (id, block) in std::mem::take(&mut self.schedule.deferred) {
            let key = Key::Deferred(id, block);
            match self.by_id.get(&id).and_then(|consumer| consumer.deferred.mask(block)) {
                Some(mask) => effects.put(key, &mask),
                None => effects.delete(key),
            }
        }
        for id in std::mem::take(&mut self.schedule.touched) {
            if let Some(consumer) = self.by_id.get(&id) {
                effects.put(Key::Cursor(id), &consumer.cursor);
            }
            effects.consumers.push(id);
        }
        for id in std::mem::take(&mut self.schedule.lost) {
            if let Some(lost) = self.by_id.get(&id).and_then(|consumer| consumer.lost) {
                effects.put(Key::Lost(id), &lost);
            }
        }
    }

    fn get_mut(&mut self, consumer: ConsumerId) -> Result<(&mut Consumer, &mut Schedule), Refusal> {
        let consumer = self.by_id.get_mut(&consumer).ok_or(Refusal::NoSuchConsumer)?;
        Ok((consumer, &mut self.schedule))
    }
}

impl Machine {
    /// All consumers.
    pub fn consumers(&self) -> &Consumers {
        &self.consumers
    }

    /// The consumers that are furthest behind, at most `most`.
    pub fn laggards(&self, most: usize) -> Laggards {
        let mut all: Vec<(u64, ConsumerId)> =
            self.consumers.iter().map(|consumer| (self.lag(consumer), consumer.meta.id)).collect();
        let (count, lag) = (all.len() as u64, all.iter().map(|(lag, _)| lag).sum());
        all.sort_unstable_by_key(|(lag, id)| (Reverse(*lag), *id));
        let counts = |one: &Consumer| (one.meta.id, [one.cursor.redelivered, one.cursor.dead, one.lost().messages]);
        let counts = self.consumers.iter().map(counts).collect();
        let others = || all.iter().skip(most).filter_map(|(_, id)| self.consumers.get(*id));
        let pending_of_others = others().map(Consumer::unsettled).sum();
        let dying_of_others = others().map(Consumer::count_dying).sum();
        let shown = all.into_iter().take(most).filter_map(|(_, id)| {
            let consumer = self.consumers.get(id)?;
            let channel = self.channels.get(&consumer.meta.channel)?;
            Some((channel.meta.name.clone(), self.status_of(consumer)))
        });
        Laggards { count, lag, shown: shown.collect(), pending_of_others, dying_of_others, counts }
    }

    /// All channels and all consumers summed up.
    pub fn totals(&self) -> Totals {
        Totals {
            channels: self.channels.len() as u64,
            stored: self.channels.values().map(|channel| channel.stats.next_seq).sum(),
            consumers: self.consumers.iter().count() as u64,
            backlog: self.consumers.iter().map(|consumer| self.lag(consumer)).sum(),
        }
    }

    /// A consumer as its users see it.
    pub fn consumer_status(&self, consumer: ConsumerId) -> Option<ConsumerStatus> {
        self.consumers.get(consumer).map(|consumer| self.status_of(consumer))
    }

    /// Consumers of a channel whose names are in a range, as their users see them, by name; at most `most`.
    pub fn consumer_statuses(
        &self,
        channel: ChannelId,
        names: (Bound<&str>, Bound<&str>),
        most: usize,
    ) -> Vec<ConsumerStatus> {
        self.consumers.of_after(channel, names).take(most).map(|consumer| self.status_of(consumer)).collect()
    }

    fn status_of(&self, consumer: &Consumer) -> ConsumerStatus {
        let end = self.channels.get(&consumer.meta.channel).map_or(0, |channel| channel.stats.next_seq);
        ConsumerStatus { lag: self.lag(consumer), ..consumer.status(end) }
    }

    /// Messages that a consumer has not settled. What is gone or settled for good is no work.
    fn lag(&self, consumer: &Consumer) -> u64 {
        let (id, next) = (consumer.meta.channel, consumer.cursor.next);
        let Some(channel) = self.channels.get(&id) else { return consumer.unsettled() };
        let settled = self.consumers.count_settled(id, next, &channel.reclaimed);
        consumer.unsettled() + channel.stored_from(next).saturating_sub(settled)
    }

    /// The lowest sequence number of a channel that some consumer has not settled; none when it has no consumer.
    pub fn settled_floor(&self, channel: ChannelId) -> Option<u64> {
        self.consumers.of(channel).map(Consumer::floor).min()
    }

    /// The messages of a channel below a sequence number are gone: nobody waits for them any longer. Whoever did has `lost`
    /// them, unless they went elsewhere.
    pub(super) fn trimmed(&mut self, channel: ChannelId, first_seq: u64, lost: bool) {
        let Consumers { names, by_id, schedule, settled, .. } = &mut self.consumers;
        let settled = settled.get(&channel);
        for id in names.get(&channel).into_iter().flat_map(BTreeMap::values) {
            let Some(consumer) = by_id.get_mut(id) else { continue };
            if lost {
                let passed = settled.map_or(0, |runs| runs.count_within(consumer.cursor.next..first_seq));
                consumer.lose_below(first_seq, passed, schedule);
            }
            consumer.settle_below(first_seq, schedule);
            if consumer.cursor.next < first_seq {
                consumer.cursor.next = first_seq;
                schedule.touched.insert(*id);
            }
        }
    }

    pub(super) fn operate_consumer(
        &mut self,
        operation: ConsumerOperation,
        effects: &mut Effects,
    ) -> Result<OperationReply, Refusal> {
        let (operation, rule) = match operation {
            ConsumerOperation::Keeping(operation) => (*operation, Rule { keeping: true, judged: false }),
            ConsumerOperation::Judged { operation, settle_skipped } => {
                self.judge(&operation, settle_skipped, effects)?;
                (*operation, Rule { keeping: true, judged: true })
            }
            operation => (operation, Rule { keeping: false, judged: false }),
        };
        let keeping = rule.keeping;
        let reply = match operation {
            ConsumerOperation::Create { channel, name, config, begin } => {
                self.create_consumer(&channel, name, config, begin, rule, effects)?
            }
            ConsumerOperation::Update { consumer, config } => self.update_consumer(consumer, config, rule, effects)?,
            ConsumerOperation::Delete { consumer } => self.delete_consumer(consumer, keeping, effects)?,
            ConsumerOperation::Reset { consumer, begin } => self.reset_consumer(consumer, begin, keeping, effects)?,
            ConsumerOperation::Assign { consumer, next, until, hands, parked } => {
                self.assign(consumer, next..until, &hands, &parked, &[])?;
                ConsumerReply::Done
            }
            ConsumerOperation::AssignPast { consumer, next, until, hands, parked, deferred } => {
                self.assign(consumer, next..until, &hands, &parked, &deferred)?;
                ConsumerReply::Done
            }
            ConsumerOperation::Settle { consumer, settlements } => {
                ConsumerReply::Settled { stale: self.settle(consumer, settlements)? }
            }
            ConsumerOperation::Leave { consumer, member } => {
                self.leave(consumer, member)?;
                ConsumerReply::Done
            }
            ConsumerOperation::DeadLetter { consumer, seq, letter } => {
                self.bury(consumer, seq, letter, rule, effects)?;
                ConsumerReply::Done
            }
            // The codec takes one around another for damage.
            ConsumerOperation::Keeping(_) | ConsumerOperation::Judged { .. } => return Err(Refusal::NoSuchConsumer),
        };
        Ok(OperationReply::Consumer(reply))
    }
}
