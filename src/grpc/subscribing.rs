//! Subscriptions and reads as the API shows them.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::Stream;
use tonic::Status;

use super::to_status;
use crate::{
    broker::{Broker, BrokerError, Consistency, Start, Subscription},
    env::ConnectionInfo,
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

/// Taken on a connection as long as a subscription lives, or a request waits.
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    pub(super) fn take(connection: &ConnectionInfo, limit: usize) -> Result<Self, BrokerError> {
        Self::of(&connection.subscriptions, "subscriptions", limit)
    }

    /// The same for a request that waits for its reply.
    pub(super) fn waiting(connection: &ConnectionInfo, limit: usize) -> Result<Self, BrokerError> {
        Self::of(&connection.requests, "requests that wait", limit)
    }

    fn of(taken: &Arc<AtomicUsize>, whose: &str, limit: usize) -> Result<Self, BrokerError> {
        let place = Self(taken.clone());
        let taken = place.0.fetch_add(1, Ordering::Relaxed) + 1;
        if taken > limit {
            let what = format!("the number of {whose} on this connection");
            return Err(BrokerError::LimitExceeded { what, value: taken as u64, limit: limit as u64 });
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes of one delivery, as far as whole messages allow: clients take 4 MiB by default.
const DELIVERY_BYTES: usize = 1 << 20;

/// Cuts a batch into pieces of about [`DELIVERY_BYTES`].
fn pieces(batch: StoredBatch) -> Vec<StoredBatch> {
    let mut pieces = Vec::with_capacity(1);
    let mut rest = batch;
    loop {
        let frame = rest.frame.take_bytes(DELIVERY_BYTES);
        let end = rest.first_seq + u64::from(frame.count());
        pieces.push(StoredBatch { frame, ..rest });
        if end >= rest.end_seq() {
            return pieces;
        }
        rest = rest.from_seq(end);
    }
}

fn delivery(batch: StoredBatch) -> v1::Delivery {
    v1::Delivery {
        first_seq: batch.first_seq,
        time_ms: batch.time_ms,
        count: batch.frame.count(),
        schema_id: batch.schema_id,
        batch: batch.frame.bytes().clone(),
    }
}

/// First an empty delivery that says where the subscription begins, then the messages, and empty ones that say how far
/// its filter has looked. Pulled by the connection, so a slow reader makes nothing grow.
/// `place` is kept as long as the subscription lives.
pub(super) fn deliveries<P: Send>(
    subscription: Subscription,
    place: P,
) -> impl Stream<Item = Result<v1::Delivery, Status>> + Send {
    let begin = v1::Delivery { first_seq: subscription.position(), ..v1::Delivery::default() };
    let ready = VecDeque::from([begin]);
    futures::stream::unfold((ready, Some((subscription, place))), |(mut ready, live)| async move {
        let (mut subscription, place) = live?;
        if ready.is_empty() {
            match subscription.next().await {
                Ok(batch) => ready.extend(pieces(batch).into_iter().map(delivery)),
                Err(error) => return Some((Err(to_status(&error)), (ready, None))),
            }
        }
        let next = ready.pop_front()?;
        Some((Ok(next), (ready, Some((subscription, place)))))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Frame;

    #[test]
    fn a_large_batch_goes_out_in_pieces_that_every_client_takes() {
        let message = v1::Message { payload: vec![0; 300 << 10].into(), ..v1::Message::default() };
        let frame = Frame::encode(&vec![message; 10]);
        let cut = pieces(StoredBatch { first_seq: 7, time_ms: 1, schema_id: 0, expires: false, frame });
        assert!(cut.iter().all(|piece| piece.frame.bytes().len() <= DELIVERY_BYTES + 64));
        assert_eq!(cut.iter().map(|piece| piece.first_seq).collect::<Vec<_>>(), [7, 10, 13, 16]);
        assert_eq!(cut.last().unwrap().end_seq(), 17);
    }
}
