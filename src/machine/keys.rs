//! The plain keys that the machine keeps in its store. Numbers are big endian, so byte order is number order.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::{
    codec,
    model::{ChannelId, ConsumerId, KeyHash, NamespaceId, TokenId},
};

/// The record under a plain key; `what` it is, for the error.
pub(super) fn record<T: DeserializeOwned>(what: &'static str, value: &[u8]) -> Result<T, String> {
    codec::decode_record(what, value).map_err(|error| error.to_string())
}

/// What a plain key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Counters and the time of the machine.
    Machine,
    /// What a channel is.
    Meta(ChannelId),
    /// A channel's counters.
    Stats(ChannelId),
    /// The keys claimed by one log entry in a channel, by the sequence number of the first of them.
    Claims(ChannelId, u64),
    /// How often the state was restored.
    Epoch,
    /// What is known of a node, by its id.
    Member(u64),
    /// What happened to nodes, by consecutive numbers.
    MemberEvent(u64),
    /// A schema that a channel has, or has had, by its id.
    Schema(ChannelId, u64),
    /// A rule between channels.
    Rule(ChannelId, ChannelId),
    /// What became of all claims, and the greatest token.
    ClaimTotals,
    /// A namespace of claims.
    Namespace(NamespaceId),
    /// A claim that is held or completed, by the hash of its key.
    WorkClaim(NamespaceId, KeyHash),
    /// The receipt of a completed claim.
    Receipt(NamespaceId, KeyHash),
    /// A mark of a channel's retention, by the sequence number at which it stands.
    Mark(ChannelId, u64),
    /// The newest consumer's id.
    Consumers,
    /// What a consumer is.
    Consumer(ConsumerId),
    /// How far a consumer is.
    Cursor(ConsumerId),
    /// Messages of a consumer that are not settled, a block of consecutive sequence numbers.
    Pending(ConsumerId, u64),
    /// Messages of a consumer that were passed over, a block of consecutive sequence numbers.
    Deferred(ConsumerId, u64),
    /// A message that waits for its time, by its channel and its id.
    Delayed(ChannelId, u64),
    /// The newest of those ids.
    LastDelayed,
    /// How far a channel is compacted.
    Compaction(ChannelId),
    /// How far the log's time is from the time of day.
    Calendar,
    /// What of a work queue no consumer answers for.
    Orphans(ChannelId),
    /// A channel's newest message, where it is a letter that was redriven.
    Redriven(ChannelId),
    /// Where a channel's history went another way.
    Forks(ChannelId),
    /// How many idempotency keys a channel's window may hold.
    MostKeys,
    /// How much state there may be.
    StateLimits,
    /// What was removed before a consumer had settled it.
    Lost(ConsumerId),
    /// What of a work queue is settled for good.
    Settled(ChannelId),
    /// What of it is behind the channel's first message and has given its space back.
    Reclaimed(ChannelId),
    /// A role of tokens, by the hash of its name.
    Role(KeyHash),
    /// A token of a client.
    Token(TokenId),
    /// An invitation of a node.
    Invitation(TokenId),
    /// What all nodes are known to speak.
    Version,
    /// What a role limits, by the hash of its name.
    RoleQuota(KeyHash),
    /// Whose certificates are those of a name, by the hash of that.
    Certificate(KeyHash),
    /// Which token a channel counts for.
    ChannelOwner(ChannelId),
    /// Which token a consumer counts for.
    ConsumerOwner(ConsumerId),
    /// Which token a claim counts for.
    ClaimOwner(NamespaceId, KeyHash),
}

