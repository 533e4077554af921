//! One consumer: what is pending, and the indexes over it. All changes of what is pending go through [`Consumer::put`]
//! and [`Consumer::take`], so that the indexes and the list of what has to be stored cannot be forgotten.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::deferred::Deferred;
use crate::model::{
    ConsumeOrder, ConsumerId, ConsumerMeta, ConsumerStatus, Cursor, DeliveryToken, Failure, Lost, Pending, Refusal,
};

/// Pending messages that are stored as one value.
pub(super) const BLOCK: u64 = 64;
/// Blocks that are deleted one by one. A consumer may have hundreds of thousands of them, and lose all at once.
const NAMED_BLOCKS: usize = 64;
/// The ordering key of every message of an exclusive consumer.
const EXCLUSIVE: u64 = 0;

/// A consumer's state.
#[derive(Debug)]
pub struct Consumer {
    pub(super) meta: ConsumerMeta,
    pub(super) cursor: Cursor,
    /// None where nobody counts.
    pub(super) lost: Option<Lost>,
    pub(super) pending: BTreeMap<u64, Pending>,
    /// Messages below `next` that were passed over because their key waits.
    pub(super) deferred: Deferred,
    /// Messages that wait to be handed out, by when they may be.
    waiting: BTreeSet<(u64, u64)>,
    /// Messages of each member.
    held: BTreeMap<u64, BTreeSet<u64>>,
    /// Messages of each ordering key.
    keys: BTreeMap<u64, BTreeSet<u64>>,
    /// Messages whose last attempt came to nothing.
    dying: BTreeSet<u64>,
}

/// What all consumers share: deadlines, the dead, and what has to be stored at the end of the command.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// Ack deadlines of all messages that members have.
    pub(super) due: BTreeSet<(u64, ConsumerId, u64)>,
    /// Dead messages of all consumers with a dead-letter channel.
    pub(super) dying: BTreeSet<(ConsumerId, u64)>,
    /// Blocks of pending messages that changed.
    pub(super) blocks: BTreeSet<(ConsumerId, u64)>,
    /// Blocks of messages that were passed over, where that changed.
    pub(super) deferred: BTreeSet<(ConsumerId, u64)>,
    /// Below these, a consumer has no such blocks any more: there were too many to be named one by one.
    pub(super) deferred_from: BTreeMap<ConsumerId, u64>,
    /// Consumers that changed in any way.
    pub(super) touched: BTreeSet<ConsumerId>,
    /// Consumers of which it changed what they have lost.
    pub(super) lost: BTreeSet<ConsumerId>,
}

/// Pending messages of one block, by their distance from its first sequence number.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::machine) struct PendingBlock(pub(in crate::machine) Vec<(u8, Pending)>);

/// What a delivery's token stands for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The member has it.
    Yes,
    /// The member had it, and nobody has got it since.
    Late,
    /// It is settled.
    Settled,
}

/// Who has messages of an ordering key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Holder {
    /// Nobody: there are none.
    #[default]
    Free,
    /// This member, and nobody else.
    Member(u64),
    /// An earlier one waits, and comes first.
    Blocked,
}

impl Holder {
    /// After one more message, which a member has or which waits.
    #[must_use]
    pub fn and(self, member: Option<u64>) -> Self {
        match (self, member) {
            (Self::Free, Some(member)) => Self::Member(member),
            (Self::Member(holder), Some(member)) if holder == member => self,
            _ => Self::Blocked,
        }
    }

    /// Whether the next message may go to a member.
    pub fn admits(self, member: u64) -> bool {
        self == Self::Free || self == Self::Member(member)
    }
}

impl Consumer {
    pub(super) fn new(meta: ConsumerMeta, next: u64) -> Self {
        Self {
            meta,
            cursor: Cursor { next, ..Cursor::default() },
            lost: None,
            pending: BTreeMap::new(),
            deferred: Deferred::default(),
            waiting: BTreeSet::new(),
            held: BTreeMap::new(),
            keys: BTreeMap::new(),
            dying: BTreeSet::new(),
        }
    }

    /// What it is.
    pub fn meta(&self) -> &ConsumerMeta {
        &self.meta
    }

