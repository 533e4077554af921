//! What a channel lets go of: what is beyond its limits, older than it keeps, acknowledged by all, or trimmed.
//!
//! Only a channel's oldest messages go, and [`Machine::advance`] is the only place where its first sequence number
//! moves. It moves at once, with the log entry that caused it; the store is cut when it is worth it (see `marks`).

use super::{
    Effects, Machine,
    channel::Channel,
    keys::{Key, record},
    marks::Marks,
};
use crate::model::{
    ChannelId, ChannelName, ChannelStats, Frame, Full, KeyOutcome, OperationReply, PublishGroup, Refusal, Retention,
    Route, WhenFull,
};

/// Changes of plain keys after which one command lets go of no more old messages: after a long rest those of all channels may
/// be due at once. The next command goes on.
pub(super) const AGED_AT_ONCE: usize = 16_384;

/// What a channel still takes of a group: messages in order, until one does not fit.
pub(super) struct Room {
    messages: u64,
    bytes: u64,
    max_messages: u64,
    max_bytes: u64,
    full: Option<Full>,
}

impl Room {
    /// Of a channel that holds so many messages and bytes.
    fn of(retention: &Retention, held: u64, held_bytes: u64) -> Self {
        let refuses = retention.when_full == WhenFull::RefuseNew;
        let left = |limit: Option<u64>, used: u64| match limit {
            Some(limit) if refuses => limit.saturating_sub(used),
            _ => u64::MAX,
        };
        Self {
            messages: left(retention.max_messages, held),
            bytes: left(retention.max_bytes, held_bytes),
            max_messages: retention.max_messages.unwrap_or(u64::MAX),
            max_bytes: retention.max_bytes.unwrap_or(u64::MAX),
            full: None,
        }
    }

    /// Whether all of a frame fits for certain.
    fn fits(&self, frame: &Frame) -> bool {
        let (messages, bytes) = (u64::from(frame.count()), frame.len() as u64);
        messages <= self.messages && bytes <= self.bytes.min(self.max_bytes)
    }

    /// Takes the next message, or says why not. Once one does not fit, those after it must not overtake it.
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), KeyOutcome> {
        if bytes > self.max_bytes {
            return Err(KeyOutcome::TooLarge { bytes, limit: self.max_bytes });
        }
        if self.full.is_none() && self.messages == 0 {
            self.full = Some(Full::Messages(self.max_messages));
        }
        if self.full.is_none() && bytes > self.bytes {
            self.full = Some(Full::Bytes(self.max_bytes));
        }
        if let Some(full) = self.full {
            return Err(KeyOutcome::Full(full));
        }
        self.messages -= 1;
        self.bytes -= bytes;
        Ok(())
    }

    /// Whether it takes all messages at some positions of a frame for certain, also behind so many messages and bytes.
    fn takes_behind(&self, (messages, bytes): (u64, u64), frame: &Frame, positions: &[u32]) -> bool {
        let (count, size) = (u64::from(frame.count()), frame.bytes().len() as u64);
        let room = messages.saturating_add(count) <= self.messages && bytes.saturating_add(size) <= self.bytes;
        let large = |(position, bytes): (u32, u64)| bytes > self.max_bytes && positions.contains(&position);
        room && (size <= self.max_bytes || !(0u32..).zip(frame.sizes()).any(large))
    }

    /// Takes all messages at some positions of a frame, or says which one it does not take, and why.
    pub(super) fn take_copies(&mut self, frame: &Frame, positions: &[u32]) -> Result<(), (u32, KeyOutcome)> {
        let sizes: Vec<u64> = frame.sizes().collect();
        let sized = positions.iter().filter_map(|position| Some((*position, *sizes.get(*position as usize)?)));
        sized.into_iter().try_for_each(|(position, size)| self.take(size).map_err(|outcome| (position, outcome)))
    }
}

impl Channel {
    fn retention(&self) -> &Retention {
        &self.meta.config.retention
    }

    /// None where the channel takes all of a frame.
    pub(super) fn room(&self, frame: &Frame) -> Option<Room> {
        self.limited_room().filter(|room| !room.fits(frame))
    }

