//! Messages that wait for their time. Their payloads lie in the store under keys of their own; the machine remembers
//! when each is due, and the key that it claimed. The leader reads the payloads of those that are due back and proposes
//! them; whoever waits no longer by then was appended by an earlier proposal and is left out, so that each comes once.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    ops::Bound,
};

use bytes::Bytes;

use super::{
    Effects, Machine,
    dedup::{Claims, Run},
    keys::{Key, record},
};
use crate::model::{
    ChannelId, Delayed, Digest, Due, KeyHash, OperationReply, Refusal, Schedule, Scheduled, StateLimits, Waiting,
    WaitingRecord,
};

/// The plain key under which a message waits, with a [`WaitingRecord`].
pub fn delayed_key(channel: ChannelId, id: u64) -> Bytes {
    Key::Delayed(channel, id).encode()
}

/// The messages of one channel that wait.
#[derive(Debug, Default)]
pub(super) struct Delays {
    by_id: BTreeMap<u64, Delay>,
    bytes: u64,
    /// Looked up only, never iterated: see the window of the other keys.
    keys: HashMap<KeyHash, u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Delay {
    pub(super) due_ms: u64,
    pub(super) bytes: u64,
    pub(super) claim: Option<(KeyHash, Digest)>,
}

impl Delays {
    /// When the message with this key is due, and the digest of its payload.
    pub(super) fn get(&self, key: &KeyHash) -> Option<(u64, Digest)> {
        let delay = self.by_id.get(self.keys.get(key)?)?;
        Some((delay.due_ms, delay.claim?.1))
    }

    pub(super) fn len(&self) -> u64 {
        self.by_id.len() as u64
    }

    /// Bytes of the messages.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// False when its key waits already.
    fn insert(&mut self, id: u64, delay: Delay) -> bool {
        let fresh = delay.claim.is_none_or(|(key, _)| self.keys.insert(key, id).is_none());
        self.bytes += delay.bytes;
        self.by_id.insert(id, delay);
        fresh
    }

    fn remove(&mut self, id: u64) -> Option<Delay> {
        let delay = self.by_id.remove(&id)?;
        self.bytes -= delay.bytes;
        if let Some((key, _)) = delay.claim {
            self.keys.remove(&key);
        }
        Some(delay)
    }
}

impl Machine {
    /// When the first of all messages that wait is due: a time of day, as its publisher meant it.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.dues.first().map(|(due_ms, ..)| *due_ms)
    }

    /// The messages that are due at a time of day, at most `limit`, in the order in which they come.
    pub fn due(&self, now_ms: u64, limit: usize) -> Vec<Waiting> {
        let due = self.dues.iter().take_while(|(due_ms, ..)| *due_ms <= now_ms).take(limit);
        due.map(|(due_ms, id, channel)| Waiting { channel: *channel, id: *id, due_ms: *due_ms }).collect()
    }

    /// The ids of a channel's messages that wait, with the bytes of each, in the order of scheduling; those above `after`.
    pub fn delayed_ids(&self, channel: ChannelId, after: u64) -> impl Iterator<Item = (u64, u64)> {
        let above = (Bound::Excluded(after), Bound::Unbounded);
        let channel = self.channels.get(&channel).into_iter();
        channel.flat_map(move |channel| channel.delays.by_id.range(above).map(|(id, delay)| (*id, delay.bytes)))
    }

    /// Messages of a channel that wait.
    pub fn delayed(&self, channel: ChannelId) -> u64 {
        self.channels.get(&channel).map_or(0, |channel| channel.delays.len())
    }

    pub(super) fn schedule(&mut self, schedule: Schedule, effects: &mut Effects) -> Result<OperationReply, Refusal> {
        let Schedule { channel: id, schema_id, messages } = schedule;
        let channel = self.channels.get(&id).ok_or(Refusal::NoSuchChannel)?;
        if channel.meta.schema_id != schema_id {
            return Err(Refusal::StaleSchema { current: channel.meta.schema_id });
        }
        if !channel.is_durable() {
            return Err(Refusal::Ephemeral);
        }
        let before = self.last_delayed;
        let outcomes = messages.into_iter().map(|message| self.delay(id, schema_id, message, effects)).collect();
        if self.last_delayed != before {
            effects.put(Key::LastDelayed, &self.last_delayed);
        }
        Ok(OperationReply::Scheduled(outcomes))
    }

    fn delay(&mut self, channel_id: ChannelId, schema_id: u64, message: Delayed, effects: &mut Effects) -> Scheduled {
        let Some(channel) = self.channels.get_mut(&channel_id) else {
            return Scheduled::TooMany { limit: 0 }; // the caller has found the channel
        };
        if let Some(known) = message.claim.and_then(|(key, digest)| channel.known(key, digest)) {
            return Scheduled::Known(known);
        }
        let StateLimits { delayed_messages, delayed_bytes, .. } = self.state_limits;
        if channel.delays.len() >= delayed_messages {
            return Scheduled::TooMany { limit: delayed_messages };
        }
        let bytes = message.frame.len() as u64;
        if let Some(full) = channel.room(&message.frame).and_then(|mut room| room.take(bytes).err()) {
            return Scheduled::Known(full);
        }
        let (value, limit) = (self.delayed_bytes + bytes, delayed_bytes);
        if value > limit {
            return Scheduled::TooManyBytes { value, limit };
        }
        self.last_delayed += 1;
        let id = self.last_delayed;
        channel.delays.insert(id, Delay { due_ms: message.due_ms, bytes, claim: message.claim });
        self.dues.insert((message.due_ms, id, channel_id));
        self.delayed_bytes = value;
        effects.put(Key::Delayed(channel_id, id), &WaitingRecord { schema_id, message });
        Scheduled::New
    }

