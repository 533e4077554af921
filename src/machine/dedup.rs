//! The idempotency keys that a channel remembers, and when it forgets them.
//!
//! A log entry's new keys are stored as one value, in which neighbours share a sequence number: most of what is stored
//! are hashes, which no compression makes smaller. Keys are forgotten in the order in which they came, a whole entry's
//! at a time, when the window has passed in log time.
//!
//! A channel may have many millions of live keys, which no cache of a processor holds. So memory has them in one queue in
//! that order, to which keys are only added and from which they are only taken, and an index of eight bytes a key that
//! says where in the queue a key is. Sequence numbers follow from the place in the queue: they are kept once for each
//! stretch of consecutive ones. The queue is in chunks and the index in parts, because what grows in one piece has to be
//! moved, and has twice the room that it needs.

use std::{
    borrow::Cow,
    collections::VecDeque,
    convert::Infallible,
    hash::{BuildHasher as _, RandomState},
};

use hashbrown::{HashTable, hash_table::Entry as Slot};
use serde::{Deserialize, Serialize};

use super::key_queue::KeyQueue;
use crate::model::{Digest, KeyHash};

/// The keys that one log entry claimed in one channel, as they are stored. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims<'a> {
    pub(super) time_ms: u64,
    pub(super) runs: Cow<'a, [Run]>,
}

/// The keys of consecutive messages, with the digests of what they were claimed for. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) first_seq: u64,
    pub(super) keys: Vec<(KeyHash, Digest)>,
}

impl Run {
    /// Adds a key behind all others.
    pub(super) fn add(runs: &mut Vec<Self>, seq: u64, key: KeyHash, digest: Digest) {
        match runs.last_mut() {
            Some(run) if run.first_seq + run.keys.len() as u64 == seq => run.keys.push((key, digest)),
            _ => runs.push(Self { first_seq: seq, keys: vec![(key, digest)] }),
        }
    }
}

/// A channel's window.
#[derive(Debug, Default)]
pub(super) struct DedupWindow {
    /// Oldest first.
    live: KeyQueue,
    index: Index,
    /// The entries of all live keys, in the same order.
    entries: VecDeque<Entry>,
}

/// Where live keys are, by the hash of the key.
#[derive(Debug, Default)]
struct Index {
    // The keys are hashes already, but publishers choose them and could make them collide: the hasher's own keys are
    // random. Looked up only, never iterated: the order is not the same on all nodes.
    hasher: RandomState,
    /// None before there is a key.
    parts: Vec<HashTable<Place>>,
}

/// Where a live key is, and half of its hash, so that a table that grows need not look at the keys.
#[derive(Clone, Copy, Debug)]
struct Place {
    number: u32,
    hash: u32,
}

/// Room for so many is not given back.
const KEPT_ROOM: usize = 64;
/// Parts of the index: with four million keys, one that grows moves 60,000 of them.
const PARTS: usize = 64;

impl Index {
    /// The part for a key, and the half of its hash that counts there.
    fn locate(&self, key: KeyHash) -> (usize, u32) {
        let hash = self.hasher.hash_one(u128::from(key));
        ((hash >> 32) as usize % PARTS, hash as u32)
    }
}

/// As the tables want it: they look at the lowest and at the highest bits.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Whether so much room is empty that it is worth giving back. As after that half of it is, it takes as many keys again
/// before anything is moved again.
pub(super) fn is_roomy(len: usize, capacity: usize) -> bool {
    capacity > KEPT_ROOM && len < capacity / 4
}

/// The claims of one log entry, which expire together.
#[derive(Clone, Copy, Debug)]
struct Entry {
    time_ms: u64,
    /// Sequence number of the first claim: the name under which the entry is stored.
    first_seq: u64,
    /// How many keys belong to it.
    keys: usize,
}

impl DedupWindow {
    pub(super) fn get(&self, key: &KeyHash) -> Option<(u64, Digest)> {
        let (part, hash) = self.index.locate(*key);
        let is_it = |place: &Place| place.hash == hash && self.live.key(place.number) == *key;
        let place = self.index.parts.get(part)?.find(spread(hash), is_it)?;
        Some(self.live.claimed(place.number))
    }

    pub(super) fn len(&self) -> u64 {
        self.live.len()
    }

    /// Remembers a key at once, so that the rest of its own log entry sees it, unless it is live: then gives what it
    /// was claimed for. `seq` is asked for a new key's sequence number and may refuse to give one.
    pub(super) fn claim<E>(
        &mut self,
        key: KeyHash,
        digest: Digest,
        seq: impl FnOnce() -> Result<u64, E>,
    ) -> Result<Option<(u64, Digest)>, E> {
        let Self { live, index, .. } = self;
        if index.parts.is_empty() {
            index.parts.resize_with(PARTS, HashTable::new);
        }
        let (part, hash) = index.locate(key);
        let is_it = |place: &Place| place.hash == hash && live.key(place.number) == key;
        match index.parts[part].entry(spread(hash), is_it, |place| spread(place.hash)) {
            Slot::Occupied(place) => Ok(Some(live.claimed(place.get().number))),
            Slot::Vacant(slot) => {
                let seq = seq()?;
                slot.insert(Place { number: live.push(key, digest, seq), hash });
                Ok(None)
            }
        }
    }

