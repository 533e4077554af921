//! What the log holds, in memory: its owner, the vote, the marks, and where each entry is. The newest entries are kept whole, and
//! so are all that are not on disk yet.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;

use super::{
    super::{LogBounds, LogOwner, LogPosition, StoredVote},
    format::{Record, Span},
    pending::Pending,
};

#[derive(Default)]
pub(super) struct Index {
    pub(super) owner: Option<LogOwner>,
    pub(super) vote: Option<StoredVote>,
    pub(super) committed: Option<LogPosition>,
    pub(super) purged: Option<LogPosition>,
    /// Where the files that are left begin: while they are read back, the purge that deleted the ones before is yet to
    /// come.
    base: u64,
    /// The entries after `purged`, without a gap.
    slots: VecDeque<Slot>,
    /// Slots before this one have no bytes in memory.
    cold: usize,
    cached_bytes: usize,
    cache_limit: usize,
    /// All files, the last one being written to.
    segments: BTreeMap<u64, Segment>,
}

struct Slot {
    position: LogPosition,
    /// The unit that it came with.
    seq: u64,
    segment: u64,
    span: Span,
    bytes: Option<Bytes>,
}

#[derive(Default)]
struct Segment {
    /// None until it is created.
    file: Option<Arc<File>>,
    /// The highest index of its entries.
    last: Option<u64>,
    /// It may be damaged.
    distrusted: bool,
}

/// A segment that is not needed any more.
pub(super) struct Obsolete {
    pub(super) number: u64,
    /// Readers may still have it.
    pub(super) file: Option<Arc<File>>,
    pub(super) distrusted: bool,
}

/// An entry for a reader.
pub(super) enum Place {
    Memory(LogPosition, Bytes),
    Disk(LogPosition, Arc<File>, u64, Span),
}

impl Index {
    pub(super) fn new(cache_limit: usize) -> Self {
        Self { cache_limit, ..Self::default() }
    }

    pub(super) fn bounds(&self) -> LogBounds {
        LogBounds { purged: self.purged, last: self.last() }
    }

    pub(super) fn last(&self) -> Option<LogPosition> {
        self.slots.back().map(|slot| slot.position).or(self.purged)
    }

    /// The lowest index from which on all entries together have at most so many bytes.
    pub(super) fn first_within(&self, bytes: u64) -> u64 {
        let mut left = bytes;
        let fits = |slot: &&Slot| {
            let rest = left.checked_sub(u64::from(slot.span.len));
            left = rest.unwrap_or(0);
            rest.is_some()
        };
        let fitting = self.slots.iter().rev().take_while(fits).count();
        self.first() + (self.slots.len() - fitting) as u64
    }

    /// Index of the first entry, whether or not it is there yet.
    fn first(&self) -> u64 {
        self.purged.map_or(0, |purged| purged.index + 1).max(self.base)
    }

    /// The files begin with this entry.
    pub(super) fn begin_at(&mut self, index: u64) {
        self.base = index;
    }

    /// Whether all that the files lack was purged.
    pub(super) fn is_complete(&self) -> bool {
        self.first() == self.purged.map_or(0, |purged| purged.index + 1)
    }

    /// What a new segment has to say, so that the ones before it are not needed for it.
    pub(super) fn summary(&self) -> Vec<Record> {
        let vote = self.vote.map(Record::Vote);
        let marks = [self.purged.map(Record::Purge), self.committed.map(Record::Committed)];
        let owner = self.owner.map(Record::Owner);
        owner.into_iter().chain(vote).chain(marks.into_iter().flatten()).collect()
    }

    /// The first file from a number on, and how far its entries reach.
    pub(super) fn file_from(&self, number: u64) -> Option<(u64, u64)> {
        let (number, _) = self.segments.range(number..).next()?;
        // Entries are in the order of their files.
        let behind = self.slots.partition_point(|slot| slot.segment <= *number);
        let last = behind.checked_sub(1).and_then(|last| self.slots.get(last)).filter(|slot| slot.segment == *number);
        Some((*number, last.map_or(0, |slot| slot.span.offset + u64::from(slot.span.len))))
    }

    pub(super) fn add_segment(&mut self, number: u64, file: Option<Arc<File>>) {
        self.segments.insert(number, Segment { file, ..Segment::default() });
    }

