//! How large and how old the stored messages of a channel are, without looking at them.
//!
//! A mark stands at a sequence number and says how many bytes were appended before it, and when: two of them give the
//! size and the age of what lies between, the last one together with the channel's counters. An append writes at most a
//! new one, merging two stretches deletes one, and what was removed takes its marks along. Only compaction changes marks,
//! all at once: it makes stretches smaller and leaves them where they are. There are at most [`MOST`]: the larger a channel is, the further apart they stand.
//!
//! The first mark stands where the store was cut. Cutting costs, so what is gone stays in the store until it is worth
//! it; then the first mark goes too.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::model::{ChannelStats, Frame, Gone, Retention, WhenFull};

/// Marks of one channel.
pub(super) const MOST: usize = 256;
/// A stretch is about this part of what a limit allows, or of what the channel holds.
const PARTS: u64 = 128;
/// Where no limit of bytes asks for more precision, a stretch is not shorter.
const SHORTEST: u64 = 64 << 10;
/// Bytes that have to be gone before the store is cut.
const CUT: u64 = 64 << 10;

/// What is stored of a mark under the sequence number at which it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Bytes of all messages that were ever appended before it, and of those that compaction has removed after it.
    pub(super) bytes_before: u64,
    /// The time of the newest message before it.
    pub(super) before_ms: u64,
    /// The time of the message at which it stands.
    pub(super) time_ms: u64,
}

/// A channel's marks. There are none exactly while nothing is stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    /// By increasing sequence number. At most the first two stand at or below the channel's first message.
    list: VecDeque<(u64, Mark)>,
    /// Made and removed since the last call of [`Marks::take_changes`], in order.
    changes: Vec<(u64, Option<Mark>)>,
}

/// The end of a stretch.
#[derive(Clone, Copy)]
struct End {
    seq: u64,
    bytes_before: u64,
    before_ms: u64,
}

impl End {
    fn of(stats: &ChannelStats) -> Self {
        Self { seq: stats.next_seq, bytes_before: stats.appended_bytes, before_ms: stats.newest_ms }
    }
}

/// How long stretches should be.
struct Grain {
    /// The part of what a limit allows, or of what the channel holds.
    parts: u64,
    bytes: u64,
    /// None where age does not matter.
    span_ms: Option<u64>,
}

impl Grain {
    fn of(retention: &Retention, held: u64) -> Self {
        // Bytes and age together must not make more marks than bytes alone.
        let parts = if retention.max_age_ms.is_some() { PARTS / 2 } else { PARTS };
        let bytes = match dropping_bytes(retention) {
            Some(most) => (most / parts).max(1),
            None => (held / parts).max(SHORTEST),
        };
        Self { parts, bytes, span_ms: retention.max_age_ms.map(|age| age / parts) }
    }
}

/// The bytes beyond which the oldest messages go.
fn dropping_bytes(retention: &Retention) -> Option<u64> {
    retention.max_bytes.filter(|_| retention.when_full == WhenFull::DropOldest)
}

