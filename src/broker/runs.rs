//! Which sequence numbers of a channel something happened to, as runs of consecutive ones.

use std::{collections::BTreeMap, ops::Range};

/// A bounded set of sequence numbers. The lowest runs are forgotten first, and it is known up to where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs {
    /// The end of each run by its start. They neither touch nor overlap.
    runs: BTreeMap<u64, u64>,
    /// Below it, runs may have been forgotten.
    known_from: u64,
}

impl Runs {
    /// Adds a run and keeps the newest `most` of all.
    pub(super) fn add(&mut self, run: Range<u64>, most: usize) {
        if run.is_empty() {
            return;
        }
        let Range { mut start, mut end } = run;
        // The runs that it touches are at or before its end; each is swallowed once.
        while let Some((&other, &other_end)) = self.runs.range(..=end).next_back()
            && other_end >= start
        {
            self.runs.remove(&other);
            start = start.min(other);
            end = end.max(other_end);
        }
        self.runs.insert(start, end);
        self.keep(most);
    }

    /// Forgets all but the newest runs.
    pub(super) fn keep(&mut self, most: usize) {
        while self.runs.len() > most
            && let Some((_, end)) = self.runs.pop_first()
        {
            self.known_from = self.known_from.max(end);
        }
    }

    /// Runs below this may have been forgotten elsewhere.
    pub(super) fn forgotten_below(&mut self, seq: u64) {
        self.known_from = self.known_from.max(seq);
    }

    /// Whether it holds a sequence number; none when that was forgotten.
    pub(super) fn holds(&self, seq: u64) -> Option<bool> {
        let held = self.runs.range(..=seq).next_back().is_some_and(|(_, end)| seq < *end);
        if held || seq >= self.known_from { Some(held) } else { None }
    }

    /// How many runs there are.
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// From where on nothing was forgotten.
    pub(super) fn known_from(&self) -> u64 {
        self.known_from
    }

    /// The runs in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.runs.iter().map(|(start, end)| *start..*end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_oldest_runs_are_forgotten_and_that_is_known() {
        let mut runs = Runs::default();
        [0..2, 4..6, 8..10].into_iter().for_each(|run| runs.add(run, 2));
        assert_eq!(runs.iter().collect::<Vec<_>>(), [4..6, 8..10]);
        assert_eq!(
            [0, 1, 2, 3, 4, 6, 9].map(|seq| runs.holds(seq)),
            [None, None, Some(false), Some(false), Some(true), Some(false), Some(true)]
        );
        runs.forgotten_below(7);
        assert_eq!([3, 5, 6, 7].map(|seq| runs.holds(seq)), [None, Some(true), None, Some(false)]);
    }

    proptest! {
        #[test]
        fn runs_hold_what_was_added(added in prop::collection::vec((0u64..40, 0u64..6), 0..20)) {
            let (mut runs, mut naive) = (Runs::default(), BTreeSet::new());
            for (start, len) in added {
                runs.add(start..start + len, usize::MAX);
                naive.extend(start..start + len);
            }
            for seq in 0..50 {
                prop_assert_eq!(runs.holds(seq), Some(naive.contains(&seq)));
            }
            let all: Vec<_> = runs.iter().collect();
            prop_assert!(all.windows(2).all(|two| two[0].end < two[1].start));
            prop_assert_eq!(all.len(), runs.len());
        }
    }
}
