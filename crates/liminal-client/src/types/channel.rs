//! Channels: how they are, how they are to be, and what is known of their schemas.

use std::time::{Duration, SystemTime};

use liminal_wire::v1;

use super::{Message, choices, mirror, setters};
use crate::error::ErrorDetail;

choices! {
    /// Whether messages are stored.
    Durability {
        /// On every node; an ack means fsynced on a majority.
        Durable,
        /// Nowhere: each subscriber gets a message at most once.
        Ephemeral,
    }

    /// What happens to a publish when the channel holds as much as it may.
    WhenFull {
        /// It is taken, and the oldest messages go.
        DropOldest,
        /// It is refused.
        RefuseNew,
    }

    /// What a new schema has to be to the one before it.
    Compatibility {
        /// It takes all that the old one takes.
        Backward,
        /// The old one takes all that it takes.
        Forward,
        /// Both.
        Full,
        /// Anything.
        None,
    }

    /// By what payloads under the same idempotency key are the same.
    Comparison {
        /// By their bytes.
        Bytes,
        /// By what they say as JSON: white space, the order of members and the spelling of numbers make no difference.
        CanonicalJson,
    }
}

mirror! {
    /// How a channel is to be.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liminal_client::{ChannelConfig, Retention};
    ///
    /// let config = ChannelConfig::new()
    ///     .schema(r#"{"type":"object"}"#)
    ///     .retention(Retention::new().max_age(Duration::from_secs(86_400)));
    /// assert!(config.retention.is_some());
    /// ```
    #[derive(Default)]
    ChannelConfig = ChannelConfig {
        /// Whether messages are stored.
        durability: Durability = durability as choice,
        /// A JSON Schema (draft 4 to 2020-12); the empty text takes any payload.
        schema: String = schema as same,
        /// How long an idempotency key is remembered; 24 h unless chosen.
        dedup_window: Option<Duration> = dedup_window_ms as some_duration,
        /// What a new schema has to be to the one before it.
        compatibility: Compatibility = compatibility as choice,
        /// What is kept.
        retention: Option<Retention> = retention as optional,
        /// The channel that gets samples of the messages which the schema refuses.
        quarantine: Option<String> = quarantine as some_text,
        /// How much may be published.
        quota: Option<Quota> = quota as optional,
        /// By what payloads under the same idempotency key are the same. Cannot change.
        comparison: Comparison = comparison as choice,
    }

    /// What a channel keeps. What is absent does not limit.
    #[derive(Default)]
    Retention = Retention {
        /// Messages.
        max_messages: Option<u64> = max_messages as same,
        /// Their bytes.
        max_bytes: Option<u64> = max_bytes as same,
        /// Their age.
        max_age: Option<Duration> = max_age_ms as optional_duration,
        /// What happens to a publish when that is reached.
        when_full: WhenFull = when_full as choice,
        /// Messages go as soon as every consumer of the channel has acknowledged them.
        work_queue: bool = work_queue as same,
        /// Of the messages with the same value in the header of this name only the last one is kept.
        compact_by: Option<String> = compact_by as some_text,
    }

    /// How much may be published by all publishers together. What is absent does not limit.
    #[derive(Default)]
    Quota = Quota {
        /// Messages.
        messages_per_second: Option<u64> = messages_per_second as same,
        /// Their bytes.
        bytes_per_second: Option<u64> = bytes_per_second as same,
    }

    /// A channel as it is.
    Channel = Channel {
        /// Its name.
        name: String = name as same,
        /// Never given again: a channel that is deleted and created again has another one.
        id: u64 = id as same,
        /// How it is to be.
        config: ChannelConfig = config as value,
        /// The version of its schema; 0 means none.
        schema_id: u64 = schema_id as same,
        /// When it was created.
        created: SystemTime = created_ms as time,
        /// The first sequence number that is stored.
        first_seq: u64 = first_seq as same,
        /// The sequence number that the next message gets.
        next_seq: u64 = next_seq as same,
        /// Idempotency keys in the window.
        live_keys: u64 = live_keys as same,
        /// Bytes of the stored messages.
        bytes: u64 = bytes as same,
        /// Live subscriptions on the node that answered.
        subscribers: u64 = subscribers as same,
        /// Messages that the node that answered has refused because of the schema since it started.
        rejected: u64 = rejected as same,
        /// Messages that wait for their time.
        delayed: u64 = delayed as same,
        /// Messages that compaction has removed, about.
        compacted: u64 = compacted as same,
    }

    /// A change of a channel. What is absent stays as it is.
    #[derive(Default)]
    UpdateChannel = UpdateChannelRequest {
        /// The channel.
        name: String = name as same,
        /// The empty text removes the schema.
        schema: Option<String> = schema as same,
        /// How long an idempotency key is remembered.
        dedup_window: Option<Duration> = dedup_window_ms as optional_duration,
        /// What a new schema has to be to the one before it.
        compatibility: Option<Compatibility> = compatibility as optional_choice,
        /// Replaced as a whole.
        retention: Option<Retention> = retention as optional,
        /// The empty text removes it.
        quarantine: Option<String> = quarantine as same,
        /// Replaced as a whole.
        quota: Option<Quota> = quota as optional,
    }

    /// What goes from one channel to another one by itself.
    #[derive(Default)]
    Rule = Rule {
        /// From here.
        source: String = source as same,
        /// To there.
        target: String = target as same,
        /// Only messages for which this predicate holds; the empty text lets every one through.
        predicate: String = predicate as same,
    }

    /// A schema that a channel has, or has had.
    SchemaVersion = SchemaVersion {
        /// Which one of all channels'.
        id: u64 = id as same,
        /// A channel's first schema is version 1.
        version: u64 = version as same,
        /// When the channel got it.
        time: SystemTime = time_ms as time,
        /// Its text.
        schema: String = schema as same,
    }

    /// How stored messages fit a schema.
    HistoryReport = ValidateHistoryResponse {
        /// Messages that were looked at.
        checked: u64 = checked as same,
        /// Of them: those that do not fit.
        invalid: u64 = invalid as same,
        /// The first one that was looked at.
        first_seq: u64 = first_seq as same,
        /// Where the next call goes on, if that is before `end_seq`.
        next_seq: u64 = next_seq as same,
        /// The sequence number after the last message when the call began.
        end_seq: u64 = end_seq as same,
        /// The first ones that do not fit.
        samples: Vec<InvalidMessage> = samples as list,
    }

    /// A stored message that does not fit a schema.
    InvalidMessage = InvalidMessage {
        /// Its place.
        seq: u64 = seq as same,
        /// What is wrong with it.
        violations: Vec<ErrorDetail> = violations as list,
    }

    /// A message that waits for its time.
    DelayedMessage = DelayedMessage {
        /// Given in the order of publishing; no sequence number.
        id: u64 = id as same,
        /// When it becomes visible.
        due: SystemTime = due_ms as time,
        /// The message.
        message: Message = message as value,
    }

    /// Some of the messages that wait.
    DelayedPage = ListDelayedResponse {
        /// In the order of publishing.
        messages: Vec<DelayedMessage> = messages as list,
        /// Where the next page begins; none at the end.
        next_after_id: Option<u64> = next_after_id as same,
    }
}

