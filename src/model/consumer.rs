//! Consumers: named, durable cursors of a channel, whose work the members of a group share. What is said here goes
//! into the log and the store: variants and fields are append-only.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{ChannelId, ChannelName, InvalidName};

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
