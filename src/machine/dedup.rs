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
//!
//! Where memory does not hold all keys, the oldest are *cold*: the window only counts them, and whoever applies commands
//! looks them up before each one and says which of its keys they are ([`DedupWindow::recall`]). Which keys are cold is a
//! matter of each node: no answer depends on it, and nothing that is stored.

use std::{
    borrow::Cow,
    collections::HashMap,
    convert::Infallible,
    hash::{BuildHasher as _, RandomState},
};

use hashbrown::{HashTable, hash_table::Entry as Slot};
use serde::{Deserialize, Serialize};

use super::{
    entry_list::{ClaimEntry, EntryList},
    key_queue::KeyQueue,
};
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
    /// Those that are in memory, oldest first. All that are cold are older.
    live: KeyQueue,
    index: Index,
    /// The entries of all live keys, in the same order.
    entries: EntryList,
    /// How many keys are cold.
    cold: u64,
    /// What was looked up for the command that is applied now. Looked up only, never iterated.
    recalled: HashMap<KeyHash, (u64, Digest)>,
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

impl DedupWindow {
    pub(super) fn get(&self, key: &KeyHash) -> Option<(u64, Digest)> {
        self.hot(key).or_else(|| self.recalled(key))
    }

    /// The same of what is in memory.
    pub(super) fn hot(&self, key: &KeyHash) -> Option<(u64, Digest)> {
        let (part, hash) = self.index.locate(*key);
        let is_it = |place: &Place| place.hash == hash && self.live.key(place.number) == *key;
        let place = self.index.parts.get(part)?.find(spread(hash), is_it)?;
        Some(self.live.claimed(place.number))
    }

    /// What was looked up may have left the window since: keys leave it in the order of their sequence numbers.
    fn recalled(&self, key: &KeyHash) -> Option<(u64, Digest)> {
        let oldest = self.entries.oldest()?.first_seq;
        self.recalled.get(key).copied().filter(|(seq, _)| *seq >= oldest)
    }

    pub(super) fn len(&self) -> u64 {
        self.live.len() + self.cold
    }

    pub(super) fn cold(&self) -> u64 {
        self.cold
    }

