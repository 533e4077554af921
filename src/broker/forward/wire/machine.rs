//! What is asked of the machine, and what it answers, as brokers say it. What is read is as sound as what was in the log
//! would have to be: an entry that is not stops every node.

use super::{Kinds, Misread, Wire, kinds, only_kinds, peer, records, required};
use crate::{
    codec,
    model::{
        Assigned, Clean, Compact, Delayed, Digest, Due, Full, Gone, KeyClaim, KeyHash, KeyOutcome, Made, OnBehalf,
        Operation, OperationReply, Part, PartReply, PublishGroup, Reclaim, Redrive, Refusal, Route, Rule, Schedule,
        Scheduled, StateLimits, Transaction,
    },
};

records! {
    Route = Route { target, schema_id, positions }
    KeyClaim = KeyClaim { position, digest; key }
    StateLimits = StateLimits {
        channels, rules, claim_namespaces, live_claims, consumers, consumers_per_channel, consumer_pending,
        delayed_messages, delayed_bytes
    }
    Transaction = Transaction { parts }
    Schedule = Schedule { channel, schema_id, messages }
    Delayed = Delayed { due_ms, claim, expires, frame }
    Due = Due { ids; group }
    Compact = Compact { channel, by, step, gone, clean }
    Reclaim = Reclaim { channel, step, gone }
    Gone = Gone { first_seq, count, bytes }
    Clean = Clean { first_seq, to, removed }
    Redrive = Redrive { letters, step, gone, begin; group }
    OnBehalf = OnBehalf { token; made }
    Rule = Rule { source, target, predicate }
    Assigned = Assigned { first_seq, except }
}

kinds! { Operation in operation {
    one [Claim, Consumer, Transaction, Schedule, Due, Compact, Redrive, LimitState, Reclaim, Security, OnBehalf]
    with [
        PutRule = PutRule { source, target, predicate },
        DeleteRule = DeleteRule { source, target },
        Trim = Trim { channel, up_to },
        Withdraw = Withdraw { channel, id },
        LimitKeys = LimitKeys { live_keys, all_keys },
    ]
} }

kinds! { Made in made { one [Consumer, Claim] } }

kinds! { Part in part {
    one [Publish]
    with [
        Ack = Ack { consumer, tokens },
        Complete = CompleteClaim { namespace, token, receipt; key },
    ]
} }

kinds! { OperationReply in operation_reply {
    unit [KeysLimited, StateLimited]
    one [Rule, Claim, Consumer, Due, Withdrawn, Security]
    list [Transaction = PartReplies.parts, Scheduled = ScheduledReplies.messages]
    with [
        Trimmed = Trimmed { first_seq },
        Compacted = Compacted { step },
        Redriven = Redriven { step, first_seq },
    ]
} }

kinds! { PartReply in part_reply { unit [Acked, Completed] one [Published] } }

kinds! { Scheduled in scheduled {
    unit [New]
    one [Known]
    with [TooMany = Limit { limit }, TooManyBytes = ValueAndLimit { value, limit }]
} }

kinds! { KeyOutcome in key_outcome {
    one [Full]
    with [
        Duplicate = Seq { seq },
        Conflict = Seq { seq },
        TooManyKeys = Limit { limit },
        TooLarge = TooLarge { bytes, limit },
        Waiting = DueTime { due_ms },
        WaitingConflict = DueTime { due_ms },
        TooManyKeysInAll = Limit { limit },
    ]
} }

kinds! { Full in full { one [Messages, Bytes] } }

only_kinds!(Operation, Made, Part, OperationReply, PartReply, Scheduled, KeyOutcome, Full);

