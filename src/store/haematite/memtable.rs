//! Changes that are not in the tree yet: keys that were set or deleted, and whole ranges that were cut out.
//!
//! A cut is two keys, however many it deletes. A stream of millions of batches goes in one log entry, and neither the
//! entry nor what waits to be folded may grow with the stream.

use std::{
    collections::BTreeMap,
    ops::{Bound, Range},
};

use bytes::Bytes;

use crate::store::{engine::Cut, value::Value};

/// Keys that were set, or deleted (`None`).
pub(super) type Entries = BTreeMap<Bytes, Option<Value>>;

/// Ranges of keys, apart from each other, by where they begin: where each ends, and about how many keys it has deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cuts(BTreeMap<Bytes, (Bytes, usize)>);

/// Changes in the order of their keys. Entries came after the cuts.
#[derive(Default)]
pub(super) struct MemTable {
    entries: Entries,
    cuts: Cuts,
    /// Bytes of keys and values, about.
    bytes: usize,
}

/// What several memtables say of a range of keys.
#[derive(Default)]
pub(super) struct Overlay {
    pub(super) entries: Entries,
    /// What lies in them and has no entry is deleted.
    pub(super) cuts: Cuts,
}

impl Cuts {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each with about how many keys it has deleted.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Range<&Bytes>, usize)> {
        self.0.iter().map(|(from, (to, keys))| (from..to, *keys))
    }

    /// Where the cut ends in which a key lies.
    pub(super) fn end_around(&self, key: &[u8]) -> Option<&Bytes> {
        let up_to_key = (Bound::Unbounded, Bound::Included(key));
        let (_, (to, _)) = self.0.range::<[u8], _>(up_to_key).next_back()?;
        (to > key).then_some(to)
    }

    /// Adds a range, and makes one of those that it touches.
    pub(super) fn add(&mut self, Cut { range, mut keys }: Cut) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        if let Some((from, (to, _))) = self.0.range::<Bytes, _>(..&start).next_back()
            && *to >= start
        {
            start = from.clone();
        }
        let touched: Vec<Bytes> = self.0.range(start.clone()..=end.clone()).map(|(from, _)| from.clone()).collect();
        for (to, more) in touched.iter().filter_map(|from| self.0.remove(from)) {
            end = end.max(to);
            keys = keys.saturating_add(more);
        }
        self.0.insert(start, (end, keys));
    }

    /// Those of them that have a part of `[from, to)`, the last one first.
    fn within<'a>(&'a self, from: &'a [u8], to: &'a [u8]) -> impl Iterator<Item = (Range<&'a Bytes>, usize)> {
        let before = self.0.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(to))).rev();
        before.take_while(move |(_, (end, _))| end > from).map(|(from, (to, keys))| (from..to, *keys))
    }

    /// What they leave of `[from, to)`.
    fn gaps<'a>(&'a self, from: &'a [u8], to: &'a [u8]) -> Vec<Range<&'a [u8]>> {
        let (mut gaps, mut end) = (Vec::new(), to);
        for (cut, _) in self.within(from, to) {
            gaps.push(&cut.end[..]..end);
            end = cut.start;
        }
        gaps.push(from..end);
        gaps.retain(|gap| gap.start < gap.end);
        gaps.reverse();
        gaps
    }
}

impl MemTable {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.cuts.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn entries(&self) -> &Entries {
        &self.entries
    }

    pub(super) fn cuts(&self) -> &Cuts {
        &self.cuts
    }

    /// What it says of a key: nothing, that it is deleted, or its value.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Value>> {
        match self.entries.get(key) {
            Some(value) => Some(value.clone()),
            None => self.cuts.end_around(key).map(|_| None),
        }
    }

    /// Sets or deletes a key.
    pub(super) fn put(&mut self, key: Bytes, value: Option<Value>) {
        self.bytes += key.len() + len(value.as_ref());
        // Counters and lists are written again and again, and fold once.
        if let Some(replaced) = self.entries.insert(key, value) {
            self.bytes = self.bytes.saturating_sub(len(replaced.as_ref()));
        }
    }

    /// Deletes a range of keys.
    pub(super) fn cut(&mut self, cut: Cut) {
        let range = &cut.range;
        if range.is_empty() {
            return;
        }
        let gone: Vec<Bytes> = self.entries.range(range.clone()).map(|(key, _)| key.clone()).collect();
        for key in gone {
            let value = self.entries.remove(&key).flatten();
            self.bytes = self.bytes.saturating_sub(key.len() + len(value.as_ref()));
        }
        self.bytes += range.start.len() + range.end.len();
        self.cuts.add(cut);
    }
}

