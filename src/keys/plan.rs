//! How many keys stay in memory, when older ones are moved into a file, and which files become one: plain arithmetic.

use std::ops::Range;

use crate::model::Limits;

/// So many files become one.
const TOGETHER: usize = 16;
/// The most keys that are moved at a time, and that are held in memory to be sorted.
const MOST_MOVED: u64 = 1 << 20;
/// Fewer keys than this of one channel are not worth a file.
const FEWEST_MOVED: u64 = 1 << 10;
/// Moves by which memory may hold more than it should before commands have to wait.
const BEHIND: u64 = 4;

/// Numbers of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// That may be in memory at most.
    hot: u64,
    /// Bytes for all keys.
    memory: u64,
    /// Moved into a file at a time.
    pub(super) moved: u64,
    /// Fewer of one channel stay in memory.
    pub(super) fewest: u64,
}

impl Sizes {
    pub(super) fn of(limits: &Limits) -> Self {
        let moved = (limits.hot_keys / TOGETHER as u64).clamp(TOGETHER as u64, MOST_MOVED);
        Self { hot: limits.hot_keys, memory: limits.key_memory as u64, moved, fewest: FEWEST_MOVED.min(moved / 2) }
    }

    /// Keys that memory may hold beside files of so many: more of these leave less room, but always some.
    pub(super) fn hot_beside(&self, in_files: u64) -> u64 {
        let (bytes, keys) = Limits::COLD_KEY_BYTES;
        let left = self.memory.saturating_sub(in_files / keys * bytes) / Limits::KEY_BYTES;
        // While some are moved, as many come.
        self.hot.min(left).saturating_sub(self.moved).max(self.moved)
    }

    /// Above so many, commands wait until some were moved.
    pub(super) fn most_beside(&self, in_files: u64) -> u64 {
        self.hot_beside(in_files) + BEHIND * self.moved
    }

    /// The most keys of one file: a little more than as many as are moved make together, because entries are not cut.
    pub(super) fn largest(&self) -> u64 {
        self.moved * (TOGETHER as u64 + 4)
    }
}

/// Which of a channel's files, given by their keys from the oldest on, become one; the first that may. The newest stays as
/// it is: what it was made from may not be durable yet. None of them may be larger than the others together: a key is
/// written again only where its file at least doubles.
pub(super) fn together(keys: &[u64], largest: u64) -> Option<Range<usize>> {
    let (_, older) = keys.split_last()?;
    let from = older.windows(TOGETHER).position(|window| {
        let (sum, most) = (window.iter().sum::<u64>(), window.iter().max().copied().unwrap_or(0));
        sum <= largest && most <= sum - most
    })?;
    Some(from..from + TOGETHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_at_five_thousand_a_second_fits_the_memory_that_keys_have_by_default() {
        let limits = Limits::default();
        let (sizes, day) = (Sizes::of(&limits), 5_000 * 24 * 60 * 60);
        assert!(limits.live_keys >= day && limits.most_keys().1 >= day);
        let (bytes, keys) = Limits::COLD_KEY_BYTES;
        let held = day / keys * bytes + (sizes.hot_beside(day) + sizes.moved) * Limits::KEY_BYTES;
        assert!(held <= limits.key_memory as u64, "{held}");
        // And while there are few, all of them are in memory.
        assert!(sizes.hot_beside(0) >= 15_000_000, "{sizes:?}");
    }

    #[test]
    fn memory_holds_fewer_keys_the_more_are_in_files_and_always_some() {
        let sizes = Sizes::of(&Limits { hot_keys: 1_000, ..Limits::default() });
        assert_eq!((sizes.moved, sizes.hot_beside(0), sizes.hot_beside(1 << 40)), (62, 938, 62));
        let tiny = Sizes::of(&Limits { hot_keys: 0, ..Limits::default() });
        assert_eq!((tiny.moved, tiny.hot_beside(0)), (16, 16));
    }

    #[test]
    fn files_of_a_kind_become_one_and_a_large_one_is_not_written_again_for_a_few_keys() {
        assert_eq!(together(&[10; 16], 160), None, "the newest stays");
        assert_eq!(together(&[10; 17], 160), Some(0..16));
        assert_eq!(together(&[10; 17], 100), None);
        let mut keys = vec![1_000];
        keys.extend([10; 17]);
        assert_eq!(together(&keys, 10_000), Some(1..17));
        assert_eq!(together(&[], 160), None);
        // However they come, there are few of them.
        let (mut keys, mut written) = (Vec::new(), 0);
        for number in 0..20_000_u64 {
            keys.push(1 + number * 7 % 30);
            if let Some(range) = together(&keys, 1 << 30) {
                let sum = keys[range.clone()].iter().sum();
                keys.splice(range, [sum]);
                written += sum;
            }
        }
        let all: u64 = keys.iter().sum();
        assert!(keys.len() < 120 && written < 8 * all, "{} files, {written} of {all} written", keys.len());
    }
}