kinds! { Refusal in refusal {
    unit [
        NoSuchChannel, NodeRemoved, NoSuchRule, RuleCycle, NoSuchNamespace, NoSuchConsumer, ConsumerExists, NotStored,
        StaleAssignment, NotDead, Ephemeral, WorkWouldBeSkipped, TokenTooLarge,
    ]
    one [
        ChannelExists, NoChannelNamed, ClaimCompleted, NoDeadLetterChannel, LetterRefused, DeadLetterCycle,
        FilteredConsumer, NoSuchRole, RoleExists, RoleTooLarge, NoSuchToken, TokenExists,
        LastAdministrator, NoSuchInvitation, CertificateBound, TokenOfCertificate,
    ]
    with [
        StaleSchema = Current { current },
        TooManyChannels = Limit { limit },
        OldDisk = OldDisk { starts, seen },
        StaleRules = Current { current },
        WrongSeq = WrongSeq { expected, actual },
        TooManyRules = Limit { limit },
        TooManyNamespaces = Limit { limit },
        TooManyClaims = Limit { limit },
        StaleClaim = StaleClaim { current },
        TargetFull = TargetFull { channel; full },
        TooManyConsumers = Limit { limit },
        TooMuchInFlight = Limit { limit },
        StaleDelivery = Seq { seq },
        Key = KeyRefused { position; outcome },
        UsedInPart = UsedInPart { position },
        StaleCompaction = Step { step },
        StaleRedrive = Step { step },
        RedriveRefused = KeyRefused { position; outcome },
        CopyRefused = CopyRefused { channel, position; outcome },
        RoleInUse = RoleInUse { role, token },
        TooManyRoles = Limit { limit },
        TooManyTokens = Limit { limit },
        TooManyInvitations = Limit { limit },
        OverQuota = OverQuota { quantity, held, limit, role },
    ]
    apart [Self::Part { .. }]
} }

/// A part's refusal says which part it is of; there are no parts of parts.
impl Wire for Refusal {
    type Message = peer::Refusal;

    fn to_wire(&self) -> peer::Refusal {
        match self {
            Self::Part { part, why } => peer::Refusal { part: Some(*part), kind: why.kind() },
            refusal => peer::Refusal { part: None, kind: refusal.kind() },
        }
    }

    fn from_wire(message: peer::Refusal) -> Result<Self, Misread> {
        let refusal = Self::of_kind(message.kind.ok_or_else(|| Misread::unknown("Refusal"))?)?;
        Ok(match message.part {
            Some(part) => Self::Part { part, why: Box::new(refusal) },
            None => refusal,
        })
    }
}

impl Wire for PublishGroup {
    type Message = peer::PublishGroup;

    fn to_wire(&self) -> peer::PublishGroup {
        let Self { channel, schema_id, rules_version, expected_seq, expires, routes, keys, frame } = self;
        peer::PublishGroup {
            channel: channel.to_wire(),
            schema_id: *schema_id,
            rules_version: *rules_version,
            expected_seq: *expected_seq,
            expires: *expires,
            routes: routes.to_wire(),
            keys: keys.to_wire(),
            frame: frame.to_wire(),
        }
    }

    fn from_wire(message: peer::PublishGroup) -> Result<Self, Misread> {
        let peer::PublishGroup { channel, schema_id, rules_version, expected_seq, expires, routes, keys, frame } =
            message;
        let group = Self {
            channel: Wire::from_wire(channel)?,
            schema_id,
            rules_version,
            expected_seq,
            expires,
            routes: Wire::from_wire(routes)?,
            keys: Wire::from_wire(keys)?,
            frame: Wire::from_wire(frame)?,
        };
        codec::check_group(&group).map_err(Misread::malformed)?;
        Ok(group)
    }
}

impl Wire for (KeyHash, Digest) {
    type Message = peer::KeyAndDigest;

    fn to_wire(&self) -> peer::KeyAndDigest {
        peer::KeyAndDigest { key: Some(self.0.to_wire()), digest: self.1.to_wire() }
    }

    fn from_wire(message: peer::KeyAndDigest) -> Result<Self, Misread> {
        Ok((required(message.key, "key")?, Wire::from_wire(message.digest)?))
    }
}

impl Wire for (u32, KeyOutcome) {
    type Message = peer::Excepted;

    fn to_wire(&self) -> peer::Excepted {
        peer::Excepted { position: self.0, outcome: Some(self.1.to_wire()) }
    }

    fn from_wire(message: peer::Excepted) -> Result<Self, Misread> {
        Ok((message.position, required(message.outcome, "outcome")?))
    }
}