impl Overlay {
    /// Of memtables, the newest first: at most `limit` entries of `[from, to)`.
    pub(super) fn of<'a>(tables: impl Iterator<Item = &'a MemTable>, (from, to): (&[u8], &[u8]), limit: usize) -> Self {
        let mut overlay = Self::default();
        for table in tables {
            let mut room = limit;
            // What newer tables have cut out is stepped over, however much it is.
            for gap in overlay.cuts.gaps(from, to) {
                let bounds = (Bound::Included(gap.start), Bound::Excluded(gap.end));
                for (key, value) in table.entries.range::<[u8], _>(bounds).take(room) {
                    room -= 1;
                    overlay.entries.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            for (cut, keys) in table.cuts.within(from, to) {
                overlay.cuts.add(Cut { range: cut.start.clone()..cut.end.clone(), keys });
            }
            while overlay.entries.len() > limit {
                overlay.entries.pop_last();
            }
        }
        overlay
    }
}

fn len(value: Option<&Value>) -> usize {
    value.map_or(0, Value::len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> Bytes {
        Bytes::from(vec![b'k', number])
    }

    fn value(number: u8) -> Option<Value> {
        Some(vec![number].into())
    }

    fn content(overlay: &Overlay) -> Vec<(Bytes, Option<Bytes>)> {
        let bytes = |value: &Option<Value>| value.as_ref().map(Value::bytes);
        overlay.entries.iter().map(|(key, value)| (key.clone(), bytes(value))).collect()
    }

    fn cut(from: u8, to: u8) -> Cut {
        Cut { range: key(from)..key(to), keys: 1 }
    }

    #[test]
    fn cuts_that_touch_become_one() {
        let mut cuts = Cuts::default();
        for (from, to) in [(10, 20), (30, 40), (50, 60), (20, 25), (5, 5), (39, 51)] {
            cuts.add(cut(from, to));
        }
        let found: Vec<_> = cuts.iter().map(|(cut, keys)| (cut.start.clone(), cut.end.clone(), keys)).collect();
        assert_eq!(found, [(key(10), key(25), 2), (key(30), key(60), 3)]);
        let ends = [9, 10, 24, 25, 59].map(|at| cuts.end_around(&key(at)).cloned());
        assert_eq!(ends, [None, Some(key(25)), Some(key(25)), None, Some(key(60))]);
    }

    #[test]
    fn a_cut_takes_what_was_set_before_it_and_its_memory_too() {
        let mut table = MemTable::default();
        let keys = || (0..100_u32).map(|number| Bytes::from(format!("k{number:03}")));
        keys().for_each(|key| table.put(key, Some(vec![0; 1000].into())));
        assert!(table.bytes() > 100_000);
        table.cut(Cut { range: Bytes::from("k000")..Bytes::from("k099"), keys: 99 });
        assert!(table.bytes() < 2_000 && table.entries().len() == 1, "{} bytes", table.bytes());
        table.put(Bytes::from("k050"), value(7));
        let said = ["k049", "k050", "k099", "k100"].map(|key| table.get(key.as_bytes()).map(|value| value.is_some()));
        assert_eq!(said, [Some(false), Some(true), Some(true), None]);
    }

    #[derive(Clone, Debug)]
    enum Change {
        Put(u8, Option<u8>),
        Cut(u8, u8),
        Freeze,
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            6 => (0_u8..40, any::<Option<u8>>()).prop_map(|(key, value)| Change::Put(key, value)),
            2 => (0_u8..40, 0_u8..12).prop_map(|(from, count)| Change::Cut(from, from + count)),
            1 => Just(Change::Freeze),
        ]
    }

    proptest! {
        /// Against a map of all keys, in which what is not deleted was never touched.
        #[test]
        fn memtables_say_together_what_one_map_of_all_keys_would_say(
            changes in prop::collection::vec(change(), 0..60),
            (from, to, limit) in (0_u8..50, 0_u8..55, 1_usize..12),
        ) {
            let mut tables = vec![MemTable::default()];
            let mut naive: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
            for change in changes {
                match change {
                    Change::Put(at, set) => {
                        tables[0].put(key(at), set.and_then(value));
                        naive.insert(key(at), set.map(|set| Bytes::from(vec![set])));
                    }
                    Change::Cut(start, end) => {
                        tables[0].cut(cut(start, end));
                        naive.extend((start..end).map(|at| (key(at), None)));
                    }
                    Change::Freeze => tables.insert(0, MemTable::default()),
                }
            }
            let overlay = Overlay::of(tables.iter(), (&key(from), &key(to)), limit);
            let whole = overlay.entries.len() < limit;
            let end = overlay.entries.last_key_value().filter(|_| !whole).map_or(key(to), |(last, _)| last.clone());
            for at in (from..to).filter(|at| key(*at) <= end) {
                let said = match overlay.entries.get(&key(at)) {
                    Some(value) => Some(value.as_ref().map(Value::bytes)),
                    None => overlay.cuts.end_around(&key(at)).map(|_| None),
                };
                prop_assert_eq!(said.as_ref(), naive.get(&key(at)), "key {}", at);
                let one_by_one = tables.iter().find_map(|table| table.get(&key(at)));
                let one_by_one = one_by_one.map(|value| value.map(|value| value.bytes()));
                prop_assert_eq!(one_by_one.as_ref(), naive.get(&key(at)));
            }
            prop_assert!(content(&overlay).iter().all(|(at, _)| (&key(from)..&key(to)).contains(&at)));
        }
    }
}
