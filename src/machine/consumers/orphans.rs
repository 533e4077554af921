//! What of a work queue no consumer answers for. Where a consumer begins, where it is moved to, and that it is deleted say
//! nothing of the messages that it leaves behind: they stay until somebody has worked on them.

use super::Consumer;
use crate::{
    machine::{Effects, Machine, keys::Key},
    model::{ChannelId, ConsumerId, Orphans},
};

impl Machine {
    /// A new consumer begins at a message.
    pub(super) fn begins_at(&mut self, id: ChannelId, begin: u64, effects: &mut Effects) {
        let alone = self.consumers.of(id).next().is_none();
        let Some(channel) = self.channels.get(&id).filter(|channel| channel.meta.config.retention.work_queue) else {
            return;
        };
        let orphans = if alone {
            // Nobody answered for anything.
            Some(Orphans { from: channel.stats.first_seq, until: begin })
        } else {
            channel.orphans.and_then(|orphans| taken_over(orphans, begin))
        };
        self.set_orphans(id, orphans, effects);
    }

    /// From now on a consumer answers only for what lies from `next` on. What it has not settled before that is left behind,
    /// up to where another consumer goes on.
    pub(super) fn goes_on_at(&mut self, consumer: ConsumerId, next: u64, effects: &mut Effects) {
        let Some(present) = self.consumers.get(consumer) else { return };
        let (id, floor) = (present.meta.channel, present.floor());
        let others = self.consumers.of(id).filter(|other| other.meta.id != consumer).map(Consumer::floor).min();
        let Some(channel) = self.channels.get(&id).filter(|channel| channel.meta.config.retention.work_queue) else {
            return;
        };
        let until = others.unwrap_or(u64::MAX).min(next).min(channel.stats.next_seq);
        let left = Orphans { from: floor, until };
        let orphans = match channel.orphans {
            present if left.from >= left.until => present.and_then(|orphans| taken_over(orphans, next)),
            None => Some(left),
            Some(Orphans { from, until }) => Some(Orphans { from: from.min(left.from), until: until.max(left.until) }),
        };
        self.set_orphans(id, orphans, effects);
    }

    /// A channel became a work queue, or is none any longer. Who settled what lies behind its consumers is not known.
    pub(in crate::machine) fn work_queue_turned(&mut self, id: ChannelId, turned: (bool, bool), effects: &mut Effects) {
        if turned.0 != turned.1 {
            self.forget_settled(id, effects);
        }
        match turned {
            (false, true) => {
                let first_seq = self.channels.get(&id).map_or(0, |channel| channel.stats.first_seq);
                let orphans = self.settled_floor(id).map(|floor| Orphans { from: first_seq, until: floor });
                self.set_orphans(id, orphans, effects);
            }
            (true, false) => self.set_orphans(id, None, effects),
            (false, false) | (true, true) => {}
        }
    }

    /// Messages below a sequence number are gone.
    pub(in crate::machine) fn orphans_trimmed(&mut self, id: ChannelId, first_seq: u64, effects: &mut Effects) {
        let orphans = self.channels.get(&id).and_then(|channel| channel.orphans);
        if let Some(Orphans { from, until }) = orphans {
            self.set_orphans(id, Some(Orphans { from: from.max(first_seq), until }), effects);
        }
    }

    fn set_orphans(&mut self, id: ChannelId, orphans: Option<Orphans>, effects: &mut Effects) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let orphans = orphans.filter(|orphans| orphans.from < orphans.until);
        if channel.orphans != orphans {
            channel.orphans = orphans;
            match orphans {
                Some(orphans) => effects.put(Key::Orphans(id), &orphans),
                None => effects.delete(Key::Orphans(id)),
            }
        }
    }
}

/// What is left of orphans when a consumer answers for everything from a message on.
fn taken_over(orphans: Orphans, begin: u64) -> Option<Orphans> {
    (orphans.from < begin).then_some(Orphans { until: orphans.until.min(begin), ..orphans })
}