const MACHINE: &[u8] = b"machine";
const META: &[u8] = b"channel/";
pub(super) const STATS: &[u8] = b"stats/";
/// Known to the store too, which cuts what a channel loses in a row out of its tree.
pub(super) const CLAIMS: &[u8] = crate::store::CLAIMS;
const EPOCH: &[u8] = b"epoch";
const MEMBER: &[u8] = b"member/";
const MEMBER_EVENT: &[u8] = b"member-event/";
const SCHEMA: &[u8] = b"schema/";
const RULE: &[u8] = b"rule/";
const CLAIM_TOTALS: &[u8] = b"claim-totals";
// In byte order a namespace comes before its receipts, and these before its claims.
const NAMESPACE: &[u8] = b"claim-namespace/";
const RECEIPT: &[u8] = b"claim-receipt/";
const WORK_CLAIM: &[u8] = b"claim/";
const MARK: &[u8] = b"mark/";
const CONSUMERS: &[u8] = b"consumers";
const CONSUMER: &[u8] = b"consumer/";
const CURSOR: &[u8] = b"cursor/";
// In byte order after the cursors and before what is pending.
const DEFERRED: &[u8] = b"deferred/";
const PENDING: &[u8] = b"pending/";
const DELAYED: &[u8] = b"delayed/";
const LAST_DELAYED: &[u8] = b"last-delayed";
const COMPACTION: &[u8] = b"compaction/";
const CALENDAR: &[u8] = b"calendar";
const ORPHANS: &[u8] = b"orphans/";
const STATE_LIMITS: &[u8] = b"state-limits";
const LOST: &[u8] = b"lost/";
const SETTLED: &[u8] = b"settled/";
const RECLAIMED: &[u8] = b"reclaimed/";
const REDRIVEN: &[u8] = b"redriven/";
pub(super) const FORKS: &[u8] = b"forks/";
const KEY_LIMIT: &[u8] = b"key-limit";
const ROLE: &[u8] = b"role/";
const TOKEN: &[u8] = b"token/";
const INVITATION: &[u8] = b"invitation/";
pub(super) const VERSION: &[u8] = b"cluster-version";
const ROLE_QUOTA: &[u8] = b"role-quota/";
const CERTIFICATE: &[u8] = b"certificate/";
const CHANNEL_OWNER: &[u8] = b"channel-owner/";
const CONSUMER_OWNER: &[u8] = b"consumer-owner/";
const CLAIM_OWNER: &[u8] = b"claim-owner/";

/// Keys of which there is one.
const SINGLE: [(&[u8], Key); 9] = [
    (MACHINE, Key::Machine),
    (CALENDAR, Key::Calendar),
    (KEY_LIMIT, Key::MostKeys),
    (STATE_LIMITS, Key::StateLimits),
    (VERSION, Key::Version),
    (EPOCH, Key::Epoch),
    (CONSUMERS, Key::Consumers),
    (LAST_DELAYED, Key::LastDelayed),
    (CLAIM_TOTALS, Key::ClaimTotals),
];

impl Key {
    pub(super) fn encode(self) -> Bytes {
        match self {
            Self::Machine => Bytes::from_static(MACHINE),
            Self::Meta(id) => [META, &id.0.to_be_bytes()].concat().into(),
            Self::Stats(id) => [STATS, &id.0.to_be_bytes()].concat().into(),
            Self::Epoch => Bytes::from_static(EPOCH),
            Self::Member(id) => [MEMBER, &id.to_be_bytes()].concat().into(),
            Self::MemberEvent(number) => [MEMBER_EVENT, &number.to_be_bytes()].concat().into(),
            Self::Claims(id, seq) => two(CLAIMS, id.0, seq),
            Self::Schema(id, schema) => two(SCHEMA, id.0, schema),
            Self::Rule(source, target) => two(RULE, source.0, target.0),
            Self::ClaimTotals => Bytes::from_static(CLAIM_TOTALS),
            Self::Namespace(id) => [NAMESPACE, &id.0.to_be_bytes()].concat().into(),
            Self::WorkClaim(id, key) => [WORK_CLAIM, &id.0.to_be_bytes(), &key.0].concat().into(),
            Self::Receipt(id, key) => [RECEIPT, &id.0.to_be_bytes(), &key.0].concat().into(),
            Self::Mark(id, seq) => two(MARK, id.0, seq),
            Self::Consumers => Bytes::from_static(CONSUMERS),
            Self::Consumer(id) => [CONSUMER, &id.0.to_be_bytes()].concat().into(),
            Self::Cursor(id) => [CURSOR, &id.0.to_be_bytes()].concat().into(),
            Self::Pending(id, block) => two(PENDING, id.0, block),
            Self::Deferred(id, block) => two(DEFERRED, id.0, block),
            Self::Delayed(id, number) => two(DELAYED, id.0, number),
            Self::LastDelayed => Bytes::from_static(LAST_DELAYED),
            Self::Calendar => Bytes::from_static(CALENDAR),
            Self::MostKeys => Bytes::from_static(KEY_LIMIT),
            Self::Compaction(id) => [COMPACTION, &id.0.to_be_bytes()].concat().into(),
            Self::Orphans(id) => [ORPHANS, &id.0.to_be_bytes()].concat().into(),
            Self::StateLimits => Bytes::from_static(STATE_LIMITS),
            Self::Lost(id) => [LOST, &id.0.to_be_bytes()].concat().into(),
            Self::Settled(id) => [SETTLED, &id.0.to_be_bytes()].concat().into(),
            Self::Reclaimed(id) => [RECLAIMED, &id.0.to_be_bytes()].concat().into(),
            Self::Redriven(id) => [REDRIVEN, &id.0.to_be_bytes()].concat().into(),
            Self::Forks(id) => [FORKS, &id.0.to_be_bytes()].concat().into(),
            Self::Role(name) => [ROLE, &name.0[..]].concat().into(),
            Self::Token(id) => [TOKEN, &id.0.to_be_bytes()].concat().into(),
            Self::Invitation(id) => [INVITATION, &id.0.to_be_bytes()].concat().into(),
            Self::Version => Bytes::from_static(VERSION),
            Self::RoleQuota(name) => [ROLE_QUOTA, &name.0[..]].concat().into(),
            Self::Certificate(name) => [CERTIFICATE, &name.0[..]].concat().into(),
            Self::ChannelOwner(id) => [CHANNEL_OWNER, &id.0.to_be_bytes()].concat().into(),
            Self::ConsumerOwner(id) => [CONSUMER_OWNER, &id.0.to_be_bytes()].concat().into(),
            Self::ClaimOwner(id, key) => [CLAIM_OWNER, &id.0.to_be_bytes(), &key.0].concat().into(),
        }
    }

