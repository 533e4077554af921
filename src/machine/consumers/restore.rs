//! Consumers as they were stored, and what does not fit.

use super::{BLOCK, Consumer, Consumers, PendingBlock};
use crate::{
    machine::{
        Machine,
        keys::{Key, record},
    },
    model::{ConsumerId, ConsumerMeta, Cursor, Lost},
};

impl Machine {
    /// Takes a stored key.
    pub(in crate::machine) fn restore_consumers(&mut self, key: Key, value: &[u8]) -> Result<(), String> {
        match key {
            Key::Consumers => self.consumers.last_id = record("newest consumer", value)?,
            Key::Consumer(id) => self.restore_consumer(id, record("consumer", value)?)?,
            Key::Cursor(id) => self.restore_cursor(id, record("cursor", value)?)?,
            Key::Lost(id) => self.restore_lost(id, record("lost messages", value)?)?,
            Key::Deferred(id, block) => self.restore_deferred(id, block, record("messages passed over", value)?)?,
            Key::Pending(id, block) => self.restore_pending(id, block, record("pending messages", value)?)?,
            Key::Orphans(id) => {
                let orphans = record("orphans", value)?;
                self.restored_channel(id)?.orphans = Some(orphans);
            }
            Key::Settled(id) => drop(self.consumers.settled.insert(id, record("settled messages", value)?)),
            _ => return Err("it has nothing to do with consumers".into()),
        }
        Ok(())
    }

    fn restore_consumer(&mut self, id: ConsumerId, meta: ConsumerMeta) -> Result<(), String> {
        if meta.id != id {
            return Err(format!("the consumer says that its id is {}", meta.id.0));
        }
        let names = self.consumers.names.entry(meta.channel).or_default();
        if let Some(other) = names.insert(meta.name.clone(), id) {
            return Err(format!("the name `{}` belongs to consumer {} already", meta.name, other.0));
        }
        self.consumers.by_id.insert(id, Consumer::new(meta, u64::MAX));
        Ok(())
    }

    /// In byte order, as they are read, cursors come after their consumers, and before what is pending.
    fn restore_cursor(&mut self, id: ConsumerId, cursor: Cursor) -> Result<(), String> {
        let consumer = self.consumers.by_id.get_mut(&id).ok_or_else(|| format!("there is no consumer {}", id.0))?;
        consumer.cursor = cursor;
        Ok(())
    }

    fn restore_lost(&mut self, id: ConsumerId, lost: Lost) -> Result<(), String> {
        let consumer = self.consumers.by_id.get_mut(&id).ok_or_else(|| format!("there is no consumer {}", id.0))?;
        consumer.lost = Some(lost);
        Ok(())
    }

    /// In byte order it comes after the cursors and before what is pending.
    fn restore_deferred(&mut self, id: ConsumerId, block: u64, mask: u64) -> Result<(), String> {
        let consumer = self.consumers.by_id.get_mut(&id).ok_or_else(|| format!("there is no consumer {}", id.0))?;
        let last = mask.checked_ilog2().ok_or("it holds no message")?;
        let last = block.checked_mul(BLOCK).and_then(|first| first.checked_add(u64::from(last)));
        if last.is_none_or(|last| last >= consumer.cursor.next) {
            return Err("a message that was passed over is out of place".into());
        }
        consumer.deferred.insert(block, mask);
        Ok(())
    }

    fn restore_pending(&mut self, id: ConsumerId, block: u64, stored: PendingBlock) -> Result<(), String> {
        let Consumers { by_id, schedule, .. } = &mut self.consumers;
        let consumer = by_id.get_mut(&id).ok_or_else(|| format!("there is no consumer {}", id.0))?;
        if stored.0.is_empty() {
            return Err("it holds no message".into());
        }
        let mut least = 0;
        for (offset, pending) in stored.0 {
            let seq = block.checked_mul(BLOCK).and_then(|first| first.checked_add(u64::from(offset)));
            let fits = u64::from(offset) < BLOCK && offset >= least;
            let free = |seq: &u64| *seq < consumer.cursor.next && !consumer.deferred.contains(*seq);
            let Some(seq) = seq.filter(|seq| fits && free(seq)) else {
                return Err(format!("its message at {offset} is out of place"));
            };
            least = offset.saturating_add(1);
            consumer.put(seq, pending, schedule);
            if !consumer.pending.contains_key(&seq) {
                return Err(format!("message {seq} is dead, and its consumer keeps no dead ones"));
            }
        }
        Ok(())
    }

    /// Every consumer has a channel and a cursor, and none is newer than the newest.
    pub(in crate::machine) fn check_consumers(&mut self) -> Result<(), String> {
        let missing = |key: Key| format!("key `{}` is missing or too low", key.encode().escape_ascii());
        for (id, consumer) in &self.consumers.by_id {
            let channel = consumer.meta.channel;
            let Some(channel) = self.channels.get(&channel) else {
                let key = Key::Consumer(*id).encode();
                return Err(format!("key `{}`: there is no channel {}", key.escape_ascii(), channel.0));
            };
            // Without a cursor it is beyond every end.
            if consumer.cursor.next > channel.stats.next_seq {
                let (key, next) = (Key::Cursor(*id).encode(), channel.stats.next_seq);
                return Err(format!("key `{}` is missing, or beyond the end {next}", key.escape_ascii()));
            }
            if id.0 > self.consumers.last_id {
                return Err(missing(Key::Consumers));
            }
        }
        self.check_settled()?;
        // What was read need not be written.
        self.consumers.schedule.blocks.clear();
        self.consumers.schedule.deferred.clear();
        self.consumers.schedule.touched.clear();
        Ok(())
    }
}
