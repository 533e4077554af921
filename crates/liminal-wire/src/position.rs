//! Places in a channel's history. A sequence number alone says nothing of the history that it was seen in: a state may
//! be restored from a backup and go on in another way, and a channel may be deleted and created again. So what is
//! handed out to come back with is a [`Position`], which names that history, and what has become of it meanwhile is told
//! as a [`Notice`].

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{ChannelId, Code, v1};

/// Where a reader goes on: the message that comes next, and the history in which all before it were seen.
///
/// As a text it is `<channel>.<epoch>.<history>.<seq>`, which is only meant to be kept and given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// The channel.
    pub channel: ChannelId,
    /// The epoch in which the position was handed out: for people.
    pub epoch: u64,
    /// Which history of the channel.
    pub history: u32,
    /// The sequence number that comes next.
    pub seq: u64,
}

impl Position {
    /// Another place in the same history.
    #[must_use]
    pub fn at(self, seq: u64) -> Self {
        Self { seq, ..self }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channel, epoch, history, seq } = self;
        write!(f, "{}.{epoch}.{history:08x}.{seq}", channel.0)
    }
}

/// A text that is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no position: give one back as it was handed out")]
pub struct InvalidPosition;

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or(InvalidPosition)
        };
        let mut parts = text.split('.');
        let mut next = || parts.next().ok_or(InvalidPosition);
        let (channel, epoch, history, seq) = (next()?, next()?, next()?, next()?);
        let hex = history.len() == 8 && history.bytes().all(|digit| digit.is_ascii_hexdigit());
        let history = u32::from_str_radix(history, 16).ok().filter(|_| hex).ok_or(InvalidPosition)?;
        let position = Self { channel: ChannelId(number(channel)?), epoch: number(epoch)?, history, seq: number(seq)? };
        if parts.next().is_some() { Err(InvalidPosition) } else { Ok(position) }
    }
}

/// In JSON a position is its text.
impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl From<v1::Position> for Position {
    fn from(position: v1::Position) -> Self {
        let v1::Position { channel_id, epoch, history, seq } = position;
        Self { channel: ChannelId(channel_id), epoch, history, seq }
    }
}

impl From<Position> for v1::Position {
    fn from(position: Position) -> Self {
        let Position { channel, epoch, history, seq } = position;
        Self { channel_id: channel.0, epoch, history, seq }
    }
}

/// What has become of the history that a position names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryChange {
    /// Messages from the position on were removed: by retention, or by a trim.
    Cut,
    /// The channel was restored from a backup that ends before the position.
    Rewound,
    /// It is another channel of the same name, or one whose history has nothing to do with that of the position.
    Recreated,
    /// The channel ends before the position.
    BeyondEnd,
}

impl HistoryChange {
    /// The stable code under which it is told.
    pub fn code(self) -> &'static Code {
        match self {
            Self::Cut => &Code::OutOfRange,
            Self::Rewound => &Code::HistoryRewound,
            Self::Recreated => &Code::ChannelRecreated,
            Self::BeyondEnd => &Code::PositionBeyondEnd,
        }
    }
}

/// What a reader does whose position is not, or no longer, in the channel's history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IfChanged {
    /// It is told, and goes on at the first message that it has not seen.
    #[default]
    Notice,
    /// It is told, and ends.
    Fail,
    /// It is told, and goes on at the first message that is stored.
    Earliest,
}

impl FromStr for IfChanged {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "notice" => Ok(Self::Notice),
            "fail" => Ok(Self::Fail),
            "earliest" => Ok(Self::Earliest),
            _ => Err(format!("`{text}` is not one of notice, fail and earliest")),
        }
    }
}

/// What a reader is told when the history behind its position has changed, and where it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What happened.
    pub change: HistoryChange,
    /// The channel.
    pub channel: String,
    /// The sequence number that the reader wanted next.
    pub from_seq: u64,
    /// Where it goes on.
    pub next: Position,
    /// The first sequence number that is stored.
    pub first_seq: u64,
    /// The sequence number after the last message.
    pub end_seq: u64,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { change, channel, from_seq, next, first_seq, end_seq } = self;
        match change {
            HistoryChange::Cut => {
                let last = first_seq.saturating_sub(1);
                write!(
                    f,
                    "messages {from_seq} to {last} of channel `{channel}` are gone; the first one stored is {first_seq}"
                )
            }
            HistoryChange::Rewound => write!(
                f,
                "channel `{channel}` was restored (epoch {}) from a backup that ends before {from_seq}: what came after it is \
                 undone",
                next.epoch
            ),
            HistoryChange::Recreated => write!(
                f,
                "channel `{channel}` is not the one that the position is of: it was created again, or comes from another \
                 backup; it holds {first_seq} to {end_seq} (exclusive)"
            ),
            HistoryChange::BeyondEnd => {
                write!(f, "channel `{channel}` ends at {end_seq}: {from_seq} is beyond its end")
            }
        }
    }
}

impl From<&Notice> for v1::Notice {
    fn from(notice: &Notice) -> Self {
        let Notice { change, from_seq, next, first_seq, end_seq, .. } = *notice;
        let (code, message) = (change.code().to_string(), notice.to_string());
        let change = match change {
            HistoryChange::Cut => v1::HistoryChange::Cut,
            HistoryChange::Rewound => v1::HistoryChange::Rewound,
            HistoryChange::Recreated => v1::HistoryChange::Recreated,
            HistoryChange::BeyondEnd => v1::HistoryChange::BeyondEnd,
        };
        Self { change: change.into(), code, message, from_seq, next: Some(next.into()), first_seq, end_seq }
    }
}

/// A notice as JSON says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NoticeJson {
    /// What happened.
    pub change: HistoryChange,
    /// Its stable code.
    pub code: &'static str,
    /// The same for people.
    pub detail: String,
    /// The sequence number that the reader wanted next.
    pub from_seq: u64,
    /// Where it goes on.
    pub next: Position,
    /// The sequence number of that.
    pub next_seq: u64,
    /// The first sequence number that is stored.
    pub first_seq: u64,
    /// The sequence number after the last message.
    pub end_seq: u64,
}

impl NoticeJson {
    /// Of a notice.
    pub fn of(notice: &Notice) -> Self {
        let Notice { change, from_seq, next, first_seq, end_seq, .. } = *notice;
        let (code, detail) = (change.code().as_str(), notice.to_string());
        Self { change, code, detail, from_seq, next, next_seq: next.seq, first_seq, end_seq }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_from_its_text_and_nothing_else_does() {
        let position = Position { channel: ChannelId(7), epoch: 2, history: 0x2a, seq: 70 };
        assert_eq!(position.to_string(), "7.2.0000002a.70");
        assert_eq!("7.2.0000002a.70".parse(), Ok(position));
        for text in [
            "",
            "70",
            "7.2.70",
            "7.2.2a.70",
            "7.2.0000002a.",
            "7.2.0000002a.70.1",
            "7.2.0000002g.70",
            "+7.2.0000002a.7",
        ] {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text}");
        }
    }
}
