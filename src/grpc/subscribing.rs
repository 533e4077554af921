//! Subscriptions and reads as the API shows them.

use std::collections::VecDeque;

use futures::Stream;
use tonic::Status;

use super::to_status;
use crate::{
    broker::{Access, BrokerError, Consistency, ReadOptions, Start, Subscription},
    model::{IfChanged, Notice, Position, StoredBatch},
    proto::v1,
};

pub(super) fn start_of(start: Option<v1::Start>, default: Start) -> Start {
    Start::of_request(start).unwrap_or(default)
}

/// What a reader asked for; none where it said nothing.
pub(super) fn if_changed_of(wanted: i32) -> Result<Option<IfChanged>, BrokerError> {
    match v1::IfChanged::try_from(wanted) {
        Ok(v1::IfChanged::Unspecified) => Ok(None),
        Ok(v1::IfChanged::Notice) => Ok(Some(IfChanged::Notice)),
        Ok(v1::IfChanged::Fail) => Ok(Some(IfChanged::Fail)),
        Ok(v1::IfChanged::Earliest) => Ok(Some(IfChanged::Earliest)),
        Err(_) => {
            let reason = format!("if_changed is {wanted}: this node knows only 0 to 3; leave it out");
            Err(BrokerError::InvalidArgument { reason })
        }
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

fn delivery(batch: StoredBatch, history: Position) -> v1::Delivery {
    v1::Delivery {
        next: Some(history.at(batch.end_seq()).into()),
        notice: None,
        first_seq: batch.first_seq,
        time_ms: batch.time_ms,
        count: batch.frame.count(),
        schema_id: batch.schema_id,
        batch: batch.frame.bytes(),
    }
}

/// First an empty delivery that says where the subscription begins, or why it does not begin where it was asked to, then the messages, and empty ones that say how far
/// its filter has looked or what has become of the history. Pulled by the connection, so a slow reader makes nothing grow.
/// `place` is kept as long as the subscription lives.
pub(super) fn deliveries<P: Send>(
    subscription: Subscription,
    place: P,
) -> impl Stream<Item = Result<v1::Delivery, Status>> + Send {
    let at = subscription.next_position();
    let begin = v1::Delivery { first_seq: at.seq, next: Some(at.into()), ..v1::Delivery::default() };
    let ready = if subscription.begins_told() { VecDeque::new() } else { VecDeque::from([begin]) };
    futures::stream::unfold((ready, Some((subscription, place))), |(mut ready, live)| async move {
        let (mut subscription, place) = live?;
        if ready.is_empty() {
            match subscription.next().await {
                Ok(batch) => {
                    let history = subscription.next_position();
                    ready.extend(pieces(batch).into_iter().map(|piece| delivery(piece, history)));
                }
                Err(error) => match error.notice().filter(|_| subscription.goes_on()) {
                    Some(notice) => ready.push_back(told(notice)),
                    None => return Some((Err(to_status(&error)), (ready, None))),
                },
            }
        }
        let next = ready.pop_front()?;
        Some((Ok(next), (ready, Some((subscription, place)))))
    })
}

/// Empty, but for what has become of the history.
fn told(notice: &Notice) -> v1::Delivery {
    let next = notice.next;
    v1::Delivery {
        first_seq: next.seq,
        next: Some(next.into()),
        notice: Some(notice.into()),
        ..v1::Delivery::default()
    }
}

pub(super) async fn read(broker: &Access, request: v1::ReadRequest) -> Result<v1::ReadResponse, BrokerError> {
    let consistency = match request.consistency() {
        v1::ReadConsistency::ReadLocal => Consistency::Local,
        v1::ReadConsistency::ReadLinearizable | v1::ReadConsistency::ReadUnspecified => Consistency::Linearizable,
    };
    let start = start_of(request.start, Start::Earliest);
    let (limit, if_changed) = (request.limit as usize, if_changed_of(request.if_changed)?);
    let options = ReadOptions { limit, consistency, min_seq: request.min_seq, if_changed };
    let page = broker.read_with(&request.channel, start, options).await?;
    Ok(v1::ReadResponse {
        deliveries: page.batches.into_iter().map(|batch| delivery(batch, page.next)).collect(),
        next: Some(page.next.into()),
        notice: page.notice.as_ref().map(Into::into),
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
        assert!(cut.iter().all(|piece| piece.frame.len() <= DELIVERY_BYTES + 64));
        assert_eq!(cut.iter().map(|piece| piece.first_seq).collect::<Vec<_>>(), [7, 10, 13, 16]);
        assert_eq!(cut.last().unwrap().end_seq(), 17);
    }
}
