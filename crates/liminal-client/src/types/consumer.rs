//! Consumers and their dead letters.

use std::time::{Duration, SystemTime};

use super::{Message, choices, mirror, setters};
use crate::error::ClientError;

choices! {
    /// In which order the members of a group get messages.
    ConsumeOrder {
        /// Any message to any member; one that comes again comes after later ones.
        None,
        /// One member at a time, in the channel's order.
        Exclusive,
        /// The messages of one key go to one member at a time, in order. Messages without a key are not ordered.
        Key,
    }
}

mirror! {
    /// How a consumer is to be.
    ///
    /// ```
    /// use liminal_client::ConsumerConfig;
    ///
    /// let config = ConsumerConfig::new().max_attempts(5).dead_letter("orders.dead".to_owned());
    /// assert_eq!(config.max_attempts, 5);
    /// ```
    #[derive(Default)]
    ConsumerConfig = ConsumerConfig {
        /// A message that is not settled for so long comes again; 30 s unless chosen.
        ack_timeout: Option<Duration> = ack_timeout_ms as some_duration,
        /// A message that was worked on so often without an ack is dead; 0: it comes again for ever.
        max_attempts: u32 = max_attempts as same,
        /// The channel that dead messages go to; `<channel>.dead` unless chosen, which is made when it is needed.
        dead_letter: Option<String> = dead_letter as some_text,
        /// Messages that members may have at once; 0 means the default (1,000).
        max_in_flight: u32 = max_in_flight as same,
        /// In which order members get messages.
        order: ConsumeOrder = order as choice,
        /// With [`ConsumeOrder::Key`]: the header that holds the ordering key; the idempotency key unless chosen.
        order_header: Option<String> = order_header as some_text,
        /// Only messages for which this predicate holds. What the consumer does not get is settled.
        filter: Option<String> = filter as some_text,
        /// Dead messages are dropped. Not together with `dead_letter`.
        drop_dead: bool = drop_dead as same,
        /// What the filter keeps back counts as settled in a work queue, and goes if no other consumer wants it. Without this
        /// word a work queue takes no filter. It is not kept, and false in answers.
        settle_skipped: bool = settle_skipped as same,
    }

    /// A consumer as it is.
    ConsumerState = Consumer {
        /// Its channel.
        channel: String = channel as same,
        /// Its name.
        name: String = name as same,
        /// Its id.
        id: u64 = id as same,
        /// How it is to be.
        config: ConsumerConfig = config as value,
        /// When it was created.
        created: SystemTime = created_ms as time,
        /// The first message that was never handed out.
        next_seq: u64 = next_seq as same,
        /// The lowest sequence number that is not settled.
        floor_seq: u64 = floor_seq as same,
        /// Messages that are not settled; about as many where compaction has removed some.
        lag: u64 = lag as same,
        /// Of them: those that members have.
        in_flight: u64 = in_flight as same,
        /// Of them: those that wait to be handed out again, for an earlier one of their key, or for the dead-letter channel.
        waiting: u64 = waiting as same,
        /// How often a message was handed out again.
        redelivered: u64 = redelivered as same,
        /// Messages that were given up.
        dead: u64 = dead as same,
        /// Of those that wait: dead ones whose dead-letter channel has not taken them yet.
        dying: u64 = dying as same,
        /// Messages that retention or a trim removed before they were settled, at most.
        lost: u64 = lost as same,
    }

    /// A change of a consumer. What is absent stays as it is.
    #[derive(Default)]
    UpdateConsumer = UpdateConsumerRequest {
        /// Its channel.
        channel: String = channel as same,
        /// Its name.
        name: String = name as same,
        /// As in a configuration.
        ack_timeout: Option<Duration> = ack_timeout_ms as optional_duration,
        /// As in a configuration.
        max_attempts: Option<u32> = max_attempts as same,
        /// The empty text: `<channel>.dead`.
        dead_letter: Option<String> = dead_letter as same,
        /// As in a configuration.
        max_in_flight: Option<u32> = max_in_flight as same,
        /// Together with `order_header`.
        order: Option<ConsumeOrder> = order as optional_choice,
        /// As in a configuration.
        order_header: Option<String> = order_header as some_text,
        /// The empty text removes it.
        filter: Option<String> = filter as same,
        /// As in a configuration.
        drop_dead: bool = drop_dead as same,
        /// As in a configuration.
        settle_skipped: bool = settle_skipped as same,
    }

    /// Which dead letters: those that a consumer gave up.
    #[derive(Default)]
    DeadLetterSelection = DeadLetterSelection {
        /// The consumer's channel.
        channel: String = channel as same,
        /// It may be gone by now, if `dead_letter` says where its letters are.
        consumer: String = consumer as same,
        /// The channel in which they lie; the consumer's dead-letter channel unless chosen.
        dead_letter: Option<String> = dead_letter as some_text,
        /// Only those for which this predicate holds.
        filter: Option<String> = filter as some_text,
        /// Not those before this place in the dead-letter channel.
        from_seq: u64 = from_seq as same,
        /// At most so many; 0 means as many as one call takes.
        limit: u64 = limit as same,
    }

    /// A dead letter.
    DeadLetter = DeadLetter {
        /// Its place in the dead-letter channel.
        seq: u64 = seq as same,
        /// When it was written.
        time: SystemTime = time_ms as time,
        /// Bytes of the message with its headers.
        bytes: u64 = bytes as same,
        /// Its place in the channel in which the message died.
        origin_seq: u64 = origin_seq as same,
        /// How often work on it was begun.
        attempts: u32 = attempts as same,
        /// Why the last attempt came to nothing.
        reason: String = reason as same,
        /// How often the message has died.
        hops: u32 = hops as same,
        /// How often it was redriven.
        redriven: u32 = redriven as same,
        /// With all its headers.
        message: Message = message as value,
    }

    /// Some dead letters.
    DeadLetterPage = ListDeadLettersResponse {
        /// The channel in which they lie.
        dead_letter: String = dead_letter as same,
        /// In order.
        letters: Vec<DeadLetter> = letters as list,
        /// Where the next page begins.
        next_seq: u64 = next_seq as same,
        /// There is none.
        done: bool = done as same,
    }

    /// Sends dead letters to another channel.
    #[derive(Default)]
    Redrive = RedriveRequest {
        /// Which.
        selection: DeadLetterSelection = selection as value,
        /// The channel to which they go; the one in which the messages died unless chosen.
        to: Option<String> = to as some_text,
        /// Nothing is moved; [`Redriven::moved`] says how many would be, if there is room for them.
        dry_run: bool = dry_run as same,
    }
}

