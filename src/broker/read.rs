//! Reads of stored messages, and the moment that a read has to see.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    Broker, BrokerError, Consistency, NoChannel, Page, ReadOptions, Start, Unserved,
    forward::{Request, Response, not_submitted},
    leader::{Asking, RETRY},
};
use crate::model::{
    AUDIT_CHANNEL, ChannelId, ChannelMeta, ChannelName, ChannelStats, Command, Durability, HistoryChange, IfChanged,
    Notice, StoredBatch, stream_key,
};

/// Pages that one read passes over because everything in them has expired.
const EXPIRED_PAGES: usize = 16;
/// How long a reader waits for the leader's time.
const TIME_PATIENCE: Duration = Duration::from_secs(1);
/// How long a local read that begins beyond what this node has applied waits to hear of the rest.
const LAG_PATIENCE: Duration = Duration::from_secs(1);

impl Broker {
    /// Reads stored messages.
    ///
    /// # Errors
    /// As [`Broker::read_with`].
    pub async fn read(
        &self,
        channel: &str,
        start: Start,
        limit: usize,
        consistency: Consistency,
        min_seq: Option<u64>,
    ) -> Result<Page, BrokerError> {
        self.read_with(channel, start, ReadOptions { limit, consistency, min_seq, if_changed: None }).await
    }

    /// The log's time at which the first message of a channel from a sequence number on was stored, as this node has it; none
    /// where there is none, or it cannot be read.
    pub async fn stored_at(&self, channel: &ChannelName, seq: u64) -> Option<u64> {
        let batches = self.store().read_batches(&stream_key(channel.as_str()), seq, 1).await.ok()?;
        batches.first().map(|batch| batch.time_ms)
    }