    /// How far it is.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// What was removed before it had settled it.
    pub fn lost(&self) -> Lost {
        self.lost.unwrap_or_default()
    }

    /// From now on what it loses is counted.
    pub(super) fn count_lost(&mut self, schedule: &mut Schedule) {
        if self.lost.is_none() {
            self.lost = Some(Lost::default());
            schedule.lost.insert(self.meta.id);
        }
    }

    /// Messages below a sequence number are removed, of which it had settled so many before they were handed out.
    pub(super) fn lose_below(&mut self, first_seq: u64, settled: u64, schedule: &mut Schedule) {
        let Some(lost) = self.lost else { return };
        let next = self.cursor.next;
        let unread = first_seq.saturating_sub(next).saturating_sub(settled);
        let passed_over = self.deferred.count_below(first_seq);
        let messages = unread + passed_over + self.pending.range(..first_seq).count() as u64;
        if messages == 0 {
            return;
        }
        let goes_on = lost.messages > 0 && next <= lost.to_seq;
        let from_seq = if goes_on { lost.from_seq } else { self.floor() };
        self.lost = Some(Lost { messages: lost.messages + messages, from_seq, to_seq: first_seq });
        schedule.lost.insert(self.meta.id);
    }

    /// The messages below its `next` that are not settled.
    pub fn pending(&self) -> &BTreeMap<u64, Pending> {
        &self.pending
    }

    /// The messages below its `next` that were passed over because an earlier one of their key is not settled.
    pub fn deferred(&self) -> &Deferred {
        &self.deferred
    }

    /// Messages whose last attempt came to nothing.
    pub(super) fn count_dying(&self) -> u64 {
        self.dying.len() as u64
    }

    /// Messages below its `next` that are not settled.
    pub(super) fn unsettled(&self) -> u64 {
        self.pending.len() as u64 + self.deferred.count()
    }

    /// The messages that a member has.
    pub fn held_by(&self, member: u64) -> impl Iterator<Item = (u64, u32)> {
        let held = self.held.get(&member).into_iter().flatten();
        held.filter_map(|seq| self.pending.get(seq).map(|pending| (*seq, pending.attempts)))
    }

    /// How many messages a member has.
    pub fn count_held_by(&self, member: u64) -> usize {
        self.held.get(&member).map_or(0, BTreeSet::len)
    }

    /// Messages that wait to be handed out, with the time from which on they may be; the earliest first.
    pub fn waiting(&self) -> impl Iterator<Item = (u64, u64)> {
        self.waiting.iter().copied()
    }

    /// Whether a pending message's last attempt came to nothing.
    pub fn is_dying(&self, seq: u64) -> bool {
        self.dying.contains(&seq)
    }

    /// How many more messages members may have.
    pub fn room(&self) -> usize {
        let held = self.pending.len() - self.waiting.len() - self.dying.len();
        (self.meta.config.max_in_flight as usize).saturating_sub(held)
    }

    /// How many more messages may become pending, those that members have and those that wait together, where the node's
    /// limit is `most`.
    pub fn look_ahead(&self, most: u64) -> usize {
        let most = usize::try_from(most.max(self.meta.config.max_in_flight.into())).unwrap_or(usize::MAX);
        most.saturating_sub(self.pending.len())
    }

    /// Whether an attempt with this number is the last one.
    pub fn is_last(&self, attempt: u32) -> bool {
        self.meta.config.max_attempts > 0 && attempt >= self.meta.config.max_attempts
    }

    /// Whether a member has a message for the last time, and therefore nothing else.
    pub fn has_last_attempt(&self, member: u64) -> bool {
        self.count_held_by(member) == 1 && self.held_by(member).any(|(_, attempts)| self.is_last(attempts))
    }

    /// The lowest sequence number that is not settled.
    pub fn floor(&self) -> u64 {
        let pending = self.pending.first_key_value().map(|(seq, _)| *seq);
        pending.into_iter().chain(self.deferred.from(0)).min().unwrap_or(self.cursor.next)
    }

