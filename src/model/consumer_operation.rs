//! What is done to consumers, by their users and by the leader. It goes into the log: variants and fields are append-only.

use serde::{Deserialize, Serialize};

use super::{
    ChannelName, DeliveryToken, PublishGroup,
    consumer::{Begin, ConsumerConfig, ConsumerId, ConsumerName, ConsumerStatus},
};

/// What a member says of a message that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// Of which delivery.
    pub token: DeliveryToken,
    /// What.
    pub verdict: Verdict,
}

/// What becomes of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Done: it never comes again.
    Ack,
    /// Done, with everything before it that the same member has.
    AckUpTo,
    /// It comes again, or is dead if this was its last attempt.
    Nack {
        /// Not before this time has passed, milliseconds.
        delay_ms: u64,
        /// Why, for the dead letter.
        reason: String,
    },
    /// Still at it: the ack timeout begins again.
    Extend,
    /// Given back before anybody began to work on it: it comes again, and this time does not count as an attempt.
    Return,
}

/// Whom a message is handed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hand {
    /// The message.
    pub seq: u64,
    /// The member.
    pub member: u64,
    /// The hash of its ordering key; ignored where it is known already.
    pub key: Option<u64>,
}

/// One operation on consumers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsumerOperation {
    /// The same name with the same configuration is no error.
    Create {
        /// Of which channel.
        channel: ChannelName,
        /// The consumer's name.
        name: ConsumerName,
        /// What its creator chose.
        config: ConsumerConfig,
        /// Where it begins.
        begin: Begin,
    },
    /// Changes the configuration; `max_in_flight` and the order count from the next message on.
    Update {
        /// Which consumer.
        consumer: ConsumerId,
        /// The whole of it.
        config: ConsumerConfig,
    },
    /// With its cursor.
    Delete {
        /// Which consumer.
        consumer: ConsumerId,
    },
    /// Forgets what is pending and goes on elsewhere.
    Reset {
        /// Which consumer.
        consumer: ConsumerId,
        /// Where.
        begin: Begin,
    },
    /// Hands out messages; all of it, or nothing where the state is no longer as the leader saw it.
    Assign {
        /// Which consumer.
        consumer: ConsumerId,
        /// Its `next` as the leader saw it.
        next: u64,
        /// Its `next` from now on. What lies between and is neither handed out nor parked is settled: no message for
        /// this consumer.
        until: u64,
        /// By increasing sequence number.
        hands: Vec<Hand>,
        /// Messages that have to wait for an earlier one of their key, with that, by increasing sequence number.
        parked: Vec<(u64, u64)>,
    },
    /// What members say of the messages that they have.
    Settle {
        /// Which consumer.
        consumer: ConsumerId,
        /// Taken in this order.
        settlements: Vec<Settlement>,
    },
    /// A member is gone: what it has comes again at once.
    Leave {
        /// Which consumer.
        consumer: ConsumerId,
        /// Who.
        member: u64,
    },
    /// Appends a dead message to the dead-letter channel, and settles it. Refused unless it is dead still.
    DeadLetter {
        /// Which consumer.
        consumer: ConsumerId,
        /// The message.
        seq: u64,
        /// One message for the dead-letter channel; none: the message itself is gone.
        letter: Option<PublishGroup>,
    },
    /// One of the above under the rule that only settled work goes: a work queue keeps what a new position or the end of a
    /// consumer leaves behind, a letter that its channel refuses settles nothing, a new limit of attempts counts from the
    /// next one on, and dead letters do not go round in circles. Logs of earlier versions hold operations without it,
    /// which every node takes as those versions did.
    Keeping(Box<ConsumerOperation>),
    /// The same, and judged by the state alone: what a work queue's consumers have settled does not come again to those that
    /// begin at it, and a work queue takes a filter only where that is said. A dead letter is written whatever the schema of
    /// its channel, and says that it was not checked. What is removed before a consumer has settled it is counted.
    Judged {
        /// Which one.
        operation: Box<ConsumerOperation>,
        /// What the filter keeps back counts as settled.
        settle_skipped: bool,
    },
    /// [`ConsumerOperation::Assign`], where messages are passed over that have to wait for an earlier one of their key and
    /// are not to take a place among those that are pending. They are handed out by their numbers later.
    AssignPast {
        /// Which consumer.
        consumer: ConsumerId,
        /// Its `next` as the leader saw it.
        next: u64,
        /// Its `next` from now on.
        until: u64,
        /// By increasing sequence number.
        hands: Vec<Hand>,
        /// Messages that wait, with their keys, by increasing sequence number.
        parked: Vec<(u64, u64)>,
        /// Messages that are passed over: blocks of 64 consecutive sequence numbers, and which of each.
        deferred: Vec<(u64, u64)>,
    },
}

impl ConsumerOperation {
    /// About its encoded bytes, where they may be many.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Assign { hands, parked, .. } => size_of_val(hands.as_slice()) + size_of_val(parked.as_slice()),
            Self::AssignPast { hands, parked, deferred, .. } => {
                size_of_val(hands.as_slice()) + size_of_val(parked.as_slice()) + size_of_val(deferred.as_slice())
            }
            Self::Settle { settlements, .. } => size_of_val(settlements.as_slice()),
            Self::DeadLetter { letter: Some(letter), .. } => letter.frame.len(),
            Self::Keeping(operation) | Self::Judged { operation, .. } => operation.bytes(),
            _ => 0,
        }
    }

    /// Bytes of the copies that rules make of a letter.
    pub fn copied_bytes(&self) -> u64 {
        match self {
            Self::DeadLetter { letter: Some(letter), .. } => letter.copied_bytes(),
            Self::Keeping(operation) | Self::Judged { operation, .. } => operation.copied_bytes(),
            _ => 0,
        }
    }
}

/// The machine's answer to an operation on consumers that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsumerReply {
    /// The consumer (for a delete: as it was).
    Consumer(Box<ConsumerStatus>),
    /// To `Settle`: the positions of settlements that came too late, because their message has been handed out again.
    Settled {
        /// By increasing position.
        stale: Vec<u32>,
    },
    /// To anything that has nothing to say.
    Done,
}
