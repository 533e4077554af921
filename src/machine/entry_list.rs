//! When the keys of a channel came: the log entries that claimed them, oldest first, in two to four bytes each.
//!
//! A key's time is its entry's, and an entry is stored under the sequence number of its first key. A day may have a
//! hundred million entries, so they are kept as differences, in pieces of equal size: what grows in one piece has to be
//! moved, and has twice the room that it needs.

use std::collections::VecDeque;

/// The claims of one log entry in one channel, which expire together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimEntry {
    /// The log's time.
    pub time_ms: u64,
    /// Sequence number of the first claim: the name under which the entry is stored.
    pub first_seq: u64,
    /// How many keys belong to it.
    pub keys: u64,
}

/// A queue of them.
#[derive(Debug, Default)]
pub(super) struct EntryList {
    oldest: Option<ClaimEntry>,
    newest: Option<ClaimEntry>,
    /// All but the oldest, each by what it differs in from the one before it.
    pieces: VecDeque<Vec<u8>>,
    /// Bytes at the beginning of the first piece that are gone.
    gone: usize,
}

/// Bytes of a piece. A channel with few entries has one, which is as large as it has to be.
const PIECE: usize = 4096;
/// No entry takes more.
const LONGEST: usize = 30;

impl EntryList {
    pub(super) fn oldest(&self) -> Option<ClaimEntry> {
        self.oldest
    }

    /// Adds one behind all others.
    pub(super) fn push(&mut self, entry: ClaimEntry) {
        match self.newest.replace(entry) {
            Some(before) if self.oldest.is_some() => match self.pieces.back_mut() {
                Some(piece) if piece.len() + LONGEST <= PIECE => encode(before, entry, piece),
                Some(_) => {
                    let mut piece = Vec::with_capacity(PIECE);
                    encode(before, entry, &mut piece);
                    self.pieces.push_back(piece);
                }
                None => {
                    let mut piece = Vec::new();
                    encode(before, entry, &mut piece);
                    self.pieces.push_back(piece);
                }
            },
            _ => self.oldest = Some(entry),
        }
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<ClaimEntry> {
        let oldest = self.oldest.take()?;
        if let Some(piece) = self.pieces.front() {
            let mut rest = &piece[self.gone..];
            self.oldest = decode(oldest, &mut rest);
            self.gone = piece.len() - rest.len();
            if rest.is_empty() {
                self.pieces.pop_front();
                self.gone = 0;
            }
        }
        Some(oldest)
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = ClaimEntry> {
        let (mut next, mut pieces, mut gone) = (self.oldest, self.pieces.iter(), self.gone);
        let mut rest: &[u8] = &[];
        std::iter::from_fn(move || {
            let entry = next?;
            if rest.is_empty() {
                rest = pieces.next().map_or(&[], |piece| &piece[std::mem::take(&mut gone)..]);
            }
            next = decode(entry, &mut rest);
            Some(entry)
        })
    }

    /// Bytes that it has room for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.pieces.iter().map(Vec::capacity).sum()
    }
}

/// Entries one after the other, as they are written to a file.
#[derive(Debug)]
pub struct EntryBytes {
    before: ClaimEntry,
    bytes: Vec<u8>,
}

const NONE: ClaimEntry = ClaimEntry { time_ms: 0, first_seq: 0, keys: 0 };

impl Default for EntryBytes {
    fn default() -> Self {
        Self { before: NONE, bytes: Vec::new() }
    }
}

impl EntryBytes {
    /// Adds one behind all others.
    pub fn push(&mut self, entry: ClaimEntry) {
        encode(self.before, entry, &mut self.bytes);
        self.before = entry;
    }

    /// Those that were added.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The entries that were written like that; ends early where bytes are missing.
pub fn decode_entries(bytes: &[u8]) -> impl Iterator<Item = ClaimEntry> {
    let (mut before, mut rest) = (NONE, bytes);
    std::iter::from_fn(move || {
        before = decode(before, &mut rest)?;
        Some(before)
    })
}

/// Most entries begin where the one before them ends.
fn encode(before: ClaimEntry, entry: ClaimEntry, bytes: &mut Vec<u8>) {
    let gap = entry.first_seq.wrapping_sub(before.first_seq.wrapping_add(before.keys));
    number(entry.keys << 1 | u64::from(gap != 0), bytes);
    number(entry.time_ms.wrapping_sub(before.time_ms), bytes);
    if gap != 0 {
        number(gap, bytes);
    }
}

fn decode(before: ClaimEntry, bytes: &mut &[u8]) -> Option<ClaimEntry> {
    let keys = take(bytes)?;
    let time_ms = before.time_ms.wrapping_add(take(bytes)?);
    let gap = if keys & 1 == 0 { 0 } else { take(bytes)? };
    let first_seq = before.first_seq.wrapping_add(before.keys).wrapping_add(gap);
    Some(ClaimEntry { time_ms, first_seq, keys: keys >> 1 })
}

/// Seven bits in each byte, the lowest first; the highest bit says that there are more.
fn number(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries() -> impl Strategy<Value = Vec<ClaimEntry>> {
        // Time stands still, passes and leaps; messages without keys come between, and a state may be near its end.
        let step = (
            prop_oneof![0_u64..3, any::<u32>().prop_map(u64::from)],
            1_u64..5_000,
            prop_oneof![Just(0_u64), 0_u64..300, any::<u64>()],
        );
        prop::collection::vec(step, 0..3_000).prop_map(|steps| {
            let (mut time_ms, mut next) = (0_u64, 0_u64);
            let entry = |(passed, keys, gap): (u64, u64, u64)| {
                time_ms = time_ms.saturating_add(passed);
                let first_seq = next.wrapping_add(gap);
                next = first_seq.wrapping_add(keys);
                ClaimEntry { time_ms, first_seq, keys }
            };
            steps.into_iter().map(entry).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn entries_come_out_as_they_went_in(entries in entries(), turns in prop::collection::vec(0_usize..900, 1..9)) {
            let (mut list, mut model) = (EntryList::default(), VecDeque::new());
            let mut coming = entries.iter().copied();
            for turn in turns {
                for entry in coming.by_ref().take(turn) {
                    list.push(entry);
                    model.push_back(entry);
                }
                prop_assert_eq!(list.iter().collect::<Vec<_>>(), Vec::from(model.clone()));
                for _ in 0..turn / 2 {
                    prop_assert_eq!(list.oldest(), model.front().copied());
                    prop_assert_eq!(list.pop(), model.pop_front());
                }
            }
            while let Some(entry) = model.pop_front() {
                prop_assert_eq!(list.pop(), Some(entry));
            }
            prop_assert_eq!((list.pop(), list.capacity()), (None, 0));
            let mut bytes = EntryBytes::default();
            entries.iter().for_each(|entry| bytes.push(*entry));
            prop_assert_eq!(decode_entries(bytes.as_bytes()).collect::<Vec<_>>(), entries);
        }
    }

    #[test]
    fn an_entry_takes_two_to_four_bytes() {
        let mut list = EntryList::default();
        for number in 0..100_000 {
            list.push(ClaimEntry { time_ms: number * 7, first_seq: number * 10, keys: 10 });
        }
        assert!(list.capacity() < 2 * 100_000 + 2 * PIECE, "{}", list.capacity());
        for number in 0..100_000 {
            list.push(ClaimEntry {
                time_ms: 700_000 + number * 200,
                first_seq: 1_000_000 + number * 5_000,
                keys: 4_096,
            });
        }
        assert!(list.capacity() < 9 * 100_000, "with unkeyed messages between, {}", list.capacity());
    }
}
