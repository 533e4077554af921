//! Consumers as the API shows them.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Service, arriving, guarding::access, status::stream_error, subscribing::start_of, to_status};
use crate::{
    broker::{
        Access, Broker, BrokerError, ConsumerDelivery, ConsumerInfo, ConsumerUpdate, DeadLetters, Letter, Letters,
        Member, RedriveTo, Start, place_on_connection,
    },
    model::{self, ConsumeOrder, OrderingKey},
    proto::v1::{self, consumers_server::Consumers},
};

/// Requests with settlements of one stream that are worked on at once; more wait in the connection.
const SETTLING: usize = 64;
/// Answers that may wait for a slow reader.
const ANSWERS: usize = 4;
/// About the bytes of one answer: clients take 4 MiB by default.
const ANSWER_BYTES: usize = 1 << 20;

type Settled = Result<Vec<v1::SettleResult>, BrokerError>;

#[tonic::async_trait]
impl Consumers for Service {
    type ConsumeStream = ReceiverStream<Result<v1::ConsumeResponse, Status>>;

    async fn create_consumer(
        &self,
        request: Request<v1::CreateConsumerRequest>,
    ) -> Result<Response<v1::CreateConsumerResponse>, Status> {
        let broker = access(&request)?;
        let v1::CreateConsumerRequest { channel, name, config, start } = request.into_inner();
        let wanted = wanted_of(config.unwrap_or_default()).map_err(|error| to_status(&error))?;
        let start = start_of(start, Start::Earliest);
        let info = broker.create_consumer(&channel, &name, wanted, start).await;
        let info = info.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::CreateConsumerResponse { consumer: Some(info.to_proto()) }))
    }

    async fn list_consumers(
        &self,
        request: Request<v1::ListConsumersRequest>,
    ) -> Result<Response<v1::ListConsumersResponse>, Status> {
        let broker = access(&request)?;
        let v1::ListConsumersRequest { channel, after, limit } = request.into_inner();
        let page = broker.consumers_after(&channel, &after, limit as usize).await;
        let page = page.map_err(|error| to_status(&error))?;
        let consumers = page.items.iter().map(ConsumerInfo::to_proto).collect();
        Ok(Response::new(v1::ListConsumersResponse { consumers, next_after: page.next_after }))
    }

    async fn get_consumer(
        &self,
        request: Request<v1::GetConsumerRequest>,
    ) -> Result<Response<v1::GetConsumerResponse>, Status> {
        let broker = access(&request)?;
        let v1::GetConsumerRequest { channel, name } = request.into_inner();
        let info = broker.consumer(&channel, &name).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::GetConsumerResponse { consumer: Some(info.to_proto()) }))
    }

    async fn update_consumer(
        &self,
        request: Request<v1::UpdateConsumerRequest>,
    ) -> Result<Response<v1::UpdateConsumerResponse>, Status> {
        let broker = access(&request)?;
        let (channel, name, update) = update_of(request.into_inner()).map_err(|error| to_status(&error))?;
        let info = broker.update_consumer(&channel, &name, update).await;
        let info = info.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::UpdateConsumerResponse { consumer: Some(info.to_proto()) }))
    }

    async fn delete_consumer(
        &self,
        request: Request<v1::DeleteConsumerRequest>,
    ) -> Result<Response<v1::DeleteConsumerResponse>, Status> {
        let broker = access(&request)?;
        let v1::DeleteConsumerRequest { channel, name } = request.into_inner();
        broker.delete_consumer(&channel, &name).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::DeleteConsumerResponse {}))
    }

    async fn reset_consumer(
        &self,
        request: Request<v1::ResetConsumerRequest>,
    ) -> Result<Response<v1::ResetConsumerResponse>, Status> {
        let broker = access(&request)?;
        let v1::ResetConsumerRequest { channel, name, start } = request.into_inner();
        let info = broker.reset_consumer(&channel, &name, start_of(start, Start::Earliest)).await;
        let info = info.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::ResetConsumerResponse { consumer: Some(info.to_proto()) }))
    }

    async fn consume(
        &self,
        request: Request<Streaming<v1::ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        let broker = access(&request)?;
        let connection = arriving::account(&request);
        let place = place_on_connection(&connection.subscriptions, "subscriptions");
        let place = place.map_err(|error| to_status(&error))?;
        let requests = request.into_inner();
        let (answers, receiver) = mpsc::channel(ANSWERS);
        let service = self.clone();
        tokio::spawn(async move {
            if let Err(status) = attend(service, broker, requests, &answers).await {
                let _ = answers.send(Err(status)).await; // the client may be gone
            }
            drop(place);
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn pull(&self, request: Request<v1::PullRequest>) -> Result<Response<v1::PullResponse>, Status> {
        let broker = access(&request)?;
        let v1::PullRequest { channel, consumer, max, wait_ms } = request.into_inner();
        let wait = Duration::from_millis(wait_ms).min(broker.limits().long_poll);
        let pulled = broker.pull_told(&channel, &consumer, max.max(1), wait).await;
        let (deliveries, notice) = pulled.map_err(|error| to_status(&error))?;
        let deliveries = deliveries.into_iter().map(delivery).collect();
        Ok(Response::new(v1::PullResponse { deliveries, notice: notice.as_ref().map(Into::into) }))
    }

    async fn settle(&self, request: Request<v1::SettleRequest>) -> Result<Response<v1::SettleResponse>, Status> {
        let broker = access(&request)?;
        let v1::SettleRequest { channel, consumer, settlements } = request.into_inner();
        let results = settle(&broker, &channel, &consumer, settlements).await;
        let results = results.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::SettleResponse { results }))
    }

    async fn list_dead_letters(
        &self,
        request: Request<v1::ListDeadLettersRequest>,
    ) -> Result<Response<v1::ListDeadLettersResponse>, Status> {
        let broker = access(&request)?;
        let wanted = letters_of(request.into_inner().selection.unwrap_or_default());
        let page = broker.dead_letters_of(&wanted).await.map_err(|error| to_status(&error))?;
        let letters = page.letters.iter().map(Letter::to_proto).collect();
        let (dead_letter, next_seq, done) = (page.dead_letter, page.next_seq, page.done);
        Ok(Response::new(v1::ListDeadLettersResponse { dead_letter, letters, next_seq, done }))
    }

    async fn redrive(&self, request: Request<v1::RedriveRequest>) -> Result<Response<v1::RedriveResponse>, Status> {
        let broker = access(&request)?;
        let v1::RedriveRequest { selection, to, dry_run } = request.into_inner();
        let wanted = letters_of(selection.unwrap_or_default());
        let to = RedriveTo { channel: Some(to).filter(|to| !to.is_empty()), dry_run };
        let redriven = broker.redrive(&wanted, &to).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(redriven.to_proto(stream_error)))
    }
}

