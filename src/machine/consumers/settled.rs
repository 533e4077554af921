//! Messages of a work queue that are settled for good and lie behind the channel's first message. What a consumer's record
//! says of them is said as long as the consumer is where it is; so before consumers come, go and move, what they have settled
//! is written down. It is never handed out again.

use std::{cmp::Reverse, collections::BTreeMap, ops::Range};

use serde::{Deserialize, Serialize};

use super::Consumers;
use crate::{
    machine::{Effects, Machine, keys::Key},
    model::{ChannelId, Orphans},
};

/// Runs that are remembered for a channel, the longest ones. What is forgotten comes again to a consumer that begins there.
const MOST_RUNS: usize = 4_096;

/// Runs of sequence numbers, apart from each other and in order: first ones, and those after the last ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::machine) struct Runs(Vec<(u64, u64)>);

impl Runs {
    /// Those of a channel that are remembered.
    pub(in crate::machine) const MOST: usize = MOST_RUNS;

    /// Of any runs.
    fn of(runs: Vec<(u64, u64)>) -> Self {
        let mut apart = apart(runs);
        if apart.len() > MOST_RUNS {
            apart.sort_unstable_by_key(|(from, until)| (Reverse(until - from), *from));
            apart.truncate(MOST_RUNS);
            apart.sort_unstable();
        }
        Self(apart)
    }

    /// Of runs that must not be forgotten; none where they are too many.
    pub(in crate::machine) fn all_of(runs: impl Iterator<Item = Range<u64>>) -> Option<Self> {
        let apart = apart(runs.map(|run| (run.start, run.end)).collect());
        (apart.len() <= MOST_RUNS).then_some(Self(apart))
    }

    /// The first number from `seq` on that is in none.
    fn after(&self, seq: u64) -> u64 {
        let before = self.0.partition_point(|(from, _)| *from <= seq);
        self.0[..before].last().map_or(seq, |(_, until)| seq.max(*until))
    }

    fn contains(&self, seq: u64) -> bool {
        self.after(seq) != seq
    }

    /// Whether all numbers of a range are in them.
    pub(in crate::machine) fn cover(&self, range: Range<u64>) -> bool {
        self.after(range.start) >= range.end
    }

    /// How many runs there are.
    pub(in crate::machine) fn count(&self) -> usize {
        self.0.len()
    }

    pub(in crate::machine) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::machine) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|(from, until)| *from..*until)
    }

    /// What is in them and not in others.
    pub(in crate::machine) fn without(&self, others: &Self) -> Vec<Range<u64>> {
        let mut left = Vec::new();
        for run in self.iter() {
            let mut from = run.start;
            for (start, end) in others.from(from).iter().take_while(|(start, _)| *start < run.end) {
                left.push(from..*start);
                from = *end;
            }
            left.push(from..run.end);
        }
        left.retain(|run| run.start < run.end);
        left
    }

    /// What of them is not below a number.
    pub(in crate::machine) fn not_below(&self, seq: u64) -> Self {
        Self(self.from(seq).iter().map(|(from, until)| (seq.max(*from), *until)).collect())
    }

    /// How many numbers of a range are in them.
    pub(in crate::machine) fn count_within(&self, range: Range<u64>) -> u64 {
        let within = |(from, until): &(u64, u64)| (*until).min(range.end).saturating_sub(range.start.max(*from));
        self.from(range.start).iter().map(within).sum()
    }

    /// Those that end behind a number.
    fn from(&self, seq: u64) -> &[(u64, u64)] {
        let passed = self.0.partition_point(|(_, until)| *until <= seq);
        &self.0[passed..]
    }
}

impl Consumers {
    /// Messages of a work queue that are settled for good, as runs that end behind a message.
    pub fn settled_from(&self, channel: ChannelId, seq: u64) -> Vec<Range<u64>> {
        let runs = self.settled.get(&channel).map(|runs| runs.from(seq)).unwrap_or_default();
        runs.iter().map(|(from, until)| *from..*until).collect()
    }

    /// How many of the messages from `seq` on are settled for good and not `reclaimed`.
    pub(super) fn count_settled(&self, channel: ChannelId, seq: u64, reclaimed: &Runs) -> u64 {
        let Some(runs) = self.settled.get(&channel).map(|runs| runs.not_below(seq)) else { return 0 };
        runs.without(reclaimed).iter().map(|run| run.end - run.start).sum()
    }

    pub(in crate::machine) fn is_settled(&self, channel: ChannelId, seq: u64) -> bool {
        self.settled.get(&channel).is_some_and(|runs| runs.contains(seq))
    }

    /// The first message from `seq` on that is not settled for good.
    pub(in crate::machine) fn after_settled(&self, channel: ChannelId, seq: u64) -> u64 {
        self.settled.get(&channel).map_or(seq, |runs| runs.after(seq))
    }
}

impl Machine {
    /// Writes down what the consumers of a work queue have settled.
    pub(super) fn remember_settled(&mut self, id: ChannelId, effects: &mut Effects) {
        if let Some(settled) = self.settled_by_all(id) {
            self.set_settled(id, settled, effects);
        }
    }

