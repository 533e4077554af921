//! Transactions: parts that are all done or none of them. All are checked first, as if those before had been done, and
//! nothing is changed until every one has passed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Effects, Machine};
use crate::model::{
    ChannelId, KeyHash, KeyOutcome, OperationReply, Part, PartReply, PublishGroup, Refusal, Transaction,
};

/// What the parts that were checked so far would change.
#[derive(Default)]
struct Foreseen {
    next_seq: BTreeMap<ChannelId, u64>,
    keys: BTreeMap<ChannelId, BTreeSet<KeyHash>>,
    /// Messages whose key was used before with the same payload.
    repeated: usize,
    /// The first of them.
    first: Option<Refusal>,
    /// The first part whose channel does not end where its publisher thought.
    wrong_seq: Option<Refusal>,
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
                // The whole may have been done before, with what was expected then.
                Part::Publish(group) => {
                    PartReply::Published(self.publish(PublishGroup { expected_seq: None, ..group }, effects)?)
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
            };
            result.map_err(|why| Refusal::Part { part, why: Box::new(why) })?;
        }
        match (foreseen.repeated, foreseen.first) {
            (repeated, Some(_)) if repeated == transaction.messages() => Ok(()),
            (_, Some(some)) => Err(some),
            (_, None) => foreseen.wrong_seq.map_or(Ok(()), Err),
        }
    }

    fn check_publish(&self, part: u32, group: &PublishGroup, foreseen: &mut Foreseen) -> Result<(), Refusal> {
        let channel = self.channels.get(&group.channel).ok_or(Refusal::NoSuchChannel)?;
        if group.schema_id != channel.meta.schema_id {
            return Err(Refusal::StaleSchema { current: channel.meta.schema_id });
        }
        if group.rules_version != self.rules.version {
            return Err(Refusal::StaleRules { current: self.rules.version });
        }
        self.check_routes(&group.routes)?;
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
            foreseen.wrong_seq.get_or_insert_with(|| Refusal::Part { part, why: Box::new(wrong) });
        }
        *next += u64::from(group.frame.count());
        for route in &group.routes {
            if let Some(end) = end(&route.target) {
                *foreseen.next_seq.entry(route.target).or_insert(end) += route.positions.len() as u64;
            }
        }
        Ok(())
    }
}
