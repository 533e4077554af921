//! What the leader knows of the messages that a consumer passed over because an earlier one of their ordering key is not
//! settled: for each key that has any, from where on they lie. The machine keeps one bit of each and no key, so a new leader
//! reads them first, page by page; from then on a page is read again only when a key that lies in it may go on.
//!
//! Pages are looked through like floors by a lift: each time from where the last look ended, and from the beginning after the
//! last one. So a key whose messages lie far behind waits for no other one.

use std::collections::{HashMap, HashSet};

use super::seats::Seats;
use crate::{
    machine::{Deferred, Holder},
    model::{CONSUMER_DEFERRED_KEYS, ConsumeOrder},
};

/// A key; none where a message has none, which happens when the consumer's order has been changed meanwhile.
type Key = Option<u64>;

/// What is known of the messages that were passed over.
#[derive(Debug, Default)]
pub(super) struct Behind {
    order: ConsumeOrder,
    /// None of a key's messages lies below this.
    keys: HashMap<Key, u64>,
    /// The keys of all that lie below this are known.
    known: u64,
    /// Where the last look ended.
    at: u64,
    /// How it was before the plan that is under way: keys as they were, newest last, and how far they were known.
    before: (Vec<(Key, Option<u64>)>, u64),
}

/// Where to look through what was passed over.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) from: u64,
    /// Keys that may go on, and of which nothing lies before it; none while the leader only learns what there is.
    ready: HashSet<Key>,
    /// The first one of each that has to wait still.
    waits: HashMap<Key, u64>,
}

impl Behind {
    /// Before a plan for a consumer that is at `next`. What came of the last plan is not known unless [`Behind::keep`] said so.
    pub(super) fn begin(&mut self, order: &ConsumeOrder, next: u64, deferred: &Deferred) {
        for (key, low) in std::mem::take(&mut self.before.0).into_iter().rev() {
            self.put(key, low);
        }
        self.known = self.before.1;
        if deferred.is_empty() {
            *self = Self { order: order.clone(), known: next, ..Self::default() };
        } else if self.order != *order || self.known > next {
            *self = Self { order: order.clone(), ..Self::default() };
        } else if deferred.from(self.known).is_none() {
            self.known = next;
        }
        self.before.1 = self.known;
    }

    /// The plan came true.
    pub(super) fn keep(&mut self) {
        self.before = (Vec::new(), self.known);
    }

    /// Whether it is known of every message below `next` that was passed over.
    pub(super) fn knows_all(&self, next: u64) -> bool {
        self.known >= next
    }

    /// Whether messages of a key were passed over, so that later ones have to be as well.
    pub(super) fn has(&self, key: u64) -> bool {
        self.keys.contains_key(&Some(key))
    }

    /// A new message is passed over. False where there are too many keys.
    pub(super) fn defer(&mut self, key: u64, seq: u64) -> bool {
        if !self.has(key) {
            if self.keys.len() >= CONSUMER_DEFERRED_KEYS {
                return false;
            }
            self.set(Some(key), Some(seq));
        }
        true
    }

    /// The plan goes as far as this.
    pub(super) fn goes_to(&mut self, until: u64) {
        self.known = self.known.max(until);
    }

    /// Where to look for something that may be handed out now; `holder` says who has each key.
    pub(super) fn look(
        &mut self,
        deferred: &Deferred,
        next: u64,
        seats: &Seats,
        holder: impl Fn(u64) -> Holder,
    ) -> Option<Look> {
        if !self.knows_all(next) {
            let from = deferred.from(self.known)?;
            return Some(Look { from, ready: HashSet::new(), waits: HashMap::new() });
        }
        let (mut ready, mut done) = (Vec::new(), Vec::new());
        for (key, low) in &self.keys {
            if !seats.could_take(key.map_or(Holder::Free, &holder)) {
                continue;
            }
            match deferred.from(*low) {
                Some(place) => ready.push((place, *key)),
                None => done.push(*key),
            }
        }
        done.into_iter().for_each(|key| self.set(key, None));
        let ahead = ready.iter().map(|(place, _)| *place).filter(|place| *place >= self.at).min();
        let from = ahead.or_else(|| ready.iter().map(|(place, _)| *place).min())?;
        let ready = ready.into_iter().filter(|(place, _)| *place >= from).map(|(_, key)| key).collect();
        Some(Look { from, ready, waits: HashMap::new() })
    }

    /// Whether a message may be offered to a member.
    pub(super) fn may_go(&self, look: &Look, key: Key) -> bool {
        !look.waits.contains_key(&key) && (look.ready.contains(&key) || !self.keys.contains_key(&key))
    }

    /// A message that was passed over waits on.
    pub(super) fn waits(&self, look: &mut Look, key: Key, seq: u64) {
        if look.ready.contains(&key) || !self.keys.contains_key(&key) {
            look.waits.entry(key).or_insert(seq);
        }
    }

    /// It was looked up to here. Whether that was of any use.
    pub(super) fn looked(&mut self, look: Look, until: u64) -> bool {
        let Look { ready, mut waits, .. } = look;
        self.at = until;
        // All of a key that has nothing left is handed out with this plan, and what is new may follow.
        let to_the_end = until >= self.known;
        let mut moved = until > self.known;
        self.known = self.known.max(until);
        for key in ready {
            let low = waits.remove(&key).or((!to_the_end).then_some(until));
            if self.keys.get(&key).is_some_and(|present| low.is_none_or(|low| *present < low)) {
                moved = true;
                self.set(key, low);
            }
        }
        for (key, seq) in waits {
            self.set(key, Some(seq));
        }
        moved
    }

    /// Whether the leader is still learning what there is.
    pub(super) fn learns(look: &Look) -> bool {
        look.ready.is_empty()
    }

    fn set(&mut self, key: Key, low: Option<u64>) {
        let present = self.keys.get(&key).copied();
        self.before.0.push((key, present));
        self.put(key, low);
    }

    fn put(&mut self, key: Key, low: Option<u64>) {
        match low {
            Some(low) => self.keys.insert(key, low),
            None => self.keys.remove(&key),
        };
    }
}
