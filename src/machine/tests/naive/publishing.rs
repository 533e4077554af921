//! What the rules say of transactions (do it to a copy, and keep the copy if nothing went wrong) and of messages that
//! wait for their time (a list).

use super::*;
use crate::model::{Delayed, Due, Part, PartReply, Schedule, Scheduled, Transaction, WaitingRecord};

#[derive(Clone, Debug)]
pub(super) struct NaiveWaiting {
    id: u64,
    record: WaitingRecord,
}

/// Why a transaction is refused has tests of its own.
pub(super) fn plain(reply: Reply) -> Reply {
    let mut replies = match reply {
        Reply::Operations(replies) => replies,
        other => return other,
    };
    for reply in &mut replies {
        if matches!(reply, Err(Refusal::Part { .. })) {
            *reply = Err(Refusal::NoSuchRule);
        }
    }
    Reply::Operations(replies)
}

impl NaiveChannel {
    pub(super) fn known(&self, key: KeyHash, digest: Digest) -> Option<KeyOutcome> {
        if let Some(claim) = self.claims.iter().find(|known| known.key == key) {
            let seq = claim.seq;
            return Some(if claim.digest == digest {
                KeyOutcome::Duplicate { seq }
            } else {
                KeyOutcome::Conflict { seq }
            });
        }
        let mut waiting = self.waiting.iter().map(|waiting| &waiting.record.message);
        let Delayed { due_ms, claim, .. } = waiting.find(|message| message.claim.is_some_and(|(k, _)| k == key))?;
        let (same, due_ms) = (claim.is_some_and(|(_, known)| known == digest), *due_ms);
        Some(if same { KeyOutcome::Waiting { due_ms } } else { KeyOutcome::WaitingConflict { due_ms } })
    }
}

impl Naive {
    pub(super) fn operate(&mut self, operation: &Operation) -> Result<OperationReply, Refusal> {
        match operation {
            Operation::Transaction(transaction) => self.transact(transaction),
            Operation::Schedule(schedule) => self.schedule(schedule),
            Operation::Due(due) => self.release(due),
            Operation::Withdraw { channel, id } => {
                let found = self.channels.iter_mut().find(|found| found.meta.id == *channel);
                let found = found.ok_or(Refusal::NoSuchChannel)?;
                let before = found.waiting.len();
                found.waiting.retain(|waiting| waiting.id != *id);
                Ok(OperationReply::Withdrawn(found.waiting.len() < before))
            }
            Operation::Trim { channel, up_to } => {
                let now = self.record.time_ms;
                let found = self.named(channel).ok_or_else(|| Refusal::NoChannelNamed(channel.clone()))?;
                found.retain(now, *up_to);
                Ok(OperationReply::Trimmed { first_seq: found.stats().first_seq })
            }
            other => unreachable!("no step makes {other:?}"),
        }
    }

    fn transact(&mut self, transaction: &Transaction) -> Result<OperationReply, Refusal> {
        let groups = transaction.parts.iter().map(|part| match part {
            Part::Publish(group) => group,
            other => unreachable!("no step makes {other:?}"),
        });
        let groups: Vec<&PublishGroup> = groups.collect();
        let repeated = |group: &&PublishGroup| {
            let channel = self.channels.iter().find(|channel| channel.meta.id == group.channel);
            group.keys.len() == group.frame.count() as usize
                && group.keys.iter().all(|claim| {
                    let known = channel.and_then(|channel| channel.known(claim.key, claim.digest));
                    matches!(known, Some(KeyOutcome::Duplicate { .. }))
                })
        };
        let done_before = transaction.messages() > 0 && groups.iter().all(repeated);
        let (mut copy, mut replies) = (self.clone(), Vec::new());
        for group in groups {
            let end = copy.channels.iter().find(|channel| channel.meta.id == group.channel).map(|found| found.next_seq);
            let assigned = copy.publish(group).map_err(|_| Refusal::NoSuchRule)?;
            let expected = group.expected_seq.is_none() || group.expected_seq == end;
            if !done_before && (!assigned.except.is_empty() || !expected) {
                return Err(Refusal::NoSuchRule);
            }
            replies.push(PartReply::Published(assigned));
        }
        *self = copy;
        Ok(OperationReply::Transaction(replies))
    }

    fn schedule(&mut self, schedule: &Schedule) -> Result<OperationReply, Refusal> {
        let (most, most_bytes) = (self.limits.delayed_messages, self.limits.delayed_bytes as u64);
        let channel = self.channels.iter().find(|channel| channel.meta.id == schedule.channel);
        let meta = &channel.ok_or(Refusal::NoSuchChannel)?.meta;
        if meta.schema_id != schedule.schema_id {
            return Err(Refusal::StaleSchema { current: meta.schema_id });
        }
        if meta.config.durability == Durability::Ephemeral {
            return Err(Refusal::Ephemeral);
        }
        let mut replies = Vec::new();
        for message in &schedule.messages {
            let bytes_of = |waiting: &NaiveWaiting| waiting.record.message.frame.len() as u64;
            let held: u64 = self.channels.iter().flat_map(|channel| &channel.waiting).map(bytes_of).sum();
            let value = held + message.frame.len() as u64;
            let channel = self.channels.iter_mut().find(|channel| channel.meta.id == schedule.channel);
            let channel = channel.ok_or(Refusal::NoSuchChannel)?;
            replies.push(match message.claim.and_then(|(key, digest)| channel.known(key, digest)) {
                Some(known) => Scheduled::Known(known),
                None if channel.waiting.len() as u64 >= most => Scheduled::TooMany { limit: most },
                None if value > most_bytes => Scheduled::TooManyBytes { value, limit: most_bytes },
                None => {
                    self.last_delayed += 1;
                    let record = WaitingRecord { schema_id: schedule.schema_id, message: message.clone() };
                    channel.waiting.push(NaiveWaiting { id: self.last_delayed, record });
                    Scheduled::New
                }
            });
        }
        Ok(OperationReply::Scheduled(replies))
    }

