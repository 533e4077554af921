//! What has become of the history behind a place in a channel: the judge of [`Position`]s, which every node decides alike
//! from what the log has done to the channel.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ChannelMeta, ChannelStats};

pub use liminal_wire::{HistoryChange, IfChanged, InvalidPosition, Notice, NoticeJson, Position};

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
    meta: Arc<ChannelMeta>,
    epoch: u64,
    /// Names the history in which the channel was created.
    first: u32,
    forks: Vec<Fork>,
    first_seq: u64,
    next_seq: u64,
}

impl History {
    /// Of a channel in a state of an epoch.
    pub fn new(meta: Arc<ChannelMeta>, stats: ChannelStats, forks: &[Fork], epoch: u64) -> Self {
        // Ids are given again after a restore, and in every new cluster; the time tells such channels apart.
        let mut born = crc32fast::Hasher::new();
        born.update(&meta.id.0.to_le_bytes());
        born.update(&meta.created_ms.to_le_bytes());
        Self {
            meta,
            epoch,
            first: born.finalize(),
            forks: forks.to_vec(),
            first_seq: stats.first_seq,
            next_seq: stats.next_seq,
        }
    }

    /// A place in it, as it is handed out.
    pub fn position(&self, seq: u64) -> Position {
        let (epoch, history) = self.forks.last().map_or((self.epoch, self.first), |fork| (fork.epoch, fork.history));
        Position { channel: self.meta.id, epoch, history, seq }
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
        let channel = self.meta.name.to_string();
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
        if position.channel != self.meta.id {
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
    use super::*;
    use crate::model::{ChannelConfig, ChannelId};

    fn history(created_ms: u64, forks: &[(u64, u32, u64)], first_seq: u64, next_seq: u64) -> History {
        let config = ChannelConfig::default();
        let meta = ChannelMeta { id: ChannelId(7), name: "c".parse().unwrap(), config, schema_id: 0, created_ms };
        let forks: Vec<Fork> = forks.iter().map(|&(epoch, history, begins)| Fork { epoch, history, begins }).collect();
        let stats = ChannelStats { first_seq, next_seq, ..ChannelStats::default() };
        History::new(Arc::new(meta), stats, &forks, forks.last().map_or(1, |fork| fork.epoch))
    }

    fn told(history: &History, position: Position) -> Option<(HistoryChange, u64)> {
        history.judge(Place::Position(position), IfChanged::Notice).map(|notice| (notice.change, notice.next.seq))
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