    /// Appends those of the messages that still wait and are due. Their keys move to the channel's window, where they
    /// live as long as if they had been published now. What was acknowledged is never dropped: there may be more keys
    /// than the limit says, and a channel that refuses new messages while it is full gets the copies all the same. (In
    /// its own channel a message has its place from the time that it waits.)
    pub(super) fn release(&mut self, due: Due, effects: &mut Effects) -> Result<OperationReply, Refusal> {
        let Due { ids, group } = due;
        let (id, time_ms) = (group.channel, self.record.time_ms);
        let today_ms = self.today_ms();
        self.check_routing(&group)?;
        let channel = self.channels.get_mut(&id).ok_or(Refusal::NoSuchChannel)?;
        let expiry_before = channel.next_expiry_ms();
        let others = self.keys - channel.dedup.len();
        let (mut except, mut runs) = (Vec::new(), Vec::new());
        for (position, delayed) in (0u32..).zip(ids) {
            let is_due = channel.delays.by_id.get(&delayed).is_some_and(|delay| delay.due_ms <= today_ms);
            let Some(delay) = is_due.then(|| channel.delays.remove(delayed)).flatten() else {
                except.push(position);
                continue;
            };
            self.dues.remove(&(delay.due_ms, delayed, id));
            self.delayed_bytes -= delay.bytes;
            effects.delete(Key::Delayed(id, delayed));
            if let Some((key, digest)) = delay.claim {
                let seq = channel.stats.next_seq + u64::from(position) - except.len() as u64;
                channel.dedup.remember(key, digest, seq);
                Run::add(&mut runs, seq, key, digest);
            }
        }
        channel.dedup.seal(time_ms, &runs);
        channel.stats.live_keys = channel.dedup.len();
        self.keys = others + channel.dedup.len();
        let expiry = channel.next_expiry_ms();
        if let Some(first) = runs.first() {
            effects.put(Key::Claims(id, first.first_seq), &Claims { time_ms, runs: Cow::Borrowed(&runs) });
        }
        let appended = channel.append_checked(group.frame.without(&except), time_ms, group.expires, group.schema_id);
        let count = appended.as_ref().map_or(0, |batch| batch.frame.count());
        if let Some(batch) = appended {
            effects.appended(channel, batch);
            if !group.routes.is_empty() {
                self.copy(&group.routes, &group.frame, group.expires, &except, effects);
            }
        }
        self.reschedule(id, expiry_before, expiry);
        Ok(OperationReply::Due(count))
    }

    /// Takes a message back that waits. Its key is free from then on: nothing is stored under it, and whoever publishes
    /// with it again means a new message. A withdrawal that is repeated finds nothing.
    pub(super) fn withdraw(
        &mut self,
        id: ChannelId,
        delayed: u64,
        effects: &mut Effects,
    ) -> Result<OperationReply, Refusal> {
        let channel = self.channels.get_mut(&id).ok_or(Refusal::NoSuchChannel)?;
        let Some(delay) = channel.delays.remove(delayed) else { return Ok(OperationReply::Withdrawn(false)) };
        self.dues.remove(&(delay.due_ms, delayed, id));
        self.delayed_bytes -= delay.bytes;
        effects.delete(Key::Delayed(id, delayed));
        Ok(OperationReply::Withdrawn(true))
    }

    /// A channel takes its messages that wait with it.
    pub(super) fn delete_delayed(&mut self, id: ChannelId, delays: &Delays, effects: &mut Effects) {
        for (delayed, delay) in &delays.by_id {
            self.dues.remove(&(delay.due_ms, *delayed, id));
            self.delayed_bytes -= delay.bytes;
            effects.delete(Key::Delayed(id, *delayed));
        }
    }

    pub(super) fn restore_delayed(&mut self, channel: ChannelId, id: u64, value: &[u8]) -> Result<(), String> {
        let stored: WaitingRecord = record("delayed message", value)?;
        let Delayed { due_ms, claim, frame, .. } = &stored.message;
        let (due_ms, bytes) = (*due_ms, frame.len() as u64);
        if frame.count() != 1 {
            return Err(format!("it holds {} messages instead of one", frame.count()));
        }
        let known = self.channels.get_mut(&channel).ok_or_else(|| format!("there is no channel {}", channel.0))?;
        if !known.delays.insert(id, Delay { due_ms, bytes, claim: *claim }) {
            return Err(format!("the idempotency key of message {id} waits twice"));
        }
        self.dues.insert((due_ms, id, channel));
        self.delayed_bytes += bytes;
        Ok(())
    }

    pub(super) fn restore_last_delayed(&mut self, value: &[u8]) -> Result<(), String> {
        self.last_delayed = record("delayed messages", value)?;
        Ok(())
    }

    /// A lost counter would give ids a second time.
    pub(super) fn check_last_delayed(&self) -> Result<(), String> {
        let newest = self.dues.iter().map(|(_, id, _)| *id).max().unwrap_or(0);
        if newest > self.last_delayed {
            let key = Key::LastDelayed.encode();
            return Err(format!("key `{}`: it does not know of message {newest}", key.escape_ascii()));
        }
        Ok(())
    }
}