    /// Remembers a key at once, so that the rest of its own log entry sees it, unless it is live: then gives what it
    /// was claimed for. `seq` is asked for a new key's sequence number and may refuse to give one.
    pub(super) fn claim<E>(
        &mut self,
        key: KeyHash,
        digest: Digest,
        seq: impl FnOnce() -> Result<u64, E>,
    ) -> Result<Option<(u64, Digest)>, E> {
        if let Some(cold) = self.recalled(&key) {
            return Ok(Some(cold));
        }
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
            let keys = runs.iter().map(|run| run.keys.len() as u64).sum();
            self.end_entry(ClaimEntry { time_ms, first_seq: first.first_seq, keys });
        }
    }

    /// The same, where the keys were counted.
    pub(super) fn end_entry(&mut self, entry: ClaimEntry) {
        self.entries.push(entry);
    }

    /// When the oldest keys expire.
    pub(super) fn next_expiry_ms(&self, window_ms: u64) -> Option<u64> {
        self.entries.oldest().map(|oldest| oldest.time_ms.saturating_add(window_ms))
    }

    /// Forgets what the window has passed, as far as `room` goes; gives the sequence number that names each forgotten
    /// entry.
    pub(super) fn expire(&mut self, now_ms: u64, window_ms: u64, room: &mut ExpiryRoom) -> Vec<u64> {
        let mut forgotten = Vec::new();
        while self.next_expiry_ms(window_ms).is_some_and(|expiry| expiry <= now_ms)
            && let Some(oldest) = self.entries.oldest()
            && room.take(oldest.keys)
        {
            self.entries.pop();
            forgotten.push(oldest.first_seq);
            let cold = self.cold.min(oldest.keys);
            self.cold -= cold;
            self.forget(oldest.keys - cold);
        }
        forgotten
    }

    /// Takes the oldest keys out of memory, so many.
    fn forget(&mut self, keys: u64) {
        for _ in 0..keys {
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

    /// Sequence number of the oldest key in memory.
    pub(super) fn first_hot(&self) -> Option<u64> {
        self.live.first_seq()
    }

    /// Sequence number of the oldest entry: what is older is no longer known.
    pub(super) fn first_live(&self) -> Option<u64> {
        self.entries.oldest().map(|oldest| oldest.first_seq)
    }

    /// Makes keys below a sequence number cold, the oldest first, at most so many; gives how many.
    pub(super) fn cool(&mut self, below: u64, most: u64) -> u64 {
        let mut cooled = 0;
        while cooled < most && self.live.first_seq().is_some_and(|seq| seq < below) {
            self.forget(1);
            cooled += 1;
        }
        self.cold += cooled;
        cooled
    }

    /// Counts the keys of an entry behind all others as cold; false when newer ones are in memory.
    pub(super) fn restore_cold(&mut self, entry: ClaimEntry) -> bool {
        let fits = self.live.len() == 0;
        if fits {
            self.entries.push(entry);
            self.cold += entry.keys;
        }
        fits
    }

    /// Says what a cold key was claimed for, until [`DedupWindow::recalled_no_more`].
    pub(super) fn recall(&mut self, key: KeyHash, seq: u64, digest: Digest) {
        self.recalled.insert(key, (seq, digest));
    }

    pub(super) fn recalled_no_more(&mut self) {
        self.recalled = HashMap::new();
    }

    /// The entries alone, oldest first.
    pub(super) fn into_entries(self) -> EntryList {
        self.entries
    }
}

/// How much one command may expire: a day's entries may all be due at once, and have to be deleted one by one.
#[derive(Debug)]
pub(super) struct ExpiryRoom(u64);

impl ExpiryRoom {
    /// Of one command.
    pub(super) const COMMAND: Self = Self(8_192);
    /// So many keys cost as much as an entry.
    const KEYS: u64 = 64;

    /// Whether the next command has to go on.
    pub(super) fn is_taken(&self) -> bool {
        self.0 == 0
    }

    /// Whether an entry with so many keys may go too.
    pub(super) fn take(&mut self, keys: u64) -> bool {
        let may = self.0 > 0;
        self.0 = self.0.saturating_sub(1 + keys / Self::KEYS);
        may
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use super::*;

    const ALL: ExpiryRoom = ExpiryRoom(u64::MAX);

    fn key(number: u64) -> KeyHash {
        KeyHash::of(&number.to_string())
    }

    #[test]
    fn keys_are_found_until_their_entry_is_forgotten_and_may_then_come_again() {
        // The numbers of the keys begin again on the way.
        let live = KeyQueue::after(u64::from(u32::MAX) - 1_000);
        let mut window = DedupWindow { live, ..DedupWindow::default() };
        let mut model: BTreeMap<u64, (u64, Digest)> = BTreeMap::new();
        // What a file says may be of a key that the window has passed.
        let mut forever = BTreeMap::new();
        let recall = |window: &mut DedupWindow, forever: &BTreeMap<u64, (u64, Digest)>, name| {
            if let Some((seq, digest)) = forever.get(&name)
                && window.hot(&key(name)).is_none()
            {
                window.recall(key(name), *seq, *digest);
            }
        };
        let (mut next, mut entries, mut cooled) = (0, VecDeque::new(), 0);
        for time in 0..400_u64 {
            let mut runs = Vec::new();
            for number in 0..20 {
                // Some are live already, some were forgotten, some were never there.
                let (name, digest) = ((time * 7 + number * 31) % 4_000, Digest([number as u8; 8]));
                recall(&mut window, &forever, name);
                let known = window.claim(key(name), digest, || Ok::<_, Infallible>(next)).unwrap();
                assert_eq!(known, model.get(&name).copied());
                if known.is_none() {
                    model.insert(name, (next, digest));
                    forever.insert(name, (next, digest));
                    entries.push_back((time, name));
                    Run::add(&mut runs, next, key(name), digest);
                    next += 1;
                }
            }
            window.seal(time, &runs);
            // Some become cold, and are looked up from then on.
            if time % 7 == 0 {
                cooled += window.cool(next - next.min(200), 30 + time);
                assert!(window.first_hot() >= window.first_live());
            }
            window.expire(time, 100, &mut { ALL });
            while entries.front().is_some_and(|(since, _)| since + 100 <= time) {
                let (_, name) = entries.pop_front().unwrap();
                model.remove(&name);
            }
            assert_eq!(window.len(), model.len() as u64);
            window.recalled_no_more();
        }
        assert!(cooled > 1_000 && window.cold() > 0, "{cooled} cooled, {} cold", window.cold());
        assert!(next > 3_000 && window.live.forgotten() > u64::from(u32::MAX), "{next} keys");
        for name in 0..4_000 {
            recall(&mut window, &forever, name);
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
        assert!(room(&window) >= 300_000, "{}", room(&window));
        window.expire(98_999, 0, &mut { ALL });
        assert!(room(&window) < 20_000, "{}", room(&window));
        for number in 98_990..100_000 {
            let found = (number > 98_999).then_some((number, Digest([0; 8])));
            assert_eq!(window.get(&key(number)), found);
        }
        window.expire(100_000, 0, &mut { ALL });
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

    #[test]
    fn what_expires_at_once_goes_in_steps() {
        let mut window = DedupWindow::default();
        for number in 0..10 {
            assert!(window.remember(key(number), Digest([0; 8]), number));
            let mut runs = Vec::new();
            Run::add(&mut runs, number, key(number), Digest([0; 8]));
            window.seal(number, &runs);
        }
        assert_eq!(window.expire(100, 0, &mut ExpiryRoom(4)), [0, 1, 2, 3]);
        assert_eq!((window.len(), window.next_expiry_ms(0)), (6, Some(4)));
        let mut room = ExpiryRoom(1);
        assert!(room.take(4_096) && !room.take(1), "an entry that is larger than the room goes too");
    }
}
