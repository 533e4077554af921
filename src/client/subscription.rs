//! Following a channel through failures: the next sequence number is all that a follower has to remember, so a
//! stream that breaks on one node goes on at the same place on another. Behind a filter the servers say now and then
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
    message::{Received, Start, unpack},
    pool::{Backoff, Connected, MAX_ANSWER, Pool, Prefer},
    retry::{self, Repeat},
};
use crate::proto::v1::{
    Delivery, Durability, GetChannelRequest, SubscribeRequest, broker_client::BrokerClient,
    channels_client::ChannelsClient,
};

/// A live follower of a channel: a stream of its messages, in order. Dropping it ends it.
///
/// A durable channel's messages all come, but for those that have expired and those that a filter does not let through,
/// and none comes twice, whichever nodes fail; an ephemeral channel's messages that are published while it reconnects are
/// missed. After an error the stream ends.
pub struct Subscription {
    batches: BoxStream<'static, Result<Vec<Received>, ClientError>>,
    current: std::vec::IntoIter<Received>,
}

impl Subscription {
    pub(crate) async fn open(
        pool: Arc<Pool>,
        channel: String,
        start: Start,
        filter: String,
    ) -> Result<Self, ClientError> {
        let mut follower = Follower { pool, channel, start, filter, next: None, ephemeral: None, source: None };
        follower.reconnect().await?;
        let batches = futures::stream::unfold(Some(follower), |follower| async {
            let mut follower = follower?;
            match follower.batch().await {
                Ok(batch) => Some((Ok(batch), Some(follower))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Self { batches: batches.boxed(), current: Vec::new().into_iter() })
    }

    /// The next messages, as many as came together, never none; waits for them. Nothing is lost when the future is
    /// dropped. `None` only after an error.
    pub async fn next_batch(&mut self) -> Option<Result<Vec<Received>, ClientError>> {
        if self.current.len() > 0 {
            return Some(Ok(std::mem::take(&mut self.current).collect()));
        }
        self.batches.next().await
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
                Some(Ok(batch)) => self.current = batch.into_iter(),
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
    /// Empty for none.
    filter: String,
    /// The sequence number that comes next, once the server has said where the subscription begins.
    next: Option<u64>,
    /// Asked for only when it matters.
    ephemeral: Option<bool>,
    source: Option<(Streaming<Delivery>, Connected)>,
}

impl Follower {
    async fn batch(&mut self) -> Result<Vec<Received>, ClientError> {
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
                    return Ok(received);
                }
                Ok(None) => ClientError::lost(from.address()),
                Err(status) => {
                    self.pool.learn(status.metadata());
                    ClientError::from_status(from.address(), status)
                }
            };
            if !retry::may_retry(&error, Repeat::Safe) {
                return Err(error);
            }
            if let Some((_, from)) = self.source.take() {
                self.pool.give_up(&from).await;
            }
        }
    }

    /// Takes what comes after the last delivery. It may begin after a gap, where messages have expired or a filter did
    /// not let them through; only the servers can tell these from a loss.
    fn take(&mut self, delivery: Delivery, received: &mut Vec<Received>) -> Result<(), ClientError> {
        let end = delivery.first_seq + u64::from(delivery.count);
        let next = match (self.next, self.start) {
            (Some(next), _) | (None, Start::Seq(next)) => next,
            (None, _) => delivery.first_seq,
        };
        unpack(delivery, next, received)?;
        self.next = Some(next.max(end));
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
                        Start::Seq(next)
                    }
                }
            };
            let (channel, filter) = (self.channel.clone(), self.filter.clone());
            let request = SubscribeRequest { channel, start: Some(start.to_proto()), filter };
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