/// `part` of `whole` in proportion; `of` of them are all of it.
fn share(whole: u64, part: u64, of: u64) -> u64 {
    let share = u128::from(whole) * u128::from(part) / u128::from(of.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

impl Marks {
    /// Takes note of messages that are about to be appended to a channel with these counters.
    pub(super) fn append(&mut self, frame: &Frame, time_ms: u64, stats: &ChannelStats, retention: &Retention) {
        let begin = End::of(stats);
        let size = frame.len() as u64;
        let held = self.list.front().map_or(0, |(_, first)| begin.bytes_before - first.bytes_before) + size;
        let grain = Grain::of(retention, held);
        let ends = self.list.back().is_none_or(|(_, last)| {
            let long = begin.bytes_before - last.bytes_before + size > grain.bytes;
            long || grain.span_ms.is_some_and(|span| time_ms.saturating_sub(last.time_ms) > span)
        });
        if ends {
            self.push(begin, time_ms);
            if let Some(most) = dropping_bytes(retention).filter(|_| size > grain.bytes) {
                self.divide(frame, time_ms, begin, &grain, most);
            }
        }
        let seq = begin.seq + u64::from(frame.count());
        self.thin(&grain, End { seq, bytes_before: begin.bytes_before + size, before_ms: time_ms }, stats.first_seq);
    }

    /// Makes marks inside of a batch that is longer than a stretch should be: a batch larger than the limit must not
    /// go as a whole.
    fn divide(&mut self, frame: &Frame, time_ms: u64, begin: End, grain: &Grain, most: u64) {
        let size = frame.len() as u64;
        let (mut offset, mut stretch) = (0, 0);
        for (seq, message) in (begin.seq..).zip(frame.sizes()) {
            // What comes before the last bytes that may stay goes anyway.
            if stretch > 0 && stretch + message > grain.bytes && size - offset <= most {
                self.push(End { seq, bytes_before: begin.bytes_before + offset, before_ms: time_ms }, time_ms);
                stretch = 0;
            }
            offset += message;
            stretch += message;
        }
    }

    /// Makes marks by proportion where a new limit of bytes asks for more precision than there was before.
    pub(super) fn refine(&mut self, stats: &ChannelStats, retention: &Retention) {
        let Some(most) = dropping_bytes(retention) else { return };
        let grain = Grain::of(retention, most);
        let mut made = Vec::new();
        for at in (0..self.list.len()).rev() {
            let ((begin_seq, begin), end) = (self.list[at], self.end(at, stats));
            let later = stats.appended_bytes - end.bytes_before;
            if later >= most {
                break;
            }
            let (bytes, messages) = (end.bytes_before - begin.bytes_before, end.seq - begin_seq);
            let (mut back, mut last, mut before) = (grain.bytes, end.seq, end.bytes_before);
            while back < bytes && later + back <= most {
                let count = share(messages, back, bytes);
                let seq = end.seq - count;
                let bytes_before = end.bytes_before - share(bytes, count, messages);
                // After compaction there may be fewer bytes than sequence numbers, and no stretch is without any.
                let apart = begin.bytes_before < bytes_before && bytes_before < before;
                if seq < last && seq > begin_seq.max(stats.first_seq) && apart {
                    // Not before all of the stretch: nothing expires too early.
                    made.push((seq, Mark { bytes_before, before_ms: end.before_ms, time_ms: end.before_ms }));
                    (last, before) = (seq, bytes_before);
                }
                back += grain.bytes;
            }
        }
        for (seq, mark) in made {
            let at = self.list.partition_point(|(other, _)| *other < seq);
            self.list.insert(at, (seq, mark));
            self.changes.push((seq, Some(mark)));
        }
        self.thin(&grain, End::of(stats), stats.first_seq);
    }

    /// Messages were taken out of the middle, in order. A stretch keeps a byte, so that it stays one.
    pub(super) fn remove(&mut self, gone: &[Gone], stats: &ChannelStats) {
        let mut less = vec![0; self.list.len()];
        for Gone { first_seq, count, bytes } in gone {
            let (mut seq, end) = (*first_seq, first_seq + count);
            while seq < end
                && let Some(at) = self.at(seq)
            {
                let part = end.min(self.end(at, stats).seq) - seq;
                less[at] = share(*bytes, part, *count).saturating_add(less[at]);
                seq += part;
            }
        }
        let mut after = 0;
        for at in (0..self.list.len()).rev() {
            let held = self.end(at, stats).bytes_before - after - self.list[at].1.bytes_before;
            after += less[at].min(held - 1);
            if after > 0 {
                let (seq, mark) = &mut self.list[at];
                mark.bytes_before += after;
                self.changes.push((*seq, Some(*mark)));
            }
        }
    }

    /// The channel's first message is now `first_seq`; gives where the store should be cut. `at_once` has it cut just
    /// there, however little that brings.
    pub(super) fn advance(&mut self, first_seq: u64, at_once: bool, stats: &ChannelStats) -> Option<u64> {
        if first_seq >= stats.next_seq {
            self.forget(0..self.list.len());
            return Some(first_seq);
        }
        let at = self.at(first_seq)?;
        if at > 1 {
            self.forget(1..at);
        }
        let at = at.min(1);
        let (seq, mark) = self.list[at];
        if at_once && seq < first_seq {
            let end = self.end(at, stats);
            let gone = share(end.bytes_before - mark.bytes_before, first_seq - seq, end.seq - seq);
            let mark =
                Mark { bytes_before: mark.bytes_before + gone, before_ms: end.before_ms, time_ms: end.before_ms };
            self.forget(0..at + 1);
            self.list.push_front((first_seq, mark));
            self.changes.push((first_seq, Some(mark)));
            return Some(first_seq);
        }
        let gone = mark.bytes_before - self.list[0].1.bytes_before;
        if at == 0 || (gone < CUT && !at_once) {
            return None;
        }
        self.forget(0..1);
        Some(seq)
    }

    /// Bytes of the messages from `first_seq` on.
    pub(super) fn bytes(&self, first_seq: u64, stats: &ChannelStats) -> u64 {
        let Some(at) = self.at(first_seq) else { return 0 };
        let ((seq, mark), end) = (self.list[at], self.end(at, stats));
        let gone = share(end.bytes_before - mark.bytes_before, first_seq - seq, end.seq - seq);
        stats.appended_bytes - mark.bytes_before - gone
    }

    /// The first message of the newest ones that are no more than so many bytes.
    pub(super) fn newest_within(&self, most: u64, stats: &ChannelStats) -> u64 {
        let at = self.list.partition_point(|(_, mark)| stats.appended_bytes - mark.bytes_before > most);
        self.list.get(at).map_or(stats.next_seq, |(seq, _)| *seq)
    }

    /// The first message that may be younger than `age_ms`.
    pub(super) fn younger_than(&self, age_ms: u64, now_ms: u64, stats: &ChannelStats) -> u64 {
        let old = |time_ms: u64| time_ms.saturating_add(age_ms) <= now_ms;
        if old(stats.newest_ms) {
            return stats.next_seq;
        }
        let at = self.list.partition_point(|(_, mark)| old(mark.before_ms));
        at.checked_sub(1).map_or(0, |at| self.list[at].0)
    }

    /// The time of the newest message in the stretch that begins the channel.
    pub(super) fn oldest_ms(&self, stats: &ChannelStats) -> Option<u64> {
        self.at(stats.first_seq).map(|at| self.end(at, stats).before_ms)
    }

    /// What was made and removed since the last call, in order.
    pub(super) fn take_changes(&mut self) -> Vec<(u64, Option<Mark>)> {
        std::mem::take(&mut self.changes)
    }

    /// Where marks stand.
    pub(super) fn seqs(&self) -> impl Iterator<Item = u64> {
        self.list.iter().map(|(seq, _)| *seq)
    }

    /// Takes a mark back, in the order of the sequence numbers.
    pub(super) fn restore(&mut self, seq: u64, mark: Mark) {
        self.list.push_back((seq, mark));
    }

    /// Whether restored marks are those of a channel with these counters.
    pub(super) fn check(&self, stats: &ChannelStats) -> Result<(), String> {
        let wrong = |seq: u64| Err(format!("the mark at {seq} does not fit the channel's counters"));
        match (self.list.front(), self.list.get(2)) {
            (None, _) if stats.first_seq != stats.next_seq => return Err("a mark is missing".into()),
            (Some((seq, _)), _) if *seq > stats.first_seq || stats.first_seq >= stats.next_seq => return wrong(*seq),
            (_, Some((seq, _))) if *seq <= stats.first_seq => return wrong(*seq),
            _ => {}
        }
        for at in 0..self.list.len() {
            let ((seq, mark), end) = (self.list[at], self.end(at, stats));
            if seq >= end.seq || mark.bytes_before >= end.bytes_before || mark.before_ms > end.before_ms {
                return wrong(seq);
            }
        }
        if self.list.len() > MOST || self.bytes(stats.first_seq, stats) != stats.bytes {
            return Err(format!("its {} marks do not make its {} bytes", self.list.len(), stats.bytes));
        }
        Ok(())
    }

    /// The last mark at or below a sequence number.
    fn at(&self, seq: u64) -> Option<usize> {
        self.list.partition_point(|(other, _)| *other <= seq).checked_sub(1)
    }

    fn end(&self, at: usize, stats: &ChannelStats) -> End {
        match self.list.get(at + 1) {
            Some((seq, mark)) => End { seq: *seq, bytes_before: mark.bytes_before, before_ms: mark.before_ms },
            None => End::of(stats),
        }
    }

    fn push(&mut self, at: End, time_ms: u64) {
        let mark = Mark { bytes_before: at.bytes_before, before_ms: at.before_ms, time_ms };
        self.list.push_back((at.seq, mark));
        self.changes.push((at.seq, Some(mark)));
    }

    fn forget(&mut self, range: std::ops::Range<usize>) {
        self.changes.extend(self.list.drain(range).map(|(seq, _)| (seq, None)));
    }

    /// Merges neighbours where there are too many marks. Two stretches in a row that are left are together longer
    /// than a part of the whole, so there are fewer than two for each part, or four where age matters too.
    fn thin(&mut self, grain: &Grain, end: End, first_seq: u64) {
        if self.list.len() <= MOST {
            return;
        }
        // What is gone stays apart from what is stored.
        let fixed = usize::from(self.list[1].0 <= first_seq);
        let (_, begin) = self.list[fixed];
        let bytes = grain.bytes.max((end.bytes_before - begin.bytes_before) / grain.parts);
        let span_ms = grain.span_ms.map(|span| span.max(end.before_ms.saturating_sub(begin.time_ms) / grain.parts));
        let old = std::mem::take(&mut self.list);
        for (at, (seq, mark)) in old.iter().enumerate() {
            let end = old.get(at + 1).map_or(end, |(seq, next)| End {
                seq: *seq,
                bytes_before: next.bytes_before,
                before_ms: next.before_ms,
            });
            let merges = at > fixed
                && self.list.back().is_some_and(|(_, begin)| {
                    end.bytes_before - begin.bytes_before <= bytes
                        && span_ms.is_none_or(|span| end.before_ms.saturating_sub(begin.time_ms) <= span)
                });
            if merges {
                self.changes.push((*seq, None));
            } else {
                self.list.push_back((*seq, *mark));
            }
        }
    }
}

#[cfg(test)]
mod tests;
