//! Who gets which message: decided by the leader from what is pending, and from the messages themselves. Nothing here
//! changes anything; the machine checks what comes of it.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use crate::{
    machine::{Consumer, Holder},
    model::{
        ConsumeOrder, ConsumerConfig, ConsumerId, ConsumerOperation, Hand, MessageView, OrderingKey, Predicate,
        StoredBatch, header_key,
    },
    proto::v1::Message,
};

/// Messages that are handed out by one operation.
const AT_ONCE: usize = 1_024;

/// How many more messages each member takes, and whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Seats {
    free: BTreeMap<u64, usize>,
    turn: u64,
}

/// A plan in the making.
pub(super) struct Plan {
    consumer: ConsumerId,
    order: ConsumeOrder,
    next: u64,
    until: u64,
    /// How many more messages may become pending.
    room: usize,
    hands: Vec<Hand>,
    parked: Vec<(u64, u64)>,
    holders: HashMap<u64, Holder>,
    /// When the next message that waits may be handed out.
    pub(super) due_ms: Option<u64>,
}

impl Seats {
    /// Of members by id, with their free places; those after `turn` come first.
    pub(super) fn new(free: BTreeMap<u64, usize>, turn: u64) -> Self {
        Self { free: free.into_iter().filter(|(_, free)| *free > 0).collect(), turn }
    }

    fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    fn total(&self) -> usize {
        self.free.values().sum()
    }

    pub(super) fn turn(&self) -> u64 {
        self.turn
    }

    /// The member that gets the next message of a key, if any has room.
    fn choose(&mut self, key: Option<u64>, holder: Holder) -> Option<u64> {
        let member = match (holder, key) {
            (Holder::Blocked, _) => return None,
            (Holder::Member(member), _) => Some(member).filter(|member| self.free.contains_key(member)),
            // Mostly the same member for the same key, whoever else comes and goes.
            (Holder::Free, Some(key)) => self.free.keys().copied().max_by_key(|member| mix(key, *member)),
            (Holder::Free, None) => {
                let after = self.free.range(self.turn.saturating_add(1)..).next();
                after.or_else(|| self.free.first_key_value()).map(|(member, _)| *member)
            }
        }?;
        self.turn = member;
        if let Some(free) = self.free.get_mut(&member) {
            *free -= 1;
            if *free == 0 {
                self.free.remove(&member);
            }
        }
        Some(member)
    }
}

impl Plan {
    /// Hands out again what waits and may come now.
    pub(super) fn again(consumer: &Consumer, seats: &mut Seats, now_ms: u64) -> Self {
        let meta = consumer.meta();
        let next = consumer.cursor().next;
        let mut plan = Self {
            consumer: meta.id,
            order: meta.config.order.clone(),
            next,
            until: next,
            room: consumer.room(),
            hands: Vec::new(),
            parked: Vec::new(),
            holders: HashMap::new(),
            due_ms: consumer.waiting().map(|(due, _)| due).find(|due| *due > now_ms),
        };
        if plan.order == ConsumeOrder::None {
            for (_, seq) in consumer.waiting().take_while(|(due, _)| *due <= now_ms) {
                if seats.is_empty() || plan.hands.len() >= AT_ONCE {
                    break;
                }
                plan.offer(seq, None, seats);
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
                None if pending.due_ms <= now_ms && plan.hands.len() < AT_ONCE => {
                    plan.offer(*seq, pending.key, seats);
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
        !seats.is_empty() && self.room > 0 && self.hands.len() < AT_ONCE
    }

    /// New messages that are not looked at, up to the channel's end.
    pub(super) fn unseen(&mut self, end: u64, seats: &mut Seats) {
        let room = self.room.min(AT_ONCE.saturating_sub(self.hands.len())).min(seats.total());
        let until = end.min(self.until.saturating_add(room as u64));
        for seq in self.until..until {
            self.offer(seq, None, seats);
        }
        self.until = self.until.max(until);
    }

    /// New messages of a batch. False when the rest has to wait.
    pub(super) fn seen(
        &mut self,
        batch: &StoredBatch,
        filter: Option<&Predicate>,
        seats: &mut Seats,
    ) -> Result<bool, prost::DecodeError> {
        for (seq, message) in (batch.first_seq..).zip(batch.frame.messages()) {
            if seq < self.until {
                continue;
            }
            if !self.has_room(seats) {
                return Ok(false);
            }
            let message = message?;
            if filter.is_none_or(|filter| filter.matches(&MessageView::of(&message))) {
                let key = ordering_key(&self.order, &message);
                let placed = self.offer(seq, key, seats);
                match key {
                    _ if placed => {}
                    // Later messages of an exclusive consumer are no better off.
                    Some(key) if self.order != ConsumeOrder::Exclusive => {
                        self.parked.push((seq, key));
                        self.room -= 1;
                    }
                    _ => return Ok(false),
                }
            }
            self.until = seq + 1;
        }
        Ok(true)
    }

    /// The operation, if there is anything to do.
    pub(super) fn finish(mut self) -> Option<ConsumerOperation> {
        if self.hands.is_empty() && self.until == self.next {
            return None;
        }
        self.hands.sort_unstable_by_key(|hand| hand.seq);
        let Self { consumer, next, until, hands, parked, .. } = self;
        Some(ConsumerOperation::Assign { consumer, next, until, hands, parked })
    }

    fn offer(&mut self, seq: u64, key: Option<u64>, seats: &mut Seats) -> bool {
        let holder = key.and_then(|key| self.holders.get(&key)).copied().unwrap_or_default();
        let member = seats.choose(key, holder);
        self.passed(key, member);
        self.hands.extend(member.map(|member| Hand { seq, member, key }));
        if member.is_some() && seq >= self.next {
            self.room = self.room.saturating_sub(1);
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
        ConsumeOrder::Key(OrderingKey::MessageKey) => &message.key,
        ConsumeOrder::Key(OrderingKey::Header(name)) => header_key(message, name)?,
    };
    if text.is_empty() {
        return None;
    }
    let hash = blake3::hash(text.as_bytes());
    hash.as_bytes().first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn mix(key: u64, member: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, member).hash(&mut hasher);
    hasher.finish()
}
