//! Following a channel: pages of the store up to its tail, then the tail; and back to the store when it falls behind.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Broker, BrokerError, Leader, Start, store_error};
use crate::{
    fanout::{Follower, Next},
    model::{ChannelMeta, Durability, StoredBatch, stream_key},
    proto::v1::Message,
};

/// How long a new subscription waits for the leader to hear of it. Longer only delays the subscriber.
const ANNOUNCE: Duration = Duration::from_secs(1);

/// A live follower of a channel. Dropping it ends it.
pub struct Subscription {
    broker: Broker,
    meta: Arc<ChannelMeta>,
    follower: Follower,
    position: u64,
    /// Read from the store, not yet handed on.
    page: VecDeque<StoredBatch>,
    /// Messages of one batch, for `try_next`.
    messages: VecDeque<(u64, Message)>,
    stopping: CancellationToken,
}

impl Broker {
    /// Follows a channel on this node.
    ///
    /// # Errors
    /// `ChannelNotFound`; `OutOfRange` for a start below the first stored message; `NotStored` for a start other than
    /// the newest message of an ephemeral channel.
    pub async fn subscribe(&self, channel: &str, start: Start) -> Result<Subscription, BrokerError> {
        self.check_running()?;
        let meta = self.resolve(channel).await?;
        let live: usize = self.inner.view.fanout().interest().iter().map(|(_, count)| *count as usize).sum();
        if live >= self.limits().subscriptions {
            let (value, limit) = (live as u64 + 1, self.limits().subscriptions as u64);
            return Err(BrokerError::LimitExceeded {
                what: "the number of subscriptions on this node".into(),
                value,
                limit,
            });
        }
        if meta.config.durability == Durability::Ephemeral && !matches!(start, Start::Latest | Start::Earliest) {
            return Err(BrokerError::NotStored { channel: channel.into() });
        }
        // Followed first: what is published from here on is in the tail.
        let end = self.inner.view.stats(meta.id).unwrap_or_default().next_seq;
        let follower = self.inner.view.fanout().follow(meta.id, end);
        let announce = async {
            if let Leader::Remote(leader) = self.leader() {
                self.tell_interest(&leader).await;
            }
        };
        let _ = tokio::time::timeout(ANNOUNCE, announce).await; // repeated by the report task
        let position = match start {
            Start::Latest => self.inner.view.stats(meta.id).unwrap_or_default().next_seq,
            other => self.position(&meta, other).await?,
        };
        Ok(Subscription {
            broker: self.clone(),
            meta,
            follower,
            position,
            page: VecDeque::new(),
            messages: VecDeque::new(),
            stopping: self.inner.stopping.clone(),
        })
    }
}

impl Subscription {
    /// The next messages in order, never empty; waits for them. Messages whose time to live has passed are left out:
    /// the numbers of what comes next go on after a gap.
    ///
    /// # Errors
    /// When the channel is deleted, the node stops or what comes next was removed.
    pub async fn next(&mut self) -> Result<StoredBatch, BrokerError> {
        loop {
            if let Some(batch) = self.upcoming()? {
                let expires = batch.expires;
                // Put back first: this future may be dropped.
                self.page.push_front(batch);
                if expires {
                    self.broker.let_time_pass(self.page.front()).await;
                }
            }
            if let Some(batch) = self.ready()? {
                return Ok(batch);
            }
            if self.behind() {
                self.fill().await?;
                continue;
            }
            tokio::select! {
                () = self.follower.changed(self.position) => {}
                () = self.stopping.cancelled() => return Err(BrokerError::Stopping),
            }
        }
    }

    /// The next message if one is there already: in the channel's tail, or read before.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    pub fn try_next(&mut self) -> Result<Option<(u64, Message)>, BrokerError> {
        if self.messages.is_empty()
            && let Some(batch) = self.ready()?
        {
            let unreadable = |error: prost::DecodeError| BrokerError::Internal { reason: error.to_string() };
            for (seq, message) in (batch.first_seq..).zip(batch.frame.messages()) {
                self.messages.push_back((seq, message.map_err(unreadable)?));
            }
        }
        Ok(self.messages.pop_front())
    }

    /// The sequence number that comes next.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn behind(&self) -> bool {
        matches!(self.follower.at(self.position), Next::Behind(_))
    }

    /// What can be handed on without waiting.
    fn ready(&mut self) -> Result<Option<StoredBatch>, BrokerError> {
        while let Some(batch) = self.upcoming()? {
            // What lies before the run, or is all of the batch, has expired and is handed to nobody.
            let Some(run) = batch.live_runs(self.broker.inner.view.time_ms()).next() else {
                self.position = batch.end_seq();
                continue;
            };
            let rest = batch.from_seq(run.end_seq());
            if !rest.frame.is_empty() {
                self.page.push_front(rest);
            }
            return Ok(Some(self.hand_on(run)));
        }
        Ok(None)
    }

    /// The messages at the position, if they are there.
    fn upcoming(&mut self) -> Result<Option<StoredBatch>, BrokerError> {
        if let Some(batch) = self.page.pop_front() {
            return Ok(Some(batch));
        }
        match self.follower.at(self.position) {
            Next::Batch(batch) => Ok(Some(batch)),
            Next::Behind(first) if self.meta.config.durability == Durability::Ephemeral => {
                // At most once: what left the tail is lost to this subscriber.
                self.position = first;
                match self.follower.at(first) {
                    Next::Batch(batch) => Ok(Some(batch)),
                    _ => Ok(None),
                }
            }
            Next::Behind(_) | Next::Nothing => Ok(None),
            Next::Closed => Err(BrokerError::ChannelNotFound { name: self.meta.name.to_string(), similar: None }),
        }
    }

    fn hand_on(&mut self, batch: StoredBatch) -> StoredBatch {
        let range = batch.first_seq..batch.end_seq();
        self.position = range.end;
        self.follower.handed(u64::from(batch.frame.count()));
        self.broker.inner.delivery.handed(self.meta.id, range);
        batch
    }

    async fn fill(&mut self) -> Result<(), BrokerError> {
        let (key, bytes) = (stream_key(self.meta.name.as_str()), self.broker.limits().page_bytes);
        let view = self.broker.inner.view.clone();
        let applied = view.applied();
        let page = self.broker.store().read_batches(&key, self.position, bytes).await.map_err(store_error)?;
        match page.first() {
            Some(first) if first.first_seq > self.position => {
                let (channel, first) = (self.meta.name.to_string(), first.first_seq);
                Err(BrokerError::OutOfRange { channel, seq: self.position, first })
            }
            Some(_) => {
                self.page = page.into();
                Ok(())
            }
            None => {
                let first = self.broker.inner.view.stats(self.meta.id).unwrap_or_default().first_seq;
                if first > self.position {
                    let channel = self.meta.name.to_string();
                    return Err(BrokerError::OutOfRange { channel, seq: self.position, first });
                }
                // The machine is ahead of the store for the moment, or for as long as the store fails.
                tokio::select! {
                    () = view.wait_applied(applied + 1) => Ok(()),
                    () = self.stopping.cancelled() => Err(BrokerError::Stopping),
                }
            }
        }
    }
}
