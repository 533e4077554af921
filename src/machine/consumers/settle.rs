//! What becomes of messages that were handed out.

use super::{Held, Rule};
use crate::{
    machine::{Effects, Machine, channel::Channel},
    model::{ConsumerId, DeliveryToken, Failure, PublishGroup, Refusal, Settlement, Verdict},
};

impl Machine {
    /// Whether a delivery can be acknowledged, without doing it: for whoever does it together with something else.
    /// [`Held::Settled`] says that it has been already, which a transaction may want to refuse.
    ///
    /// # Errors
    /// `NoSuchConsumer`; `StaleDelivery` when the message has been handed out again since.
    pub fn check_ack(&self, consumer: ConsumerId, token: DeliveryToken) -> Result<Held, Refusal> {
        self.consumers.get(consumer).ok_or(Refusal::NoSuchConsumer)?.held(token)
    }

    /// Acknowledges a delivery. Doing it again is no error.
    ///
    /// # Errors
    /// As [`Machine::check_ack`]; nothing is changed then.
    pub fn ack(&mut self, consumer: ConsumerId, token: DeliveryToken) -> Result<Held, Refusal> {
        let held = self.check_ack(consumer, token)?;
        let (consumer, schedule) = self.consumers.get_mut(consumer)?;
        consumer.take(token.seq, schedule);
        Ok(held)
    }

    /// The positions of the settlements that came too late.
    pub(super) fn settle(&mut self, id: ConsumerId, settlements: Vec<Settlement>) -> Result<Vec<u32>, Refusal> {
        self.consumers.get(id).ok_or(Refusal::NoSuchConsumer)?;
        let mut stale = Vec::new();
        for (position, settlement) in (0u32..).zip(settlements) {
            if !self.settle_one(id, settlement)? {
                stale.push(position);
            }
        }
        Ok(stale)
    }

    /// False when it came too late.
    fn settle_one(&mut self, id: ConsumerId, settlement: Settlement) -> Result<bool, Refusal> {
        let Settlement { token, verdict } = settlement;
        let now = self.record.time_ms;
        let Ok(held) = self.check_ack(id, token) else { return Ok(false) };
        let (consumer, schedule) = self.consumers.get_mut(id)?;
        Ok(match (verdict, held) {
            (Verdict::Ack, _) => {
                consumer.take(token.seq, schedule);
                true
            }
            (Verdict::AckUpTo, _) => {
                let before: Vec<u64> = consumer.held_by(token.member).map(|(seq, _)| seq).collect();
                before.into_iter().filter(|seq| *seq <= token.seq).for_each(|seq| {
                    consumer.take(seq, schedule);
                });
                consumer.take(token.seq, schedule);
                true
            }
            (Verdict::Nack { delay_ms, reason }, Held::Yes) => {
                consumer.fail(token.seq, Failure::Nacked(reason), now.saturating_add(delay_ms), schedule);
                true
            }
            (Verdict::Extend, Held::Yes) => {
                if let Some(mut pending) = consumer.pending.get(&token.seq).cloned() {
                    pending.due_ms = now.saturating_add(consumer.meta.config.ack_timeout_ms);
                    consumer.put(token.seq, pending, schedule);
                }
                true
            }
            (Verdict::Return, Held::Yes) => {
                consumer.give_back(token.seq, now, schedule);
                true
            }
            // It comes again already.
            (Verdict::Nack { .. } | Verdict::Return, Held::Late) => true,
            (Verdict::Nack { .. } | Verdict::Return, Held::Settled) | (Verdict::Extend, Held::Late | Held::Settled) => {
                false
            }
        })
    }

    pub(super) fn leave(&mut self, id: ConsumerId, member: u64) -> Result<(), Refusal> {
        let now = self.record.time_ms;
        let (consumer, schedule) = self.consumers.get_mut(id)?;
        let held: Vec<u64> = consumer.held_by(member).map(|(seq, _)| seq).collect();
        held.into_iter().for_each(|seq| consumer.fail(seq, Failure::Left, now, schedule));
        Ok(())
    }

    /// A dead message becomes a letter and is settled, both or neither: what the dead-letter channel refuses stays dead.
    pub(super) fn bury(
        &mut self,
        id: ConsumerId,
        seq: u64,
        letter: Option<PublishGroup>,
        Rule { keeping, judged }: Rule,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let consumer = self.consumers.get(id).ok_or(Refusal::NoSuchConsumer)?;
        if !consumer.is_dying(seq) {
            return Err(Refusal::NotDead);
        }
        if let Some(letter) = letter {
            let name = consumer.meta.config.dead_letter.clone();
            let wanted = name.as_ref().map(|name| self.id_of(name)).transpose()?;
            if wanted != Some(letter.channel) {
                return Err(Refusal::NoSuchChannel);
            }
            let stored = self.channels.get(&letter.channel).is_some_and(Channel::is_durable);
            if let Some(name) = name.filter(|_| keeping && !stored) {
                return Err(Refusal::NoDeadLetterChannel(name));
            }
            if judged {
                self.write_unchecked(&letter, effects)?;
            } else {
                let assigned = self.publish(letter, effects)?;
                if let Some((_, outcome)) = assigned.except.into_iter().next().filter(|_| keeping) {
                    return Err(Refusal::LetterRefused(outcome));
                }
            }
        }
        let (consumer, schedule) = self.consumers.get_mut(id)?;
        consumer.take(seq, schedule);
        consumer.cursor.dead += 1;
        Ok(())
    }

    /// A letter has to go somewhere, so it is not checked against the schema of its channel, and says so.
    fn write_unchecked(&mut self, letter: &PublishGroup, effects: &mut Effects) -> Result<(), Refusal> {
        self.check_routing(letter)?;
        self.check_room(&letter.routes, &letter.frame)?;
        let time_ms = self.record.time_ms;
        let channel = self.channels.get_mut(&letter.channel).ok_or(Refusal::NoSuchChannel)?;
        if let Some(mut room) = channel.room(&letter.frame) {
            letter.frame.sizes().try_for_each(|bytes| room.take(bytes)).map_err(Refusal::LetterRefused)?;
        }
        if let Some(batch) = channel.append_checked(letter.frame.clone(), time_ms, letter.expires, 0) {
            effects.appended(channel, batch);
            self.copy(&letter.routes, &letter.frame, letter.expires, &[], effects);
        }
        Ok(())
    }
}