    pub(super) fn decode(key: &[u8]) -> Option<Self> {
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).ok();
        if let Some((_, single)) = SINGLE.iter().find(|(name, _)| *name == key) {
            Some(*single)
        } else if let Some(id) = key.strip_prefix(CONSUMER) {
            Some(Self::Consumer(ConsumerId(number(id)?)))
        } else if let Some(id) = key.strip_prefix(CURSOR) {
            Some(Self::Cursor(ConsumerId(number(id)?)))
        } else if let Some(block) = key.strip_prefix(DEFERRED) {
            let (id, block) = block.split_at_checked(8)?;
            Some(Self::Deferred(ConsumerId(number(id)?), number(block)?))
        } else if let Some(block) = key.strip_prefix(PENDING) {
            let (id, block) = block.split_at_checked(8)?;
            Some(Self::Pending(ConsumerId(number(id)?), number(block)?))
        } else if let Some(id) = key.strip_prefix(COMPACTION) {
            Some(Self::Compaction(ChannelId(number(id)?)))
        } else if let Some(id) = key.strip_prefix(ORPHANS) {
            Some(Self::Orphans(ChannelId(number(id)?)))
        } else if let Some(id) = key.strip_prefix(LOST) {
            Some(Self::Lost(ConsumerId(number(id)?)))
        } else if let Some(id) = key.strip_prefix(SETTLED) {
            Some(Self::Settled(ChannelId(number(id)?)))
        } else if let Some(id) = key.strip_prefix(RECLAIMED) {
            Some(Self::Reclaimed(ChannelId(number(id)?)))
        } else if let Some(id) = key.strip_prefix(REDRIVEN) {
            Some(Self::Redriven(ChannelId(number(id)?)))
        } else if let Some(id) = key.strip_prefix(FORKS) {
            Some(Self::Forks(ChannelId(number(id)?)))
        } else if let Some(name) = key.strip_prefix(ROLE) {
            Some(Self::Role(KeyHash(name.try_into().ok()?)))
        } else if let Some(id) = key.strip_prefix(TOKEN) {
            Some(Self::Token(TokenId(number(id)?)))
        } else if let Some(id) = key.strip_prefix(INVITATION) {
            Some(Self::Invitation(TokenId(number(id)?)))
        } else if let Some(name) = key.strip_prefix(ROLE_QUOTA) {
            Some(Self::RoleQuota(KeyHash(name.try_into().ok()?)))
        } else if let Some(name) = key.strip_prefix(CERTIFICATE) {
            Some(Self::Certificate(KeyHash(name.try_into().ok()?)))
        } else if let Some(id) = key.strip_prefix(CHANNEL_OWNER) {
            Some(Self::ChannelOwner(ChannelId(number(id)?)))
        } else if let Some(id) = key.strip_prefix(CONSUMER_OWNER) {
            Some(Self::ConsumerOwner(ConsumerId(number(id)?)))
        } else if let Some(claim) = key.strip_prefix(CLAIM_OWNER) {
            let (id, hash) = claim.split_at_checked(8)?;
            Some(Self::ClaimOwner(NamespaceId(number(id)?), KeyHash(hash.try_into().ok()?)))
        } else if let Some(id) = key.strip_prefix(META) {
            Some(Self::Meta(ChannelId(number(id)?)))
        } else if let Some(id) = key.strip_prefix(STATS) {
            Some(Self::Stats(ChannelId(number(id)?)))
        } else if let Some(id) = key.strip_prefix(MEMBER) {
            Some(Self::Member(number(id)?))
        } else if let Some(event) = key.strip_prefix(MEMBER_EVENT) {
            Some(Self::MemberEvent(number(event)?))
        } else if let Some(schema) = key.strip_prefix(SCHEMA) {
            let (id, schema) = schema.split_at_checked(8)?;
            Some(Self::Schema(ChannelId(number(id)?), number(schema)?))
        } else if let Some(ends) = key.strip_prefix(RULE) {
            let (source, target) = ends.split_at_checked(8)?;
            Some(Self::Rule(ChannelId(number(source)?), ChannelId(number(target)?)))
        } else if let Some(id) = key.strip_prefix(NAMESPACE) {
            Some(Self::Namespace(NamespaceId(number(id)?)))
        } else if let Some(claim) = key.strip_prefix(WORK_CLAIM) {
            let (id, hash) = claim.split_at_checked(8)?;
            Some(Self::WorkClaim(NamespaceId(number(id)?), KeyHash(hash.try_into().ok()?)))
        } else if let Some(claim) = key.strip_prefix(RECEIPT) {
            let (id, hash) = claim.split_at_checked(8)?;
            Some(Self::Receipt(NamespaceId(number(id)?), KeyHash(hash.try_into().ok()?)))
        } else if let Some(mark) = key.strip_prefix(MARK) {
            let (id, seq) = mark.split_at_checked(8)?;
            Some(Self::Mark(ChannelId(number(id)?), number(seq)?))
        } else if let Some(delayed) = key.strip_prefix(DELAYED) {
            let (id, number_of_it) = delayed.split_at_checked(8)?;
            Some(Self::Delayed(ChannelId(number(id)?), number(number_of_it)?))
        } else {
            let (id, seq) = key.strip_prefix(CLAIMS)?.split_at_checked(8)?;
            Some(Self::Claims(ChannelId(number(id)?), number(seq)?))
        }
    }
}

