//! One channel's part of the machine's state.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    consumers::Runs,
    dedup::{DedupWindow, ExpiryRoom, Run},
    delayed::Delays,
    key_limit::KeyRoom,
    marks::Marks,
    retention::Room,
};
use crate::model::{
    Assigned, ChannelId, ChannelMeta, ChannelName, ChannelStats, Compaction, Digest, Durability, Fork, Frame, Gone,
    KeyClaim, KeyHash, KeyOutcome, Orphans, PublishGroup, StoredBatch, stream_key,
};

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) meta: Arc<ChannelMeta>,
    pub(super) stats: ChannelStats,
    pub(super) stream: Arc<str>,
    pub(super) dedup: DedupWindow,
    pub(super) delays: Delays,
    pub(super) marks: Marks,
    /// The schemas that are kept: versions by id.
    pub(super) schemas: BTreeMap<u64, u64>,
    pub(super) compaction: Compaction,
    /// What a work queue has given back the space of, behind its first message. All of it counts as missing.
    pub(super) reclaimed: Runs,
    /// What of a work queue no consumer answers for.
    pub(super) orphans: Option<Orphans>,
    /// The newest message, where it is a letter that was redriven.
    pub(super) redriven: Option<Gone>,
    /// Where its history went another way, oldest first.
    pub(super) forks: Vec<Fork>,
    /// When its oldest messages are too old, as the machine has taken note of it.
    pub(super) aging_ms: Option<u64>,
}

/// What a channel holds and has taken, for who watches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelFigures {
    /// Which one.
    pub id: ChannelId,
    /// Its name.
    pub name: ChannelName,
    /// Messages that it holds.
    pub messages: u64,
    /// Their encoded bytes.
    pub bytes: u64,
    /// Messages that it has taken since it was created.
    pub published: u64,
    /// Their encoded bytes; of what an ephemeral channel passes on none are counted.
    pub published_bytes: u64,
    /// Idempotency keys in its window.
    pub live_keys: u64,
}

/// What a group of publishes did to its channel.
pub(super) struct Appended {
    pub(super) assigned: Assigned,
    /// None when no message was new.
    pub(super) batch: Option<StoredBatch>,
    /// The keys of the new messages.
    pub(super) runs: Vec<Run>,
}

impl Channel {
    pub(super) fn new(meta: Arc<ChannelMeta>) -> Self {
        let stream = stream_key(meta.name.as_str()).into();
        let (stats, dedup, delays, marks) =
            (ChannelStats::default(), DedupWindow::default(), Delays::default(), Marks::default());
        let (schemas, compaction, orphans, redriven) = (BTreeMap::new(), Compaction::default(), None, None);
        let forks = Vec::new();
        Self {
            meta,
            stats,
            stream,
            dedup,
            delays,
            marks,
            schemas,
            compaction,
            reclaimed: Runs::default(),
            orphans,
            redriven,
            forks,
            aging_ms: None,
        }
    }

    pub(super) fn figures(&self) -> ChannelFigures {
        let ChannelStats { first_seq, next_seq, bytes, appended_bytes, .. } = self.stats;
        ChannelFigures {
            id: self.meta.id,
            name: self.meta.name.clone(),
            messages: self.stored_from(first_seq),
            bytes,
            published: next_seq,
            published_bytes: appended_bytes,
            live_keys: self.dedup.len(),
        }
    }

    pub(super) fn is_durable(&self) -> bool {
        self.meta.config.durability == Durability::Durable
    }

    pub(super) fn next_expiry_ms(&self) -> Option<u64> {
        self.dedup.next_expiry_ms(self.meta.config.dedup_window_ms)
    }

    /// Whether every message of a group carries a key that is live.
    pub(super) fn knows_all(&self, group: &PublishGroup) -> bool {
        group.keys.len() == group.frame.count() as usize
            && group.keys.iter().all(|claim| self.known(claim.key, claim.digest).is_some())
    }

    /// What stands against another message with this key; none when nothing does.
    pub(super) fn known(&self, key: KeyHash, digest: Digest) -> Option<KeyOutcome> {
        let live = self.dedup.get(&key).map(|live| repeats(live, digest));
        live.or_else(|| self.delays.get(&key).map(|waiting| waits(waiting, digest)))
    }