    /// The consumer as its users see it; `end` is the sequence number after the channel's last message.
    pub fn status(&self, end: u64) -> ConsumerStatus {
        let (pending, waiting, dying) = (self.pending.len(), self.waiting.len(), self.dying.len());
        ConsumerStatus {
            meta: self.meta.clone(),
            cursor: self.cursor,
            in_flight: (pending - waiting - dying) as u64,
            waiting: waiting as u64 + self.deferred.count(),
            dying: dying as u64,
            floor: self.floor(),
            lag: end.saturating_sub(self.cursor.next) + self.unsettled(),
            lost: self.lost().messages,
        }
    }

    /// The key by which a message is ordered, of the one that the leader found in it.
    pub(super) fn ordering_key(&self, found: Option<u64>) -> Option<u64> {
        match self.meta.config.order {
            ConsumeOrder::None => None,
            ConsumeOrder::Exclusive => Some(EXCLUSIVE),
            ConsumeOrder::Key(_) => found,
        }
    }

    /// What a token stands for now.
    pub(super) fn held(&self, token: DeliveryToken) -> Result<Held, Refusal> {
        let DeliveryToken { seq, attempt, member, .. } = token;
        let stale = Err(Refusal::StaleDelivery { seq });
        match self.pending.get(&seq) {
            None if seq < self.cursor.next && !self.deferred.contains(seq) => Ok(Held::Settled),
            None => stale,
            Some(pending) if pending.attempts != attempt || attempt == 0 => stale,
            Some(Pending { member: Some(holder), .. }) if *holder == member => Ok(Held::Yes),
            Some(Pending { member: None, .. }) => Ok(Held::Late),
            Some(_) => stale,
        }
    }

    /// Refuses what is handed out out of order. `fresh` says who has each message that is handed out or parked now.
    pub(super) fn check_order(&self, fresh: &BTreeMap<u64, BTreeMap<u64, Option<u64>>>) -> Result<(), Refusal> {
        for (key, fresh) in fresh {
            let present = self.keys.get(key).into_iter().flatten().filter(|seq| !self.dying.contains(seq));
            let mut all: BTreeMap<u64, Option<u64>> =
                present.filter_map(|seq| Some((*seq, self.pending.get(seq)?.member))).collect();
            all.extend(fresh);
            // Whoever has any of them is the only one to get more, and gets no later one before an earlier.
            let mut holder = all.values().flatten().fold(Holder::Free, |holder, member| holder.and(Some(*member)));
            for (seq, member) in all {
                match member {
                    Some(member) if fresh.contains_key(&seq) && !holder.admits(member) => {
                        return Err(Refusal::StaleAssignment);
                    }
                    Some(_) => {}
                    None => holder = Holder::Blocked,
                }
            }
        }
        Ok(())
    }

    /// Adds or replaces a pending message. One that died without a dead-letter channel is settled instead.
    pub(super) fn put(&mut self, seq: u64, pending: Pending, schedule: &mut Schedule) {
        let id = self.meta.id;
        self.unindex(seq, schedule);
        if self.deferred.remove(seq) {
            schedule.deferred.insert((id, seq / BLOCK));
        }
        let config = &self.meta.config;
        let dead = pending.member.is_none() && config.max_attempts > 0 && pending.attempts >= config.max_attempts;
        schedule.blocks.insert((id, seq / BLOCK));
        schedule.touched.insert(id);
        if dead && config.dead_letter.is_none() {
            self.pending.remove(&seq);
            self.cursor.dead += 1;
            return;
        }
        match pending.member {
            Some(member) => {
                self.held.entry(member).or_default().insert(seq);
                schedule.due.insert((pending.due_ms, id, seq));
            }
            None if dead => {
                self.dying.insert(seq);
                schedule.dying.insert((id, seq));
            }
            None => {
                self.waiting.insert((pending.due_ms, seq));
            }
        }
        if let Some(key) = pending.key {
            self.keys.entry(key).or_default().insert(seq);
        }
        self.pending.insert(seq, pending);
    }

    /// Passes over messages whose key waits: masks of blocks.
    pub(super) fn defer(&mut self, blocks: &[(u64, u64)], schedule: &mut Schedule) {
        for (block, mask) in blocks {
            self.deferred.insert(*block, *mask);
            schedule.deferred.insert((self.meta.id, *block));
        }
    }

