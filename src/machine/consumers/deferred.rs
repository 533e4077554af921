//! Messages that the leader passed over because an earlier one of their ordering key is not settled. They are more than a
//! consumer may have pending where one key is slow and others are not, so all that is kept of each is one bit; who they
//! belong to the leader reads from them again when their time has come.

use std::{collections::BTreeMap, ops::Range};

use super::BLOCK;

/// Which messages were passed over, as a mask for each block of consecutive sequence numbers.
#[derive(Debug, Default)]
pub struct Deferred {
    blocks: BTreeMap<u64, u64>,
    count: u64,
}

impl Deferred {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a message is one of them.
    pub fn contains(&self, seq: u64) -> bool {
        self.blocks.get(&(seq / BLOCK)).is_some_and(|mask| mask & bit(seq) != 0)
    }

    /// The first of them from a sequence number on.
    pub fn from(&self, seq: u64) -> Option<u64> {
        let block = seq / BLOCK;
        let within = self.blocks.get(&block).map(|mask| (block, mask & (u64::MAX << (seq % BLOCK))));
        let within = within.filter(|(_, mask)| *mask != 0);
        let found = within.or_else(|| self.blocks.range(block + 1..).next().map(|(block, mask)| (*block, *mask)));
        found.map(|(block, mask)| block * BLOCK + u64::from(mask.trailing_zeros()))
    }

    /// Those in a range.
    pub fn within(&self, range: Range<u64>) -> Vec<u64> {
        let blocks = self.blocks.range(range.start / BLOCK..=range.end / BLOCK);
        let all = blocks.flat_map(|(block, mask)| seqs(*block, *mask));
        all.filter(|seq| range.contains(seq)).collect()
    }

    /// The mask of a block; none where it has none of them.
    pub(super) fn mask(&self, block: u64) -> Option<u64> {
        self.blocks.get(&block).copied()
    }

    pub(super) fn insert(&mut self, block: u64, mask: u64) {
        if mask != 0 {
            let present = self.blocks.entry(block).or_default();
            self.count += u64::from((mask & !*present).count_ones());
            *present |= mask;
        }
    }

    /// False when it was none of them.
    pub(super) fn remove(&mut self, seq: u64) -> bool {
        let block = seq / BLOCK;
        let Some(mask) = self.blocks.get_mut(&block).filter(|mask| **mask & bit(seq) != 0) else { return false };
        *mask &= !bit(seq);
        if *mask == 0 {
            self.blocks.remove(&block);
        }
        self.count -= 1;
        true
    }

    pub(super) fn count_below(&self, seq: u64) -> u64 {
        let whole = self.blocks.range(..seq / BLOCK).map(|(_, mask)| *mask);
        let last = self.blocks.get(&(seq / BLOCK)).map(|mask| mask & (bit(seq) - 1));
        whole.chain(last).map(|mask| u64::from(mask.count_ones())).sum()
    }

    /// Removes those below a sequence number; the blocks that changed.
    pub(super) fn remove_below(&mut self, seq: u64) -> Vec<u64> {
        let mut changed = Vec::new();
        while let Some(mut first) = self.blocks.first_entry().filter(|first| *first.key() <= seq / BLOCK) {
            let gone = if *first.key() < seq / BLOCK { u64::MAX } else { bit(seq) - 1 };
            let (block, removed) = (*first.key(), *first.get() & gone);
            if removed == 0 {
                break;
            }
            self.count -= u64::from(removed.count_ones());
            changed.push(block);
            *first.get_mut() &= !gone;
            if *first.get() != 0 {
                break;
            }
            first.remove();
        }
        changed
    }

    /// Runs of those below a sequence number, each as its first one and the one after it.
    pub(super) fn below(&self, seq: u64) -> impl Iterator<Item = (u64, u64)> {
        let blocks = self.blocks.range(..=seq / BLOCK);
        let all = blocks.flat_map(|(block, mask)| seqs(*block, *mask));
        all.take_while(move |one| *one < seq).map(|one| (one, one + 1))
    }
}

/// The messages of a block's mask.
pub(super) fn seqs(block: u64, mask: u64) -> impl Iterator<Item = u64> {
    (0..BLOCK)
        .filter(move |place| (mask >> place) & 1 == 1)
        .map(move |place| block.saturating_mul(BLOCK).saturating_add(place))
}

fn bit(seq: u64) -> u64 {
    1 << (seq % BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_passed_over_is_found_counted_and_removed() {
        let mut deferred = Deferred::default();
        deferred.insert(0, 1 << 3 | 1 << 63);
        deferred.insert(2, 1);
        deferred.insert(2, 1 | 1 << 5);
        assert_eq!(deferred.count(), 4);
        assert_eq!(
            [0, 3, 4, 63, 64, 128, 129, 134].map(|seq| deferred.from(seq)),
            [Some(3), Some(3), Some(63), Some(63), Some(128), Some(128), Some(133), None]
        );
        assert_eq!([0, 3, 4, 64, 129, u64::MAX].map(|seq| deferred.count_below(seq)), [0, 0, 1, 2, 3, 4]);
        assert_eq!(deferred.within(3..129), [3, 63, 128]);
        assert_eq!(deferred.below(128).collect::<Vec<_>>(), [(3, 4), (63, 64)]);
        assert!(deferred.contains(133) && !deferred.contains(132));
        assert!(deferred.remove(3) && !deferred.remove(3));
        assert_eq!(deferred.remove_below(129), [0, 2]);
        assert_eq!((deferred.count(), deferred.from(0), deferred.mask(0)), (1, Some(133), None));
        assert_eq!(deferred.remove_below(129), [0u64; 0]);
        assert_eq!(deferred.remove_below(u64::MAX), [2]);
        assert!(deferred.is_empty());
    }
}