    /// Gives sequence numbers to messages without keys of their own.
    pub(super) fn append_unkeyed(&mut self, frame: Frame, time_ms: u64, expires: bool) -> Option<StoredBatch> {
        self.append_checked(frame, time_ms, expires, self.meta.schema_id)
    }

    /// The same for messages that were checked against a schema that may not be the channel's any more.
    pub(super) fn append_checked(
        &mut self,
        frame: Frame,
        time_ms: u64,
        expires: bool,
        schema_id: u64,
    ) -> Option<StoredBatch> {
        if frame.is_empty() {
            return None;
        }
        let first_seq = self.stats.next_seq;
        let batch = StoredBatch { first_seq, time_ms, schema_id, expires, frame };
        if self.is_durable() {
            self.measure(&batch.frame, time_ms);
        }
        self.stats.next_seq = batch.end_seq();
        if self.is_durable() {
            self.stats.bytes = self.marks.bytes(self.stats.first_seq, &self.stats);
        } else {
            self.stats.first_seq = self.stats.next_seq;
        }
        Some(batch)
    }

    /// Gives sequence numbers to the messages of a group that are new, as far as there is `room`; without one, to all.
    /// The group's schema is the channel's.
    pub(super) fn append(
        &mut self,
        group: &PublishGroup,
        room: Option<Room>,
        time_ms: u64,
        limit: KeyRoom,
    ) -> Appended {
        let first_seq = self.stats.next_seq;
        let mut except = Vec::new();
        let mut runs = Vec::new();
        let mut take = |claim: &KeyClaim, room: Option<(&mut Room, u64)>, except: &mut Vec<(u32, KeyOutcome)>| {
            let KeyClaim { position, key, digest } = *claim;
            // The messages before it that are excepted take no number.
            let seq = first_seq + u64::from(position) - except.len() as u64;
            let full = limit.refuses(self.dedup.len());
            let claimed = self.dedup.claim(key, digest, || match self.delays.get(&key) {
                Some(waiting) => Err(waits(waiting, digest)),
                None => match full {
                    Some(full) => Err(full),
                    None => room.map_or(Ok(()), |(room, bytes)| room.take(bytes)).map(|()| seq),
                },
            });
            match claimed {
                Ok(None) => Run::add(&mut runs, seq, key, digest),
                Ok(Some(live)) => except.push((position, repeats(live, digest))),
                Err(outcome) => except.push((position, outcome)),
            }
        };
        match room {
            None => group.keys.iter().for_each(|claim| take(claim, None, &mut except)),
            Some(mut room) => {
                let mut keys = group.keys.iter().peekable();
                for (position, bytes) in (0u32..).zip(group.frame.sizes()) {
                    match keys.next_if(|claim| claim.position == position) {
                        Some(claim) => take(claim, Some((&mut room, bytes)), &mut except),
                        None => except.extend(room.take(bytes).err().map(|outcome| (position, outcome))),
                    }
                }
            }
        }
        let dropped: Vec<u32> = except.iter().map(|(position, _)| *position).collect();
        self.dedup.seal(time_ms, &runs);
        let batch = self.append_unkeyed(group.frame.without(&dropped), time_ms, group.expires);
        self.stats.live_keys = self.dedup.len();
        Appended { assigned: Assigned { first_seq, except }, batch, runs }
    }

    /// What no consumer answers for lies within the channel.
    pub(super) fn check_orphans(&self) -> Result<(), String> {
        match self.orphans {
            Some(Orphans { from, until }) if from >= until || until > self.stats.next_seq => {
                Err(format!("the messages from {from} to {until} that no consumer answers for are not all there"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Forgets the keys whose window has passed, as far as there is room.
    pub(super) fn expire(&mut self, now_ms: u64, room: &mut ExpiryRoom) -> Vec<u64> {
        let forgotten = self.dedup.expire(now_ms, self.meta.config.dedup_window_ms, room);
        self.stats.live_keys = self.dedup.len();
        forgotten
    }
}

/// Another message with a key that is live.
fn repeats((seq, known): (u64, Digest), digest: Digest) -> KeyOutcome {
    if known == digest { KeyOutcome::Duplicate { seq } } else { KeyOutcome::Conflict { seq } }
}

/// Another message with the key of one that waits for its time.
fn waits((due_ms, known): (u64, Digest), digest: Digest) -> KeyOutcome {
    if known == digest { KeyOutcome::Waiting { due_ms } } else { KeyOutcome::WaitingConflict { due_ms } }
}