setters!(ConsumerConfig {
    ack_timeout: impl Into<Option<Duration>>,
    max_attempts: u32,
    dead_letter: impl Into<Option<String>>,
    max_in_flight: u32,
    order: ConsumeOrder,
    order_header: impl Into<Option<String>>,
    filter: impl Into<Option<String>>,
    drop_dead: bool,
    settle_skipped: bool,
});

setters!(UpdateConsumer {
    channel: impl Into<String>,
    name: impl Into<String>,
    ack_timeout: impl Into<Option<Duration>>,
    max_attempts: impl Into<Option<u32>>,
    dead_letter: impl Into<Option<String>>,
    max_in_flight: impl Into<Option<u32>>,
    order: impl Into<Option<ConsumeOrder>>,
    order_header: impl Into<Option<String>>,
    filter: impl Into<Option<String>>,
    drop_dead: bool,
    settle_skipped: bool,
});

setters!(DeadLetterSelection {
    channel: impl Into<String>,
    consumer: impl Into<String>,
    dead_letter: impl Into<Option<String>>,
    filter: impl Into<Option<String>>,
    from_seq: u64,
    limit: u64,
});

setters!(Redrive {
    selection: DeadLetterSelection,
    to: impl Into<Option<String>>,
    dry_run: bool,
});

/// What became of dead letters that were sent elsewhere.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Redriven {
    /// The channel in which they lay.
    pub dead_letter: String,
    /// Where they went.
    pub target: String,
    /// Letters that went there.
    pub moved: u64,
    /// Letters that are gone after a step of which no answer came: this call has moved them, or another one at that time.
    pub unsure: u64,
    /// Letters that stay because they cannot go there.
    pub refused: u64,
    /// The first of them with the reasons.
    pub refusals: Vec<RefusedLetter>,
    /// Where the next call goes on.
    pub next_seq: u64,
    /// There is no need for one.
    pub done: bool,
    /// Why nothing more can be moved now.
    pub stopped: Option<ClientError>,
}

/// A letter that stays where it is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RefusedLetter {
    /// Its place in the dead-letter channel.
    pub seq: u64,
    /// Why.
    pub error: Option<ClientError>,
}

impl From<liminal_wire::v1::RedriveResponse> for Redriven {
    fn from(wire: liminal_wire::v1::RedriveResponse) -> Self {
        let liminal_wire::v1::RedriveResponse {
            dead_letter,
            target,
            moved,
            unsure,
            refused,
            refusals,
            next_seq,
            done,
            stopped,
        } = wire;
        let letter = |letter: liminal_wire::v1::RefusedLetter| RefusedLetter {
            seq: letter.seq,
            error: letter.error.map(ClientError::from_proto),
        };
        Self {
            dead_letter,
            target,
            moved,
            unsure,
            refused,
            refusals: refusals.into_iter().map(letter).collect(),
            next_seq,
            done,
            stopped: stopped.map(ClientError::from_proto),
        }
    }
}