    /// None where the channel takes all that may come. What waits for its time has its place already, so that it finds
    /// it when it becomes visible.
    pub(super) fn limited_room(&self) -> Option<Room> {
        let (retention, stats) = (self.retention(), &self.stats);
        let limits = self.is_durable() && (retention.max_messages.is_some() || retention.max_bytes.is_some());
        let held = stats.next_seq - stats.first_seq + self.delays.len();
        limits.then(|| Room::of(retention, held, stats.bytes + self.delays.bytes()))
    }

    /// Takes note of messages that are about to be appended.
    pub(super) fn measure(&mut self, frame: &Frame, time_ms: u64) {
        self.marks.append(frame, time_ms, &self.stats, &self.meta.config.retention);
        self.stats.appended_bytes += frame.len() as u64;
        self.stats.newest_ms = time_ms;
    }

    /// The first message that the channel's limits let stay.
    fn limited(&self, now_ms: u64) -> u64 {
        limited(&self.marks, &self.stats, self.retention(), now_ms)
    }

    /// About how many messages would go at once under other limits.
    fn would_remove(&self, retention: &Retention, now_ms: u64) -> u64 {
        let (stats, mut marks) = (&self.stats, self.marks.clone());
        marks.refine(stats, retention);
        let passed = limited(&marks, stats, retention, now_ms).min(stats.next_seq) - stats.first_seq;
        passed - self.removed_within(passed)
    }

    /// When the oldest messages are too old.
    pub(super) fn next_aging_ms(&self) -> Option<u64> {
        let age_ms = self.retention().max_age_ms?;
        self.marks.oldest_ms(&self.stats).map(|time_ms| time_ms.saturating_add(age_ms))
    }
}

/// The first message that limits let stay.
fn limited(marks: &Marks, stats: &ChannelStats, retention: &Retention, now_ms: u64) -> u64 {
    let mut first = stats.first_seq;
    if let Some(age_ms) = retention.max_age_ms {
        first = first.max(marks.younger_than(age_ms, now_ms, stats));
    }
    if retention.when_full == WhenFull::DropOldest {
        if let Some(most) = retention.max_messages {
            first = first.max(stats.next_seq.saturating_sub(most));
        }
        if let Some(most) = retention.max_bytes {
            first = first.max(marks.newest_within(most, stats));
        }
    }
    first
}

impl Machine {
    pub(super) fn restore_mark(&mut self, id: ChannelId, seq: u64, value: &[u8]) -> Result<(), String> {
        let mark = record("mark", value)?;
        self.restored_channel(id)?.marks.restore(seq, mark);
        Ok(())
    }

    /// About how many messages of a channel would go at once if it kept something else. To become a work queue removes
    /// nothing by itself.
    pub fn would_remove(&self, id: ChannelId, retention: &Retention) -> u64 {
        let channel = self.channels.get(&id).filter(|channel| channel.is_durable());
        channel.map_or(0, |channel| channel.would_remove(retention, self.record.time_ms))
    }

    /// Lets go of what a channel keeps no longer, after anything that may have changed that.
    pub(super) fn retain(&mut self, id: ChannelId, effects: &mut Effects) {
        let acknowledged = self.work_queue_floor(id);
        let now_ms = self.record.time_ms;
        let Some(channel) = self.channels.get(&id).filter(|channel| channel.is_durable()) else { return };
        let first_seq = channel.limited(now_ms).max(acknowledged.unwrap_or_default());
        self.advance(id, first_seq, false, true, effects);
        self.age(id, effects);
    }

