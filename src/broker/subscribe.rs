//! Following a channel on this node.
//!
//! A subscription without a filter is handed what its inbox has room for as it is published ([`crate::fanout`]). With
//! a filter, a task judges what comes, and puts what passes into an inbox of the subscription's own: its publishers
//! are told whether it was handed on, also when the subscriber does not look.

mod judge;
mod reader;

use std::{collections::VecDeque, time::Duration};

use self::{
    judge::{Asking, Judged},
    reader::{Reader, gone},
};
use super::{Broker, BrokerError, Leader, Standing, Start, SubscribeOptions};
use crate::{
    fanout::{Observer as _, Taking},
    model::{Durability, IfChanged, Position, Predicate, StoredBatch},
    proto::v1::Message,
};

/// How long a new subscription waits for the leader to hear of it. Longer only delays the subscriber.
const ANNOUNCE: Duration = Duration::from_secs(1);

/// A live follower of a channel. Dropping it ends it.
pub struct Subscription {
    source: Source,
    if_changed: IfChanged,
    /// It has to say at once that its history has changed.
    begins_told: bool,
    /// The history that it follows.
    history: Position,
    /// Messages of one batch, for `try_next`.
    messages: VecDeque<(u64, Message)>,
    /// It ends with the right by which it was opened; none where that does not end.
    standing: Option<Standing>,
}

enum Source {
    All(Reader),
    Some(Judged),
}

impl Broker {
    /// Follows a channel on this node.
    ///
    /// # Errors
    /// As [`Broker::subscribe_with`].
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
        self.subscribe_with(channel, start, SubscribeOptions { filter, ..SubscribeOptions::default() }).await
    }

    /// Follows a channel, with more choices.
    ///
    /// # Errors
    /// `ChannelNotFound`; `NotStored` for a start other than the newest message of an ephemeral channel. For who wants it
    /// so: `OutOfRange` for a start below the first stored message, and `HistoryChanged` for another one that is not in
    /// the channel's history. Who does not is told by the subscription.
    pub async fn subscribe_with(
        &self,
        channel: &str,
        start: Start,
        options: SubscribeOptions,
    ) -> Result<Subscription, BrokerError> {
        let SubscribeOptions { filter, if_changed, connection, payer } = options;
        let if_changed = if_changed.unwrap_or_else(|| start.if_changed());
        self.check_running()?;
        let meta = self.caught_up_with(self.resolve(channel).await?, start).await?;
        let (live, limit) = (self.inner.view.fanout().all_followers(), self.limits().subscriptions as u64);
        if live >= limit {
            let value = live + 1;
            return Err(BrokerError::LimitExceeded {
                what: "the number of subscriptions on this node".into(),
                value,
                limit,
            });
        }
        let durability = meta.config.durability;
        if durability == Durability::Ephemeral && !matches!(start, Start::Latest | Start::Earliest | Start::Position(_))
        {
            return Err(BrokerError::NotStored { channel: channel.into() });
        }
        // It was at most once that anything came, and what came meanwhile is missed.
        let start = match start {
            Start::Position(_) if durability == Durability::Ephemeral => Start::Latest,
            start => start,
        };
        // Followed first: what is published from here on is in the tail, and what was before is in the store. A channel
        // that is gone by now ended the followers that it had.
        let taking = if filter.is_some() { Taking::Some } else { Taking::All };
        let follower = self.inner.view.fanout().follow(meta.id, durability, taking);
        let stats = self.inner.view.stats(meta.id).ok_or_else(|| gone(&meta))?;
        if durability == Durability::Durable {
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
        // What is judged, followed and named is of one state. One that takes its place later is looked at by the follower.
        let whole = self.inner.view.whole().await;
        let (place, notice) = match start {
            Start::Latest => (None, None),
            other => {
                let (place, notice) = self.place(&meta, other, if_changed).await?;
                (Some(place), notice)
            }
        };
        if let Some(notice) = notice.clone().filter(|_| if_changed == IfChanged::Fail) {
            return Err(BrokerError::of_notice(notice));
        }
        let applied = self.inner.view.stats(meta.id).ok_or_else(|| gone(&meta))?.next_seq;
        let position = follower.begin(place, applied);
        self.inner.delivery.settled();
        let history = self.inner.view.history(meta.id).ok_or_else(|| gone(&meta))?.position(position);
        drop(whole);
        let told = notice.is_some();
        let mut reader = Reader::new(self.clone(), meta, follower, history, if_changed, notice);
        let source = match filter {
            Some(filter) => Source::Some(Judged::start(reader, filter, Asking { connection, payer })),
            None => {
                // What it begins with may be all that keeps it from the tail.
                if reader.is_behind() {
                    reader.fill().await?;
                }
                Source::All(reader)
            }
        };
        let begins_told = told || matches!(&source, Source::All(reader) if reader.is_told());
        Ok(Subscription { source, if_changed, begins_told, history, messages: VecDeque::new(), standing: None })
    }
}