    fn release(&mut self, due: &Due) -> Result<OperationReply, Refusal> {
        let now = self.record.time_ms;
        let channel = self.channels.iter_mut().find(|channel| channel.meta.id == due.group.channel);
        let channel = channel.ok_or(Refusal::NoSuchChannel)?;
        let (mut count, mut entry) = (0, None);
        for (id, message) in due.ids.iter().zip(due.group.frame.messages()) {
            let at = channel.waiting.iter().position(|known| known.id == *id && known.record.message.due_ms <= now);
            let Some(at) = at else { continue };
            let waiting = channel.waiting.remove(at);
            let (seq, message) = (channel.next_seq, message.unwrap());
            channel.next_seq += 1;
            let size = Frame::encode([&message]).bytes().len() as u64;
            channel.sizes.push(size);
            channel.appended_bytes += size;
            channel.newest_ms = now;
            channel.messages.push((seq, now, due.group.schema_id, message.payload));
            if let Some((key, digest)) = waiting.record.message.claim {
                let entry = *entry.get_or_insert(seq);
                channel.claims.push(NaiveClaim { key, digest, seq, time_ms: now, entry });
            }
            count += 1;
        }
        Ok(OperationReply::Due(count))
    }

    pub(super) fn stored_delayed(&self, stored: &mut BTreeMap<Bytes, Bytes>) {
        if self.last_delayed > 0 {
            stored.insert(Key::LastDelayed.encode(), codec::encode_record(&self.last_delayed));
        }
        for channel in &self.channels {
            for NaiveWaiting { id, record } in &channel.waiting {
                stored.insert(Key::Delayed(channel.meta.id, *id).encode(), codec::encode_record(record));
            }
        }
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        let waiting = self.channels.iter().flat_map(|channel| &channel.waiting);
        waiting.map(|waiting| waiting.record.message.due_ms).min()
    }

    pub(super) fn transaction(&mut self, parts: Vec<(GroupStep, Option<u64>)>, time_ms: u64) -> Command {
        let part = |(step, expected_seq)| Part::Publish(PublishGroup { expected_seq, ..group_of(step, self) });
        let transaction = Transaction { parts: parts.into_iter().map(part).collect() };
        Command::Operations { time_ms, operations: vec![Operation::Transaction(transaction)] }
    }

    pub(super) fn scheduling(
        &mut self,
        name: &ChannelName,
        messages: &[(String, Option<String>, u64)],
        time_ms: u64,
    ) -> Command {
        let now = self.record.time_ms;
        let (channel, schema_id) =
            self.named(name).map_or((ChannelId(77), 0), |channel| (channel.meta.id, channel.meta.schema_id));
        let message = |(payload, key, delay): &(String, Option<String>, u64)| Delayed {
            due_ms: now + delay,
            claim: key.as_ref().map(|key| (KeyHash::of(key), Digest::of(payload.as_bytes()))),
            expires: false,
            frame: Frame::encode([&Message { payload: payload.clone().into(), ..Message::default() }]),
        };
        let messages = messages.iter().map(message).collect();
        let schedule = Schedule { channel, schema_id, messages };
        Command::Operations { time_ms, operations: vec![Operation::Schedule(schedule)] }
    }

    /// Takes back the newest message that waits in a channel; where none does, one that never was.
    pub(super) fn withdrawal(&mut self, name: &ChannelName, time_ms: u64) -> Command {
        let newest = |channel: &mut NaiveChannel| {
            (channel.meta.id, channel.waiting.last().map_or(u64::MAX, |waiting| waiting.id))
        };
        let (channel, id) = self.named(name).map_or((ChannelId(77), 1), newest);
        Command::Operations { time_ms, operations: vec![Operation::Withdraw { channel, id }] }
    }

    /// All that waits in a channel, due or not, and one that never did.
    pub(super) fn due(&mut self, name: &ChannelName, time_ms: u64) -> Command {
        let mut due = Due { ids: vec![u64::MAX], group: group(ChannelId(77), 0, &[]) };
        let stranger = Message { payload: "stranger".into(), ..Message::default() };
        let mut messages = vec![stranger];
        if let Some(channel) = self.named(name) {
            due.group.channel = channel.meta.id;
            for NaiveWaiting { id, record } in &channel.waiting {
                due.ids.push(*id);
                due.group.schema_id = record.schema_id;
                messages.extend(record.message.frame.messages().map(Result::unwrap));
            }
        }
        due.group.frame = Frame::encode(&messages);
        Command::Operations { time_ms, operations: vec![Operation::Due(due)] }
    }
}
