//! Who gets which message: decided by the leader from what is pending, and from the messages themselves. Nothing here
//! changes anything; the machine checks what comes of it.

use std::{collections::HashMap, ops::Range};

use super::{
    behind::{Behind, Look},
    seats::Seats,
};
use crate::{
    machine::{Consumer, Holder},
    model::{
        CONSUMER_DEFERRED, ConsumeOrder, ConsumerConfig, ConsumerId, ConsumerOperation, Hand, MessageView, OrderingKey,
        Predicate, StoredBatch, header_key,
    },
    proto::v1::Message,
};

/// Messages that are handed out by one operation.
const AT_ONCE: usize = 1_024;

/// A plan in the making.
pub(super) struct Plan {
    consumer: ConsumerId,
    order: ConsumeOrder,
    next: u64,
    until: u64,
    /// How many more messages members may have.
    room: usize,
    /// How many more messages may become pending.
    look_ahead: usize,
    /// So many of them are not for messages that only wait for an earlier one of their key.
    kept: usize,
    /// How many more messages may be passed over.
    passes: u64,
    /// Attempts that a message has; 0: without end.
    max_attempts: u32,
    hands: Vec<Hand>,
    parked: Vec<(u64, u64)>,
    /// Messages that are passed over: masks of blocks.
    deferred: Vec<(u64, u64)>,
    holders: HashMap<u64, Holder>,
    /// New messages that are settled for good, as runs.
    settled: Vec<Range<u64>>,
    /// When the next message that waits may be handed out.
    pub(super) due_ms: Option<u64>,
}

impl Plan {
    /// Hands out again what waits and may come now. At most `pending` messages may be pending on this node's terms.
    pub(super) fn again(consumer: &Consumer, seats: &mut Seats, pending: u64, now_ms: u64) -> Self {
        let meta = consumer.meta();
        let next = consumer.cursor().next;
        let look_ahead = consumer.look_ahead(pending);
        let mut plan = Self {
            consumer: meta.id,
            order: meta.config.order.clone(),
            next,
            until: next,
            room: consumer.room(),
            look_ahead,
            kept: (look_ahead + consumer.pending().len()).div_ceil(2),
            passes: CONSUMER_DEFERRED.saturating_sub(consumer.deferred().count()),
            max_attempts: meta.config.max_attempts,
            hands: Vec::new(),
            parked: Vec::new(),
            deferred: Vec::new(),
            holders: HashMap::new(),
            settled: Vec::new(),
            due_ms: consumer.waiting().map(|(due, _)| due).find(|due| *due > now_ms),
        };
        if plan.order == ConsumeOrder::None {
            for (_, seq) in consumer.waiting().take_while(|(due, _)| *due <= now_ms) {
                if !plan.hands_more(seats) {
                    break;
                }
                plan.offer(seq, None, plan.attempt_of(consumer, seq), seats);
            }
            return plan;
        }
        // Who has a later message of a key is still the only one to get an earlier one again.
        for pending in consumer.pending().values().filter(|pending| pending.member.is_some()) {
            plan.passed(pending.key, pending.member);
        }
        for (seq, pending) in consumer.pending() {
            if consumer.is_dying(*seq) {
                continue;
            }
            match pending.member {
                Some(_) => {}
                None if pending.due_ms <= now_ms && plan.hands_more(seats) => {
                    plan.offer(*seq, pending.key, pending.attempts.saturating_add(1), seats);
                }
                None => plan.passed(pending.key, None),
            }
        }
        plan
    }

    /// Whether the messages have to be looked at: else their sequence numbers are enough.
    pub(super) fn looks_inside(config: &ConsumerConfig) -> bool {
        config.order != ConsumeOrder::None || config.filter.is_some()
    }

    /// Whether there is a place for a new message.
    pub(super) fn has_room(&self, seats: &Seats) -> bool {
        self.hands_more(seats) && self.look_ahead > 0
    }

    /// Whether a member may get one more message.
    fn hands_more(&self, seats: &Seats) -> bool {
        !seats.is_empty() && self.room > 0 && self.hands.len() < AT_ONCE
    }

    /// Passes over new messages that are settled for good.
    #[must_use]
    pub(super) fn without(self, settled: Vec<Range<u64>>) -> Self {
        Self { settled, ..self }
    }

    /// The sequence number after the run of settled messages that a message is in.
    fn end_of_settled(&self, seq: u64) -> Option<u64> {
        self.settled.iter().find(|run| run.contains(&seq)).map(|run| run.end)
    }

    /// New messages that are not looked at, up to the channel's end.
    pub(super) fn unseen(&mut self, end: u64, seats: &mut Seats) {
        while self.until < end && self.has_room(seats) {
            if let Some(end) = self.end_of_settled(self.until) {
                self.until = end;
            } else if self.offer(self.until, None, 1, seats) {
                self.until += 1;
            } else {
                return;
            }
        }
    }

    /// New messages of a batch. False when the rest has to wait.
    pub(super) fn seen(
        &mut self,
        batch: &StoredBatch,
        filter: Option<&Predicate>,
        seats: &mut Seats,
        behind: &mut Behind,
    ) -> Result<bool, prost::DecodeError> {
        for (seq, message) in (batch.first_seq..).zip(batch.frame.messages()) {
            if let Some(end) = self.end_of_settled(seq) {
                self.until = self.until.max(end);
            }
            if seq < self.until {
                continue;
            }
            if !self.has_room(seats) {
                return Ok(false);
            }
            let message = message?;
            if filter.is_none_or(|filter| filter.matches(&MessageView::of(&message))) {
                let key = ordering_key(&self.order, &message);
                // After one that was passed over no other of its key comes first, and none is known to be the next.
                let late = key.is_some_and(|key| behind.has(key));
                let placed = !late && self.offer(seq, key, 1, seats);
                match key {
                    _ if placed => {}
                    // Later messages of an exclusive consumer are no better off.
                    Some(key) if self.order != ConsumeOrder::Exclusive => {
                        if !late && self.look_ahead > self.kept {
                            self.parked.push((seq, key));
                            self.look_ahead -= 1;
                        } else if self.passes > 0 && behind.defer(key, seq) {
                            self.pass_over(seq);
                        } else {
                            return Ok(false);
                        }
                    }
                    _ => return Ok(false),
                }
            }
            self.until = seq + 1;
        }
        Ok(true)
    }