    /// The same with more choices.
    ///
    /// # Errors
    /// `OutOfRange` below the first stored message, or `HistoryChanged` elsewhere outside of the channel's history, unless
    /// the page is to begin where it goes on; `NotStored` for an ephemeral channel; `NoLeader` or `NotConfirmed` for a
    /// linearizable read without a majority.
    pub async fn read_with(&self, channel: &str, start: Start, options: ReadOptions) -> Result<Page, BrokerError> {
        let ReadOptions { limit, consistency, min_seq, if_changed } = options;
        let if_changed = if_changed.unwrap_or_else(|| start.if_changed());
        let _request = self.inner.requests.token();
        self.check_running()?;
        if consistency == Consistency::Linearizable {
            self.catch_up().await?;
        }
        let mut meta = match self.find(channel) {
            // Who has a position has seen the channel: it is this node that lags behind.
            Err(_) if matches!(start, Start::Position(_)) => {
                let known = tokio::time::timeout(LAG_PATIENCE, self.resolve(channel)).await;
                known.unwrap_or_else(|_| Ok(self.find(channel)?))?
            }
            found => found?,
        };
        let mut confirmed = true;
        if consistency == Consistency::Local {
            match tokio::time::timeout(LAG_PATIENCE, self.caught_up_with(meta.clone(), start)).await {
                Ok(Ok(known)) => meta = known,
                _ => confirmed = false,
            }
        }
        if meta.config.durability == Durability::Ephemeral {
            return Err(BrokerError::NotStored { channel: channel.into() });
        }
        if let Some(seq) = min_seq {
            self.wait_for_seq(&meta, seq).await?;
        }
        let key = stream_key(meta.name.as_str());
        let gone = || BrokerError::ChannelNotFound { name: channel.into(), similar: None };
        let (from, notice, stats, stored, history) = loop {
            let whole = self.inner.view.whole().await;
            let stats = self.inner.view.stats(meta.id).unwrap_or_default();
            let (from, notice) = match self.place(&meta, start, if_changed).await? {
                // Nobody could be asked whether the channel goes on: there is nothing yet as far as this node knows.
                (_, Some(Notice { change: HistoryChange::BeyondEnd, from_seq, .. })) if !confirmed => (from_seq, None),
                (_, Some(_)) if !confirmed => {
                    return Err(BrokerError::NotConfirmed { waited_ms: LAG_PATIENCE.as_secs() * 1000 });
                }
                (_, Some(notice)) if if_changed == IfChanged::Fail => return Err(BrokerError::of_notice(notice)),
                place => place,
            };
            let stored = self
                .store()
                .read_batches(&key, from, self.limits().page_bytes)
                .await
                .map_err(|error| self.store_error(&error))?;
            // What was to be read may have been removed meanwhile, all of it or its beginning.
            let Some(ChannelStats { first_seq: first, .. }) = self.inner.view.stats(meta.id) else {
                // What was read by its name may be another channel's.
                return Err(gone());
            };
            // Of the state that was read, whichever takes its place.
            let history = self.inner.view.history(meta.id).ok_or_else(gone)?.position(from);
            let begins = stored.first().map_or(first, |batch| batch.first_seq);
            if begins <= from || self.has_gap(meta.id, from) {
                break (from, notice, stats, stored, history);
            }
            drop(whole);
            if first <= from {
                sleep(RETRY).await; // the store is behind the machine
            }
        };
        let first_seq = stats.first_seq;
        let limit = if limit == 0 { usize::MAX } else { limit };
        let (mut batches, mut next_seq, mut stored) = (Vec::new(), from, stored);
        for _ in 0..EXPIRED_PAGES {
            if consistency == Consistency::Linearizable {
                self.let_time_pass(&stored).await;
            }
            (batches, next_seq) = self.page_of(stored, next_seq, limit);
            if !batches.is_empty() {
                break;
            }
            // A page of which everything has expired is no reason to come back, unless what follows it was removed.
            let _whole = self.inner.view.whole().await;
            // In another state there may be other messages at this place: the next read is told.
            if self.inner.view.history(meta.id).map(|now| now.position(from)) != Some(history) {
                break;
            }
            stored = self
                .store()
                .read_batches(&key, next_seq, self.limits().page_bytes)
                .await
                .map_err(|error| self.store_error(&error))?;
            let begins = stored.first().map(|batch| batch.first_seq);
            if begins.is_none_or(|begins| begins > next_seq && !self.has_gap(meta.id, next_seq)) {
                break;
            }
        }
        // Read after the messages, so that none of them is beyond it.
        let end_seq = self.inner.view.stats(meta.id).map_or(stats.next_seq, |stats| stats.next_seq);
        Ok(Page { batches, next_seq, next: history.at(next_seq), first_seq, end_seq, notice })
    }

    /// Whether what is not there at a place of a channel, though later messages are, was taken out by compaction: else
    /// it went with all that is older.
    pub(super) fn has_gap(&self, channel: ChannelId, seq: u64) -> bool {
        let view = &self.inner.view;
        let compacted = view.compaction(channel).is_some_and(|compaction| compaction.step > 0);
        compacted && view.stats(channel).is_some_and(|stats| stats.first_seq <= seq)
    }

    /// As much of what was read as fits a page, without what has expired, and where the next page begins.
    fn page_of(&self, stored: Vec<StoredBatch>, from: u64, limit: usize) -> (Vec<StoredBatch>, u64) {
        let now_ms = self.inner.view.time_ms();
        let (mut batches, mut taken, mut next_seq) = (Vec::new(), 0, from);
        let mut bytes = self.limits().page_bytes;
        for batch in stored {
            let end = batch.end_seq();
            for mut run in batch.live_runs(now_ms) {
                let room = u32::try_from(limit - taken).unwrap_or(u32::MAX);
                let (whole, end) = (run.frame.take(room), run.end_seq());
                if whole.is_empty() || (bytes == 0 && taken > 0) {
                    return (batches, next_seq);
                }
                run.frame = whole.take_bytes(bytes);
                bytes = bytes.saturating_sub(run.frame.len());
                taken += run.frame.count() as usize;
                next_seq = run.end_seq();
                run.time_ms = self.inner.view.time_of_day(run.time_ms);
                batches.push(run);
                if next_seq < end {
                    return (batches, next_seq);
                }
            }
            next_seq = end;
        }
        (batches, next_seq)
    }

