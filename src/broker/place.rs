//! Where a reader begins, and whether that is in the channel's history: what is missing here may only be on its way, and
//! what is there may be of another history than the one that the reader has seen.

use std::sync::Arc;

use liminal_wire::time::to_ms;

use super::{Broker, BrokerError, Consistency, Payer, Start};
use crate::{
    budget::Account,
    model::{ChannelMeta, HistoryChange, IfChanged, Notice, Place, Position, Predicate, stream_key},
};

/// What a subscriber chooses.
#[derive(Clone, Debug, Default)]
pub struct SubscribeOptions {
    /// Only messages for which it holds.
    pub filter: Option<Predicate>,
    /// What happens when the history behind its place changes; none: see [`Start::if_changed`].
    pub if_changed: Option<IfChanged>,
    /// The connection that it lives on, by which its filter takes turns with others; none: the node's own.
    pub connection: Option<Arc<Account>>,
    /// For whom its filter is judged, where somebody's time is counted. An [`super::Access`] sets it.
    pub payer: Option<Payer>,
}

/// What a reader of stored messages chooses.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOptions {
    /// Messages at most; 0: as many as fit a page.
    pub limit: usize,
    /// What the read has to see.
    pub consistency: Consistency,
    /// It waits until this message is applied.
    pub min_seq: Option<u64>,
    /// What happens when the history behind its place has changed; none: see [`Start::if_changed`].
    pub if_changed: Option<IfChanged>,
}

/// The place that a start names, which may lie outside of a channel's history.
fn named(start: Start) -> Option<Place> {
    match start {
        Start::Seq(seq) => Some(Place::Seq(seq)),
        Start::Position(position) => Some(Place::Position(position)),
        Start::Earliest | Start::Latest | Start::Time(_) => None,
    }
}

impl Broker {
    /// The sequence number that a start stands for, now; and what the reader has to be told where the history behind it
    /// is not the channel's.
    pub(super) async fn place(
        &self,
        meta: &ChannelMeta,
        start: Start,
        if_changed: IfChanged,
    ) -> Result<(u64, Option<Notice>), BrokerError> {
        match named(start) {
            Some(place) => {
                let history = self.inner.view.history(meta.id);
                let notice = history.and_then(|history| history.judge(place, if_changed));
                let seq = match place {
                    Place::Seq(seq) => seq,
                    Place::Position(position) => position.seq,
                };
                Ok((notice.as_ref().map_or(seq, |notice| notice.next.seq), notice))
            }
            None => Ok((self.position(meta, start).await?, None)),
        }
    }

    /// The same for who is told by an error.
    pub(super) async fn place_or_fail(&self, meta: &ChannelMeta, start: Start) -> Result<u64, BrokerError> {
        match self.place(meta, start, IfChanged::Fail).await? {
            (_, Some(notice)) => Err(BrokerError::of_notice(notice)),
            (seq, None) => Ok(seq),
        }
    }

    /// The channel as this node knows it, once it knows enough to judge a reader's place. What is missing here may be on
    /// its way: the leader is asked before anybody is told that it is not there.
    ///
    /// # Errors
    /// `ChannelNotFound`; where it cannot be told, why.
    pub(super) async fn caught_up_with(
        &self,
        meta: Arc<ChannelMeta>,
        start: Start,
    ) -> Result<Arc<ChannelMeta>, BrokerError> {
        let Some(place) = named(start) else { return Ok(meta) };
        let judge = || self.inner.view.history(meta.id)?.judge(place, IfChanged::Notice);
        match judge().map(|notice| notice.change) {
            None | Some(HistoryChange::Cut) => return Ok(meta),
            Some(HistoryChange::Rewound | HistoryChange::Recreated | HistoryChange::BeyondEnd) => {}
        }
        self.catch_up().await?;
        Ok(self.find(meta.name.as_str())?)
    }

    /// The sequence number that a start stands for that names no place.
    pub(super) async fn position(&self, meta: &ChannelMeta, start: Start) -> Result<u64, BrokerError> {
        let stats = self.inner.view.stats(meta.id).unwrap_or_default();
        match start {
            Start::Earliest => Ok(stats.first_seq),
            Start::Latest => Ok(stats.next_seq),
            Start::Seq(seq) | Start::Position(Position { seq, .. }) => Ok(seq),
            Start::Time(time) => {
                let time_ms = to_ms(time);
                // Times grow with sequence numbers: halve the range until one batch is left.
                let (mut low, mut high) = (stats.first_seq, stats.next_seq);
                let key = stream_key(meta.name.as_str());
                while low < high {
                    let middle = low + (high - low) / 2;
                    let found =
                        self.store().read_batches(&key, middle, 1).await.map_err(|error| self.store_error(&error))?;
                    match found.first() {
                        Some(batch) if self.inner.view.time_of_day(batch.time_ms) < time_ms => low = batch.end_seq(),
                        _ => high = middle,
                    }
                }
                Ok(low)
            }
        }
    }
}
