//! What publishers and readers choose, the same for a client and for a broker inside a program.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::{
    IfChanged, Position,
    time::{from_ms, to_ms},
    v1::{self, start::From as Place},
};

/// What an ack of a publish waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confirm {
    /// Fsynced on a majority and applied on the leader.
    Commit,
    /// Also handed to the first live subscriber, or certainly to none.
    #[default]
    Delivery,
    /// The same, and right after an election it waits until all nodes have said whom they serve. Between nodes only: from
    /// a client it is [`Confirm::Delivery`].
    Certainty,
}

impl From<Confirm> for v1::Confirm {
    fn from(confirm: Confirm) -> Self {
        match confirm {
            Confirm::Commit => Self::Commit,
            Confirm::Delivery | Confirm::Certainty => Self::Delivery,
        }
    }
}

/// What a publisher chooses.
///
/// ```
/// use liminal_wire::{Confirm, PublishOptions};
///
/// let options = PublishOptions::new().confirm(Confirm::Commit).expected_seq(7);
/// assert_eq!(options.expected_seq, Some(7));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishOptions {
    /// What the ack waits for.
    pub confirm: Confirm,
    /// Everything is refused with `WRONG_SEQ` unless the first message gets this sequence number.
    pub expected_seq: Option<u64>,
}

impl PublishOptions {
    /// The usual choices.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the ack waits for.
    #[must_use]
    pub fn confirm(self, confirm: Confirm) -> Self {
        Self { confirm, ..self }
    }

    /// Everything is refused with `WRONG_SEQ` unless the first message gets this sequence number.
    #[must_use]
    pub fn expected_seq(self, seq: impl Into<Option<u64>>) -> Self {
        Self { expected_seq: seq.into(), ..self }
    }
}

/// Where a subscription or a read begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The first message still stored.
    Earliest,
    /// The next message that will be published.
    #[default]
    Latest,
    /// This sequence number.
    Seq(u64),
    /// The first message at or after this time, to the millisecond.
    Time(SystemTime),
    /// Where an earlier answer said to go on, in the history that it was handed out in.
    Position(Position),
}

impl Start {
    /// What a reader that says nothing of it wants to happen when the history behind its place has changed. Who gives a
    /// bare number back does not know of notices.
    pub fn if_changed(self) -> IfChanged {
        if matches!(self, Self::Position(_)) { IfChanged::Notice } else { IfChanged::Fail }
    }

    /// What a request says; none where it says nothing.
    pub fn of_request(start: Option<v1::Start>) -> Option<Self> {
        let start = start?;
        if let Some(position) = start.position {
            return Some(Self::Position(position.into()));
        }
        Some(match start.from? {
            Place::Earliest(_) => Self::Earliest,
            Place::Latest(_) => Self::Latest,
            Place::Seq(seq) => Self::Seq(seq),
            Place::TimeMs(ms) => Self::Time(from_ms(ms)),
        })
    }
}

impl From<Start> for v1::Start {
    fn from(start: Start) -> Self {
        let position = match start {
            Start::Position(position) => Some(position.into()),
            _ => None,
        };
        let from = match start {
            Start::Earliest => Place::Earliest(true),
            Start::Latest => Place::Latest(true),
            Start::Seq(seq) => Place::Seq(seq),
            Start::Time(time) => Place::TimeMs(to_ms(time)),
            // For nodes of earlier versions.
            Start::Position(position) => Place::Seq(position.seq),
        };
        Self { position, from: Some(from) }
    }
}

/// What a read has to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Every publish acknowledged before the call began. Needs a leader.
    #[default]
    Linearizable,
    /// What the answering node has applied: a prefix of the channel.
    Local,
}

impl From<Consistency> for v1::ReadConsistency {
    fn from(consistency: Consistency) -> Self {
        match consistency {
            Consistency::Linearizable => Self::ReadLinearizable,
            Consistency::Local => Self::ReadLocal,
        }
    }
}

/// What a publisher should do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Nothing happened: try again, not before the delay that the error names. The client does so by itself.
    Defer,
    /// Nothing happened, and nothing will: do not try again unchanged.
    Reject,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_comes_back_from_a_request() {
        let position = Position { seq: 7, history: 42, ..Position::default() };
        for start in [
            Start::Earliest,
            Start::Latest,
            Start::Seq(7),
            Start::Time(from_ms(1_764_000_000_123)),
            Start::Position(position),
        ] {
            assert_eq!(Start::of_request(Some(start.into())), Some(start));
        }
        assert_eq!(Start::of_request(Some(v1::Start::default())), None);
    }
}
