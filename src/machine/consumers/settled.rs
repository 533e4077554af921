//! Messages of a work queue that are settled for good and still stored, because a channel loses its beginning only. What a
//! consumer's record says of it is said as long as the consumer is where it is; so before consumers come, go and move, what
//! they have settled is written down. It is never handed out again.

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
    /// Of any runs.
    fn of(mut runs: Vec<(u64, u64)>) -> Self {
        runs.retain(|(from, until)| from < until);
        runs.sort_unstable();
        let mut apart: Vec<(u64, u64)> = Vec::with_capacity(runs.len());
        for (from, until) in runs {
            match apart.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(until),
                _ => apart.push((from, until)),
            }
        }
        if apart.len() > MOST_RUNS {
            apart.sort_unstable_by_key(|(from, until)| (Reverse(until - from), *from));
            apart.truncate(MOST_RUNS);
            apart.sort_unstable();
        }
        Self(apart)
    }

    /// The first number from `seq` on that is in none.
    fn after(&self, seq: u64) -> u64 {
        let before = self.0.partition_point(|(from, _)| *from <= seq);
        self.0[..before].last().map_or(seq, |(_, until)| seq.max(*until))
    }

    fn contains(&self, seq: u64) -> bool {
        self.after(seq) != seq
    }

    /// How many numbers of a range are in them.
    pub(super) fn count_within(&self, range: Range<u64>) -> u64 {
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

    /// How many of the messages from `seq` on are settled for good.
    pub(in crate::machine) fn count_settled(&self, channel: ChannelId, seq: u64) -> u64 {
        self.settled.get(&channel).map_or(0, |runs| runs.count_within(seq..u64::MAX))
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
        let Some(channel) = self.channels.get(&id).filter(|channel| channel.meta.config.retention.work_queue) else {
            return;
        };
        let all = self.consumers.of(id);
        let Some(until) = all.map(|consumer| consumer.cursor.next).min() else { return };
        // What lies below and is open: the messages that somebody has or waits for, and those that nobody answers for.
        let pending = self.consumers.of(id).flat_map(|consumer| consumer.pending.range(..until));
        let mut open: Vec<(u64, u64)> = pending.map(|(seq, _)| (*seq, seq + 1)).collect();
        open.extend(self.consumers.of(id).flat_map(|consumer| consumer.deferred.below(until)));
        open.extend(channel.orphans.map(|Orphans { from, until }| (from, until)));
        open.sort_unstable();
        let mut runs = self.consumers.settled.get(&id).map(|runs| runs.0.clone()).unwrap_or_default();
        let mut at = channel.stats.first_seq;
        for (from, end) in open {
            runs.push((at, from.min(until)));
            at = at.max(end);
        }
        runs.push((at, until));
        self.set_settled(id, Runs::of(runs), effects);
    }

    /// The channel is no work queue any longer, or is gone.
    pub(in crate::machine) fn forget_settled(&mut self, id: ChannelId, effects: &mut Effects) {
        self.set_settled(id, Runs::default(), effects);
    }

    /// Messages below a sequence number are gone.
    pub(in crate::machine) fn settled_trimmed(&mut self, id: ChannelId, first_seq: u64, effects: &mut Effects) {
        if let Some(runs) = self.consumers.settled.get(&id) {
            let left = runs.from(first_seq).iter().map(|(from, until)| (first_seq.max(*from), *until)).collect();
            self.set_settled(id, Runs::of(left), effects);
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
