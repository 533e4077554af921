//! One channel's part of the machine's state.

use std::sync::Arc;

use super::{
    dedup::{Claim, DedupWindow},
    delayed::Delays,
};
use crate::model::{
    Assigned, ChannelMeta, ChannelStats, Digest, Durability, Frame, KeyHash, KeyOutcome, PublishGroup, StoredBatch,
    stream_key,
};

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) meta: Arc<ChannelMeta>,
    pub(super) stats: ChannelStats,
    pub(super) stream: Arc<str>,
    pub(super) dedup: DedupWindow,
    pub(super) delays: Delays,
}

/// What a group of publishes did to its channel.
pub(super) struct Appended {
    pub(super) assigned: Assigned,
    /// None when no message was new.
    pub(super) batch: Option<StoredBatch>,
    /// The keys of the new messages.
    pub(super) claims: Vec<Claim>,
}

impl Channel {
    pub(super) fn new(meta: Arc<ChannelMeta>) -> Self {
        let stream = stream_key(meta.name.as_str()).into();
        Self { meta, stats: ChannelStats::default(), stream, dedup: DedupWindow::default(), delays: Delays::default() }
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
        match (self.dedup.get(&key), self.delays.get(&key)) {
            (Some((seq, known)), _) if known == digest => Some(KeyOutcome::Duplicate { seq }),
            (Some((seq, _)), _) => Some(KeyOutcome::Conflict { seq }),
            (None, Some((due_ms, known))) if known == digest => Some(KeyOutcome::Waiting { due_ms }),
            (None, Some((due_ms, _))) => Some(KeyOutcome::WaitingConflict { due_ms }),
            (None, None) => None,
        }
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
        self.stats.next_seq = batch.end_seq();
        if self.is_durable() {
            self.stats.bytes += batch.frame.bytes().len() as u64;
        } else {
            self.stats.first_seq = self.stats.next_seq;
        }
        Some(batch)
    }

    /// Gives sequence numbers to the messages of a group that are new. The group's schema is the channel's.
    pub(super) fn append(&mut self, group: &PublishGroup, time_ms: u64, live_keys: u64) -> Appended {
        let first_seq = self.stats.next_seq;
        let mut except = Vec::new();
        let mut claims = Vec::new();
        for claim in &group.keys {
            let outcome = match self.known(claim.key, claim.digest) {
                Some(known) => known,
                None if self.dedup.len() >= live_keys => KeyOutcome::TooManyKeys { limit: live_keys },
                None => {
                    // The messages before it that are excepted take no number.
                    let seq = first_seq + u64::from(claim.position) - except.len() as u64;
                    let claim = Claim { key: claim.key, seq, digest: claim.digest };
                    self.dedup.claim(&claim);
                    claims.push(claim);
                    continue;
                }
            };
            except.push((claim.position, outcome));
        }
        let dropped: Vec<u32> = except.iter().map(|(position, _)| *position).collect();
        self.dedup.seal(time_ms, &claims);
        let batch = self.append_unkeyed(group.frame.without(&dropped), time_ms, group.expires);
        self.stats.live_keys = self.dedup.len();
        Appended { assigned: Assigned { first_seq, except }, batch, claims }
    }

    /// Forgets the keys whose window has passed.
    pub(super) fn expire(&mut self, now_ms: u64) -> Vec<u64> {
        let forgotten = self.dedup.expire(now_ms, self.meta.config.dedup_window_ms);
        self.stats.live_keys = self.dedup.len();
        forgotten
    }
}
