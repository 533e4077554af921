//! Following a channel: pages of the store up to its tail, then the tail; and back to the store when it falls behind.
//! A filter is applied here, on the node that serves the subscription.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Broker, BrokerError, Leader, Start, filter::Filter};
use crate::{
    fanout::{Follower, Next},
    model::{ChannelMeta, Durability, Frame, Predicate, StoredBatch, stream_key},
    proto::v1::Message,
    store::StoreError,
};

/// How long a new subscription waits for the leader to hear of it. Longer only delays the subscriber.
const ANNOUNCE: Duration = Duration::from_secs(1);

/// A live follower of a channel. Dropping it ends it.
pub struct Subscription {
    broker: Broker,
    meta: Arc<ChannelMeta>,
    follower: Follower,
    filter: Option<Filter>,
    /// Up to here batches were taken from the page or the tail.
    position: u64,
    /// Read from the store, not yet handed on.
    page: VecDeque<StoredBatch>,
    /// What follows the page, on its way from the store while the page is sent.
    ahead: Option<Ahead>,
    /// Messages of one batch, for `try_next`.
    messages: VecDeque<(u64, Message)>,
    stopping: CancellationToken,
}

/// A page that is being read before it is asked for.
struct Ahead {
    from: u64,
    read: JoinHandle<Result<Vec<StoredBatch>, StoreError>>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.read.abort();
    }
}

impl Broker {
    /// Follows a channel on this node.
    ///
    /// # Errors
    /// `ChannelNotFound`; `OutOfRange` for a start below the first stored message; `NotStored` for a start other than
    /// the newest message of an ephemeral channel.
    pub async fn subscribe(&self, channel: &str, start: Start) -> Result<Subscription, BrokerError> {
        self.subscribe_filtered(channel, start, None).await
    }

    /// Follows the messages of a channel for which a predicate holds.
    ///
    /// # Errors
    /// As [`Broker::subscribe`].
    pub async fn subscribe_filtered(
        &self,
        channel: &str,
        start: Start,
        filter: Option<Predicate>,
    ) -> Result<Subscription, BrokerError> {
        self.check_running()?;
        let meta = self.resolve(channel).await?;
        let (live, limit) = (self.inner.view.fanout().all_followers(), self.limits().subscriptions as u64);
        if live >= limit {
            let value = live + 1;
            return Err(BrokerError::LimitExceeded {
                what: "the number of subscriptions on this node".into(),
                value,
                limit,
            });
        }
        if meta.config.durability == Durability::Ephemeral && !matches!(start, Start::Latest | Start::Earliest) {
            return Err(BrokerError::NotStored { channel: channel.into() });
        }
        // Followed first: what is published from here on is in the tail, and what was before is in the store. A channel
        // that is gone by now ended the followers that it had.
        let follower = self.inner.view.fanout().follow(meta.id);
        let stats = self.inner.view.stats(meta.id).ok_or_else(|| gone(&meta))?;
        if meta.config.durability == Durability::Durable {
            follower.reach(stats.next_seq);
        }
        let announce = async {
            if let Leader::Remote(leader) = self.leader()
                && let Some(acknowledged) = self.tell_interest(&leader).await
            {
                // What was acknowledged before is nothing new.
                self.inner.view.wait_applied(acknowledged).await;
            }
        };
        let _ = tokio::time::timeout(ANNOUNCE, announce).await; // repeated by the report task
        let position = match start {
            Start::Latest => self.inner.view.stats(meta.id).unwrap_or_default().next_seq,
            other => self.position(&meta, other).await?,
        };
        follower.passed(position);
        self.inner.delivery.settled();
        Ok(Subscription {
            broker: self.clone(),
            meta,
            follower,
            filter: filter.map(Filter::new),
            position,
            page: VecDeque::new(),
            ahead: None,
            messages: VecDeque::new(),
            stopping: self.inner.stopping.clone(),
        })
    }
}

