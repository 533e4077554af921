//! The live keys of a channel in the order in which they came, with what each was claimed for: 24 bytes a key, whatever
//! their number.

use std::collections::VecDeque;

use super::dedup::is_roomy;
use crate::model::{Digest, KeyHash};

/// Keys of a chunk. A channel with few keys has one chunk, which is as large as it has to be.
const CHUNK: usize = 1024;

/// A queue whose keys are named by consecutive numbers, of which the lower half is told: there are never so many keys
/// that two of them share it.
#[derive(Debug, Default)]
pub(super) struct KeyQueue {
    /// All but the last are full.
    chunks: VecDeque<Vec<(KeyHash, Digest)>>,
    /// Keys at the beginning of the first chunk that are gone.
    gone: usize,
    len: u64,
    /// How many keys were taken so far: the number of the oldest one.
    forgotten: u64,
    /// Where consecutive sequence numbers begin: the number of the key that has the first of them.
    stretches: VecDeque<Stretch>,
}

#[derive(Clone, Copy, Debug)]
struct Stretch {
    number: u64,
    seq: u64,
}

impl KeyQueue {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Adds a key behind all others, and gives its number.
    pub(super) fn push(&mut self, key: KeyHash, digest: Digest, seq: u64) -> u32 {
        let number = self.forgotten + self.len;
        match self.chunks.back_mut() {
            Some(last) if last.len() < CHUNK => last.push((key, digest)),
            Some(_) => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push((key, digest));
                self.chunks.push_back(chunk);
            }
            None => self.chunks.push_back(vec![(key, digest)]),
        }
        match self.stretches.back() {
            Some(last) if last.seq + (number - last.number) == seq => {}
            _ => self.stretches.push_back(Stretch { number, seq }),
        }
        self.len += 1;
        number as u32
    }

    /// Takes the oldest key, with its number.
    pub(super) fn pop(&mut self) -> Option<(u32, KeyHash)> {
        let (key, _) = *self.chunks.front()?.get(self.gone)?;
        let number = self.forgotten as u32;
        self.gone += 1;
        self.len -= 1;
        self.forgotten += 1;
        if self.gone == CHUNK || self.len == 0 {
            self.chunks.pop_front();
            self.gone = 0;
        }
        // The stretch of the oldest key stays.
        while self.stretches.get(1).is_some_and(|next| next.number <= self.forgotten) || self.len == 0 {
            if self.stretches.pop_front().is_none() {
                break;
            }
        }
        if is_roomy(self.stretches.len(), self.stretches.capacity()) {
            self.stretches.shrink_to(self.stretches.len() * 2);
        }
        if is_roomy(self.chunks.len(), self.chunks.capacity()) {
            self.chunks.shrink_to(self.chunks.len() * 2);
        }
        Some((number, key))
    }

    /// Sequence number of the oldest key.
    pub(super) fn first_seq(&self) -> Option<u64> {
        let first = self.stretches.front()?;
        Some(first.seq + (self.forgotten - first.number))
    }

    /// The key with a number that is in the queue.
    pub(super) fn key(&self, number: u32) -> KeyHash {
        self.at(self.place(number)).0
    }

    /// What the key with a number that is in the queue was claimed for: its sequence number, and the payload's digest.
    pub(super) fn claimed(&self, number: u32) -> (u64, Digest) {
        let place = self.place(number);
        let number = self.forgotten + place;
        let behind = self.stretches.partition_point(|stretch| stretch.number <= number);
        let Stretch { number: first, seq } = self.stretches[behind - 1];
        (seq + (number - first), self.at(place).1)
    }

    /// How many keys are before the one with a number.
    fn place(&self, number: u32) -> u64 {
        u64::from(number.wrapping_sub(self.forgotten as u32))
    }

    fn at(&self, place: u64) -> (KeyHash, Digest) {
        let place = self.gone + place as usize;
        self.chunks[place / CHUNK][place % CHUNK]
    }
}

#[cfg(test)]
impl KeyQueue {
    /// An empty queue from which so many keys were taken.
    pub(super) fn after(forgotten: u64) -> Self {
        Self { forgotten, ..Self::default() }
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Keys that it has room for.
    pub(super) fn capacity(&self) -> usize {
        self.chunks.iter().map(Vec::capacity).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u64) -> (KeyHash, Digest) {
        (KeyHash::of(&number.to_string()), Digest(number.to_le_bytes()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn keys_come_and_go_in_order_and_keep_what_they_were_claimed_for(
            steps in prop::collection::vec((0_u64..1_500, 0_u64..3, 0_usize..1_500), 1..7)
        ) {
            let mut queue = KeyQueue::after(u64::from(u32::MAX) - 3_000);
            let (mut model, mut next, mut seq) = (VecDeque::new(), 0, 0);
            for (pushed, gap, popped) in steps {
                for _ in 0..pushed {
                    let (hash, digest) = key(next);
                    model.push_back((queue.push(hash, digest, seq), next, seq));
                    next += 1;
                    // Messages without keys come between.
                    seq += 1 + gap * u64::from(next % 5 == 0);
                }
                for _ in 0..popped {
                    let expected = model.pop_front().map(|(number, of, _)| (number, key(of).0));
                    prop_assert_eq!(queue.pop(), expected);
                }
                prop_assert_eq!(queue.len(), model.len() as u64);
                prop_assert_eq!(queue.first_seq(), model.front().map(|(_, _, seq)| *seq));
                for (number, of, seq) in &model {
                    prop_assert_eq!(queue.key(*number), key(*of).0);
                    prop_assert_eq!(queue.claimed(*number), (*seq, key(*of).1));
                }
                prop_assert!(queue.capacity() <= model.len() + 2 * CHUNK);
                prop_assert!(queue.stretches.len() <= model.len());
            }
        }
    }
}
