//! Transactions: parts that are all done or none of them. All are checked first, as if those before had been done, and
//! nothing is changed until every one has passed.
//!
//! A delivery that is settled and a claim that is completed say that somebody went through with the work. New messages
//! beside them would be its output once more, so they are refused; without new messages there is nothing to be done
//! twice, and whoever asks again gets the same answer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Effects, Machine, channel::Channel, claims::Completion, consumers::Held, retention::Room};
use crate::model::{
    ChannelId, ConsumerId, DeliveryToken, KeyHash, KeyOutcome, NamespaceName, OperationReply, Part, PartReply,
    PublishGroup, Refusal, Route, Transaction,
};

/// What the parts that were checked so far would change.
#[derive(Default)]
struct Foreseen<'a> {
    next_seq: BTreeMap<ChannelId, u64>,
    keys: BTreeMap<ChannelId, BTreeSet<KeyHash>>,
    /// How many of them there are.
    all_keys: u64,
    /// What the channels that have limits still take.
    rooms: BTreeMap<ChannelId, Option<Room>>,
    /// Messages whose key was used before with the same payload.
    repeated: usize,
    /// The first of them.
    first: Option<Refusal>,
    /// The first part whose channel does not end where its publisher thought, or is full. A repeat does not mind.
    unfit: Option<Refusal>,
    /// The receipts that claims get.
    receipts: BTreeMap<(&'a NamespaceName, KeyHash), &'a Bytes>,
    /// The first part that was done before, whose work new messages must not be the output of.
    past: Option<Refusal>,
}

impl Machine {
    pub(super) fn transact(
        &mut self,
        transaction: Transaction,
        effects: &mut Effects,
    ) -> Result<OperationReply, Refusal> {
        self.check_parts(&transaction)?;
        let mut replies = Vec::with_capacity(transaction.parts.len());
        for part in transaction.parts {
            replies.push(match part {
                // Neither its expected sequence number nor the room matter any more: both were checked for the whole,
                // which may also have been done before.
                Part::Publish(group) => PartReply::Published(self.append(&group, None, effects)?),
                Part::Ack { consumer, tokens } => {
                    for token in tokens {
                        self.ack(consumer, token)?;
                    }
                    PartReply::Acked
                }
                Part::Complete { namespace, key, token, receipt } => {
                    self.complete(&namespace, key, token, receipt, effects)?;
                    PartReply::Completed
                }
            });
        }
        Ok(OperationReply::Transaction(replies))
    }

    /// Whether all parts can be done, or all were. Changes nothing.
    fn check_parts(&self, transaction: &Transaction) -> Result<(), Refusal> {
        let mut foreseen = Foreseen::default();
        for (part, checked) in (0u32..).zip(&transaction.parts) {
            let result = match checked {
                Part::Publish(group) => self.check_publish(part, group, &mut foreseen),
                Part::Ack { consumer, tokens } => self.check_acks(part, *consumer, tokens, &mut foreseen),
                Part::Complete { namespace, key, token, receipt } => {
                    self.check_completion(part, (namespace, *key), *token, receipt, &mut foreseen)
                }
            };
            result.map_err(|why| Refusal::Part { part, why: Box::new(why) })?;
        }
        match (foreseen.repeated, foreseen.first) {
            (repeated, Some(_)) if repeated == transaction.messages() => Ok(()),
            (_, Some(some)) => Err(some),
            (_, None) => {
                let past = foreseen.past.filter(|_| transaction.messages() > 0);
                past.or(foreseen.unfit).map_or(Ok(()), Err)
            }
        }
    }

    fn check_acks(
        &self,
        part: u32,
        consumer: ConsumerId,
        tokens: &[DeliveryToken],
        foreseen: &mut Foreseen<'_>,
    ) -> Result<(), Refusal> {
        self.consumers.get(consumer).ok_or(Refusal::NoSuchConsumer)?;
        for token in tokens {
            if self.check_ack(consumer, *token)? == Held::Settled {
                let stale = Refusal::StaleDelivery { seq: token.seq };
                foreseen.past.get_or_insert_with(|| Refusal::Part { part, why: Box::new(stale) });
            }
        }
        Ok(())
    }