    /// What of a work queue is settled for good: what was written down, and what its consumers have settled where they are now.
    pub(in crate::machine) fn settled_by_all(&self, id: ChannelId) -> Option<Runs> {
        let channel = self.channels.get(&id).filter(|channel| channel.meta.config.retention.work_queue)?;
        let written = self.consumers.settled.get(&id);
        let Some(until) = self.consumers.of(id).map(|consumer| consumer.cursor.next).min() else {
            return Some(written.cloned().unwrap_or_default());
        };
        // What lies below and is open: the messages that somebody has or waits for, and those that nobody answers for.
        let pending = self.consumers.of(id).flat_map(|consumer| consumer.pending.range(..until));
        let mut open: Vec<(u64, u64)> = pending.map(|(seq, _)| (*seq, seq + 1)).collect();
        open.extend(self.consumers.of(id).flat_map(|consumer| consumer.deferred.below(until)));
        open.extend(channel.orphans.map(|Orphans { from, until }| (from, until)));
        open.sort_unstable();
        let mut runs = written.map(|runs| runs.0.clone()).unwrap_or_default();
        let mut at = channel.stats.first_seq;
        for (from, end) in open {
            runs.push((at, from.min(until)));
            at = at.max(end);
        }
        runs.push((at, until));
        Some(Runs::of(runs))
    }

    /// The channel is no work queue any longer, or is gone.
    pub(in crate::machine) fn forget_settled(&mut self, id: ChannelId, effects: &mut Effects) {
        self.set_settled(id, Runs::default(), effects);
    }

    /// Messages below a sequence number are gone.
    pub(in crate::machine) fn settled_trimmed(&mut self, id: ChannelId, first_seq: u64, effects: &mut Effects) {
        if let Some(runs) = self.consumers.settled.get(&id) {
            let left = runs.not_below(first_seq);
            self.set_settled(id, left, effects);
        }
    }

    fn set_settled(&mut self, id: ChannelId, runs: Runs, effects: &mut Effects) {
        if self.consumers.settled.get(&id).unwrap_or(&Runs::default()) == &runs {
            return;
        }
        if runs.0.is_empty() {
            effects.delete(Key::Settled(id));
            self.consumers.settled.remove(&id);
        } else {
            effects.put(Key::Settled(id), &runs);
            self.consumers.settled.insert(id, runs);
        }
    }

    /// Whether all that is settled for good is there.
    pub(super) fn check_settled(&self) -> Result<(), String> {
        for (id, runs) in &self.consumers.settled {
            let stats = self.channels.get(id).map(|channel| channel.stats).unwrap_or_default();
            let within = |(from, until): &(u64, u64)| stats.first_seq <= *from && *until <= stats.next_seq;
            if runs.0.is_empty() || !runs.0.iter().all(within) || Runs::of(runs.0.clone()) != *runs {
                let key = Key::Settled(*id).encode();
                return Err(format!("key `{}`: what is settled is not there", key.escape_ascii()));
            }
        }
        Ok(())
    }
}

/// Runs made apart and brought in order.
fn apart(mut runs: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    runs.retain(|(from, until)| from < until);
    runs.sort_unstable();
    let mut apart: Vec<(u64, u64)> = Vec::with_capacity(runs.len());
    for (from, until) in runs {
        match apart.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(until),
            _ => apart.push((from, until)),
        }
    }
    apart
}

/// All of them, for [`Consumers`].
pub(super) type Settled = BTreeMap<ChannelId, Runs>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_apart_and_in_order() {
        let runs = Runs::of(vec![(5, 7), (1, 2), (7, 9), (4, 4), (2, 3)]);
        assert_eq!(runs.0, [(1, 3), (5, 9)]);
        assert_eq!([0, 1, 2, 3, 4, 5, 8, 9].map(|seq| runs.after(seq)), [0, 3, 3, 3, 4, 9, 9, 9]);
        assert_eq!([0, 1, 2, 3, 5, 9].map(|seq| runs.contains(seq)), [false, true, true, false, true, false]);
        assert_eq!([0..9, 2..6, 3..5, 9..9].map(|range| runs.count_within(range)), [6, 2, 0, 0]);
        assert_eq!([0..1, 1..3, 5..9, 2..5, 6..6].map(|range| runs.cover(range)), [false, true, true, false, true]);
        assert_eq!(runs.without(&Runs(vec![(0, 2), (6, 7), (8, 20)])), [2..3, 5..6, 7..8]);
        assert_eq!((runs.not_below(2).0, runs.not_below(4).0), (vec![(2, 3), (5, 9)], vec![(5, 9)]));
        assert_eq!((runs.from(2), runs.from(3), runs.from(9)), (&[(1, 3), (5, 9)][..], &[(5, 9)][..], &[][..]));
    }

    #[test]
    fn where_there_are_too_many_runs_the_shortest_are_forgotten() {
        let long = (0..MOST_RUNS as u64 - 1).map(|at| (at * 10, at * 10 + 5));
        let short = (0..3).map(|at| (1_000_000 + at * 10, 1_000_000 + at * 10 + 1 + at));
        let runs = Runs::of(long.chain(short).collect());
        assert_eq!(runs.0.len(), MOST_RUNS);
        assert!(runs.contains(1_000_020) && !runs.contains(1_000_000) && !runs.contains(1_000_010));
        let equal = Runs::of((0..=MOST_RUNS as u64).map(|at| (at * 10, at * 10 + 1)).collect());
        assert!(equal.0.len() == MOST_RUNS && equal.contains(0));
    }
}
