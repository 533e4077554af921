//! Following a channel as server-sent events. An event's id is its sequence number, so a client that reconnects by the
//! standard, to any node, goes on where it was without a gap or a repeat.

use std::{collections::VecDeque, convert::Infallible};

use axum::{
    extract::{Path, Query, State},
    http::HeaderMap,
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use serde::Deserialize;

use super::{
    messages::{Stored, start, unpack},
    problem::Problem,
};
use crate::broker::{Broker, BrokerError, Start, Subscription, filter_of};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FollowQuery {
    from: Option<String>,
    #[serde(default)]
    filter: String,
}

struct Following {
    channel: String,
    /// None once the stream has told its error.
    subscription: Option<Subscription>,
    ready: VecDeque<Stored>,
}

/// `Last-Event-ID` wins over `from`, which is `latest` unless given.
pub(super) async fn follow(
    State(broker): State<Broker>,
    Path(channel): Path<String>,
    Query(query): Query<FollowQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let start = match headers.get("last-event-id") {
        Some(id) => resume(id.to_str().unwrap_or("(no text)"))?,
        None => start(query.from.as_deref().unwrap_or("latest"), broker.now_ms())?,
    };
    let subscription = broker.subscribe_filtered(&channel, start, filter_of(&query.filter)?).await?;
    // Who is cut off before the first message has to know where it stood.
    let begin = before(subscription.position()).comment("following");
    let following = Following { channel, subscription: Some(subscription), ready: VecDeque::new() };
    let events = futures::stream::unfold((Some(begin), following), |(begin, mut following)| async move {
        let event = match begin {
            Some(begin) => begin,
            None => following.next().await?,
        };
        Some((Ok::<_, Infallible>(event), (None, following)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

/// An event that only says after which message the stream goes on; -1 is before the first of all.
fn before(position: u64) -> Event {
    Event::default().id((i128::from(position) - 1).to_string())
}

/// The id of the last event that a client has seen.
fn resume(id: &str) -> Result<Start, Problem> {
    let after = id.trim().parse::<i128>().ok().and_then(|id| u64::try_from(id + 1).ok());
    let wrong =
        || Problem::invalid(format!("Last-Event-ID is `{id}`: send the id of the last event, a sequence number"));
    after.map(Start::Seq).ok_or_else(wrong)
}

impl Following {
    /// None at the end: the node stops, or an error was told.
    async fn next(&mut self) -> Option<Event> {
        while self.ready.is_empty() {
            let batch = match self.subscription.as_mut()?.next().await {
                Ok(batch) if batch.frame.is_empty() => return Some(before(batch.first_seq).comment("passed")),
                Ok(batch) => batch,
                // The client reconnects, to another node if it knows one.
                Err(BrokerError::Stopping) => return None,
                Err(error) => return Some(self.fail(error)),
            };
            if let Err(error) = unpack(batch, &mut self.ready) {
                return Some(self.fail(error));
            }
        }
        let stored = self.ready.pop_front()?;
        let event = Event::default().id(stored.seq.to_string());
        Some(
            event
                .json_data(stored.json(&self.channel))
                .unwrap_or_else(|error| self.fail(BrokerError::Internal { reason: error.to_string() })),
        )
    }

    fn fail(&mut self, error: BrokerError) -> Event {
        self.subscription = None;
        let event = Event::default().event("error");
        event.json_data(Problem::from(error)).unwrap_or_else(|_| Event::default().event("error"))
    }
}
