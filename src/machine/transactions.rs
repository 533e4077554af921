//! Transactions: parts that are all done or none of them. All are checked first, as if those before had been done, and
//! nothing is changed until every one has passed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Effects, Machine, channel::Channel, retention::Room};
use crate::model::{
    ChannelId, KeyHash, KeyOutcome, OperationReply, Part, PartReply, PublishGroup, Refusal, Route, Transaction,
};

/// What the parts that were checked so far would change.
#[derive(Default)]
struct Foreseen {
    next_seq: BTreeMap<ChannelId, u64>,
    keys: BTreeMap<ChannelId, BTreeSet<KeyHash>>,
    /// What the channels that have limits still take.
    rooms: BTreeMap<ChannelId, Option<Room>>,
    /// Messages whose key was used before with the same payload.
    repeated: usize,
    /// The first of them.
    first: Option<Refusal>,
    /// The first part whose channel does not end where its publisher thought, or is full. A repeat does not mind.
    unfit: Option<Refusal>,
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
            };
            result.map_err(|why| Refusal::Part { part, why: Box::new(why) })?;
        }
        match (foreseen.repeated, foreseen.first) {
            (repeated, Some(_)) if repeated == transaction.messages() => Ok(()),
            (_, Some(some)) => Err(some),
            (_, None) => foreseen.unfit.map_or(Ok(()), Err),
        }
    }

    fn check_publish(&self, part: u32, group: &PublishGroup, foreseen: &mut Foreseen) -> Result<(), Refusal> {
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
                None if channel.dedup.len() + keys.len() as u64 > self.live_keys => {
                    let outcome = KeyOutcome::TooManyKeys { limit: self.live_keys };
                    return Err(Refusal::Key { position, outcome });
                }
                None => {}
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
                taken.map_err(|full| Refusal::TargetFull { channel: *target, full })?;
            }
        }
        Ok(())
    }
}
