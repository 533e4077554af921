//! Creating, changing, resetting and deleting consumers.

use std::collections::BTreeSet;

use super::{BLOCK, Consumer, Rule};
use crate::{
    machine::{Effects, Machine, channel::Channel, keys::Key},
    model::{
        Begin, ChannelId, ChannelName, ChannelUpdate, ConsumerConfig, ConsumerId, ConsumerMeta, ConsumerName,
        ConsumerOperation, ConsumerReply, Refusal, StateLimits,
    },
};

impl Machine {
    /// What comes before an operation that is judged by the state alone: a work queue takes a filter only if what it keeps
    /// back may count as settled, and what its consumers have settled is written down before one of them is another one.
    pub(super) fn judge(
        &mut self,
        operation: &ConsumerOperation,
        settle_skipped: bool,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let (present, channel) = match operation {
            ConsumerOperation::Create { channel, name, .. } => {
                let channel = self.id_of(channel)?;
                (self.consumers.named(channel, name.as_str()), channel)
            }
            ConsumerOperation::Update { consumer, .. }
            | ConsumerOperation::Reset { consumer, .. }
            | ConsumerOperation::Delete { consumer } => {
                let present = self.consumers.get(*consumer).ok_or(Refusal::NoSuchConsumer)?;
                (Some(present), present.meta.channel)
            }
            _ => return Ok(()),
        };
        let config = match (operation, present) {
            (ConsumerOperation::Create { config, .. }, None) => Some(config),
            (ConsumerOperation::Update { config, .. }, Some(present)) => {
                Some(config).filter(|config| config.filter != present.meta.config.filter)
            }
            _ => None,
        };
        let work_queue = self.channels.get(&channel).is_some_and(|channel| channel.meta.config.retention.work_queue);
        if work_queue && !settle_skipped && config.is_some_and(|config| config.filter.is_some()) {
            return Err(Refusal::WorkWouldBeSkipped);
        }
        self.remember_settled(channel, effects);
        Ok(())
    }

    pub(super) fn create_consumer(
        &mut self,
        channel: &ChannelName,
        name: ConsumerName,
        config: ConsumerConfig,
        begin: Begin,
        Rule { keeping, judged }: Rule,
        effects: &mut Effects,
    ) -> Result<ConsumerReply, Refusal> {
        let channel = self.id_of(channel)?;
        self.check_consumer(channel, &config, keeping)?;
        if let Some(present) = self.consumers.named(channel, name.as_str()) {
            return if present.meta.config == config { Ok(self.shown(present)) } else { Err(Refusal::ConsumerExists) };
        }
        let StateLimits { consumers, consumers_per_channel, .. } = self.state_limits;
        let of_channel = self.consumers.names.get(&channel).map_or(0, |names| names.len() as u64);
        if self.consumers.len() as u64 >= consumers {
            return Err(Refusal::TooManyConsumers { limit: consumers });
        }
        if of_channel >= consumers_per_channel {
            return Err(Refusal::TooManyConsumers { limit: consumers_per_channel });
        }
        let next = self.begin(channel, begin);
        if keeping {
            self.begins_at(channel, next, effects);
        }
        self.consumers.last_id += 1;
        let id = ConsumerId(self.consumers.last_id);
        let meta = ConsumerMeta { id, channel, name: name.clone(), config, created_ms: self.today_ms() };
        effects.put(Key::Consumers, &self.consumers.last_id);
        effects.put(Key::Consumer(id), &meta);
        let mut consumer = Consumer::new(meta, next);
        if judged {
            consumer.count_lost(&mut self.consumers.schedule);
        }
        let reply = self.shown(&consumer);
        self.consumers.schedule.touched.insert(id);
        self.consumers.names.entry(channel).or_default().insert(name, id);
        self.consumers.by_id.insert(id, consumer);
        Ok(reply)
    }

    pub(super) fn update_consumer(
        &mut self,
        id: ConsumerId,
        config: ConsumerConfig,
        Rule { keeping, judged }: Rule,
        effects: &mut Effects,
    ) -> Result<ConsumerReply, Refusal> {
        let channel = self.consumers.get(id).ok_or(Refusal::NoSuchConsumer)?.meta.channel;
        self.check_consumer(channel, &config, keeping)?;
        let (consumer, schedule) = self.consumers.get_mut(id)?;
        if judged {
            consumer.count_lost(schedule);
        }
        if consumer.meta.config != config {
            if keeping {
                consumer.leave_an_attempt(config.max_attempts);
            }
            consumer.meta.config = config;
            effects.put(Key::Consumer(id), &consumer.meta);
            consumer.reindex(schedule);
        }
        self.consumers.get(id).map(|consumer| self.shown(consumer)).ok_or(Refusal::NoSuchConsumer)
    }

    pub(super) fn reset_consumer(
        &mut self,
        id: ConsumerId,
        begin: Begin,
        keeping: bool,
        effects: &mut Effects,
    ) -> Result<ConsumerReply, Refusal> {
        let channel = self.consumers.get(id).ok_or(Refusal::NoSuchConsumer)?.meta.channel;
        let next = self.begin(channel, begin);
        if keeping {
            self.goes_on_at(id, next, effects);
        }
        let (consumer, schedule) = self.consumers.get_mut(id)?;
        consumer.settle_below(u64::MAX, schedule);
        consumer.cursor.next = next;
        schedule.touched.insert(id);
        self.consumers.get(id).map(|consumer| self.shown(consumer)).ok_or(Refusal::NoSuchConsumer)
    }

