//! Places in a channel's history. A sequence number alone says nothing of the history that it was seen in: a state may
//! be restored from a backup and go on in another way, and a channel may be deleted and created again. So what is
//! handed out to come back with is a [`Position`], which names that history, and what has become of it meanwhile is told
//! as a [`Notice`].

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{ChannelId, ChannelMeta, ChannelStats};
use crate::proto::v1;

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

/// Where a channel's history went another way: a state was restored, and what is published from `begins` on is not what
/// was published there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The epoch that began.
    pub epoch: u64,
    /// Names the history from here on; another one for each restore, also of one backup.
    pub history: u32,
    /// The first sequence number that is of it alone.
    pub begins: u64,
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
    pub fn code(self) -> &'static str {
        match self {
            Self::Cut => "OUT_OF_RANGE",
            Self::Rewound => "HISTORY_REWOUND",
            Self::Recreated => "CHANNEL_RECREATED",
            Self::BeyondEnd => "POSITION_BEYOND_END",
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
        let (code, message) = (change.code().to_owned(), notice.to_string());
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
        let (code, detail) = (change.code(), notice.to_string());
        Self { change, code, detail, from_seq, next, next_seq: next.seq, first_seq, end_seq }
    }
}

/// How a reader names its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// By a sequence number of whatever history.
    Seq(u64),
    /// By a position.
    Position(Position),
}

/// A channel's history at some applied index: what positions are judged by.
#[derive(Clone, Debug)]
pub struct History {
    channel: ChannelId,
    name: String,
    epoch: u64,
    /// Names the history in which the channel was created.
    first: u32,
    forks: Vec<Fork>,
    first_seq: u64,
    next_seq: u64,
}

impl History {
    /// Of a channel in a state of an epoch.
    pub fn new(meta: &ChannelMeta, stats: ChannelStats, forks: &[Fork], epoch: u64) -> Self {
        // Ids are given again after a restore, and in every new cluster; the time tells such channels apart.
        let born = [meta.id.0.to_le_bytes(), meta.created_ms.to_le_bytes()].concat();
        Self {
            channel: meta.id,
            name: meta.name.to_string(),
            epoch,
            first: crc32fast::hash(&born),
            forks: forks.to_vec(),
            first_seq: stats.first_seq,
            next_seq: stats.next_seq,
        }
    }

    /// A place in it, as it is handed out.
    pub fn position(&self, seq: u64) -> Position {
        let (epoch, history) = self.forks.last().map_or((self.epoch, self.first), |fork| (fork.epoch, fork.history));
        Position { channel: self.channel, epoch, history, seq }
    }

    /// What a reader at a place has to be told; nothing where all that it has seen is still so, and all that comes next
    /// is there or will be.
    pub fn judge(&self, place: Place, if_changed: IfChanged) -> Option<Notice> {
        let (seq, forked) = match place {
            Place::Seq(seq) => (seq, Some(None)),
            Place::Position(position) => (position.seq, self.forked(position)),
        };
        let Self { first_seq, next_seq: end_seq, .. } = *self;
        let (change, next) = match forked {
            None => (HistoryChange::Recreated, first_seq),
            Some(Some(begins)) if seq > begins => (HistoryChange::Rewound, begins.max(first_seq)),
            Some(_) if seq > end_seq => (HistoryChange::BeyondEnd, end_seq),
            Some(_) if seq < first_seq => (HistoryChange::Cut, first_seq),
            Some(_) => return None,
        };
        let next = if if_changed == IfChanged::Earliest { first_seq } else { next };
        let channel = self.name.clone();
        Some(Notice { change, channel, from_seq: seq, next: self.position(next), first_seq, end_seq })
    }

    /// Why a place that was handed out is not one of this history as it is; nothing where it is. Whoever acts on one message by
    /// its place is more careful than a reader: also of what both histories share it is not told whether it was done.
    pub fn left(&self, position: Position) -> Option<HistoryChange> {
        if self.position(position.seq) == position {
            return None;
        }
        Some(if self.forked(position).is_some() { HistoryChange::Rewound } else { HistoryChange::Recreated })
    }

