//! Following a channel through failures: the position that comes next is all that a follower has to remember, so a
//! stream that breaks on one node goes on at the same place on another, and a history that is not the same any more is
//! told. Behind a filter the servers say now and then
//! how far they have looked, so that the next one need not look there again.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt as _, stream::BoxStream};
use tonic::Streaming;

use super::{
    error::ClientError,
    message::{Received, Start, SubscribeOptions, if_changed_to_proto, notice_of, unpack},
    pool::{Backoff, Connected, MAX_ANSWER, Pool, Prefer},
    retry::{self, Repeat},
};
use liminal_wire::{
    Code, IfChanged, Position,
    v1::{
        Delivery, Durability, GetChannelRequest, SubscribeRequest, broker_client::BrokerClient,
        channels_client::ChannelsClient,
    },
};

/// A live follower of a channel: a stream of its messages, in order. Dropping it ends it.
///
/// A durable channel's messages all come, but for those that have expired and those that a filter does not let through,
/// and none comes twice, whichever nodes fail; an ephemeral channel's messages that are published while it reconnects are
/// missed.
///
/// What has become of the channel's history behind it (messages that were removed before they were read, a restored
/// backup, a channel that was created again) is an error with a [`ClientError::notice`]: unless it was to fail then, the
/// stream goes on where that says. After any other error the stream ends.
pub struct Subscription {
    batches: BoxStream<'static, Result<Batch, ClientError>>,
    current: std::vec::IntoIter<Received>,
    /// Where to go on after all of `current`.
    next: Option<Position>,
}

/// Messages that came together, and where to go on after them, if the server said so.
type Batch = (Vec<Received>, Option<Position>);

