//! Following a channel as server-sent events. An event's id is the position after its message, so a client that reconnects
//! by the standard, to any node, goes on where it was without a gap or a repeat. What has become of the history behind
//! that position is an event too: a browser that gets an error for an answer never tries again.

use std::{collections::VecDeque, convert::Infallible, sync::Arc};

use axum::{
    Extension,
    extract::{Path, Query},
    http::HeaderMap,
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use serde::{Deserialize, Serialize};

use super::{
    messages::{Stored, if_changed_of, start, unpack},
    problem::Problem,
};
use crate::{
    broker::{Access, BrokerError, Start, SubscribeOptions, Subscription, filter_of},
    budget::Account,
    model::{Form, IfChanged, NoticeJson, Position, unbroken},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FollowQuery {
    from: Option<String>,
    #[serde(default)]
    filter: String,
    if_changed: Option<String>,
}

struct Following {
    channel: String,
    /// None once the stream has told its error.
    subscription: Option<Subscription>,
    ready: VecDeque<Stored>,
}

/// `Last-Event-ID` wins over `from`, which is `latest` unless given.
pub(super) async fn follow(
    Extension(broker): Extension<Access>,
    Extension(connection): Extension<Arc<Account>>,
    Path(channel): Path<String>,
    Query(query): Query<FollowQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wanted = if_changed_of(query.if_changed.as_deref())?;
    let (start, if_changed) = match headers.get("last-event-id") {
        // Also by the id of an earlier version, a bare number.
        Some(id) => (resume(id.to_str().unwrap_or("(no text)"))?, wanted.unwrap_or(IfChanged::Notice)),
        None => {
            let start = start(query.from.as_deref().unwrap_or("latest"), broker.now_ms())?;
            let seq = matches!(start, Start::Seq(_));
            (start, wanted.unwrap_or(if seq { IfChanged::Fail } else { IfChanged::Notice }))
        }
    };
    let options = SubscribeOptions {
        filter: filter_of(&query.filter)?,
        if_changed: Some(if_changed),
        connection: Some(connection),
        payer: None,
    };
    let subscription = broker.subscribe_with(&channel, start, options).await?;
    // Who is cut off before the first message has to know where it stood.
    let begin = (!subscription.begins_told()).then(|| at(subscription.next_position()).comment("following"));
    let following = Following { channel, subscription: Some(subscription), ready: VecDeque::new() };
    let events = futures::stream::unfold((begin, following), |(begin, mut following)| async move {
        let event = match begin {
            Some(begin) => begin,
            None => following.next().await?,
        };
        Some((Ok::<_, Infallible>(event), (None, following)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

/// An event that only says where the stream goes on.
fn at(position: Position) -> Event {
    Event::default().id(position.to_string())
}

/// The id of the last event that a client has seen: a position, or, of an earlier version, the sequence number of a
/// message; -1 was before the first of all.
fn resume(id: &str) -> Result<Start, Problem> {
    if let Ok(position) = id.trim().parse() {
        return Ok(Start::Position(position));
    }
    let after = id.trim().parse::<i64>().ok().and_then(|id| u64::try_from(id.checked_add(1)?).ok());
    let wrong = || Problem::invalid(format!("Last-Event-ID is `{id}`: send the id of the last event as it came"));
    after.map(Start::Seq).ok_or_else(wrong)
}

impl Following {
    /// None at the end: the node stops, or an error was told.
    async fn next(&mut self) -> Option<Event> {
        while self.ready.is_empty() {
            let subscription = self.subscription.as_mut()?;
            let batch = match subscription.next().await {
                Ok(batch) if batch.frame.is_empty() => {
                    return Some(at(subscription.position_at(batch.first_seq)).comment("passed"));
                }
                Ok(batch) => batch,
                // The client reconnects, to another node if it knows one.
                Err(BrokerError::Stopping) => return None,
                Err(BrokerError::HistoryChanged(notice)) if subscription.goes_on() => {
                    let event = at(notice.next).event("notice");
                    let json = json_data(&NoticeJson::of(&notice));
                    return Some(json.map_or_else(|error| self.fail(error), |text| event.data(text)));
                }
                Err(error) => return Some(self.fail(error)),
            };
            if let Err(error) = unpack(batch, &mut self.ready) {
                return Some(self.fail(error));
            }
        }
        let stored = self.ready.pop_front()?;
        let event = at(self.subscription.as_ref()?.position_at(stored.seq + 1));
        let json = json_data(&stored.json(&self.channel));
        Some(json.map_or_else(|error| self.fail(error), |text| event.data(text)))
    }

    fn fail(&mut self, error: BrokerError) -> Event {
        self.subscription = None;
        let event = Event::default().event("error");
        match json_data(&Problem::from(error)) {
            Ok(text) => event.data(text),
            Err(_) => event,
        }
    }
}

/// What an event carries. Readers that find line breaks at other characters than the standard does find none.
pub(super) fn json_data(value: &impl Serialize) -> Result<String, BrokerError> {
    let text = serde_json::to_string(value).map_err(|error| BrokerError::Internal { reason: error.to_string() })?;
    Ok(unbroken(text, Form::Document))
}
