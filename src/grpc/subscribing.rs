//! Subscriptions and reads as the API shows them.

use futures::Stream;
use tonic::Status;

use super::to_status;
use crate::{
    broker::{Broker, BrokerError, Consistency, Start, Subscription},
    model::StoredBatch,
    proto::v1,
};

pub(super) fn start_of(start: Option<v1::Start>, default: Start) -> Start {
    use v1::start::From;
    match start.and_then(|start| start.from) {
        Some(From::Earliest(_)) => Start::Earliest,
        Some(From::Latest(_)) => Start::Latest,
        Some(From::Seq(seq)) => Start::Seq(seq),
        Some(From::TimeMs(time_ms)) => Start::Time(time_ms),
        None => default,
    }
}

pub(super) fn delivery(batch: StoredBatch) -> v1::Delivery {
    v1::Delivery {
        first_seq: batch.first_seq,
        time_ms: batch.time_ms,
        count: batch.frame.count(),
        schema_id: batch.schema_id,
        batch: batch.frame.bytes().clone(),
    }
}

/// First an empty delivery that says where the subscription begins, then the messages. Pulled by the connection, so a
/// slow reader makes nothing grow.
pub(super) fn deliveries(subscription: Subscription) -> impl Stream<Item = Result<v1::Delivery, Status>> + Send {
    let begin = v1::Delivery { first_seq: subscription.position(), ..v1::Delivery::default() };
    futures::stream::unfold((Some(begin), Some(subscription)), |(begin, subscription)| async move {
        let mut subscription = subscription?;
        if let Some(begin) = begin {
            return Some((Ok(begin), (None, Some(subscription))));
        }
        match subscription.next().await {
            Ok(batch) => Some((Ok(delivery(batch)), (None, Some(subscription)))),
            Err(error) => Some((Err(to_status(&error)), (None, None))),
        }
    })
}

pub(super) async fn read(broker: &Broker, request: v1::ReadRequest) -> Result<v1::ReadResponse, BrokerError> {
    let consistency = match request.consistency() {
        v1::ReadConsistency::ReadLocal => Consistency::Local,
        v1::ReadConsistency::ReadLinearizable | v1::ReadConsistency::ReadUnspecified => Consistency::Linearizable,
    };
    let start = start_of(request.start, Start::Earliest);
    let page = broker.read(&request.channel, start, request.limit as usize, consistency, request.min_seq).await?;
    Ok(v1::ReadResponse {
        deliveries: page.batches.into_iter().map(delivery).collect(),
        next_seq: page.next_seq,
        first_seq: page.first_seq,
        end_seq: page.end_seq,
    })
}
