//! Transactions, requests and replies over HTTP.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    extract::{ConnectInfo, Path, Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    messages::{Acked, ConfirmQuery, MESSAGE_HEADER, duration, template},
    problem::Problem,
};
use crate::{
    broker::{Broker, Envelope, TransactionMessage},
    env::ConnectionInfo,
    proto::v1::{Header, Message},
};

/// How long a request waits that does not say it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TransactionBody {
    messages: Vec<OneOf>,
    #[serde(default)]
    confirm: ConfirmQuery,
}

/// A message of a transaction. Its payload is JSON, or base64 of anything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneOf {
    channel: String,
    payload: Option<Box<RawValue>>,
    payload_base64: Option<String>,
    #[serde(default)]
    key: String,
    #[serde(default)]
    headers: serde_json::Map<String, serde_json::Value>,
    expected_seq: Option<u64>,
    #[serde(default)]
    ttl_ms: u64,
}

#[derive(Debug, Serialize)]
struct Transacted<'a> {
    messages: Vec<Acked<'a>>,
}

/// All messages or none.
pub(super) async fn transaction(
    State(broker): State<Broker>,
    ConnectInfo(connection): ConnectInfo<ConnectionInfo>,
    body: Bytes,
) -> Result<Response, Problem> {
    let wrong = |error: serde_json::Error| Problem::invalid(format!("the body is no transaction: {error}"));
    let TransactionBody { messages, confirm } = serde_json::from_slice(&body).map_err(wrong)?;
    let messages: Vec<TransactionMessage> =
        (0..).zip(messages).map(|(position, one)| one.message(position)).collect::<Result<_, _>>()?;
    let (count, bytes) = TransactionMessage::size(&messages);
    let _held = broker.admit_together(&connection.publishing, count, bytes)?;
    let channels: Vec<String> = messages.iter().map(|one| one.channel.clone()).collect();
    let outcomes = broker.publish_transaction(messages, confirm.into()).await?;
    let acked = channels.iter().zip(&outcomes).map(|(channel, outcome)| Acked::of(channel, None, outcome));
    Ok(Json(Transacted { messages: acked.collect() }).into_response())
}

impl OneOf {
    fn message(self, position: usize) -> Result<TransactionMessage, Problem> {
        let payload = match (self.payload, self.payload_base64) {
            (Some(json), None) => Bytes::from(String::from(Box::<str>::from(json)).into_bytes()),
            (None, Some(text)) => BASE64_STANDARD
                .decode(&text)
                .map_err(|error| Problem::invalid(format!("payload_base64 of message {position}: {error}")))?
                .into(),
            _ => {
                return Err(Problem::invalid(format!(
                    "message {position} needs payload or payload_base64, one of them"
                )));
            }
        };
        let mut headers = Vec::new();
        for (name, value) in self.headers {
            let values = match value {
                serde_json::Value::Array(values) => values,
                one => vec![one],
            };
            for value in values {
                let serde_json::Value::String(value) = value else {
                    return Err(Problem::invalid(format!("header `{name}` of message {position} is no text")));
                };
                headers.push(Header { name: name.clone(), value });
            }
        }
        let message = Message { payload, key: self.key, headers, ttl_ms: self.ttl_ms, ..Message::default() };
        Ok(TransactionMessage { channel: self.channel, message, expected_seq: self.expected_seq })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestQuery {
    timeout: Option<String>,
}

/// The answer is the reply: its payload, and its headers with the prefix of message headers.
pub(super) async fn request(
    State(broker): State<Broker>,
    ConnectInfo(connection): ConnectInfo<ConnectionInfo>,
    Path(channel): Path<String>,
    Query(query): Query<RequestQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let timeout = query.timeout.as_deref().map(duration).transpose()?.unwrap_or(REQUEST_TIMEOUT);
    // Its bytes are in flight only until it is published, and it waits longer.
    broker.admit_together(&connection.publishing, 1, body.len())?;
    let envelope = envelope(&broker, &headers, body)?;
    let reply = broker.request(&channel, envelope, timeout).await?;
    let mut response = reply.payload.into_response();
    for Header { name, value } in &reply.headers {
        // What is no HTTP header stays out.
        let name = HeaderName::try_from(format!("{MESSAGE_HEADER}{name}"));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            response.headers_mut().append(name, value);
        }
    }
    Ok(response)
}

/// Answers a request at its inbox.
pub(super) async fn reply(
    State(broker): State<Broker>,
    Path(inbox): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    broker.reply(&inbox, envelope(&broker, &headers, body)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn envelope(broker: &Broker, headers: &HeaderMap, payload: Bytes) -> Result<Envelope, Problem> {
    let template = template(headers, broker.now_ms())?;
    if !template.key.is_empty() {
        return Err(Problem::invalid("a request or a reply is sent at most once: leave the Idempotency-Key out"));
    }
    Ok(Envelope::from(Message { payload, ..template }))
}