    pub(super) fn delete_consumer(
        &mut self,
        id: ConsumerId,
        keeping: bool,
        effects: &mut Effects,
    ) -> Result<ConsumerReply, Refusal> {
        if keeping {
            self.goes_on_at(id, u64::MAX, effects);
        }
        let (consumer, schedule) = self.consumers.get_mut(id)?;
        let (reply, counted) = (consumer.status(0), consumer.lost.is_some());
        let blocks: Vec<u64> = consumer.pending.keys().map(|seq| seq / BLOCK).collect();
        consumer.settle_below(u64::MAX, schedule);
        schedule.blocks.extend(blocks.into_iter().map(|block| (id, block)));
        schedule.touched.insert(id); // whoever waits for it hears of its end
        let meta = &reply.meta;
        if let Some(names) = self.consumers.names.get_mut(&meta.channel) {
            names.remove(&meta.name);
            if names.is_empty() {
                self.consumers.names.remove(&meta.channel);
            }
        }
        self.consumers.by_id.remove(&id);
        effects.delete(Key::Consumer(id));
        self.consumers.owners.remove(&id, || Key::ConsumerOwner(id), effects);
        effects.delete(Key::Cursor(id));
        if counted {
            effects.delete(Key::Lost(id));
        }
        // A work queue kept its messages for it.
        self.retain(reply.meta.channel, effects);
        Ok(ConsumerReply::Consumer(Box::new(reply)))
    }

    /// A channel with filtered consumers does not become a work queue: nobody has said that what they keep back may go.
    pub(in crate::machine) fn check_work_queue(
        &self,
        name: &ChannelName,
        update: &ChannelUpdate,
    ) -> Result<(), Refusal> {
        let id = *self.names.get(name).ok_or(Refusal::NoSuchChannel)?;
        let is_one = self.channels.get(&id).is_some_and(|channel| channel.meta.config.retention.work_queue);
        let becomes_one = !is_one && update.retention.as_ref().is_some_and(|retention| retention.work_queue);
        let filtered = self.consumers.of(id).find(|consumer| consumer.meta.config.filter.is_some());
        match filtered.filter(|_| becomes_one) {
            Some(consumer) => Err(Refusal::FilteredConsumer(consumer.meta.name.clone())),
            None => Ok(()),
        }
    }

    /// A channel takes its consumers with it.
    pub(in crate::machine) fn delete_consumers_of(&mut self, channel: ChannelId, effects: &mut Effects) {
        let ids: Vec<ConsumerId> = self.consumers.of(channel).map(|consumer| consumer.meta.id).collect();
        for id in ids {
            // They are there: their ids come from the same table.
            let _ = self.delete_consumer(id, false, effects);
        }
    }

    fn shown(&self, consumer: &Consumer) -> ConsumerReply {
        let end = self.channels.get(&consumer.meta.channel).map_or(0, |channel| channel.stats.next_seq);
        ConsumerReply::Consumer(Box::new(consumer.status(end)))
    }

    /// The sequence number at which to begin.
    fn begin(&self, channel: ChannelId, begin: Begin) -> u64 {
        let stats = self.channels.get(&channel).map(|channel| channel.stats).unwrap_or_default();
        match begin {
            Begin::Earliest => stats.first_seq,
            Begin::Latest => stats.next_seq,
            Begin::Seq(seq) => seq.clamp(stats.first_seq, stats.next_seq.max(stats.first_seq)),
        }
    }

    fn check_consumer(&self, channel: ChannelId, config: &ConsumerConfig, keeping: bool) -> Result<(), Refusal> {
        let limit = self.state_limits.consumer_pending;
        if u64::from(config.max_in_flight) > limit {
            return Err(Refusal::TooMuchInFlight { limit });
        }
        let stored = |id: &ChannelId| self.channels.get(id).is_some_and(Channel::is_durable);
        if !stored(&channel) {
            return Err(Refusal::NotStored);
        }
        if let Some(name) = &config.dead_letter {
            let target = self.id_of(name)?;
            if target == channel || !stored(&target) {
                return Err(Refusal::NoDeadLetterChannel(name.clone()));
            }
            if keeping && self.letters_reach(target, channel) {
                return Err(Refusal::DeadLetterCycle(name.clone()));
            }
        }
        Ok(())
    }

    /// Whether dead letters of a channel, and the letters of those, come to another one.
    fn letters_reach(&self, from: ChannelId, to: ChannelId) -> bool {
        let (mut reached, mut open) = (BTreeSet::from([from]), vec![from]);
        while let Some(channel) = open.pop() {
            let letters = self.consumers.of(channel).filter_map(|consumer| consumer.meta.config.dead_letter.as_ref());
            for target in letters.filter_map(|name| self.names.get(name)) {
                if *target == to {
                    return true;
                }
                if reached.insert(*target) {
                    open.push(*target);
                }
            }
        }
        false
    }
}
