//! Consumers: named, durable cursors of a channel, whose work the members of a group share. What is said here goes
//! into the log and the store: variants and fields are append-only.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{ChannelId, ChannelName, InvalidName, Position, PublishGroup};

/// Never reused: a consumer that is deleted and created again has another id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConsumerId(pub u64);

/// Unique in its channel; the same characters as in a channel's name. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConsumerName(Arc<str>);

/// A text that is no name of a consumer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no consumer name: write 1 to 200 of A-Z a-z 0-9 . _ -, not `.` or `..`")]
pub struct InvalidConsumerName {
    name: String,
}

impl ConsumerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConsumerName {
    type Err = InvalidConsumerName;

    fn from_str(name: &str) -> Result<Self, InvalidConsumerName> {
        match name.parse() {
            Ok(ChannelName { .. }) => Ok(Self(name.into())),
            Err(InvalidName::TooLong(_)) => Err(InvalidConsumerName { name: name.chars().take(40).collect() }),
            Err(_) => Err(InvalidConsumerName { name: name.to_owned() }),
        }
    }
}

impl TryFrom<String> for ConsumerName {
    type Error = InvalidConsumerName;

    fn try_from(name: String) -> Result<Self, InvalidConsumerName> {
        name.parse()
    }
}

impl From<ConsumerName> for String {
    fn from(name: ConsumerName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl Borrow<str> for ConsumerName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConsumerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a consumer's creator chooses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerConfig {
    /// A message that is not settled for so long after it was handed out comes again; milliseconds of log time.
    pub ack_timeout_ms: u64,
    /// A message that was handed out so often without an ack is dead; 0: it comes again for ever.
    pub max_attempts: u32,
    /// Where dead messages go; none: they are dropped.
    pub dead_letter: Option<ChannelName>,
    /// Messages that members may have at once. What waits, for its time or for an earlier one of its key, takes no place
    /// of theirs; how much may wait is a limit of the node.
    pub max_in_flight: u32,
    /// In which order a group gets its messages.
    pub order: ConsumeOrder,
    /// Which messages it gets; none: all. Opaque to the machine.
    pub filter: Option<String>,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            ack_timeout_ms: 30_000,
            max_attempts: 0,
            dead_letter: None,
            max_in_flight: 1_000,
            order: ConsumeOrder::None,
            filter: None,
        }
    }
}

/// In which order a group gets its messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsumeOrder {
    /// Any message to any member; one that comes again comes after later ones.
    #[default]
    None,
    /// One member at a time, in the channel's order: nothing comes before an earlier message is settled, unless its
    /// holder gets that as well.
    Exclusive,
    /// The same for the messages of each ordering key by itself. A message without one is not ordered.
    Key(OrderingKey),
}

/// What a message's ordering key is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderingKey {
    /// Its idempotency key.
    MessageKey,
    /// The first header of this name.
    Header(String),
}

/// Where a consumer begins, or begins again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Begin {
    /// The first message still stored.
    Earliest,
    /// The next message.
    Latest,
    /// This sequence number, or the nearest one that there is.
    Seq(u64),
}

/// A consumer as all nodes know it: what changes only by an operator's will.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerMeta {
    /// Its identity.
    pub id: ConsumerId,
    /// The channel that it consumes.
    pub channel: ChannelId,
    /// Its name, unique in the channel.
    pub name: ConsumerName,
    /// What its creator chose.
    pub config: ConsumerConfig,
    /// Leader's time of creation, milliseconds since the Unix epoch.
    pub created_ms: u64,
}

/// How far a consumer is. With what is pending it says which messages are settled: all others below `next`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The first message that was never handed out.
    pub next: u64,
    /// How often a message was handed out again.
    pub redelivered: u64,
    /// Messages that were given up after their last attempt.
    pub dead: u64,
}

/// Messages that were removed, by retention or by hand, before a consumer had settled them: their places, of which compaction
/// may have emptied some. Those that lie between since the last hand-out are one gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// How many, ever.
    pub messages: u64,
    /// The first one of the newest gap.
    pub from_seq: u64,
    /// The sequence number after its last one.
    pub to_seq: u64,
}

/// A message below a consumer's `next` that is not settled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Who has it; none: it waits to be handed out.
    pub member: Option<u64>,
    /// How often work on it was begun; while a member has it, the present time included.
    pub attempts: u32,
    /// When it comes back from its member; or from when on it may be handed out.
    pub due_ms: u64,
    /// The hash of its ordering key.
    pub key: Option<u64>,
    /// Why the last attempt came to nothing.
    pub failure: Option<Failure>,
}

