//! What is asked of the machine beside publishing: each operation is done whole or refused, and many share a log entry.
//! Variants are append-only: their order is part of the format.

use serde::{Deserialize, Serialize};

use super::{ChannelName, ClaimOperation, ClaimReply, ConsumerOperation, ConsumerReply, Rule};

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
}