fn letters_of(selection: v1::DeadLetterSelection) -> Letters {
    let v1::DeadLetterSelection { channel, consumer, dead_letter, filter, from_seq, limit } = selection;
    let dead_letter = Some(dead_letter).filter(|name| !name.is_empty());
    Letters { channel, consumer, dead_letter, filter, from_seq, limit }
}

/// Serves one member until the client goes away, or is done and has all its answers.
async fn attend(
    service: Service,
    broker: Access,
    mut requests: Streaming<v1::ConsumeRequest>,
    answers: &mpsc::Sender<Result<v1::ConsumeResponse, Status>>,
) -> Result<(), Status> {
    let first = requests.message().await?;
    let open = first.as_ref().and_then(|first| first.open.clone()).ok_or_else(|| {
        to_status(&BrokerError::InvalidArgument {
            reason: "the first request has to say which consumer it opens".into(),
        })
    })?;
    let v1::ConsumeOpen { channel, consumer, credit, reports_begun } = open;
    let member = broker.join_consumer(&channel, &consumer, credit).await;
    let mut attended = Attended {
        member: member.map_err(|error| to_status(&error))?,
        settling: FuturesOrdered::new(),
        done: false,
        broker,
        channel,
        consumer,
    };
    let report_begun = reports_begun && attended.member.counts_attempts();
    if report_begun {
        attended.member.report_begun();
    }
    let mut idle = tokio::time::interval(attended.member.look_after());
    idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The client knows at once that it is a member.
    if answers.send(Ok(v1::ConsumeResponse { report_begun, ..Default::default() })).await.is_err() {
        return Ok(());
    }
    let mut open = attended.take(first.unwrap_or_default());
    while open || !attended.settling.is_empty() {
        let responses = tokio::select! {
            biased;
            () = answers.closed() => return Ok(()),
            Some(settled) = attended.settling.next() => {
                let mut results = settled.map_err(|error| to_status(&error))?;
                // What is ready already goes with it.
                while let Some(more) = attended.settling.next().now_or_never().flatten() {
                    results.extend(more.map_err(|error| to_status(&error))?);
                }
                vec![v1::ConsumeResponse { results, ..v1::ConsumeResponse::default() }]
            }
            request = requests.message(), if open && attended.settling.len() < SETTLING => {
                open = match request? {
                    Some(request) => attended.take(request),
                    None => {
                        // A stream that was cancelled ends like this too.
                        if attended.done {
                            attended.member.leave_in_order();
                        }
                        false
                    }
                };
                continue;
            }
            _ = idle.tick(), if open && report_begun => {
                attended.member.keep_buffered().await.map_err(|error| to_status(&error))?;
                continue;
            }
            () = service.stopping.cancelled(), if open => {
                attended.member.leave_in_order();
                // What was settled is answered first: the client goes on elsewhere with what is left.
                while let Some(settled) = attended.settling.next().await {
                    let results = settled.map_err(|error| to_status(&error))?;
                    let _ = answers.send(Ok(v1::ConsumeResponse { results, ..Default::default() })).await; // or it is gone
                }
                return Err(to_status(&BrokerError::Stopping));
            }
            deliveries = attended.member.next(), if open => {
                let mut pieces = pieces(deliveries.map_err(|error| to_status(&error))?);
                if let Some(first) = pieces.first_mut() {
                    first.notice = attended.member.take_notice().as_ref().map(Into::into);
                }
                pieces
            }
        };
        for response in responses {
            if answers.send(Ok(response)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

struct Attended {
    broker: Access,
    channel: String,
    consumer: String,
    member: Member,
    settling: FuturesOrdered<BoxFuture<'static, Settled>>,
    /// The client takes no more: if it says so before it ends, it has said all.
    done: bool,
}

impl Attended {
    /// Takes what a request says. Always goes on.
    fn take(&mut self, request: v1::ConsumeRequest) -> bool {
        if let Some(credit) = request.credit {
            self.done = credit == 0;
            self.member.set_window(credit);
        }
        let begun = request.settlements.iter().filter(|settlement| settlement.verdict() == v1::Verdict::Begun);
        for token in begun.filter_map(|settlement| settlement.token.parse().ok()) {
            self.member.begin(token);
        }
        if !request.settlements.is_empty() {
            self.member.goes_on();
            let (broker, channel, consumer) = (self.broker.clone(), self.channel.clone(), self.consumer.clone());
            let settled = async move { settle(&broker, &channel, &consumer, request.settlements).await };
            self.settling.push_back(settled.boxed());
        }
        true
    }
}

/// Answers in the order of the settlements; one that makes no sense does not hold back the others.
async fn settle(broker: &Access, channel: &str, consumer: &str, settlements: Vec<v1::Settlement>) -> Settled {
    Broker::check_settlements(settlements.len())?;
    let parsed: Vec<Result<Option<model::Settlement>, BrokerError>> = settlements.iter().map(settlement_of).collect();
    let sound: Vec<model::Settlement> = parsed.iter().filter_map(|parsed| parsed.clone().ok().flatten()).collect();
    let mut outcomes = broker.settle(channel, consumer, sound).await?.into_iter();
    let missing = || Err(BrokerError::Internal { reason: "a settlement without a result".into() });
    let results = settlements.into_iter().zip(parsed).map(|(settlement, parsed)| {
        let outcome = parsed.and_then(|sound| match sound {
            Some(_) => outcomes.next().unwrap_or_else(missing),
            None => Ok(()),
        });
        v1::SettleResult { token: settlement.token, error: outcome.err().map(|error| stream_error(&error)) }
    });
    Ok(results.collect())
}

/// None for what only the member has to know.
fn settlement_of(settlement: &v1::Settlement) -> Result<Option<model::Settlement>, BrokerError> {
    let unknown = |error: &dyn std::fmt::Display| BrokerError::InvalidArgument { reason: error.to_string() };
    let token = settlement.token.parse().map_err(|error: model::InvalidToken| unknown(&error))?;
    let verdict = v1::Verdict::try_from(settlement.verdict).map_err(|error| unknown(&error))?;
    let verdict = match verdict {
        v1::Verdict::Ack | v1::Verdict::Unspecified => model::Verdict::Ack,
        v1::Verdict::AckUpTo => model::Verdict::AckUpTo,
        v1::Verdict::Nack => Broker::nack(settlement.delay_ms, settlement.reason.clone())?,
        v1::Verdict::Extend => model::Verdict::Extend,
        v1::Verdict::Begun => return Ok(None),
    };
    Ok(Some(model::Settlement { token, verdict }))
}

fn delivery(delivery: ConsumerDelivery) -> v1::ConsumerDelivery {
    let ConsumerDelivery { token, time_ms, schema_id, message } = delivery;
    v1::ConsumerDelivery {
        token: token.to_string(),
        seq: token.seq,
        attempt: token.attempt,
        time_ms,
        schema_id,
        message: Some(message),
        position: token.of.map(|of| of.position.into()),
    }
}

/// Answers of about [`ANSWER_BYTES`].
fn pieces(deliveries: Vec<ConsumerDelivery>) -> Vec<v1::ConsumeResponse> {
    let (mut pieces, mut bytes) = (vec![v1::ConsumeResponse::default()], 0);
    for one in deliveries.into_iter().map(delivery) {
        let size = prost::Message::encoded_len(&one);
        if bytes > 0 && bytes + size > ANSWER_BYTES {
            pieces.push(v1::ConsumeResponse::default());
            bytes = 0;
        }
        bytes += size;
        if let Some(last) = pieces.last_mut() {
            last.deliveries.push(one);
        }
    }
    pieces
}

fn wanted_of(config: v1::ConsumerConfig) -> Result<ConsumerUpdate, BrokerError> {
    let order = order_of(config.order(), config.order_header);
    // The empty text is what clients send that do not mind.
    let dead_letter = Some(config.dead_letter.as_str()).filter(|name| !name.is_empty());
    Ok(ConsumerUpdate {
        ack_timeout_ms: Some(config.ack_timeout_ms).filter(|ms| *ms > 0),
        max_attempts: Some(config.max_attempts),
        dead_letters: DeadLetters::of(dead_letter, config.drop_dead)?,
        max_in_flight: Some(config.max_in_flight).filter(|most| *most > 0),
        order: Some(order),
        filter: Some(Some(config.filter).filter(|filter| !filter.is_empty())),
        settle_skipped: config.settle_skipped,
    })
}

fn update_of(request: v1::UpdateConsumerRequest) -> Result<(String, String, ConsumerUpdate), BrokerError> {
    let order = request.order.is_some().then(|| order_of(request.order(), request.order_header.clone()));
    let update = ConsumerUpdate {
        ack_timeout_ms: request.ack_timeout_ms,
        max_attempts: request.max_attempts,
        dead_letters: DeadLetters::of(request.dead_letter.as_deref(), request.drop_dead)?,
        max_in_flight: request.max_in_flight,
        order,
        filter: request.filter.map(|filter| Some(filter).filter(|filter| !filter.is_empty())),
        settle_skipped: request.settle_skipped,
    };
    Ok((request.channel, request.name, update))
}

fn order_of(order: v1::ConsumeOrder, header: String) -> ConsumeOrder {
    match order {
        v1::ConsumeOrder::None | v1::ConsumeOrder::Unspecified => ConsumeOrder::None,
        v1::ConsumeOrder::Exclusive => ConsumeOrder::Exclusive,
        v1::ConsumeOrder::Key if header.is_empty() => ConsumeOrder::Key(OrderingKey::MessageKey),
        v1::ConsumeOrder::Key => ConsumeOrder::Key(OrderingKey::Header(header)),
    }
}
