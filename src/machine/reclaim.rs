//! Gives back the space of what a work queue's consumers have settled behind a message that they have not.
//!
//! A work queue loses its beginning as far as it is settled, so one job that takes long keeps all that comes after it. The
//! leader finds what of that is settled and proposes to take it out of the middle, some at a time, as compaction does. The
//! machine knows what is settled and refuses everything else. It remembers as runs what it has taken out: where that was is
//! then known exactly, and nothing is taken out twice.

use std::{cmp::Reverse, ops::Range};

use super::{
    Effects, Machine,
    channel::Channel,
    consumers::Runs,
    keys::{Key, record},
};
use crate::model::{ChannelId, OperationReply, Reclaim, Refusal};

impl Machine {
    pub(super) fn restore_reclaimed(&mut self, id: ChannelId, value: &[u8]) -> Result<(), String> {
        let reclaimed = record("reclaimed messages", value)?;
        self.restored_channel(id)?.reclaimed = reclaimed;
        Ok(())
    }

    /// What of a work queue is settled, lies behind a message that is not, and still takes space: runs in order.
    pub fn reclaimable(&self, id: ChannelId) -> Vec<Range<u64>> {
        let (Some(channel), Some(settled)) = (self.channels.get(&id), self.settled_by_all(id)) else {
            return Vec::new();
        };
        let mut runs = settled.without(&channel.reclaimed);
        // The newest message stays: readers know by it that there is nothing more.
        let end = channel.stats.next_seq.saturating_sub(1);
        runs.iter_mut().for_each(|run| run.end = run.end.min(end));
        runs.retain(|run| run.start < run.end);
        // As many as can be remembered, the longest ones.
        let room = Runs::MOST - channel.reclaimed.count();
        if runs.len() > room {
            runs.sort_unstable_by_key(|run| (Reverse(run.end - run.start), run.start));
            runs.truncate(room);
            runs.sort_unstable_by_key(|run| run.start);
        }
        runs
    }

    pub(super) fn reclaim(&mut self, reclaim: Reclaim, effects: &mut Effects) -> Result<OperationReply, Refusal> {
        let Reclaim { channel: id, step, gone } = reclaim;
        let settled = self.settled_by_all(id);
        let channel = self.channels.get_mut(&id).ok_or(Refusal::NoSuchChannel)?;
        let stale = Refusal::StaleCompaction { step: channel.compaction.step };
        let ranges = || gone.iter().map(|gone| gone.first_seq..gone.end_seq());
        let is_settled = settled.is_some_and(|settled| ranges().all(|range| settled.cover(range)));
        let is_there = ranges().all(|range| channel.reclaimed.count_within(range) == 0);
        if step != channel.compaction.step || !is_settled || !is_there || !channel.can_lose(&gone) {
            return Err(stale);
        }
        let all = Runs::all_of(channel.reclaimed.iter().chain(ranges()));
        let Some(reclaimed) = all.map(|all| all.not_below(channel.stats.first_seq)) else { return Err(stale) };
        channel.set_reclaimed(reclaimed, effects);
        channel.lose(gone, effects);
        effects.put(Key::Compaction(id), &channel.compaction);
        let step = channel.compaction.step;
        self.age(id, effects);
        Ok(OperationReply::Compacted { step })
    }
}

impl Channel {
    /// How many messages from a place on have given their space back.
    pub(super) fn count_reclaimed(&self, seq: u64) -> u64 {
        self.reclaimed.count_within(seq..u64::MAX)
    }

    /// The channel's beginning has moved.
    pub(super) fn reclaimed_passed(&mut self, effects: &mut Effects) {
        let left = self.reclaimed.not_below(self.stats.first_seq);
        self.set_reclaimed(left, effects);
    }

    fn set_reclaimed(&mut self, reclaimed: Runs, effects: &mut Effects) {
        if self.reclaimed == reclaimed {
            return;
        }
        if reclaimed.is_empty() {
            effects.delete(Key::Reclaimed(self.meta.id));
        } else {
            effects.put(Key::Reclaimed(self.meta.id), &reclaimed);
        }
        self.reclaimed = reclaimed;
    }

    /// Whether a restored record is one of a channel with these counters.
    pub(super) fn check_reclaimed(&self) -> Result<(), String> {
        let ours = Runs::all_of(self.reclaimed.iter()).is_some_and(|runs| runs == self.reclaimed);
        let within = |run: Range<u64>| self.stats.first_seq <= run.start && run.end < self.stats.next_seq;
        if ours && self.reclaimed.iter().all(within) && self.count_reclaimed(0) <= self.compaction.removed {
            return Ok(());
        }
        Err("what was taken out behind an unsettled message was not there".into())
    }
}