    /// Where this history went another way than that of a position, if it did; none where it is not of this history, or
    /// nobody knows.
    fn forked(&self, position: Position) -> Option<Option<u64>> {
        if position.channel != self.channel {
            return None;
        }
        let later = if position.history == self.first {
            &self.forks[..]
        } else {
            let at = self.forks.iter().position(|fork| fork.history == position.history)?;
            &self.forks[at + 1..]
        };
        Some(later.iter().map(|fork| fork.begins).min())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::ChannelConfig;

    fn history(created_ms: u64, forks: &[(u64, u32, u64)], first_seq: u64, next_seq: u64) -> History {
        let config = ChannelConfig::default();
        let meta = ChannelMeta { id: ChannelId(7), name: "c".parse().unwrap(), config, schema_id: 0, created_ms };
        let forks: Vec<Fork> = forks.iter().map(|&(epoch, history, begins)| Fork { epoch, history, begins }).collect();
        let stats = ChannelStats { first_seq, next_seq, ..ChannelStats::default() };
        History::new(&Arc::new(meta), stats, &forks, forks.last().map_or(1, |fork| fork.epoch))
    }

    fn told(history: &History, position: Position) -> Option<(HistoryChange, u64)> {
        history.judge(Place::Position(position), IfChanged::Notice).map(|notice| (notice.change, notice.next.seq))
    }

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

    #[test]
    fn positions_of_the_history_that_was_kept_go_on_and_those_of_what_was_undone_are_told() {
        let before = history(5, &[], 0, 100);
        let restored = history(5, &[(2, 9, 70)], 0, 90);
        assert_eq!(told(&restored, before.position(70)), None);
        assert_eq!(told(&restored, before.position(71)), Some((HistoryChange::Rewound, 70)));
        assert_eq!(told(&restored, restored.position(90)), None);
        assert_eq!(told(&restored, restored.position(91)), Some((HistoryChange::BeyondEnd, 90)));
        // At once after the restore, with nothing published.
        assert_eq!(told(&history(5, &[(2, 9, 70)], 0, 70), before.position(71)), Some((HistoryChange::Rewound, 70)));
        // What a second restore has undone of the first one's history is told too.
        let again = history(5, &[(2, 9, 70), (3, 10, 60)], 0, 65);
        assert_eq!(told(&again, before.position(60)), None);
        assert_eq!(told(&again, before.position(65)), Some((HistoryChange::Rewound, 60)));
        assert_eq!(told(&again, restored.position(80)), Some((HistoryChange::Rewound, 60)));
    }

    #[test]
    fn whoever_acts_on_a_message_by_its_place_is_told_of_every_other_history() {
        let (before, restored) = (history(5, &[], 0, 100), history(5, &[(2, 9, 70)], 0, 90));
        assert_eq!((before.left(before.position(3)), restored.left(restored.position(80))), (None, None));
        assert_eq!(restored.left(before.position(80)), Some(HistoryChange::Rewound));
        assert_eq!(restored.left(before.position(3)), Some(HistoryChange::Rewound), "both hold it");
        assert_eq!(history(6, &[], 0, 100).left(before.position(3)), Some(HistoryChange::Recreated));
        assert_eq!(before.left(restored.position(3)), Some(HistoryChange::Recreated), "nobody knows that one");
    }

    #[test]
    fn two_restores_of_one_backup_are_two_histories() {
        let (one, other) = (history(5, &[(2, 9, 70)], 0, 90), history(5, &[(2, 10, 70)], 3, 90));
        assert_eq!(told(&other, one.position(80)), Some((HistoryChange::Recreated, 3)));
    }

    #[test]
    fn a_channel_that_got_the_id_of_another_one_is_another_one() {
        let (one, other) = (history(5, &[], 0, 90), history(6, &[], 0, 90));
        assert_eq!(told(&other, one.position(80)), Some((HistoryChange::Recreated, 0)));
    }

    #[test]
    fn a_bare_number_is_held_against_the_channels_two_ends() {
        let kept = history(5, &[(2, 9, 70)], 10, 90);
        let told = |seq, if_changed| kept.judge(Place::Seq(seq), if_changed).map(|told| (told.change, told.next.seq));
        assert_eq!(told(9, IfChanged::Notice), Some((HistoryChange::Cut, 10)));
        assert_eq!((told(10, IfChanged::Notice), told(90, IfChanged::Notice)), (None, None));
        assert_eq!(told(91, IfChanged::Notice), Some((HistoryChange::BeyondEnd, 90)));
        assert_eq!(told(91, IfChanged::Earliest), Some((HistoryChange::BeyondEnd, 10)));
    }
}