/// Why an attempt came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// No word from the member in time.
    Timeout,
    /// The member went away.
    Left,
    /// The member gave it back, with this reason; may be empty.
    Nacked(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("ack timeout"),
            Self::Left => f.write_str("member left"),
            Self::Nacked(reason) if reason.is_empty() => f.write_str("nacked"),
            Self::Nacked(reason) => write!(f, "nacked: {reason}"),
        }
    }
}

/// Names one handing-out of one message.
///
/// As a text it is `<seq>.<attempt>.<member>.<consumer>.<channel>.<epoch>.<history>`, which is only meant to be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryToken {
    /// The message.
    pub seq: u64,
    /// Which time it was.
    pub attempt: u32,
    /// To whom.
    pub member: u64,
    /// Of what; none where an earlier version handed it out. It is not in the log: a settlement names the consumer there by its
    /// id, which no other one gets in the same history, and is judged before.
    #[serde(skip)]
    pub of: Option<DeliveryOrigin>,
}

/// What a delivery is of. A message is known by its number in one history only, and an id names a consumer in one history only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryOrigin {
    /// The consumer.
    pub consumer: ConsumerId,
    /// The message's place in its channel's history.
    pub position: Position,
}

impl fmt::Display for DeliveryToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seq, attempt, member, of } = self;
        write!(f, "{seq}.{attempt}.{member}")?;
        match of {
            Some(DeliveryOrigin { consumer, position: Position { channel, epoch, history, .. } }) => {
                write!(f, ".{}.{}.{epoch}.{history:08x}", consumer.0, channel.0)
            }
            None => Ok(()),
        }
    }
}

/// A text that is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no delivery token: send back the one that came with the message")]
pub struct InvalidToken {
    text: String,
}

impl FromStr for DeliveryToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let parse = || {
            let parts: Vec<&str> = text.splitn(8, '.').collect();
            let ([seq, attempt, member], of) = parts.split_first_chunk::<3>()?;
            let seq = seq.parse().ok()?;
            let of = match of {
                [] => None,
                [consumer, channel, epoch, history] => {
                    let history = Some(*history).filter(|history| history.len() == 8);
                    let position = Position {
                        channel: ChannelId(channel.parse().ok()?),
                        epoch: epoch.parse().ok()?,
                        history: u32::from_str_radix(history?, 16).ok()?,
                        seq,
                    };
                    Some(DeliveryOrigin { consumer: ConsumerId(consumer.parse().ok()?), position })
                }
                _ => return None,
            };
            Some(Self { seq, attempt: attempt.parse().ok()?, member: member.parse().ok()?, of })
        };
        parse().ok_or_else(|| InvalidToken { text: text.chars().take(80).collect() })
    }
}

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

/// Messages of a work queue that no consumer answers for: the one that did was deleted or moved on before it had settled
/// them, or none ever began at them. They stay until a consumer that begins at them or before has settled them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphans {
    /// The first of them.
    pub from: u64,
    /// The sequence number after the last of them.
    pub until: u64,
}

/// A consumer and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerStatus {
    /// What it is.
    pub meta: ConsumerMeta,
    /// How far it is.
    pub cursor: Cursor,
    /// Messages that members have.
    pub in_flight: u64,
    /// Messages that wait to be handed out again, or for an earlier one of their key.
    pub waiting: u64,
    /// Dead messages on their way to the dead-letter channel.
    pub dying: u64,
    /// The lowest sequence number that is not settled.
    pub floor: u64,
    /// Messages that are not settled, as far as it is known that the consumer gets them.
    pub lag: u64,
    /// Messages that were removed before they were settled; none are counted of a consumer that was made by an earlier
    /// version and not changed since.
    pub lost: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_from_its_text_and_nothing_else_does() {
        let position = Position { channel: ChannelId(9), epoch: 2, history: 0x2a, seq: 3 };
        let of = Some(DeliveryOrigin { consumer: ConsumerId(4), position });
        let token = DeliveryToken { seq: 3, attempt: 1, member: 7, of };
        assert_eq!(token.to_string(), "3.1.7.4.9.2.0000002a");
        assert_eq!("3.1.7.4.9.2.0000002a".parse(), Ok(token));
        assert_eq!("3.1.7".parse(), Ok(DeliveryToken { of: None, ..token }), "as an earlier version handed it out");
        for text in
            ["", "3", "3.1", "3.1.7.4", "3.1.7.4.9.2", "3.1.7.4.9.2.2a", "3.1.7.4.9.2.0000002a.1", "3.1.x", "3.1.7."]
        {
            assert!(text.parse::<DeliveryToken>().is_err(), "{text}");
        }
    }
}