    /// Settles a pending message.
    pub(super) fn take(&mut self, seq: u64, schedule: &mut Schedule) -> Option<Pending> {
        self.unindex(seq, schedule);
        let pending = self.pending.remove(&seq)?;
        schedule.blocks.insert((self.meta.id, seq / BLOCK));
        schedule.touched.insert(self.meta.id);
        Some(pending)
    }

    /// The attempt of a message came to nothing: it waits, or is dead.
    pub(super) fn fail(&mut self, seq: u64, failure: Failure, due_ms: u64, schedule: &mut Schedule) {
        if let Some(pending) = self.pending.get(&seq) {
            let failed = Pending { member: None, due_ms, failure: Some(failure), ..pending.clone() };
            self.put(seq, failed, schedule);
        }
    }

    /// A member gives back what it did not begin to work on.
    pub(super) fn give_back(&mut self, seq: u64, now_ms: u64, schedule: &mut Schedule) {
        if let Some(pending) = self.pending.get(&seq) {
            let attempts = pending.attempts.saturating_sub(1);
            let returned = Pending { member: None, due_ms: now_ms, attempts, ..pending.clone() };
            self.put(seq, returned, schedule);
        }
    }

    /// Under a new limit what waits, and is not dead yet, is handed out once more at least. To be followed by
    /// [`Consumer::reindex`].
    pub(super) fn leave_an_attempt(&mut self, max_attempts: u32) {
        let (dying, most) = (&self.dying, max_attempts.saturating_sub(1));
        let waiting = self.pending.iter_mut().filter(|(seq, pending)| pending.member.is_none() && !dying.contains(seq));
        if max_attempts > 0 {
            waiting.for_each(|(_, pending)| pending.attempts = pending.attempts.min(most));
        }
    }

    /// Settles all messages below a sequence number.
    pub(super) fn settle_below(&mut self, seq: u64, schedule: &mut Schedule) {
        while let Some((first, _)) = self.pending.first_key_value()
            && *first < seq
        {
            let first = *first;
            self.take(first, schedule);
        }
        let mut changed = self.deferred.remove_below(seq);
        if !changed.is_empty() {
            let id = self.meta.id;
            schedule.touched.insert(id);
            if changed.len() > NAMED_BLOCKS {
                let from = schedule.deferred_from.entry(id).or_default();
                *from = (seq / BLOCK).max(*from);
                changed.retain(|block| *block >= seq / BLOCK);
            }
            schedule.deferred.extend(changed.into_iter().map(|block| (id, block)));
        }
    }

    /// Puts everything back under a changed configuration.
    pub(super) fn reindex(&mut self, schedule: &mut Schedule) {
        let all: Vec<(u64, Pending)> = self.pending.iter().map(|(seq, pending)| (*seq, pending.clone())).collect();
        all.into_iter().for_each(|(seq, pending)| self.put(seq, pending, schedule));
        schedule.touched.insert(self.meta.id);
    }

    /// The pending messages of a block as they are stored; none when there are none.
    pub(super) fn block(&self, block: u64) -> Option<PendingBlock> {
        let first = block * BLOCK;
        let within = self.pending.range(first..=first + (BLOCK - 1));
        // Less than 64 apart by construction.
        let stored: Vec<(u8, Pending)> = within.map(|(seq, pending)| ((seq - first) as u8, pending.clone())).collect();
        (!stored.is_empty()).then_some(PendingBlock(stored))
    }

    fn unindex(&mut self, seq: u64, schedule: &mut Schedule) {
        let Some(pending) = self.pending.get(&seq) else { return };
        let id = self.meta.id;
        match pending.member {
            Some(member) => {
                remove_from(&mut self.held, member, seq);
                schedule.due.remove(&(pending.due_ms, id, seq));
            }
            None => {
                self.waiting.remove(&(pending.due_ms, seq));
                self.dying.remove(&seq);
                schedule.dying.remove(&(id, seq));
            }
        }
        if let Some(key) = pending.key {
            remove_from(&mut self.keys, key, seq);
        }
    }
}

fn remove_from(sets: &mut BTreeMap<u64, BTreeSet<u64>>, of: u64, seq: u64) {
    if let Some(set) = sets.get_mut(&of) {
        set.remove(&seq);
        if set.is_empty() {
            sets.remove(&of);
        }
    }
}
