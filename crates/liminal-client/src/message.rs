//! What goes in and comes out: messages, acks, deliveries, and where a subscription begins.

use std::time::SystemTime;

use liminal_wire::{Code, Frame, HistoryChange, IfChanged, Notice, Position, headers, time::from_ms, v1};
use prost::Message as _;

use crate::error::ClientError;

pub use crate::types::Message;
pub use liminal_wire::{Confirm, Consistency, PublishOptions, Start};

/// An acknowledged publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Position in the channel; for a duplicate, the original one. Has no meaning for a message that waits.
    pub seq: u64,
    /// The key was published before with this payload. What else this message said (headers, time to live, delay) is not
    /// kept: the first one stands.
    pub duplicate: bool,
    /// Whether a live subscriber anywhere was handed it; none when the publisher did not wait or it is not certain.
    pub delivered: Option<bool>,
    /// Raft term in which it was committed.
    pub term: u64,
    /// The message waits for this time, and has no sequence number yet.
    pub scheduled: Option<SystemTime>,
    /// `seq` with the history that it is of: who reads from here gets this message first, or is told that the history
    /// has changed. None for a message that waits, where the channel has been deleted since, and from an older node.
    pub position: Option<Position>,
}

impl From<v1::PublishResponse> for Published {
    fn from(ok: v1::PublishResponse) -> Self {
        let v1::PublishResponse { seq, duplicate, delivered, term, scheduled_ms, position } = ok;
        let (scheduled, position) = (scheduled_ms.map(from_ms), position.map(Into::into));
        Self { seq, duplicate, delivered, term, scheduled, position }
    }
}

/// What a subscriber chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SubscribeOptions {
    /// Only messages for which this predicate holds; empty: all.
    pub filter: String,
    /// What happens when the history behind the subscription has changed. Unless chosen it is told, and goes on; but a
    /// [`Start::Seq`] that is not there is refused.
    pub if_changed: Option<IfChanged>,
}

pub(crate) fn if_changed_to_proto(if_changed: IfChanged) -> i32 {
    i32::from(match if_changed {
        IfChanged::Notice => v1::IfChanged::Notice,
        IfChanged::Fail => v1::IfChanged::Fail,
        IfChanged::Earliest => v1::IfChanged::Earliest,
    })
}

/// What a server said of the history of a channel.
pub(crate) fn notice_of(channel: &str, notice: v1::Notice) -> Result<Notice, ClientError> {
    let change = match notice.change() {
        v1::HistoryChange::Cut => HistoryChange::Cut,
        v1::HistoryChange::Rewound => HistoryChange::Rewound,
        v1::HistoryChange::Recreated => HistoryChange::Recreated,
        v1::HistoryChange::BeyondEnd => HistoryChange::BeyondEnd,
        v1::HistoryChange::Unspecified => return Err(malformed("notice")),
    };
    let v1::Notice { from_seq, next, first_seq, end_seq, .. } = notice;
    let next = next.ok_or_else(|| malformed("notice"))?.into();
    Ok(Notice { change, channel: channel.to_owned(), from_seq, next, first_seq, end_seq })
}

/// A message of a channel.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Received {
    /// Position in the channel.
    pub seq: u64,
    /// When the leader sequenced it.
    pub time: SystemTime,
    /// The version of the channel's schema that the payload was checked against; 0 means none.
    pub schema_id: u64,
    /// The message.
    pub message: Message,
}

impl Received {
    /// A message as a channel would give it: for tests of what handles messages.
    pub fn new(seq: u64, time: SystemTime, schema_id: u64, message: Message) -> Self {
        Self { seq, time, schema_id, message }
    }

    /// Where the reply goes, if the message is a request.
    pub fn reply_to(&self) -> Option<&str> {
        let header = self.message.headers.iter().find(|header| header.name == headers::REPLY_TO)?;
        Some(&header.value)
    }
}

/// A page of stored messages.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Page {
    /// In order.
    pub messages: Vec<Received>,
    /// Where the next page begins.
    pub next_seq: u64,
    /// The first sequence number still stored.
    pub first_seq: u64,
    /// The sequence number after the last message that the answering node has applied.
    pub end_seq: u64,
    /// The same as `next_seq`, with the history that it is of; none from a node of an earlier version.
    pub next: Option<Position>,
    /// What has become of the history behind a [`Start::Position`]: the page begins where it says.
    pub notice: Option<Notice>,
}

impl Page {
    pub(crate) fn from_proto(channel: &str, response: v1::ReadResponse) -> Result<Self, ClientError> {
        let mut messages = Vec::new();
        let v1::ReadResponse { deliveries, next_seq, first_seq, end_seq, next, notice } = response;
        for delivery in deliveries {
            unpack(delivery, 0, &mut messages)?;
        }
        let notice = notice.map(|notice| notice_of(channel, notice)).transpose()?;
        Ok(Self { messages, next_seq, first_seq, end_seq, next: next.map(Into::into), notice })
    }
}

/// Decodes the messages of a delivery from sequence number `from` on.
pub(crate) fn unpack(delivery: v1::Delivery, from: u64, into: &mut Vec<Received>) -> Result<(), ClientError> {
    let v1::Delivery { first_seq, time_ms, schema_id, batch, .. } = delivery;
    for (seq, record) in (first_seq..).zip(Frame::parse_records(batch)) {
        let record = record.map_err(|error| malformed("delivery").with_source(error))?;
        if seq >= from {
            let message = v1::Message::decode(record).map_err(|error| malformed("message").with_source(error))?;
            into.push(Received { seq, time: from_ms(time_ms), schema_id, message: message.into() });
        }
    }
    Ok(())
}

/// The server sent something that this client cannot read.
pub(crate) fn malformed(what: &str) -> ClientError {
    ClientError::new(Code::Internal, format!("the server sent a {what} that cannot be read"))
        .with_help("use the same version of liminal on both sides")
}