    fn check_completion<'a>(
        &self,
        part: u32,
        (namespace, key): (&'a NamespaceName, KeyHash),
        token: u64,
        receipt: &'a Bytes,
        foreseen: &mut Foreseen<'a>,
    ) -> Result<(), Refusal> {
        let completion = self.check_complete(namespace, key, token, receipt)?;
        let (_, claim) = self.claim(namespace, key)?;
        let completed = || claim.map_or(Refusal::StaleClaim { current: None }, Refusal::ClaimCompleted);
        if *foreseen.receipts.entry((namespace, key)).or_insert(receipt) != receipt {
            return Err(completed());
        }
        if completion == Completion::Repeated {
            foreseen.past.get_or_insert_with(|| Refusal::Part { part, why: Box::new(completed()) });
        }
        Ok(())
    }

    fn check_publish(&self, part: u32, group: &PublishGroup, foreseen: &mut Foreseen<'_>) -> Result<(), Refusal> {
        self.check_current(group)?;
        let channel = self.channels.get(&group.channel).ok_or(Refusal::NoSuchChannel)?;
        let keys = foreseen.keys.entry(group.channel).or_default();
        for claim in &group.keys {
            let position = claim.position;
            match channel.known(claim.key, claim.digest) {
                Some(KeyOutcome::Duplicate { .. }) => {
                    let used = Refusal::UsedInPart { position };
                    foreseen.repeated += 1;
                    foreseen.first.get_or_insert_with(|| Refusal::Part { part, why: Box::new(used) });
                }
                Some(outcome) => return Err(Refusal::Key { position, outcome }),
                None if !keys.insert(claim.key) => return Err(Refusal::UsedInPart { position }),
                None => {
                    let (live, others) = (channel.dedup.len() + keys.len() as u64, self.keys - channel.dedup.len());
                    let elsewhere = others + foreseen.all_keys + 1 - keys.len() as u64;
                    foreseen.all_keys += 1;
                    if let Some(outcome) = self.key_limit.beside(elsewhere).refuses(live - 1) {
                        return Err(Refusal::Key { position, outcome });
                    }
                }
            }
        }
        let end = |id: &ChannelId| self.channels.get(id).map(|channel| channel.stats.next_seq);
        let next = foreseen.next_seq.entry(group.channel).or_insert(channel.stats.next_seq);
        if let Some(expected) = group.expected_seq.filter(|expected| expected != next) {
            let wrong = Refusal::WrongSeq { expected, actual: *next };
            foreseen.unfit.get_or_insert_with(|| Refusal::Part { part, why: Box::new(wrong) });
        }
        *next += u64::from(group.frame.count());
        if let Err(full) = self.check_rooms(group, &mut foreseen.rooms) {
            foreseen.unfit.get_or_insert_with(|| Refusal::Part { part, why: Box::new(full) });
        }
        for route in &group.routes {
            if let Some(end) = end(&route.target) {
                *foreseen.next_seq.entry(route.target).or_insert(end) += route.positions.len() as u64;
            }
        }
        Ok(())
    }

    /// Whether the channels take the messages of a part and their copies beside those of the parts before.
    fn check_rooms(&self, group: &PublishGroup, rooms: &mut BTreeMap<ChannelId, Option<Room>>) -> Result<(), Refusal> {
        let fresh = |id: &ChannelId| self.channels.get(id).and_then(Channel::limited_room);
        if let Some(room) = rooms.entry(group.channel).or_insert_with_key(fresh) {
            for (position, bytes) in (0u32..).zip(group.frame.sizes()) {
                room.take(bytes).map_err(|outcome| Refusal::Key { position, outcome })?;
            }
        }
        for Route { target, positions, .. } in &group.routes {
            if let Some(room) = rooms.entry(*target).or_insert_with_key(fresh) {
                let taken = room.take_copies(&group.frame, positions);
                let channel = *target;
                taken.map_err(|(position, outcome)| Refusal::CopyRefused { channel, position, outcome })?;
            }
        }
        Ok(())
    }
}