impl Subscription {
    /// The next messages in order, never empty; waits for them. Messages whose time to live has passed are left out:
    /// the numbers of what comes next go on after a gap. With a filter, those up to the next one that it does not let
    /// through; or now and then an empty batch, whose `first_seq` says that nothing below it will come.
    ///
    /// # Errors
    /// When the channel is deleted, the node stops or what comes next was removed. `HistoryChanged` says that the history
    /// behind the subscription has changed, and where it goes on; unless it was to fail then, the next call does go on.
    /// `Unauthenticated` and `PermissionDenied` when the right to follow the channel has ended.
    pub async fn next(&mut self) -> Result<StoredBatch, BrokerError> {
        let Self { source, standing, .. } = self;
        let next = async {
            match source {
                Source::All(reader) => reader.next().await,
                Source::Some(judged) => judged.next().await,
            }
        };
        let next = tokio::select! {
            biased;
            error = Standing::ended_of(standing) => Err(error),
            next = next => next,
        };
        next.inspect_err(|error| self.take_note(error))
    }

    /// It ends with a right.
    pub(super) fn while_standing(self, standing: Option<Standing>) -> Self {
        Self { standing, ..self }
    }

    fn take_note(&mut self, error: &BrokerError) {
        if let Some(notice) = error.notice() {
            self.history = notice.next;
        }
    }

    /// The next message of those that were handed to this subscription. Who falls so far behind that they left the
    /// memory gets nothing until they were read from the store: ask again, or wait with [`Subscription::next`].
    ///
    /// # Errors
    /// As [`Subscription::next`].
    pub fn try_next(&mut self) -> Result<Option<(u64, Message)>, BrokerError> {
        while self.messages.is_empty() {
            let batch = match &mut self.source {
                Source::All(reader) => reader.try_next(),
                Source::Some(judged) => judged.try_next(),
            };
            let Some(batch) = batch.inspect_err(|error| self.take_note(error))? else { break };
            let unreadable = |error: prost::DecodeError| BrokerError::Internal { reason: error.to_string() };
            for (seq, message) in (batch.first_seq..).zip(batch.frame.messages()) {
                self.messages.push_back((seq, message.map_err(unreadable)?));
            }
        }
        Ok(self.messages.pop_front())
    }

    /// The sequence number that comes next; with a filter, at the earliest.
    pub fn position(&self) -> u64 {
        match &self.source {
            Source::All(reader) => reader.position(),
            Source::Some(judged) => judged.position(),
        }
    }

    /// The same with the history that it is of: where to go on after this subscription, on any node.
    pub fn next_position(&self) -> Position {
        self.history.at(self.position())
    }

    /// Whether the first thing that it says is that its history has changed. Nobody must hear before that where it goes
    /// on: who is cut off in between would never be told.
    pub fn begins_told(&self) -> bool {
        self.begins_told
    }

    /// Whether it goes on when it has said that its history has changed.
    pub fn goes_on(&self) -> bool {
        self.if_changed != IfChanged::Fail
    }

    /// A place in the history that is followed.
    pub fn position_at(&self, seq: u64) -> Position {
        self.history.at(seq)
    }
}