impl Subscription {
    /// The next messages in order, never empty; waits for them. Messages whose time to live has passed are left out:
    /// the numbers of what comes next go on after a gap. With a filter, those up to the next one that it does not let
    /// through; or now and then an empty batch, whose `first_seq` says that nothing below it will come.
    ///
    /// # Errors
    /// When the channel is deleted, the node stops or what comes next was removed.
    pub async fn next(&mut self) -> Result<StoredBatch, BrokerError> {
        loop {
            if let Some(batch) = self.peek()?.filter(|batch| batch.expires) {
                self.broker.let_time_pass([&batch]).await;
            }
            if let Some(batch) = self.ready()? {
                return Ok(batch);
            }
            if let Some(word) = self.word() {
                return Ok(word);
            }
            if self.behind() {
                self.fill().await?;
                continue;
            }
            let word_due = self.filter.as_ref().and_then(Filter::word_due);
            let due = async {
                match word_due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.follower.changed(self.position) => {}
                () = due => {}
                () = self.stopping.cancelled() => return Err(BrokerError::Stopping),
            }
        }
    }

    /// The next message if one is there already: in the channel's tail, or read before.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    pub fn try_next(&mut self) -> Result<Option<(u64, Message)>, BrokerError> {
        while self.messages.is_empty() {
            let Some(batch) = self.ready()? else {
                // Who asks again knows by itself how far it came.
                if self.word().is_some() {
                    continue;
                }
                break;
            };
            let unreadable = |error: prost::DecodeError| BrokerError::Internal { reason: error.to_string() };
            for (seq, message) in (batch.first_seq..).zip(batch.frame.messages()) {
                self.messages.push_back((seq, message.map_err(unreadable)?));
            }
        }
        Ok(self.messages.pop_front())
    }

    /// The sequence number that comes next; with a filter, at the earliest.
    pub fn position(&self) -> u64 {
        self.filter.as_ref().and_then(Filter::first).map_or(self.position, |run| run.first_seq)
    }

    /// How far the filter has looked, when it is time to say so.
    fn word(&mut self) -> Option<StoredBatch> {
        let (at_tail, first_seq) = (self.page.is_empty() && !self.behind(), self.position);
        let filter = self.filter.as_mut().filter(|filter| filter.has_word(at_tail))?;
        filter.told(at_tail);
        Some(StoredBatch { first_seq, time_ms: 0, schema_id: 0, expires: false, frame: Frame::default() })
    }

    fn behind(&self) -> bool {
        matches!(self.follower.at(self.position), Next::Behind(_))
    }

    /// What would be handed on next, or looked at; it stays where it is.
    fn peek(&mut self) -> Result<Option<StoredBatch>, BrokerError> {
        if let Some(run) = self.filter.as_ref().and_then(Filter::first) {
            return Ok(Some(run.clone()));
        }
        let upcoming = self.upcoming()?;
        if let Some(batch) = &upcoming {
            self.page.push_front(batch.clone());
        }
        Ok(upcoming)
    }

    /// What can be handed on without waiting. Through a filter, one batch is looked at and then again the clock, so
    /// that a filter which lets nothing through still gives word.
    fn ready(&mut self) -> Result<Option<StoredBatch>, BrokerError> {
        loop {
            if let Some(run) = self.filter.as_mut().and_then(Filter::pop) {
                // Time has passed since it was looked at.
                let (live, rest) = self.live(run);
                if let (Some(filter), Some(rest)) = (&mut self.filter, rest) {
                    filter.put_back(rest);
                }
                match live {
                    Some(live) => return Ok(Some(self.hand_on(live))),
                    None => self.pass(true),
                }
                continue;
            }
            if self.filter.as_ref().is_some_and(|filter| filter.has_word(false)) {
                return Ok(None);
            }
            let Some(batch) = self.upcoming()? else { return Ok(None) };
            let end = batch.end_seq();
            let (live, rest) = self.live(batch);
            self.position = live.as_ref().map_or(end, StoredBatch::end_seq);
            if let Some(rest) = rest {
                self.page.push_front(rest);
            }
            let Some(live) = live else {
                self.pass(true);
                continue;
            };
            let Some(filter) = &mut self.filter else { return Ok(Some(self.hand_on(live))) };
            filter.look(live)?;
            self.pass(false);
        }
    }

    /// The first messages of a batch that may still be handed to anybody, and what comes after them. What lies before
    /// them, or is all of the batch, has expired and is handed to nobody.
    fn live(&self, batch: StoredBatch) -> (Option<StoredBatch>, Option<StoredBatch>) {
        if !batch.expires {
            return (Some(batch), None);
        }
        let live = batch.live_runs(self.broker.inner.view.time_ms()).next();
        let rest = live.as_ref().map(|live| batch.from_seq(live.end_seq())).filter(|rest| !rest.frame.is_empty());
        (live, rest)
    }

    /// The next batch from the page or the tail.
    fn upcoming(&mut self) -> Result<Option<StoredBatch>, BrokerError> {
        if let Some(batch) = self.page.pop_front() {
            return Ok(Some(batch));
        }
        match self.follower.at(self.position) {
            Next::Batch(batch) => {
                self.ahead = None; // it has caught up
                Ok(Some(batch))
            }
            Next::Behind(first) if self.meta.config.durability == Durability::Ephemeral => {
                // At most once: what left the tail is lost to this subscriber.
                self.position = first;
                self.pass(false);
                match self.follower.at(first) {
                    Next::Batch(batch) => Ok(Some(batch)),
                    _ => Ok(None),
                }
            }
            Next::Behind(_) | Next::Nothing => Ok(None),
            Next::Closed => Err(gone(&self.meta)),
        }
    }

    fn hand_on(&mut self, batch: StoredBatch) -> StoredBatch {
        self.follower.handed(u64::from(batch.frame.count()));
        self.broker.inner.delivery.handed(self.meta.id, batch.first_seq..batch.end_seq());
        self.pass(batch.expires);
        batch
    }

    /// Tells how far this follower has come. Without a filter, and where nothing has expired (`gaps`), the hand-off
    /// itself says all that anybody waits for.
    fn pass(&self, gaps: bool) {
        self.follower.passed(self.position());
        if gaps || self.filter.is_some() {
            self.broker.inner.delivery.settled();
        }
    }

    async fn fill(&mut self) -> Result<(), BrokerError> {
        let (key, bytes) = (stream_key(self.meta.name.as_str()), self.broker.limits().page_bytes);
        let view = self.broker.inner.view.clone();
        let applied = view.applied();
        let ahead = self.read_ahead().await;
        let whole = view.whole().await;
        let page = match ahead {
            Some(page) => page,
            None => self
                .broker
                .store()
                .read_batches(&key, self.position, bytes)
                .await
                .map_err(|error| self.broker.store_error(&error))?,
        };
        // The store may still hold what is gone, and so may what was read before. It is read by name: what is there may
        // be another channel's.
        let first = view.stats(self.meta.id).ok_or_else(|| gone(&self.meta))?.first_seq;
        if first > self.position {
            let channel = self.meta.name.to_string();
            return Err(BrokerError::OutOfRange { channel, seq: self.position, first });
        }
        let begins = page.first().map(|first| first.first_seq);
        let begins =
            begins.filter(|begins| *begins <= self.position || self.broker.has_gap(self.meta.id, self.position));
        drop(whole);
        match begins {
            Some(first) => {
                if first > self.position {
                    self.position = first;
                    self.pass(true);
                }
                if let Some(next) = page.last().map(StoredBatch::end_seq)
                    && matches!(self.follower.at(next), Next::Behind(_))
                {
                    let broker = self.broker.clone();
                    let read = async move { broker.store().read_batches(&key, next, bytes).await };
                    self.ahead = Some(Ahead { from: next, read: tokio::spawn(read) });
                }
                self.page = page.into();
                if let Some(filter) = &mut self.filter {
                    filter.page();
                    // A page may hold nothing for this subscriber; others have their turn before the next one.
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
            None => {
                // The machine is ahead of the store for the moment, or for as long as the store fails.
                tokio::select! {
                    () = view.wait_applied(applied + 1) => Ok(()),
                    () = self.stopping.cancelled() => Err(BrokerError::Stopping),
                }
            }
        }
    }

    /// The page that was read ahead, if it is the next one. One that could not be read, or was empty and so is out of
    /// date, is read again.
    async fn read_ahead(&mut self) -> Option<Vec<StoredBatch>> {
        if self.ahead.as_ref().is_some_and(|ahead| ahead.from != self.position) {
            self.ahead = None;
        }
        let read = (&mut self.ahead.as_mut()?.read).await;
        self.ahead = None;
        read.ok()?.ok().filter(|page| !page.is_empty())
    }
}

fn gone(meta: &ChannelMeta) -> BrokerError {
    BrokerError::ChannelNotFound { name: meta.name.to_string(), similar: None }
}