    /// Where a message of these batches has expired by this node's reckoning of the log's time, but not by what it has
    /// applied, asks the leader to write its own down. What then is decided goes by that alone; without a leader time stands
    /// still.
    pub(super) async fn let_time_pass(&self, batches: impl IntoIterator<Item = &StoredBatch>) {
        let (log, clock) = (self.inner.view.time_ms(), self.inner.view.clock().now_ms());
        if clock <= log || !batches.into_iter().any(|batch| batch.expires_between(log, clock)) {
            return;
        }
        let passed = async {
            let deadline = Instant::now() + TIME_PATIENCE;
            if let Response::Index(index) = self.ask(&self.leader(), &Request::PassTime, deadline).await {
                self.inner.view.wait_applied(index).await;
            }
        };
        let _ = tokio::time::timeout(TIME_PATIENCE, passed).await;
    }

    /// On the leader: has the log's time written down, unless the log knows as much.
    pub(super) async fn pass_time(&self) -> Response {
        let (log, time_ms) = (self.inner.view.time_ms(), self.inner.view.clock().now_ms());
        if time_ms <= log {
            return Response::Index(self.inner.view.applied());
        }
        match self.inner.sequencer.propose(Command::Tick { time_ms }).await {
            Ok(proposed) => Response::Index(proposed.index),
            Err(error) => not_submitted(error),
        }
    }

    /// The channel as this node knows it.
    pub(super) fn find(&self, name: &str) -> Result<Arc<ChannelMeta>, NoChannel> {
        if name != AUDIT_CHANNEL {
            super::channels::parse(name)?;
        }
        self.inner.view.catalog().get(name).cloned().ok_or_else(|| self.no_channel(name))
    }

    /// Says that there is no channel of a name, and which name is like it.
    pub(super) fn no_channel(&self, name: &str) -> NoChannel {
        let catalog = self.inner.view.catalog();
        let likeness = |other: &&Arc<ChannelMeta>| strsim::damerau_levenshtein(name, other.name.as_str());
        let others = catalog.iter().filter(|other| other.name.as_str() != name);
        let similar = others.min_by_key(likeness).filter(|other| likeness(other) <= 2);
        NoChannel::ChannelNotFound { name: name.into(), similar: similar.map(|other| other.name.to_string()) }
    }

    /// The channel; a node that does not know it first hears everything that the leader knows.
    pub(super) async fn resolve(&self, name: &str) -> Result<Arc<ChannelMeta>, BrokerError> {
        if let Ok(meta) = self.find(name) {
            return Ok(meta);
        }
        self.catch_up().await?;
        Ok(self.find(name)?)
    }

    /// Waits until everything acknowledged before the call is applied here.
    pub(super) async fn catch_up(&self) -> Result<(), Unserved> {
        let patience = self.limits().read_timeout;
        let deadline = Instant::now() + patience;
        let waited_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let confirmed = async {
            let answer = self.ask_leader(&Request::ReadIndex, &mut Asking::until(deadline)).await;
            match answer.map_err(Unserved::of_leader)? {
                Response::Index(index) => {
                    self.inner.view.wait_applied(index).await;
                    Ok(())
                }
                other => Err(other.unexpected()),
            }
        };
        match tokio::time::timeout_at(deadline, confirmed).await {
            Ok(Err(error)) if error.outcome_unknown() => Err(Unserved::NotConfirmed { waited_ms }),
            Ok(result) => result,
            Err(_) => Err(Unserved::NotConfirmed { waited_ms }),
        }
    }

    async fn wait_for_seq(&self, meta: &ChannelMeta, seq: u64) -> Result<(), BrokerError> {
        let patience = self.limits().read_timeout;
        let reached = async {
            loop {
                // Looked at first: an entry that is applied between two looks is one that was waited for.
                let applied = self.inner.view.applied();
                if self.inner.view.stats(meta.id).is_none_or(|stats| stats.next_seq > seq) {
                    return;
                }
                self.inner.view.wait_applied(applied + 1).await;
            }
        };
        let waited_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        tokio::time::timeout(patience, reached).await.map_err(|_| BrokerError::NotConfirmed { waited_ms })
    }
}
