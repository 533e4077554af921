//! What is asked of the machine beside publishing: each operation is done whole or refused, and many share a log entry.
//! Variants are append-only: their order is part of the format.

use serde::{Deserialize, Serialize};

use super::{
    ChannelId, ChannelName, ClaimOperation, ClaimReply, Compact, ConsumerOperation, ConsumerReply, Due, PartReply,
    Reclaim, Redrive, Rule, Schedule, Scheduled, SecurityOperation, SecurityReply, StateLimits, TokenId, Transaction,
};

/// One operation of a log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Adds a rule between channels, or changes its predicate. Refused where it would close a cycle.
    PutRule {
        /// From where.
        source: ChannelName,
        /// To where.
        target: ChannelName,
        /// Which messages; none means all.
        predicate: Option<String>,
    },
    /// Removes a rule.
    DeleteRule {
        /// From where.
        source: ChannelName,
        /// To where.
        target: ChannelName,
    },
    /// Takes, ends or keeps a claim, or changes a namespace of claims.
    Claim(ClaimOperation),
    /// Removes a channel's messages below a sequence number.
    Trim {
        /// Of which channel.
        channel: ChannelName,
        /// The first one that stays; beyond the channel's end, everything goes.
        up_to: u64,
    },
    /// One on consumers.
    Consumer(ConsumerOperation),
    /// Does all of several things or none of them.
    Transaction(Transaction),
    /// Lets messages wait for their time.
    Schedule(Schedule),
    /// Appends messages whose time has come.
    Due(Due),
    /// Removes messages that later ones replace.
    Compact(Compact),
    /// Moves dead letters to another channel.
    Redrive(Redrive),
    /// Takes back a message that waits for its time.
    Withdraw {
        /// Its channel.
        channel: ChannelId,
        /// Its id among those that wait.
        id: u64,
    },
    /// Says how many idempotency keys there may be from now on.
    LimitKeys {
        /// In a channel's window.
        live_keys: u64,
        /// In those of all channels together.
        all_keys: u64,
    },
    /// Says how much state there may be from now on.
    LimitState(StateLimits),
    /// Removes what the consumers of a work queue have settled behind a message that they have not.
    Reclaim(Reclaim),
    /// One on tokens and roles.
    Security(SecurityOperation),
    /// One that counts against what a token may have.
    OnBehalf(OnBehalf),
}

/// What is done for a token that has a quota of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnBehalf {
    /// Which token.
    pub token: TokenId,
    /// What is done.
    pub made: Made,
}

/// What can be done for a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Made {
    /// An operation on consumers.
    Consumer(ConsumerOperation),
    /// An operation on claims.
    Claim(ClaimOperation),
}

impl OnBehalf {
    /// It counts for a token, or for nobody.
    pub fn operation(token: Option<TokenId>, made: Made) -> Operation {
        match (token, made) {
            (Some(token), made) => Operation::OnBehalf(Self { token, made }),
            (None, Made::Consumer(operation)) => Operation::Consumer(operation),
            (None, Made::Claim(operation)) => Operation::Claim(operation),
        }
    }

    fn consumer(&self) -> Option<&ConsumerOperation> {
        match &self.made {
            Made::Consumer(operation) => Some(operation),
            Made::Claim(_) => None,
        }
    }
}

impl Operation {
    /// Bytes of the messages or the receipt that it carries: they bound what shares a log entry.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Claim(ClaimOperation::Complete { receipt, .. }) => receipt.len(),
            Self::Consumer(operation) => operation.bytes(),
            Self::OnBehalf(made) => made.consumer().map_or(0, ConsumerOperation::bytes),
            Self::PutRule { .. }
            | Self::DeleteRule { .. }
            | Self::Claim(_)
            | Self::Trim { .. }
            | Self::Withdraw { .. }
            | Self::LimitKeys { .. }
            | Self::LimitState(_)
            | Self::Security(_) => 0,
            Self::Transaction(transaction) => transaction.bytes(),
            Self::Schedule(schedule) => schedule.messages.iter().map(|message| message.frame.len()).sum(),
            Self::Due(due) => due.group.frame.len(),
            Self::Compact(compact) => size_of_val(&compact.gone[..]),
            Self::Reclaim(reclaim) => size_of_val(&reclaim.gone[..]),
            Self::Redrive(redrive) => size_of_val(&redrive.gone[..]) + redrive.group.frame.len(),
        }
    }

    /// Bytes of the copies that rules make of its messages: they bound it too.
    pub fn copied_bytes(&self) -> u64 {
        match self {
            Self::Transaction(transaction) => transaction.copied_bytes(),
            Self::Due(due) => due.group.copied_bytes(),
            Self::Redrive(redrive) => redrive.group.copied_bytes(),
            Self::Consumer(operation) => operation.copied_bytes(),
            Self::OnBehalf(made) => made.consumer().map_or(0, ConsumerOperation::copied_bytes),
            _ => 0,
        }
    }
}

/// The machine's answer to an operation that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationReply {
    /// To a rule's operation: the rule (for a delete: as it was).
    Rule(Rule),
    /// To an operation on claims.
    Claim(ClaimReply),
    /// To a trim.
    Trimmed {
        /// The first sequence number that is left.
        first_seq: u64,
    },
    /// To a consumer's operation.
    Consumer(ConsumerReply),
    /// To a transaction: one for each part, in order.
    Transaction(Vec<PartReply>),
    /// To messages that are to wait: one for each, in order.
    Scheduled(Vec<Scheduled>),
    /// To messages whose time has come: how many of them were appended.
    Due(u32),
    /// To a step of a compaction, or by which a work queue gives space back.
    Compacted {
        /// What the next one has to follow.
        step: u64,
    },
    /// To a step of a redrive.
    Redriven {
        /// What the next one has to follow.
        step: u64,
        /// Sequence number of the first message that was appended.
        first_seq: u64,
    },
    /// To a withdrawal: whether the message still waited.
    Withdrawn(bool),
    /// To a limit of keys.
    KeysLimited,
    /// To limits of the state.
    StateLimited,
    /// To an operation on tokens and roles.
    Security(SecurityReply),
}
