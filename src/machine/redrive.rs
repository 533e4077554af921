//! Takes dead letters out of their channel and appends them to another one, both in one entry.
//!
//! A letter is removed where it lies, as compaction removes a message, and steps of both are counted together: a step that
//! does not follow the one before it is refused, so a letter that a step has moved cannot be moved by another. The newest
//! message of a channel cannot be removed while others are left, because readers know by it that there is nothing more. Where
//! that is a letter, the channel remembers that it was redriven, and it goes with the next step.

use super::{
    Effects, Machine,
    channel::Channel,
    keys::{Key, record},
};
use crate::model::{ChannelId, Gone, OperationReply, PublishGroup, Redrive, Refusal};

impl Machine {
    pub(super) fn restore_redriven(&mut self, id: ChannelId, value: &[u8]) -> Result<(), String> {
        let redriven = record("redriven letter", value)?;
        self.restored_channel(id)?.redriven = Some(redriven);
        Ok(())
    }

    /// The newest message of a channel where it is a letter that was redriven, and cannot be removed yet.
    pub fn redriven(&self, channel: ChannelId) -> Option<u64> {
        self.channels.get(&channel)?.redriven.map(|letter| letter.first_seq)
    }

    pub(super) fn redrive(&mut self, redrive: Redrive, effects: &mut Effects) -> Result<OperationReply, Refusal> {
        let id = redrive.letters;
        let channel = self.channels.get(&id).ok_or(Refusal::NoSuchChannel)?;
        let begin = redrive.begin.unwrap_or(channel.stats.first_seq);
        let holds = redrive.is_sound() && channel.holds(&redrive.gone) && begin <= channel.stats.next_seq;
        if !holds || redrive.step != channel.compaction.step {
            return Err(Refusal::StaleRedrive { step: channel.compaction.step });
        }
        let mut first_seq = 0;
        if !redrive.gone.is_empty() {
            self.check_target(id, &redrive.group)?;
            first_seq = self.append(&redrive.group, None, effects)?.first_seq;
        }
        self.take_out(id, redrive.gone, begin, effects);
        Ok(OperationReply::Redriven { step: redrive.step + 1, first_seq })
    }

    /// Whether another channel takes all of the letters.
    fn check_target(&self, letters: ChannelId, group: &PublishGroup) -> Result<(), Refusal> {
        self.check_current(group)?;
        let target = self.channels.get(&group.channel).ok_or(Refusal::NoSuchChannel)?;
        if !target.is_durable() || group.channel == letters {
            return Err(Refusal::NotStored);
        }
        if let Some(mut room) = target.limited_room() {
            for (position, bytes) in (0u32..).zip(group.frame.sizes()) {
                room.take(bytes).map_err(|outcome| Refusal::RedriveRefused { position, outcome })?;
            }
        }
        self.check_room(&group.routes, &group.frame)
    }

    fn take_out(&mut self, id: ChannelId, mut gone: Vec<Gone>, begin: u64, effects: &mut Effects) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let end = channel.stats.next_seq;
        // What could not go with an earlier step.
        if let Some(left) = channel.redriven.take_if(|left| left.end_seq() < end) {
            let at = gone.partition_point(|other| other.first_seq < left.first_seq);
            gone.insert(at, left);
            effects.delete(Key::Redriven(id));
        }
        if begin < end
            && let Some(last) = gone.pop_if(|last| last.end_seq() == end)
            && let Some(newest) = last.from_seq(end - 1)
        {
            channel.redriven = Some(newest);
            effects.put(Key::Redriven(id), &newest);
            let (count, bytes) = (last.count - 1, last.bytes.saturating_sub(newest.bytes));
            gone.extend((count > 0).then_some(Gone { count, bytes, ..last }));
        }
        // What lies below the new beginning goes with it.
        let gone: Vec<Gone> = gone.into_iter().filter_map(|gone| gone.from_seq(begin)).collect();
        channel.compaction.step += 1;
        let removed: u64 = gone.iter().map(|gone| gone.count).sum();
        if !gone.is_empty() {
            channel.marks.remove(&gone, &channel.stats);
            let ranges = gone.iter().map(|gone| gone.first_seq..gone.end_seq()).collect();
            effects.writes.thins.push((channel.stream.clone(), ranges));
            channel.stats.bytes = channel.marks.bytes(channel.stats.first_seq, &channel.stats);
            effects.put(Key::Stats(id), &channel.stats);
        }
        // What lies behind the new beginning is counted once that is the beginning: moving it takes off what lay before.
        self.advance(id, begin, false, false, effects);
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.compaction.removed = (channel.compaction.removed + removed).min(channel.most_removed());
            effects.put(Key::Compaction(id), &channel.compaction);
        }
        self.age(id, effects);
    }
}

impl Channel {
    /// Whether letters are in order, and none of them was redriven, is removed or yet to come.
    fn holds(&self, gone: &[Gone]) -> bool {
        let mut from = self.stats.first_seq;
        gone.iter().all(|gone| {
            let in_order = gone.first_seq >= from && gone.count > 0 && gone.end_seq() <= self.stats.next_seq;
            from = gone.end_seq();
            let redriven = |left: Gone| (gone.first_seq..gone.end_seq()).contains(&left.first_seq);
            in_order && !self.redriven.is_some_and(redriven)
        })
    }

    /// Messages were removed, at some place or all before another one: what was redriven may have been among them.
    pub(super) fn forget_redriven(&mut self, removed: impl Fn(u64) -> bool, effects: &mut Effects) {
        if self.redriven.take_if(|letter| removed(letter.first_seq)).is_some() {
            effects.delete(Key::Redriven(self.meta.id));
        }
    }

    /// Whether a restored record is one of this channel.
    pub(super) fn check_redriven(&self) -> Result<(), String> {
        match self.redriven {
            Some(Gone { first_seq, count, .. })
                if count != 1 || first_seq < self.stats.first_seq || first_seq >= self.stats.next_seq =>
            {
                Err(format!("the letter at {first_seq} that was redriven is not there"))
            }
            Some(_) | None => Ok(()),
        }
    }
}