    /// The new limits of a channel.
    pub(super) fn retention_changed(&mut self, id: ChannelId, effects: &mut Effects) {
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.marks.refine(&channel.stats, &channel.meta.config.retention);
            let bytes = channel.marks.bytes(channel.stats.first_seq, &channel.stats);
            if bytes != channel.stats.bytes {
                channel.stats.bytes = bytes;
                effects.put(Key::Stats(id), &channel.stats);
            }
        }
        self.retain(id, effects);
    }

    /// What is too old by now, in all channels, as far as one command goes.
    pub(super) fn expire_messages(&mut self, effects: &mut Effects) {
        let most = effects.writes.puts.len() + AGED_AT_ONCE;
        while let Some((expiry, id)) = self.agings.first().copied()
            && expiry <= self.record.time_ms
            && effects.writes.puts.len() < most
        {
            self.retain(id, effects);
        }
    }

    pub(super) fn trim(
        &mut self,
        name: &ChannelName,
        up_to: u64,
        effects: &mut Effects,
    ) -> Result<OperationReply, Refusal> {
        let id = self.id_of(name)?;
        self.advance(id, up_to, true, true, effects);
        self.age(id, effects);
        let first_seq = self.stats(id).ok_or(Refusal::NoSuchChannel)?.first_seq;
        Ok(OperationReply::Trimmed { first_seq })
    }

    /// Whether the channels that get copies take them.
    pub(super) fn check_room(&self, routes: &[Route], frame: &Frame) -> Result<(), Refusal> {
        let refused = routes.iter().filter_map(|Route { target, positions, .. }| {
            let mut room = self.channels.get(target)?.room(frame)?;
            let (position, outcome) = room.take_copies(frame, positions).err()?;
            Some((position, *target, outcome))
        });
        match refused.min_by_key(|(position, target, _)| (*position, *target)) {
            Some((position, channel, outcome)) => Err(Refusal::CopyRefused { channel, position, outcome }),
            None => Ok(()),
        }
    }

    /// Whether all copies that a group makes are taken for certain, also when so many messages and bytes come before it. Of
    /// another group it may be that one copy refuses the whole.
    pub fn takes_copies(&self, group: &PublishGroup, before: (u64, u64)) -> bool {
        group.routes.iter().all(|Route { target, positions, .. }| {
            let room = self.channels.get(target).and_then(Channel::limited_room);
            room.is_none_or(|room| room.takes_behind(before, &group.frame, positions))
        })
    }

    /// The first message of a work queue that a consumer has not settled, or that none answers for; none where that does
    /// not matter.
    fn work_queue_floor(&self, id: ChannelId) -> Option<u64> {
        let channel = self.channels.get(&id)?;
        if !channel.retention().work_queue {
            return None;
        }
        let floor = self.settled_floor(id)?;
        let floor = channel.orphans.map_or(floor, |orphans| orphans.from.min(floor));
        Some(self.consumers.after_settled(id, floor))
    }

    /// Moves a channel's first sequence number forward. What consumers have not settled is `lost` to them, unless it went
    /// elsewhere.
    pub(super) fn advance(&mut self, id: ChannelId, first_seq: u64, at_once: bool, lost: bool, effects: &mut Effects) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let first_seq = first_seq.min(channel.stats.next_seq);
        let before = channel.stats.first_seq;
        if first_seq > before {
            channel.stats.first_seq = first_seq;
            channel.passed_removed(before, effects);
            channel.forget_redriven(|seq| seq < first_seq, effects);
            if let Some(cut) = channel.marks.advance(first_seq, at_once, &channel.stats) {
                effects.writes.removes.push((channel.stream.clone(), cut));
            }
            channel.stats.bytes = channel.marks.bytes(first_seq, &channel.stats);
            effects.put(Key::Stats(id), &channel.stats);
            self.orphans_trimmed(id, first_seq, effects);
            self.trimmed(id, first_seq, lost);
            self.settled_trimmed(id, first_seq, effects);
        }
    }

    /// Writes the marks that changed, and takes note of when the channel's oldest messages are too old.
    pub(super) fn age(&mut self, id: ChannelId, effects: &mut Effects) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        for (seq, mark) in channel.marks.take_changes() {
            match mark {
                Some(mark) => effects.put(Key::Mark(id, seq), &mark),
                None => effects.delete(Key::Mark(id, seq)),
            }
        }
        let (before, after) = (channel.aging_ms, channel.next_aging_ms());
        if before != after {
            channel.aging_ms = after;
            before.map(|expiry| self.agings.remove(&(expiry, id)));
            self.agings.extend(after.map(|expiry| (expiry, id)));
        }
    }
}