setters!(ChannelConfig {
    durability: Durability,
    schema: impl Into<String>,
    dedup_window: impl Into<Option<Duration>>,
    compatibility: Compatibility,
    retention: impl Into<Option<Retention>>,
    quarantine: impl Into<Option<String>>,
    quota: impl Into<Option<Quota>>,
    comparison: Comparison,
});

setters!(Retention {
    max_messages: impl Into<Option<u64>>,
    max_bytes: impl Into<Option<u64>>,
    max_age: impl Into<Option<Duration>>,
    when_full: WhenFull,
    work_queue: bool,
    compact_by: impl Into<Option<String>>,
});

setters!(Quota {
    messages_per_second: impl Into<Option<u64>>,
    bytes_per_second: impl Into<Option<u64>>,
});

setters!(UpdateChannel {
    name: impl Into<String>,
    schema: impl Into<Option<String>>,
    dedup_window: impl Into<Option<Duration>>,
    compatibility: impl Into<Option<Compatibility>>,
    retention: impl Into<Option<Retention>>,
    quarantine: impl Into<Option<String>>,
    quota: impl Into<Option<Quota>>,
});

setters!(Rule {
    source: impl Into<String>,
    target: impl Into<String>,
    predicate: impl Into<String>,
});

impl From<v1::ErrorDetail> for ErrorDetail {
    fn from(detail: v1::ErrorDetail) -> Self {
        Self { pointer: detail.pointer, message: detail.message }
    }
}

impl From<ErrorDetail> for v1::ErrorDetail {
    fn from(detail: ErrorDetail) -> Self {
        Self { pointer: detail.pointer, message: detail.message }
    }
}

/// Which messages stay when a channel is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// Those from this sequence number on.
    FromSeq(u64),
    /// So many of the newest.
    Newest(u64),
    /// Those of the last so long.
    Last(Duration),
}

impl From<v1::trim_channel_request::Keep> for Keep {
    fn from(keep: v1::trim_channel_request::Keep) -> Self {
        match keep {
            v1::trim_channel_request::Keep::FromSeq(seq) => Self::FromSeq(seq),
            v1::trim_channel_request::Keep::Newest(count) => Self::Newest(count),
            v1::trim_channel_request::Keep::LastMs(ms) => Self::Last(Duration::from_millis(ms)),
        }
    }
}

impl From<Keep> for v1::trim_channel_request::Keep {
    fn from(keep: Keep) -> Self {
        match keep {
            Keep::FromSeq(seq) => Self::FromSeq(seq),
            Keep::Newest(count) => Self::Newest(count),
            Keep::Last(time) => Self::LastMs(liminal_wire::time::duration_to_ms(time)),
        }
    }
}
