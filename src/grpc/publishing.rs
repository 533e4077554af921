//! Publishing: one message a call, or batches over a stream with acks in order.

use std::pin::Pin;

use futures::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Service, status::stream_error, subscribing, to_status};
use crate::{
    broker::{BrokerError, Confirm, Outcome},
    model::Frame,
    proto::v1::{self, broker_server::Broker},
};

/// Batches of one stream that are worked on at once; more wait in the connection.
const BATCHES_AT_ONCE: usize = 64;
/// Answers that may wait for a slow reader.
const ANSWERS: usize = 16;

type Results = Vec<Result<Outcome, BrokerError>>;

#[tonic::async_trait]
impl Broker for Service {
    type PublishStreamStream = ReceiverStream<Result<v1::PublishAcks, Status>>;
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<v1::Delivery, Status>> + Send>>;

    async fn publish(&self, request: Request<v1::PublishRequest>) -> Result<Response<v1::PublishResponse>, Status> {
        let v1::PublishRequest { channel, message, confirm } = request.into_inner();
        let message = message.ok_or_else(|| invalid("a publish needs a message"))?;
        let confirm = confirm_of(confirm)?;
        let mut results = self.broker.publish_frame(&channel, Frame::encode([&message]), confirm).await;
        match results.pop() {
            Some(Ok(outcome)) => Ok(self.respond(ack(&outcome))),
            Some(Err(error)) => Err(to_status(&error)),
            None => Err(Status::internal("a publish without a result")),
        }
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<v1::PublishBatch>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let (answers, receiver) = mpsc::channel(ANSWERS);
        tokio::spawn(pump(self.clone(), request.into_inner(), answers));
        Ok(self.respond(ReceiverStream::new(receiver)))
    }

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let v1::SubscribeRequest { channel, start } = request.into_inner();
        let start = subscribing::start_of(start, crate::broker::Start::Latest);
        let subscription = self.broker.subscribe(&channel, start).await.map_err(|error| to_status(&error))?;
        Ok(self.respond(subscribing::deliveries(subscription).boxed()))
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<v1::ReadResponse>, Status> {
        let page = subscribing::read(&self.broker, request.into_inner()).await.map_err(|error| to_status(&error))?;
        Ok(self.respond(page))
    }
}

/// Takes batches in order, works on several at once and answers in order.
async fn pump(
    service: Service,
    mut batches: Streaming<v1::PublishBatch>,
    answers: mpsc::Sender<Result<v1::PublishAcks, Status>>,
) {
    let mut working: FuturesOrdered<BoxFuture<'static, Results>> = FuturesOrdered::new();
    let (mut first, mut open) = (0, true);
    while open || !working.is_empty() {
        tokio::select! {
            batch = batches.message(), if open && working.len() < BATCHES_AT_ONCE => match batch {
                Ok(Some(batch)) => working.push_back(publish(service.clone(), batch)),
                // The publisher is done, or gone: what it sent is still answered where it can be.
                Ok(None) | Err(_) => open = false,
            },
            Some(results) = working.next() => {
                let mut acks: Vec<v1::PublishAck> = results.iter().map(ack_of).collect();
                // What is ready already goes with it.
                while let Some(Some(more)) = working.next().now_or_never() {
                    acks.extend(more.iter().map(ack_of));
                }
                let count = acks.len() as u64;
                if answers.send(Ok(v1::PublishAcks { first, acks })).await.is_err() {
                    return;
                }
                first += count;
            }
        }
    }
}

fn publish(service: Service, batch: v1::PublishBatch) -> BoxFuture<'static, Results> {
    async move {
        let v1::PublishBatch { channel, batch, confirm } = batch;
        let frame = match Frame::parse(batch) {
            Ok(frame) => frame,
            Err(error) => return vec![Err(BrokerError::InvalidArgument { reason: error.to_string() })],
        };
        match confirm_of(confirm) {
            Ok(confirm) => service.broker.publish_frame(&channel, frame, confirm).await,
            Err(status) => {
                let error = BrokerError::InvalidArgument { reason: status.message().to_owned() };
                vec![Err(error); frame.count() as usize]
            }
        }
    }
    .boxed()
}

fn confirm_of(confirm: i32) -> Result<Confirm, Status> {
    match v1::Confirm::try_from(confirm) {
        Ok(v1::Confirm::Commit) => Ok(Confirm::Commit),
        Ok(v1::Confirm::Delivery | v1::Confirm::Unspecified) => Ok(Confirm::Delivery),
        Err(_) => Err(invalid(&format!("{confirm} is no way to confirm a publish"))),
    }
}

fn invalid(reason: &str) -> Status {
    to_status(&BrokerError::InvalidArgument { reason: reason.into() })
}

fn ack(outcome: &Outcome) -> v1::PublishResponse {
    let Outcome { seq, duplicate, delivered, term } = *outcome;
    v1::PublishResponse { seq, duplicate, delivered, term }
}

fn ack_of(result: &Result<Outcome, BrokerError>) -> v1::PublishAck {
    match result {
        Ok(outcome) => v1::PublishAck { ok: Some(ack(outcome)), error: None },
        Err(error) => v1::PublishAck { ok: None, error: Some(stream_error(error)) },
    }
}
