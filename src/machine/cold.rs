//! The keys that memory does not hold. The machine does no I/O: whoever applies a command asks first which of its keys
//! may be such ([`Machine::asks`]), looks them up, and tells what it found ([`Machine::recall`]). What it is told follows
//! from the log like everything else, wherever a node keeps it; so replies and what is stored are the same on all nodes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Effects, Machine,
    dedup::{Claims, ExpiryRoom},
    entry_list::ClaimEntry,
    keys::{CLAIMS, Key, STATS},
};
use crate::{
    codec,
    model::{
        ChannelId, ChannelStats, Command, ConsumerOperation, Digest, KeyHash, Made, OnBehalf, Operation, Part,
        PublishGroup,
    },
};

/// The keys of one log entry in a channel, as they are stored.
#[derive(Debug)]
pub struct StoredClaims {
    /// When they came, and their number.
    pub entry: ClaimEntry,
    /// One behind the sequence number of the last of them.
    pub end_seq: u64,
    claims: Claims<'static>,
}

impl StoredClaims {
    /// From a plain key's value.
    ///
    /// # Errors
    /// When it is none, or not that of its key.
    pub fn decode(first_seq: u64, value: &[u8]) -> Result<Self, String> {
        let claims: Claims<'static> =
            codec::decode_record("idempotency keys", value).map_err(|error| error.to_string())?;
        match claims.runs.first() {
            Some(first) if first.first_seq == first_seq => {}
            first => return Err(format!("the first claim is of {:?}", first.map(|run| run.first_seq))),
        }
        let keys = claims.runs.iter().map(|run| run.keys.len() as u64).sum();
        let end_seq = claims.runs.iter().map(|run| run.first_seq + run.keys.len() as u64).max().unwrap_or(first_seq);
        Ok(Self { entry: ClaimEntry { time_ms: claims.time_ms, first_seq, keys }, end_seq, claims })
    }

    /// Every key with its sequence number and the digest of its payload, in order.
    pub fn keys(&self) -> impl Iterator<Item = (KeyHash, u64, Digest)> {
        let runs = self.claims.runs.iter();
        runs.flat_map(|run| (run.first_seq..).zip(&run.keys).map(|(seq, (key, digest))| (*key, seq, *digest)))
    }
}

/// The plain key of the claims that a log entry made in a channel, by the sequence number of the first of them.
pub fn claims_key(channel: ChannelId, first_seq: u64) -> Bytes {
    Key::Claims(channel, first_seq).encode()
}

/// How the plain keys of all claims in a channel begin.
pub fn claims_prefix(channel: ChannelId) -> Bytes {
    [CLAIMS, &channel.0.to_be_bytes()].concat().into()
}

/// The channel and the first sequence number of a plain key that holds claims.
pub fn claims_of(key: &[u8]) -> Option<(ChannelId, u64)> {
    match Key::decode(key)? {
        Key::Claims(channel, first_seq) => Some((channel, first_seq)),
        _ => None,
    }
}

/// How the plain keys of all channels' counters begin.
pub const COUNTERS_PREFIX: &[u8] = STATS;

/// How many live keys the counters of a channel speak of, by its plain key and the value.
///
/// # Errors
/// When the value cannot be read.
pub fn counted_keys(key: &[u8], value: &[u8]) -> Result<Option<(ChannelId, u64)>, String> {
    let Some(Key::Stats(channel)) = Key::decode(key) else { return Ok(None) };
    let stats: ChannelStats = codec::decode_record("channel counters", value).map_err(|error| error.to_string())?;
    Ok(Some((channel, stats.live_keys)))
}

impl Machine {
    pub(super) fn restore_claims(&mut self, id: ChannelId, first_seq: u64, value: &[u8]) -> Result<(), String> {
        let claims = StoredClaims::decode(first_seq, value)?;
        let Some(channel) = self.channels.get_mut(&id) else {
            // The keys of a channel that was deleted go after it, some with each command.
            self.departed.entry(id).or_default().push(claims.entry);
            return Ok(());
        };
        for (key, seq, digest) in claims.keys() {
            if !channel.dedup.remember(key, digest, seq) {
                return Err(format!("the idempotency key of {seq} is claimed twice"));
            }
        }
        let scheduled = channel.next_expiry_ms().is_some();
        channel.dedup.end_entry(claims.entry);
        if !scheduled {
            self.expiries.extend(channel.next_expiry_ms().map(|expiry| (expiry, id)));
        }
        Ok(())
    }

    pub(super) fn restore_cold(
        &mut self,
        id: ChannelId,
        entries: impl IntoIterator<Item = ClaimEntry>,
    ) -> Result<(), String> {
        let channel = self.channels.get_mut(&id).ok_or_else(|| format!("there is no channel {}", id.0))?;
        let scheduled = channel.next_expiry_ms().is_some();
        let cold = channel.dedup.cold();
        for entry in entries {
            if !channel.dedup.restore_cold(entry) {
                return Err(format!("channel {} has keys in memory that are older than {}", id.0, entry.first_seq));
            }
        }
        self.cold_keys += channel.dedup.cold() - cold;
        if !scheduled {
            self.expiries.extend(channel.next_expiry_ms().map(|expiry| (expiry, id)));
        }
        Ok(())
    }