    /// Who has a key, as far as the plan goes.
    pub(super) fn holder(&self, key: u64) -> Holder {
        self.holders.get(&key).copied().unwrap_or_default()
    }

    /// Messages that were passed over earlier, `there` by increasing number, as far as a page goes. Whether that was of any
    /// use. What is not in the page is gone: whoever gets it settles it.
    pub(super) fn looked_back(
        &mut self,
        page: &[StoredBatch],
        there: Vec<u64>,
        mut look: Look,
        until: u64,
        seats: &mut Seats,
        behind: &mut Behind,
    ) -> Result<bool, prost::DecodeError> {
        let mut there = there.into_iter().peekable();
        for batch in page {
            if there.peek().is_none_or(|seq| *seq >= batch.end_seq()) {
                continue;
            }
            for (seq, message) in (batch.first_seq..).zip(batch.frame.messages()) {
                while let Some(gone) = there.next_if(|one| *one < seq) {
                    if !self.offer_again(gone, None, &mut look, seats, behind) {
                        return Ok(behind.looked(look, gone));
                    }
                }
                if there.next_if_eq(&seq).is_some() {
                    let key = ordering_key(&self.order, &message?);
                    if !self.offer_again(seq, key, &mut look, seats, behind) {
                        return Ok(behind.looked(look, seq));
                    }
                }
            }
        }
        for gone in there {
            if !self.offer_again(gone, None, &mut look, seats, behind) {
                return Ok(behind.looked(look, gone));
            }
        }
        Ok(behind.looked(look, until))
    }

    /// Offers a message that was passed over. False where nothing more can be handed out.
    fn offer_again(&mut self, seq: u64, key: Option<u64>, look: &mut Look, seats: &mut Seats, behind: &Behind) -> bool {
        let room = self.has_room(seats);
        if !room && !Behind::learns(look) {
            return false;
        }
        if room && behind.may_go(look, key) && self.offer(seq, key, 1, seats) {
            self.look_ahead -= 1;
        } else {
            behind.waits(look, key, seq);
        }
        true
    }

    fn pass_over(&mut self, seq: u64) {
        let (block, mask) = (seq / 64, 1 << (seq % 64));
        match self.deferred.last_mut().filter(|(last, _)| *last == block) {
            Some((_, present)) => *present |= mask,
            None => self.deferred.push((block, mask)),
        }
        self.passes -= 1;
    }

    /// The new end of what was looked at.
    pub(super) fn until(&self) -> u64 {
        self.until
    }

    /// The operation, if there is anything to do.
    pub(super) fn finish(mut self) -> Option<ConsumerOperation> {
        if self.hands.is_empty() && self.until == self.next {
            return None;
        }
        self.hands.sort_unstable_by_key(|hand| hand.seq);
        let Self { consumer, next, until, hands, parked, deferred, .. } = self;
        Some(if deferred.is_empty() {
            ConsumerOperation::Assign { consumer, next, until, hands, parked }
        } else {
            ConsumerOperation::AssignPast { consumer, next, until, hands, parked, deferred }
        })
    }

    fn attempt_of(&self, consumer: &Consumer, seq: u64) -> u32 {
        consumer.pending().get(&seq).map_or(1, |pending| pending.attempts.saturating_add(1))
    }

    fn offer(&mut self, seq: u64, key: Option<u64>, attempt: u32, seats: &mut Seats) -> bool {
        let holder = key.and_then(|key| self.holders.get(&key)).copied().unwrap_or_default();
        let last = self.max_attempts > 0 && attempt >= self.max_attempts;
        let member = if last { seats.choose_alone(holder) } else { seats.choose(key, holder) };
        self.passed(key, member);
        self.hands.extend(member.map(|member| Hand { seq, member, key }));
        if member.is_some() {
            self.room = self.room.saturating_sub(1);
            if seq >= self.next {
                self.look_ahead = self.look_ahead.saturating_sub(1);
            }
        }
        member.is_some()
    }

    /// A message was passed that a member has, or that waits.
    fn passed(&mut self, key: Option<u64>, member: Option<u64>) {
        if let Some(key) = key {
            let holder = self.holders.entry(key).or_default();
            *holder = holder.and(member);
        }
    }
}

/// The hash of a message's ordering key. It is decided by the leader alone and kept with the message while that is
/// pending; two keys of one hash are one key, which costs a little parallelism and nothing else.
fn ordering_key(order: &ConsumeOrder, message: &Message) -> Option<u64> {
    let text = match order {
        ConsumeOrder::None => return None,
        ConsumeOrder::Exclusive => return Some(0),
        ConsumeOrder::Key(OrderingKey::MessageKey) => message.key(),
        ConsumeOrder::Key(OrderingKey::Header(name)) => header_key(message, name)?,
    };
    if text.is_empty() {
        return None;
    }
    let hash = blake3::hash(text.as_bytes());
    hash.as_bytes().first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
