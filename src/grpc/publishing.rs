//! Publishing: one message a call, or batches over a stream with acks in order.

use std::{pin::Pin, sync::Arc};

use futures::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Service, arriving, exchanges, guarding::access, status::stream_error, subscribing, to_status};
use crate::{
    broker::{Access, BrokerError, Confirm, Outcome, PublishOptions, Standing, place_on_connection},
    budget::Account,
    model::{Frame, Limits},
    proto::v1::{self, broker_server::Broker},
};

/// Batches of one stream that are worked on at once; more wait in the connection.
const BATCHES_AT_ONCE: usize = 64;
/// Answers that may wait for a slow reader.
const ANSWERS: usize = 16;
/// About the bytes of one answer: clients take 4 MiB by default.
const ANSWER_BYTES: usize = 1 << 20;
/// About the bytes of an ack without an error.
const ACK_BYTES: usize = 24;

type Results = Vec<Result<Outcome, BrokerError>>;

#[tonic::async_trait]
impl Broker for Service {
    type PublishStreamStream = ReceiverStream<Result<v1::PublishAcks, Status>>;
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<v1::Delivery, Status>> + Send>>;

    async fn publish(&self, request: Request<v1::PublishRequest>) -> Result<Response<v1::PublishResponse>, Status> {
        let broker = access(&request)?;
        let connection = arriving::account(&request);
        let v1::PublishRequest { channel, message, confirm, expected_seq } = request.into_inner();
        let message = message.ok_or_else(|| invalid("a publish needs a message"))?;
        let options = PublishOptions::new().confirm(confirm_of(confirm)?).expected_seq(expected_seq);
        let frame = Frame::encode([&message]);
        let _held = broker.admit_from(&connection, &frame).map_err(|error| to_status(&error))?;
        let mut results = broker.publish_frame_with(&channel, frame, options).await;
        match results.pop() {
            Some(Ok(outcome)) => Ok(Response::new(ack(&outcome))),
            Some(Err(error)) => Err(to_status(&error)),
            None => Err(Status::internal("a publish without a result")),
        }
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<v1::PublishBatch>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let broker = access(&request)?;
        let (answers, receiver) = mpsc::channel(ANSWERS);
        let connection = arriving::account(&request);
        tokio::spawn(pump(self.clone(), broker, connection, request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let broker = access(&request)?;
        let connection = arriving::account(&request);
        let place = place_on_connection(&connection.subscriptions, "subscriptions");
        let place = place.map_err(|error| to_status(&error))?;
        let v1::SubscribeRequest { channel, start, filter, if_changed } = request.into_inner();
        let start = subscribing::start_of(start, crate::broker::Start::Latest);
        let filter = crate::broker::filter_of(&filter).map_err(|error| to_status(&error))?;
        let if_changed = subscribing::if_changed_of(if_changed).map_err(|error| to_status(&error))?;
        let options =
            crate::broker::SubscribeOptions { filter, if_changed, connection: Some(connection.clone()), payer: None };
        let subscription = broker.subscribe_with(&channel, start, options).await;
        let subscription = subscription.map_err(|error| to_status(&error))?;
        Ok(Response::new(subscribing::deliveries(subscription, place).boxed()))
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<v1::ReadResponse>, Status> {
        let broker = access(&request)?;
        let page = subscribing::read(&broker, request.into_inner()).await;
        page.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn publish_transaction(
        &self,
        request: Request<v1::PublishTransactionRequest>,
    ) -> Result<Response<v1::PublishTransactionResponse>, Status> {
        let broker = access(&request)?;
        let connection = arriving::account(&request);
        exchanges::transaction(&broker, &connection, request.into_inner()).await.map(Response::new)
    }

    async fn request(&self, request: Request<v1::RequestRequest>) -> Result<Response<v1::RequestResponse>, Status> {
        let broker = access(&request)?;
        let (connection, arrived) = (arriving::account(&request), arriving::progress(&request));
        let place = place_on_connection(&connection.requests, "requests that wait");
        let _place = place.map_err(|error| to_status(&error))?;
        exchanges::request(&broker, &connection, request.into_inner(), arrived).await.map(Response::new)
    }

    async fn reply(&self, request: Request<v1::ReplyRequest>) -> Result<Response<v1::ReplyResponse>, Status> {
        let broker = access(&request)?;
        exchanges::reply(&broker, request.into_inner()).await.map(Response::new)
    }
}

/// Takes batches in order, works on several at once and answers in order, one ack for each message. However the
/// stream ends, what was taken is answered first; then the reason is told, unless the publisher itself was done.
async fn pump(
    service: Service,
    broker: Access,
    connection: Arc<Account>,
    mut batches: Streaming<v1::PublishBatch>,
    answers: mpsc::Sender<Result<v1::PublishAcks, Status>>,
) {
    let room = broker.connection_room();
    let limits = broker.limits().clone();
    let mut standing = broker.standing();
    let read = |batch| parse(batch, &limits);
    let mut working: FuturesOrdered<BoxFuture<'static, Results>> = FuturesOrdered::new();
    let mut first = 0;
    let mut end: Option<Result<(), Status>> = None;
    while end.is_none() || !working.is_empty() {
        // Over all streams of the connection; each looks again when one of its batches is answered.
        let within = working.is_empty() || connection.in_flight.held() < room;
        let take = end.is_none() && working.len() < BATCHES_AT_ONCE && within;
        tokio::select! {
            batch = batches.message(), if take => match batch.and_then(|batch| batch.map(&read).transpose()) {
                Ok(Some((channel, frame, options))) => {
                    working.push_back(publish(broker.clone(), &connection, channel, frame, options));
                }
                Ok(None) => end = Some(Ok(())),
                Err(status) => end = Some(Err(status)),
            },
            () = service.stopping.cancelled(), if end.is_none() => end = Some(Err(to_status(&BrokerError::Stopping))),
            error = Standing::ended_of(&mut standing), if end.is_none() => end = Some(Err(to_status(&error))),
            Some(answered) = working.next() => {
                let mut acks = Acks { first, ..Acks::default() };
                let mut next = Some(answered);
                // What is ready already goes with it.
                while let Some(results) = next {
                    first += results.len() as u64;
                    results.iter().for_each(|result| acks.push(ack_of(result)));
                    next = working.next().now_or_never().flatten();
                }
                for message in acks.finish() {
                    if answers.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
    if let Some(Err(status)) = end {
        let _ = answers.send(Err(status)).await; // the publisher may be gone
    }
}

/// Acks of consecutive messages, cut into answers that every client takes.
#[derive(Default)]
struct Acks {
    first: u64,
    acks: Vec<v1::PublishAck>,
    bytes: usize,
    full: Vec<v1::PublishAcks>,
}

impl Acks {
    fn push(&mut self, ack: v1::PublishAck) {
        self.bytes += ack.error.as_ref().map_or(ACK_BYTES, prost::Message::encoded_len);
        self.acks.push(ack);
        if self.bytes >= ANSWER_BYTES {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let acks = std::mem::take(&mut self.acks);
        let count = acks.len() as u64;
        self.full.push(v1::PublishAcks { first: self.first, acks });
        self.first += count;
        self.bytes = 0;
    }

    fn finish(mut self) -> Vec<v1::PublishAcks> {
        if !self.acks.is_empty() {
            self.cut();
        }
        self.full
    }
}

/// A batch that cannot be read has an unknown number of messages, so no ack could stand for it: the stream ends. It ends too
/// where a batch has so many messages that to refuse each of them would cost more than they do.
fn parse(batch: v1::PublishBatch, limits: &Limits) -> Result<(String, Frame, PublishOptions), Status> {
    let v1::PublishBatch { channel, batch, confirm, expected_seq } = batch;
    let frame = Frame::parse(batch).map_err(|error| invalid(&error.to_string()))?;
    if frame.count() as usize > Limits::REQUEST_BATCHES * limits.batch_messages {
        let (value, limit) = (u64::from(frame.count()), limits.batch_messages as u64);
        return Err(to_status(&BrokerError::LimitExceeded { what: "the batch (messages)".into(), value, limit }));
    }
    Ok((channel, frame, PublishOptions::new().confirm(confirm_of(confirm)?).expected_seq(expected_seq)))
}

/// Counts as in flight from the call on: what is not read does.
fn publish(
    broker: Access,
    connection: &Account,
    channel: String,
    frame: Frame,
    options: PublishOptions,
) -> BoxFuture<'static, Results> {
    let held = broker.admit_stream(connection, &frame);
    async move {
        match held {
            Ok(_held) => broker.publish_frame_with(&channel, frame, options).await,
            Err(error) => vec![Err(error); frame.count() as usize],
        }
    }
    .boxed()
}

pub(super) fn confirm_of(confirm: i32) -> Result<Confirm, Status> {
    match v1::Confirm::try_from(confirm) {
        Ok(v1::Confirm::Commit) => Ok(Confirm::Commit),
        Ok(v1::Confirm::Delivery | v1::Confirm::Unspecified) => Ok(Confirm::Delivery),
        Err(_) => Err(invalid(&format!("{confirm} is no way to confirm a publish"))),
    }
}

pub(super) fn invalid(reason: &str) -> Status {
    to_status(&BrokerError::InvalidArgument { reason: reason.into() })
}

pub(super) fn ack(outcome: &Outcome) -> v1::PublishResponse {
    let Outcome { seq, duplicate, delivered, term, scheduled_ms, position } = *outcome;
    v1::PublishResponse { seq, duplicate, delivered, term, scheduled_ms, position: position.map(Into::into) }
}

fn ack_of(result: &Result<Outcome, BrokerError>) -> v1::PublishAck {
    match result {
        Ok(outcome) => v1::PublishAck { ok: Some(ack(outcome)), error: None },
        Err(error) => v1::PublishAck { ok: None, error: Some(stream_error(error)) },
    }
}
