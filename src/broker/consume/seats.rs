//! How many more messages each member of a group takes, and which member gets the next one.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use crate::machine::Holder;

/// How many more messages each member takes, and whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Seats {
    free: BTreeMap<u64, usize>,
    /// What those of them have that have or get anything.
    held: BTreeMap<u64, usize>,
    turn: u64,
    /// A member gets nothing more until it has nothing any longer.
    drains: bool,
    /// All members have something.
    busy: bool,
}

impl Seats {
    /// Of members by id, with their free places and what they have; those after `turn` come first.
    pub(super) fn new(members: impl IntoIterator<Item = (u64, usize, usize)>, turn: u64) -> Self {
        let mut seats = Self { turn, ..Self::default() };
        for (member, free, held) in members.into_iter().filter(|(_, free, _)| *free > 0) {
            seats.free.insert(member, free);
            seats.held.insert(member, held);
        }
        seats
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    pub(super) fn turn(&self) -> u64 {
        self.turn
    }

    /// Whether somebody has room for a message of a key.
    pub(super) fn could_take(&self, holder: Holder) -> bool {
        match holder {
            Holder::Blocked => false,
            Holder::Member(member) => self.free.contains_key(&member),
            Holder::Free => !self.free.is_empty(),
        }
    }

    /// The member that gets the next message of a key, if any has room.
    pub(super) fn choose(&mut self, key: Option<u64>, holder: Holder) -> Option<u64> {
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
        *self.held.entry(member).or_default() += 1;
        if let Some(free) = self.free.get_mut(&member) {
            *free -= 1;
            if *free == 0 {
                self.free.remove(&member);
            }
        }
        Some(member)
    }

    /// The member that gets a message for the last time: one that has nothing else, and gets nothing else with it, so that
    /// whoever is brought down by the message takes no other along. While there is none, one member is kept from getting
    /// more until it has nothing.
    pub(super) fn choose_alone(&mut self, holder: Holder) -> Option<u64> {
        if holder == Holder::Free && self.busy {
            return None;
        }
        let held = |member: &u64| self.held.get(member).copied().unwrap_or_default();
        let could = self.free.keys().copied().filter(|member| holder.admits(*member));
        let member = could.min_by_key(|member| (held(member), *member))?;
        let alone = held(&member) == 0;
        if alone || !self.drains {
            self.free.remove(&member);
            self.drains |= !alone;
        }
        self.busy |= !alone && holder == Holder::Free;
        alone.then_some(member)
    }
}

fn mix(key: u64, member: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, member).hash(&mut hasher);
    hasher.finish()
}