impl Subscription {
    pub(crate) async fn open(
        pool: Arc<Pool>,
        channel: String,
        start: Start,
        options: SubscribeOptions,
    ) -> Result<Self, ClientError> {
        let next = None;
        let mut follower = Follower { pool, channel, start, options, next, place: None, ephemeral: None, source: None };
        follower.reconnect().await?;
        let batches = futures::stream::unfold(Some(follower), |follower| async {
            let mut follower = follower?;
            match follower.batch().await {
                Ok(batch) => Some((Ok(batch), Some(follower))),
                Err(error) if error.notice().is_some() => Some((Err(error), Some(follower))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Self { batches: batches.boxed(), current: Vec::new().into_iter(), next: None })
    }

    /// The next messages, as many as came together, never none; waits for them. Nothing is lost when the future is
    /// dropped. `None` only after an error that ends it.
    pub async fn next_batch(&mut self) -> Option<Result<Vec<Received>, ClientError>> {
        if self.current.len() > 0 {
            return Some(Ok(std::mem::take(&mut self.current).collect()));
        }
        let batch = self.batches.next().await?;
        Some(batch.map(|(batch, next)| {
            self.next = next;
            batch
        }))
    }

    /// Where another subscription goes on after all that this one has given, on any node and after any time; none before
    /// the first message, and where the nodes are of an earlier version.
    pub fn position(&self) -> Option<Position> {
        let next = self.next?;
        Some(self.current.as_slice().first().map_or(next, |first| next.at(first.seq)))
    }
}

impl Stream for Subscription {
    type Item = Result<Received, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(received) = self.current.next() {
                return Poll::Ready(Some(Ok(received)));
            }
            match std::task::ready!(self.batches.as_mut().poll_next(cx)) {
                Some(Ok((batch, next))) => {
                    self.next = next;
                    self.current = batch.into_iter();
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

struct Follower {
    pool: Arc<Pool>,
    channel: String,
    start: Start,
    options: SubscribeOptions,
    /// The sequence number that comes next, once the server has said where the subscription begins.
    next: Option<u64>,
    /// The same with the history that it is of, if the server said so.
    place: Option<Position>,
    /// Asked for only when it matters.
    ephemeral: Option<bool>,
    source: Option<(Streaming<Delivery>, Connected)>,
}

impl Follower {
    async fn batch(&mut self) -> Result<Batch, ClientError> {
        let mut received = Vec::new();
        loop {
            let Some((deliveries, from)) = &mut self.source else {
                self.reconnect().await?;
                continue;
            };
            let error = match deliveries.message().await {
                Ok(Some(delivery)) => {
                    self.take(delivery, &mut received)?;
                    if received.is_empty() {
                        continue;
                    }
                    return Ok((received, self.place));
                }
                Ok(None) => ClientError::lost(from.address()),
                Err(status) => {
                    self.pool.learn(status.metadata());
                    ClientError::from_status(from.address(), status)
                }
            };
            // It was opened at a number that had to be there; from now on it is told, and goes on.
            let told_again = self.options.if_changed.is_none()
                && self.place.is_some()
                && matches!(error.code(), Code::OutOfRange | Code::HistoryRewound);
            if !told_again && !retry::may_retry(&error, Repeat::Safe) {
                return Err(error);
            }
            if let Some((_, from)) = self.source.take()
                && !told_again
            {
                self.pool.give_up(&from).await;
            }
        }
    }

    /// Takes what comes after the last delivery. It may begin after a gap, where messages have expired or a filter did
    /// not let them through; only the servers can tell these from a loss.
    fn take(&mut self, mut delivery: Delivery, received: &mut Vec<Received>) -> Result<(), ClientError> {
        let place: Option<Position> = delivery.next.map(Into::into);
        if let Some(notice) = delivery.notice.take() {
            // Also back, where the history was rewound.
            (self.next, self.place) = (Some(delivery.first_seq), place);
            return Err(ClientError::of_notice(notice_of(&self.channel, notice)?));
        }
        let end = delivery.first_seq + u64::from(delivery.count);
        let next = match (self.next, self.start) {
            (Some(next), _) => next,
            // One that says where a subscription begins is not later than that, unless there is a notice next.
            (None, Start::Seq(next)) if place.is_none() => next,
            (None, _) => delivery.first_seq,
        };
        unpack(delivery, next, received)?;
        let next = next.max(end);
        self.next = Some(next);
        self.place = place.map(|place| place.at(next));
        Ok(())
    }

    /// Subscribes where the last stream ended, on any node that serves.
    async fn reconnect(&mut self) -> Result<(), ClientError> {
        let mut backoff = Backoff::new(&self.pool.options);
        loop {
            let resuming = self.next.is_some();
            let start = match self.next {
                None => self.start,
                Some(next) => {
                    if self.is_ephemeral().await? {
                        Start::Latest
                    } else {
                        self.place.map_or(Start::Seq(next), |place| Start::Position(place.at(next)))
                    }
                }
            };
            let (channel, filter) = (self.channel.clone(), self.options.filter.clone());
            let if_changed = match (self.options.if_changed, start) {
                (Some(wanted), _) => wanted,
                (None, Start::Seq(_)) if !resuming => IfChanged::Fail,
                (None, _) => IfChanged::Notice,
            };
            let if_changed = if_changed_to_proto(if_changed);
            let request = SubscribeRequest { channel, start: Some(start.into()), filter, if_changed };
            let answer = self
                .pool
                .attempt(Prefer::Any, |link| async move {
                    BrokerClient::new(link).max_decoding_message_size(MAX_ANSWER).subscribe(request).await
                })
                .await;
            match answer {
                Ok(source) => {
                    if resuming && start == Start::Latest {
                        self.next = None;
                    }
                    self.source = Some(source);
                    return Ok(());
                }
                Err(error) if !retry::may_retry(&error, Repeat::Safe) || !backoff.wait(&error).await => {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
    }

    async fn is_ephemeral(&mut self) -> Result<bool, ClientError> {
        if let Some(known) = self.ephemeral {
            return Ok(known);
        }
        let name = &self.channel;
        let get = |link| {
            let request = GetChannelRequest { name: name.clone() };
            async move { ChannelsClient::new(link).get_channel(request).await }
        };
        let (response, _) = self.pool.call(Prefer::Any, Repeat::Safe, get).await?;
        let config = response.channel.and_then(|channel| channel.config).unwrap_or_default();
        let ephemeral = config.durability() == Durability::Ephemeral;
        self.ephemeral = Some(ephemeral);
        Ok(ephemeral)
    }
}