fn two(prefix: &[u8], first: u64, second: u64) -> Bytes {
    [prefix, &first.to_be_bytes(), &second.to_be_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_and_strangers_are_not_taken_for_keys() {
        let id = ChannelId(0x0102);
        for key in [
            Key::Machine,
            Key::Meta(id),
            Key::Stats(id),
            Key::Claims(id, u64::MAX),
            Key::Epoch,
            Key::Member(3),
            Key::MemberEvent(4),
            Key::Rule(id, ChannelId(5)),
            Key::Schema(id, 6),
            Key::ClaimTotals,
            Key::Namespace(NamespaceId(6)),
            Key::WorkClaim(NamespaceId(7), KeyHash([8; 16])),
            Key::Receipt(NamespaceId(9), KeyHash([10; 16])),
            Key::Mark(id, 6),
            Key::Consumers,
            Key::Consumer(ConsumerId(6)),
            Key::Cursor(ConsumerId(7)),
            Key::Pending(ConsumerId(8), 9),
            Key::Deferred(ConsumerId(8), 9),
            Key::Delayed(id, 6),
            Key::LastDelayed,
            Key::Compaction(id),
            Key::Orphans(id),
            Key::Redriven(id),
            Key::Settled(id),
            Key::Lost(ConsumerId(6)),
            Key::StateLimits,
            Key::Forks(id),
            Key::Reclaimed(id),
            Key::MostKeys,
            Key::Role(KeyHash([11; 16])),
            Key::Token(TokenId(12)),
            Key::Invitation(TokenId(13)),
            Key::Version,
            Key::RoleQuota(KeyHash([14; 16])),
            Key::Certificate(KeyHash([18; 16])),
            Key::ChannelOwner(id),
            Key::ConsumerOwner(ConsumerId(15)),
            Key::ClaimOwner(NamespaceId(16), KeyHash([17; 16])),
        ] {
            assert_eq!(Key::decode(&key.encode()), Some(key));
        }
        assert_eq!(Key::decode(b"claims/short"), None);
        assert_eq!(Key::decode(b"other"), None);
    }
}
