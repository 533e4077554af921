//! Takes messages out of the middle of a channel once the leader has found that later ones replace them.
//!
//! The machine does not look into messages. It checks that a step continues the one before it and leaves the channel's
//! newest message alone; what was replaced stays replaced, so a step is never too late to be right.

use super::{
    Effects, Machine,
    channel::Channel,
    keys::{Key, record},
};
use crate::model::{ChannelId, ChannelStats, Clean, Compact, Compaction, Gone, OperationReply, Refusal};

impl Machine {
    pub(super) fn restore_compaction(&mut self, id: ChannelId, value: &[u8]) -> Result<(), String> {
        let compaction = record("compaction", value)?;
        self.restored_channel(id)?.compaction = compaction;
        Ok(())
    }

    /// How far a channel is compacted.
    pub fn compaction(&self, channel: ChannelId) -> Option<Compaction> {
        self.channels.get(&channel).map(|channel| channel.compaction)
    }

    pub(super) fn compact(&mut self, compact: Compact, effects: &mut Effects) -> Result<OperationReply, Refusal> {
        let Compact { channel: id, by, step, gone, clean } = compact;
        let channel = self.channels.get_mut(&id).ok_or(Refusal::NoSuchChannel)?;
        let by_it = channel.meta.config.retention.compact_by.as_deref() == Some(by.as_str());
        if !by_it || step != channel.compaction.step || !channel.can_lose(&gone) {
            return Err(Refusal::StaleCompaction { step: channel.compaction.step });
        }
        channel.lose(gone, effects);
        if let Some(Clean { first_seq, to, removed }) = clean {
            channel.compaction.clean_to = to.min(channel.stats.next_seq);
            if first_seq == channel.stats.first_seq {
                channel.compaction.removed = removed.max(channel.count_reclaimed(0)).min(channel.most_removed());
            }
        }
        effects.put(Key::Compaction(id), &channel.compaction);
        let step = channel.compaction.step;
        self.age(id, effects);
        Ok(OperationReply::Compacted { step })
    }

    /// A channel is compacted by another header, or no longer: nothing of it has been looked at.
    pub(super) fn compact_anew(&mut self, id: ChannelId, effects: &mut Effects) {
        if let Some(channel) = self.channels.get_mut(&id).filter(|channel| channel.compaction.step > 0) {
            channel.compaction.clean_to = 0;
            // A pass that is under way goes by the old header.
            channel.compaction.step += 1;
            effects.put(Key::Compaction(id), &channel.compaction);
        }
    }
}

impl Channel {
    /// Takes messages out of the middle, as the next step; its record is to be written.
    pub(super) fn lose(&mut self, gone: Vec<Gone>, effects: &mut Effects) {
        // What lies below the beginning goes with it.
        let gone: Vec<Gone> = gone.into_iter().filter_map(|gone| gone.from_seq(self.stats.first_seq)).collect();
        self.compaction.step += 1;
        let removed = self.compaction.removed + gone.iter().map(|gone| gone.count).sum::<u64>();
        // What it was before may be an estimate.
        self.compaction.removed = removed.min(self.most_removed());
        if gone.is_empty() {
            return;
        }
        self.forget_redriven(|seq| gone.iter().any(|gone| (gone.first_seq..gone.end_seq()).contains(&seq)), effects);
        self.marks.remove(&gone, &self.stats);
        let ranges = gone.iter().map(|gone| gone.first_seq..gone.end_seq()).collect();
        effects.writes.thins.push((self.stream.clone(), ranges));
        self.stats.bytes = self.marks.bytes(self.stats.first_seq, &self.stats);
        effects.put(Key::Stats(self.meta.id), &self.stats);
    }

    /// Whether messages are in order, and none of them is the newest or yet to come.
    pub(super) fn can_lose(&self, gone: &[Gone]) -> bool {
        let mut from = 0;
        gone.iter().all(|gone| {
            let next = gone.first_seq >= from && gone.count > 0 && gone.end_seq() < self.stats.next_seq;
            from = gone.end_seq();
            next
        })
    }

    /// Messages that are there.
    pub(super) fn stored(&self) -> u64 {
        (self.stats.next_seq - self.stats.first_seq).saturating_sub(self.compaction.removed)
    }

    /// How many messages there are from a place on: exactly where nothing was taken out of the middle, and else about as
    /// many as the bytes there say.
    pub(super) fn stored_from(&self, seq: u64) -> u64 {
        let stats = &self.stats;
        let (places, removed) = (stats.next_seq.saturating_sub(seq.max(stats.first_seq)), self.compaction.removed);
        // Where else something is missing is not known.
        if removed == self.count_reclaimed(0) || places == 0 {
            return places - self.count_reclaimed(seq).min(places);
        }
        let stored = self.stored();
        let there = in_proportion(stored, self.marks.bytes(seq.max(stats.first_seq), stats), stats.bytes);
        // No more is missing here than in all, and the newest message is never.
        there.clamp(places.saturating_sub(removed).max(1), places.min(stored))
    }

    /// The newest message is never removed by compaction.
    pub(super) fn most_removed(&self) -> u64 {
        (self.stats.next_seq - self.stats.first_seq).saturating_sub(1)
    }

    /// The channel's beginning has moved from `before`: in proportion, some of what is missing lies before it.
    pub(super) fn passed_removed(&mut self, before: u64, effects: &mut Effects) {
        let Compaction { removed, .. } = self.compaction;
        if removed == 0 {
            return;
        }
        let others = removed.saturating_sub(self.count_reclaimed(0));
        let below = in_proportion(others, self.stats.first_seq - before, self.stats.next_seq - before);
        self.reclaimed_passed(effects);
        let left = others - below + self.count_reclaimed(0);
        self.compaction.removed = left.min(self.most_removed());
        effects.put(Key::Compaction(self.meta.id), &self.compaction);
    }

    /// About how many of the channel's first places are without a message.
    pub(super) fn removed_within(&self, places: u64) -> u64 {
        let ChannelStats { first_seq, next_seq, .. } = self.stats;
        let others = self.compaction.removed.saturating_sub(self.count_reclaimed(0));
        let reclaimed = self.reclaimed.count_within(first_seq..first_seq + places);
        reclaimed + in_proportion(others, places, next_seq - first_seq)
    }

    /// Whether a restored record is one of a channel with these counters.
    pub(super) fn check_compaction(&self) -> Result<(), String> {
        let Compaction { clean_to, removed, .. } = self.compaction;
        if clean_to > self.stats.next_seq || removed > self.most_removed() {
            return Err(format!("{removed} messages below {clean_to} are more than the channel may have lost"));
        }
        Ok(())
    }
}

fn in_proportion(removed: u64, passed: u64, all: u64) -> u64 {
    let below = u128::from(removed) * u128::from(passed) / u128::from(all.max(1));
    u64::try_from(below).unwrap_or(removed)
}
