//! Parts that are all done or none of them, in one log entry.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Assigned, ConsumerId, DeliveryToken, KeyHash, NamespaceName, PublishGroup};

/// What is done together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// In the order in which they are done.
    pub parts: Vec<Part>,
}

/// One part. Variants are append-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// Publishes to one channel. Its messages all have a key or none has.
    Publish(PublishGroup),
    /// Acknowledges deliveries of a consumer. One that came too late refuses the whole.
    Ack {
        /// Which consumer.
        consumer: ConsumerId,
        /// Its deliveries.
        tokens: Vec<DeliveryToken>,
    },
    /// Ends a claim with a receipt.
    Complete {
        /// Its namespace.
        namespace: NamespaceName,
        /// Its key.
        key: KeyHash,
        /// The one that was given when it was taken.
        token: u64,
        /// What those who come later are told.
        receipt: Bytes,
    },
}

/// What was done for a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartReply {
    /// To a publish. Either no message is excepted or, when the whole was done before, all as duplicates.
    Published(Assigned),
    /// To acknowledgements: they are all settled.
    Acked,
    /// To a claim's completion: it has this receipt.
    Completed,
}

impl Transaction {
    /// Messages of all parts.
    pub fn messages(&self) -> usize {
        let count = |part: &Part| match part {
            Part::Publish(group) => group.frame.count() as usize,
            Part::Ack { .. } | Part::Complete { .. } => 0,
        };
        self.parts.iter().map(count).sum()
    }

    /// Bytes of the copies that rules make of all messages.
    pub fn copied_bytes(&self) -> u64 {
        let bytes = |part: &Part| match part {
            Part::Publish(group) => group.copied_bytes(),
            Part::Ack { .. } | Part::Complete { .. } => 0,
        };
        self.parts.iter().map(bytes).sum()
    }

    /// About the bytes of all parts: messages, tokens and receipts.
    pub fn bytes(&self) -> usize {
        let bytes = |part: &Part| match part {
            Part::Publish(group) => group.frame.len(),
            Part::Ack { tokens, .. } => size_of_val(tokens.as_slice()),
            Part::Complete { receipt, .. } => receipt.len(),
        };
        self.parts.iter().map(bytes).sum()
    }
}
