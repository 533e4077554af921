//! Which of many have series of their own in the metrics, and what the others have counted together.
//!
//! What counts up must never go down. So one that has once had series of its own keeps them for as long as it exists, and
//! what the others count is added up here, where it stays when one of them gets its own series or is deleted.

use std::collections::{BTreeMap, BTreeSet};

/// What the others are called. No channel, consumer or namespace can have this name.
pub(super) const OTHERS: &str = "(others)";

/// What counts up, in `N` counters each.
#[derive(Debug)]
pub(super) struct Shown<Id, const N: usize> {
    /// Those that have series of their own.
    shown: BTreeSet<Id>,
    /// The others as they were seen last.
    others: BTreeMap<Id, [u64; N]>,
    /// What all that were among the others have counted meanwhile.
    sums: [u64; N],
}

impl<Id, const N: usize> Default for Shown<Id, N> {
    fn default() -> Self {
        Self { shown: BTreeSet::new(), others: BTreeMap::new(), sums: [0; N] }
    }
}

impl<Id: Ord + Clone, const N: usize> Shown<Id, N> {
    /// Takes note of all, by id. As long as fewer than `most` are shown, those of `first` get series of their own before
    /// the rest.
    pub(super) fn see(&mut self, most: usize, first: impl Iterator<Item = Id>, all: &[(Id, [u64; N])]) {
        let exists = |id: &Id| all.binary_search_by(|(one, _)| one.cmp(id)).is_ok();
        self.shown.retain(exists);
        self.others.retain(|id, _| exists(id));
        for id in first.chain(all.iter().map(|(id, _)| id.clone())) {
            if self.shown.len() >= most {
                break;
            }
            // What it counted among the others stays there.
            self.others.remove(&id);
            self.shown.insert(id);
        }
        for (id, counts) in all.iter().filter(|(id, _)| !self.shown.contains(id)) {
            let before = self.others.entry(id.clone()).or_insert([0; N]);
            for ((sum, now), before) in self.sums.iter_mut().zip(counts).zip(before.iter()) {
                *sum += now.saturating_sub(*before);
            }
            *before = *counts;
        }
    }

    /// Whether one has series of its own.
    pub(super) fn contains(&self, id: &Id) -> bool {
        self.shown.contains(id)
    }

    /// What the others have counted; none where there are none and never were. Once there, it stays.
    pub(super) fn others(&self) -> Option<[u64; N]> {
        (!self.others.is_empty() || self.sums != [0; N]).then_some(self.sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_others_count_never_goes_down_and_nothing_is_left_out() {
        let (mut counted, first) = (Shown::default(), 1..=100);
        let mut all: Vec<_> = (1..=110).map(|id| (id, [1])).collect();
        let see = |counted: &mut Shown<u64, 1>, first, all: &[_]| counted.see(100, first, all);
        see(&mut counted, first.clone(), &all);
        assert_eq!((counted.shown.len(), counted.sums), (100, [10]));
        all[109].1 = [5];
        see(&mut counted, 11..=110, &all);
        assert_eq!((counted.shown.first(), counted.sums), (Some(&1), [14]), "who is shown stays");

        // One of those that are shown is deleted, and one of the others takes its place.
        all.remove(0);
        see(&mut counted, 110..=110, &all);
        assert!(counted.contains(&110));
        assert_eq!(counted.others(), Some([14]));
        all[108].1 = [9];
        see(&mut counted, first.clone(), &all);
        assert_eq!(counted.sums, [14], "its own series counts now");

        // One of the others is deleted.
        assert_eq!(all.remove(107).0, 109);
        all[106].1 = [3];
        see(&mut counted, first, &all);
        assert_eq!((counted.others(), counted.others.len()), (Some([16]), 8));
    }

    #[test]
    fn there_are_no_others_while_all_are_shown() {
        let mut counted = Shown::default();
        counted.see(2, std::iter::empty(), &[("a", [3, 0]), ("b", [4, 1])]);
        assert_eq!((counted.others(), counted.contains(&"b")), (None, true));
        counted.see(2, std::iter::empty(), &[("a", [3, 0]), ("b", [4, 1]), ("c", [0, 0])]);
        assert_eq!(counted.others(), Some([0, 0]), "one that has counted nothing yet is one of them");
    }
}