    /// The same with a sequence number that is certain; false when the key is live already.
    pub(super) fn remember(&mut self, key: KeyHash, digest: Digest, seq: u64) -> bool {
        matches!(self.claim(key, digest, || Ok::<_, Infallible>(seq)), Ok(None))
    }

    /// Ends a log entry: everything claimed since the last end expires together.
    pub(super) fn seal(&mut self, time_ms: u64, runs: &[Run]) {
        if let Some(first) = runs.first() {
            let keys = runs.iter().map(|run| run.keys.len()).sum();
            self.entries.push_back(Entry { time_ms, first_seq: first.first_seq, keys });
        }
    }

    /// When the oldest keys expire.
    pub(super) fn next_expiry_ms(&self, window_ms: u64) -> Option<u64> {
        self.entries.front().map(|oldest| oldest.time_ms.saturating_add(window_ms))
    }

    /// Forgets what the window has passed; gives the sequence number that names each forgotten entry.
    pub(super) fn expire(&mut self, now_ms: u64, window_ms: u64) -> Vec<u64> {
        let mut forgotten = Vec::new();
        while self.next_expiry_ms(window_ms).is_some_and(|expiry| expiry <= now_ms)
            && let Some(oldest) = self.entries.pop_front()
        {
            forgotten.push(oldest.first_seq);
            for _ in 0..oldest.keys {
                let Some((number, key)) = self.live.pop() else { break };
                let (part, hash) = self.index.locate(key);
                let is_it = |place: &Place| place.number == number;
                let part = &mut self.index.parts[part];
                if let Ok(slot) = part.find_entry(spread(hash), is_it) {
                    slot.remove();
                }
                if is_roomy(part.len(), part.capacity()) {
                    part.shrink_to(part.len() * 2, |place| spread(place.hash));
                }
            }
        }
        if is_roomy(self.entries.len(), self.entries.capacity()) {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        forgotten
    }

    /// The names of all stored entries.
    pub(super) fn names(&self) -> impl Iterator<Item = u64> {
        self.entries.iter().map(|entry| entry.first_seq)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn key(number: u64) -> KeyHash {
        KeyHash::of(&number.to_string())
    }

    #[test]
    fn keys_are_found_until_their_entry_is_forgotten_and_may_then_come_again() {
        // The numbers of the keys begin again on the way.
        let live = KeyQueue::after(u64::from(u32::MAX) - 1_000);
        let mut window = DedupWindow { live, ..DedupWindow::default() };
        let mut model: BTreeMap<u64, (u64, Digest)> = BTreeMap::new();
        let (mut next, mut entries) = (0, VecDeque::new());
        for time in 0..400_u64 {
            let mut runs = Vec::new();
            for number in 0..20 {
                // Some are live already, some were forgotten, some were never there.
                let (name, digest) = ((time * 7 + number * 31) % 4_000, Digest([number as u8; 8]));
                let known = window.claim(key(name), digest, || Ok::<_, Infallible>(next)).unwrap();
                assert_eq!(known, model.get(&name).copied());
                if known.is_none() {
                    model.insert(name, (next, digest));
                    entries.push_back((time, name));
                    Run::add(&mut runs, next, key(name), digest);
                    next += 1;
                }
            }
            window.seal(time, &runs);
            window.expire(time, 100);
            while entries.front().is_some_and(|(since, _)| since + 100 <= time) {
                let (_, name) = entries.pop_front().unwrap();
                model.remove(&name);
            }
            assert_eq!(window.len(), model.len() as u64);
        }
        assert!(next > 3_000 && window.live.forgotten() > u64::from(u32::MAX), "{next} keys");
        for name in 0..4_000 {
            assert_eq!(window.get(&key(name)), model.get(&name).copied());
        }
    }

    #[test]
    fn room_is_given_back_when_keys_are_forgotten_and_those_that_are_left_are_found() {
        let mut window = DedupWindow::default();
        for number in 0..100_000 {
            assert!(window.remember(key(number), Digest([0; 8]), number));
            let mut runs = Vec::new();
            Run::add(&mut runs, number, key(number), Digest([0; 8]));
            window.seal(number, &runs);
        }
        let room = |window: &DedupWindow| {
            let index: usize = window.index.parts.iter().map(HashTable::capacity).sum();
            window.live.capacity() + index + window.entries.capacity()
        };
        assert!(room(&window) >= 300_000);
        window.expire(98_999, 0);
        assert!(room(&window) < 20_000, "{}", room(&window));
        for number in 98_990..100_000 {
            let found = (number > 98_999).then_some((number, Digest([0; 8])));
            assert_eq!(window.get(&key(number)), found);
        }
        window.expire(100_000, 0);
        assert!(room(&window) < 20_000 && window.len() == 0);
        assert!(window.remember(key(1), Digest([1; 8]), 5));
    }

    #[test]
    fn a_key_whose_number_is_refused_is_not_remembered() {
        let mut window = DedupWindow::default();
        assert_eq!(window.claim(key(1), Digest([1; 8]), || Err("full")), Err("full"));
        assert_eq!((window.get(&key(1)), window.len()), (None, 0));
        assert!(window.remember(key(1), Digest([1; 8]), 5));
        assert_eq!(window.get(&key(1)), Some((5, Digest([1; 8]))));
    }
}