    /// The keys of a command that are not in memory, in channels that have cold ones; by channel, without those that
    /// have nothing to ask for.
    pub fn asks(&self, command: &Command) -> BTreeMap<ChannelId, Vec<KeyHash>> {
        let mut asks: BTreeMap<ChannelId, Vec<KeyHash>> = BTreeMap::new();
        if self.cold_keys == 0 {
            return asks;
        }
        each_key(command, &mut |id, key| {
            let window = self.channels.get(&id).map(|channel| &channel.dedup);
            if window.is_some_and(|window| window.cold() > 0 && window.hot(&key).is_none()) {
                asks.entry(id).or_default().push(key);
            }
        });
        asks
    }

    /// Says what a key that was asked for was claimed for, for the next command alone.
    pub fn recall(&mut self, id: ChannelId, key: KeyHash, seq: u64, digest: Digest) {
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.dedup.recall(key, seq, digest);
            self.recalled.insert(id);
        }
    }

    pub(super) fn recalled_no_more(&mut self) {
        while let Some(id) = self.recalled.pop_first() {
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.dedup.recalled_no_more();
            }
        }
    }

    /// Takes a channel's oldest keys below a sequence number out of memory, at most so many; gives how many. From then on
    /// they have to be looked up.
    pub fn cool(&mut self, id: ChannelId, below: u64, most: u64) -> u64 {
        let cooled = self.channels.get_mut(&id).map_or(0, |channel| channel.dedup.cool(below, most));
        self.cold_keys += cooled;
        cooled
    }

    /// Keys that are in memory, of all channels.
    pub fn hot_keys(&self) -> u64 {
        self.keys - self.cold_keys
    }

    /// The channel with most keys in memory, the sequence number of the first of them, and how many they are. Looks at
    /// every channel.
    pub fn hottest(&self) -> Option<(ChannelId, u64, u64)> {
        let hot = |(id, channel): (&ChannelId, &super::Channel)| {
            Some((*id, channel.dedup.first_hot()?, channel.dedup.len() - channel.dedup.cold()))
        };
        self.channels.iter().filter_map(hot).max_by_key(|(.., hot)| *hot)
    }

    /// The sequence number below which a channel knows no keys any more; none when it knows none at all.
    pub fn first_live(&self, id: ChannelId) -> Option<u64> {
        self.channels.get(&id)?.dedup.first_live()
    }

    /// Deletes what is left of the keys of channels that were deleted, as far as there is room.
    pub(super) fn expire_departed(&mut self, room: &mut ExpiryRoom, effects: &mut Effects) {
        while let Some(mut departed) = self.departed.first_entry() {
            let id = *departed.key();
            let Some(oldest) = departed.get().oldest() else {
                departed.remove();
                continue;
            };
            if !room.take(oldest.keys) {
                return;
            }
            departed.get_mut().pop();
            effects.delete(Key::Claims(id, oldest.first_seq));
        }
    }
}

/// Every idempotency key in a command, with its channel.
fn each_key(command: &Command, each: &mut dyn FnMut(ChannelId, KeyHash)) {
    match command {
        Command::Publish { groups, .. } => groups.iter().for_each(|group| each_of(group, each)),
        Command::Operations { operations, .. } => {
            for operation in operations {
                match operation {
                    Operation::Transaction(transaction) => {
                        for part in &transaction.parts {
                            match part {
                                Part::Publish(group) => each_of(group, each),
                                Part::Ack { .. } | Part::Complete { .. } => {}
                            }
                        }
                    }
                    Operation::Consumer(operation)
                    | Operation::OnBehalf(OnBehalf { made: Made::Consumer(operation), .. }) => {
                        letter(operation).into_iter().for_each(|group| each_of(group, each));
                    }
                    Operation::Redrive(redrive) => each_of(&redrive.group, each),
                    Operation::Due(due) => each_of(&due.group, each),
                    Operation::Schedule(schedule) => {
                        let claims = schedule.messages.iter().filter_map(|message| message.claim);
                        claims.for_each(|(key, _)| each(schedule.channel, key));
                    }
                    Operation::PutRule { .. }
                    | Operation::DeleteRule { .. }
                    | Operation::Claim(_)
                    | Operation::OnBehalf(_)
                    | Operation::Trim { .. }
                    | Operation::Compact(_)
                    | Operation::Reclaim(_)
                    | Operation::Withdraw { .. }
                    | Operation::LimitKeys { .. }
                    | Operation::LimitState(_)
                    | Operation::Security(_) => {}
                }
            }
        }
        Command::CreateChannel { .. }
        | Command::CreateChannelFor { .. }
        | Command::UpdateChannel { .. }
        | Command::DeleteChannel { .. }
        | Command::Tick { .. }
        | Command::Checkpoint { .. }
        | Command::Member { .. }
        | Command::ChangeChannel { .. }
        | Command::Calendar { .. }
        | Command::RaiseVersion { .. } => {}
    }
}

fn each_of(group: &PublishGroup, each: &mut dyn FnMut(ChannelId, KeyHash)) {
    group.keys.iter().for_each(|claim| each(group.channel, claim.key));
}

/// What a consumer's operation publishes.
fn letter(operation: &ConsumerOperation) -> Option<&PublishGroup> {
    match operation {
        ConsumerOperation::DeadLetter { letter, .. } => letter.as_ref(),
        ConsumerOperation::Keeping(inner) | ConsumerOperation::Judged { operation: inner, .. } => letter(inner),
        _ => None,
    }
}
