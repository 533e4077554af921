//! Handing messages out. The leader's broker, which can look into messages, proposes who gets what; here it is checked
//! that the state is still the one that it saw, and that the consumer's order and limits hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::deferred::seqs;
use crate::{
    machine::Machine,
    model::{CONSUMER_DEFERRED, ConsumerId, Hand, Pending, Refusal},
};

impl Machine {
    /// Hands out messages that wait or were passed over, and new ones, which lie in `new`.
    pub(super) fn assign(
        &mut self,
        id: ConsumerId,
        new: Range<u64>,
        hands: &[Hand],
        parked: &[(u64, u64)],
        deferred: &[(u64, u64)],
    ) -> Result<(), Refusal> {
        self.check_assign(id, &new, hands, parked, deferred)?;
        let now = self.record.time_ms;
        let (consumer, schedule) = self.consumers.get_mut(id)?;
        consumer.defer(deferred, schedule);
        for (seq, key) in parked {
            let pending = Pending { key: consumer.ordering_key(Some(*key)), due_ms: now, ..Pending::default() };
            consumer.put(*seq, pending, schedule);
        }
        let due_ms = now.saturating_add(consumer.meta.config.ack_timeout_ms);
        for Hand { seq, member, key } in hands {
            let fresh = || Pending { key: consumer.ordering_key(*key), ..Pending::default() };
            let before = consumer.pending.get(seq).cloned().unwrap_or_else(fresh);
            consumer.cursor.redelivered += u64::from(before.attempts > 0);
            let attempts = before.attempts.saturating_add(1);
            consumer.put(*seq, Pending { member: Some(*member), attempts, due_ms, ..before }, schedule);
        }
        consumer.cursor.next = new.end;
        schedule.touched.insert(id);
        Ok(())
    }

    fn check_assign(
        &self,
        id: ConsumerId,
        new: &Range<u64>,
        hands: &[Hand],
        parked: &[(u64, u64)],
        deferred: &[(u64, u64)],
    ) -> Result<(), Refusal> {
        let stale = || Refusal::StaleAssignment;
        let consumer = self.consumers.get(id).ok_or(Refusal::NoSuchConsumer)?;
        let end = self.channels.get(&consumer.meta.channel).ok_or(Refusal::NoSuchChannel)?.stats.next_seq;
        if consumer.cursor.next != new.start || new.end < new.start || new.end > end {
            return Err(stale());
        }
        let settled = |seq| self.consumers.is_settled(consumer.meta.channel, seq);
        let (mut seen, mut fresh) = (BTreeSet::new(), BTreeMap::<u64, BTreeMap<u64, Option<u64>>>::new());
        let (mut added, mut handed) = (parked.len(), 0);
        for (seq, key) in parked {
            let key = consumer.ordering_key(Some(*key)).ok_or_else(stale)?;
            if !new.contains(seq) || settled(*seq) || !seen.insert(*seq) {
                return Err(stale());
            }
            fresh.entry(key).or_default().insert(*seq, None);
        }
        for Hand { seq, member, key } in hands {
            let key = match consumer.pending.get(seq) {
                Some(Pending { member: None, due_ms, key, .. })
                    if *due_ms <= self.record.time_ms && !consumer.is_dying(*seq) =>
                {
                    *key
                }
                None if consumer.deferred.contains(*seq) || (new.contains(seq) && !settled(*seq)) => {
                    added += 1;
                    handed += 1;
                    consumer.ordering_key(*key)
                }
                _ => return Err(stale()),
            };
            if !seen.insert(*seq) {
                return Err(stale());
            }
            if let Some(key) = key {
                fresh.entry(key).or_default().insert(*seq, Some(*member));
            }
        }
        let mut passed_over = consumer.deferred.count();
        for seq in deferred.iter().flat_map(|(block, mask)| seqs(*block, *mask)) {
            if !new.contains(&seq) || settled(seq) || !seen.insert(seq) {
                return Err(stale());
            }
            passed_over += 1;
        }
        if !deferred.is_empty() && passed_over > CONSUMER_DEFERRED {
            return Err(stale());
        }
        // What waited has its place; the leader sees to it that no more is handed out of it than members may have.
        if handed > consumer.room() || added > consumer.look_ahead(self.state_limits.consumer_pending) {
            return Err(stale());
        }
        consumer.check_order(&fresh)
    }
}