    /// Whether entries continue the log without a gap.
    pub(super) fn follows(&self, entries: impl IntoIterator<Item = LogPosition>) -> Result<(), String> {
        let next = self.first() + self.slots.len() as u64;
        match (next..).zip(entries).find(|(next, position)| position.index != *next) {
            Some((next, position)) => Err(format!("entry {} comes where entry {next} was to come", position.index)),
            None => Ok(()),
        }
    }

    /// Takes the next entry.
    pub(super) fn push(&mut self, position: LogPosition, seq: u64, segment: u64, span: Span, bytes: Option<Bytes>) {
        self.cached_bytes += bytes.as_ref().map_or(0, Bytes::len);
        if bytes.is_none() {
            self.cold = self.slots.len() + 1;
        }
        self.slots.push_back(Slot { position, seq, segment, span, bytes });
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.last = segment.last.max(Some(position.index));
        }
    }

    pub(super) fn truncate(&mut self, index: u64) {
        let keep = usize::try_from(index.saturating_sub(self.first())).unwrap_or(usize::MAX);
        while self.slots.len() > keep {
            let bytes = self.slots.pop_back().and_then(|slot| slot.bytes);
            self.cached_bytes -= bytes.map_or(0, |bytes| bytes.len());
        }
        self.cold = self.cold.min(self.slots.len());
    }

    /// One of the segments that there are is damaged.
    pub(super) fn distrust(&mut self) {
        self.segments.values_mut().for_each(|segment| segment.distrusted = true);
    }

    /// Forgets the entries up to a position, and gives the segments that hold nothing else.
    pub(super) fn purge(&mut self, up_to: LogPosition) -> Vec<Obsolete> {
        // Said again, it still lets go of files that have become needless since.
        let up_to = self.purged.map_or(up_to, |purged| purged.max(up_to));
        while self.slots.front().is_some_and(|slot| slot.position.index <= up_to.index) {
            let bytes = self.slots.pop_front().and_then(|slot| slot.bytes);
            self.cached_bytes -= bytes.map_or(0, |bytes| bytes.len());
            self.cold = self.cold.saturating_sub(1);
        }
        self.purged = Some(up_to);
        let mut obsolete = Vec::new();
        while self.segments.len() > 1
            && let Some(first) = self.segments.first_entry()
            && first.get().last.is_none_or(|last| last <= up_to.index)
        {
            let (number, Segment { file, distrusted, .. }) = first.remove_entry();
            obsolete.push(Obsolete { number, file, distrusted });
        }
        obsolete
    }

    /// Units are on disk: their entries need no memory any more.
    pub(super) fn written(&mut self, pending: &[Pending], file: &Arc<File>, durable: u64) {
        if let Some(segment) = pending.first().and_then(|first| self.segments.get_mut(&first.segment)) {
            segment.file.get_or_insert_with(|| file.clone());
        }
        while self.cached_bytes > self.cache_limit
            && let Some(slot) = self.slots.get_mut(self.cold)
            && slot.seq <= durable
        {
            self.cached_bytes -= slot.bytes.take().map_or(0, |bytes| bytes.len());
            self.cold += 1;
        }
    }

    /// Where the entries of a range are, from its beginning until about `max_bytes` are reached.
    pub(super) fn places(&self, range: Range<u64>, max_bytes: usize) -> Vec<Place> {
        let first = self.first();
        let skip = usize::try_from(range.start.saturating_sub(first)).unwrap_or(usize::MAX);
        let (mut places, mut bytes) = (Vec::new(), 0);
        for slot in self.slots.range(skip.min(self.slots.len())..) {
            if slot.position.index >= range.end || bytes >= max_bytes {
                break;
            }
            bytes += slot.span.len as usize;
            let file = self.segments.get(&slot.segment).and_then(|segment| segment.file.clone());
            places.push(match (&slot.bytes, file) {
                (Some(bytes), _) => Place::Memory(slot.position, bytes.clone()),
                (None, Some(file)) => Place::Disk(slot.position, file, slot.segment, slot.span),
                (None, None) => break, // only what is durable has no bytes in memory
            });
        }
        places
    }
}
