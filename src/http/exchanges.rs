//! Transactions, requests and replies over HTTP.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    claims::receipt_of,
    content::{self, Few, HeadersJson},
    messages::{Acked, ConfirmQuery, MESSAGE_HEADER, duration, template},
    problem::Problem,
};
use crate::{
    broker::{
        Access, Broker, BrokerError, Envelope, TransactionAck, TransactionCompletion, TransactionMessage,
        TransactionRequest,
    },
    budget::{Account, Progress},
    model::{DeliveryToken, InvalidToken, Limits},
    proto::v1::{Header, Message},
};

/// How long a request waits that does not say it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TransactionBody {
    #[serde(default)]
    messages: Few<OneOf, { Limits::MESSAGES_OF_JSON }>,
    #[serde(default)]
    ack: Few<AckOf, { Limits::SETTLEMENTS }>,
    #[serde(default)]
    complete: Few<CompleteOf, { Limits::SETTLEMENTS }>,
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
    key: Option<String>,
    #[serde(default)]
    headers: HeadersJson,
    expected_seq: Option<u64>,
    #[serde(default)]
    ttl_ms: u64,
}

/// Deliveries of one consumer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AckOf {
    channel: String,
    consumer: String,
    token: Option<String>,
    #[serde(default)]
    tokens: Few<String, { Limits::SETTLEMENTS }>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CompleteOf {
    namespace: String,
    key: String,
    token: u64,
    receipt: Option<Box<RawValue>>,
    receipt_base64: Option<String>,
}

#[derive(Debug, Serialize)]
struct Transacted<'a> {
    messages: Vec<Acked<'a>>,
}

/// All of it or nothing.
pub(super) async fn transaction(
    Extension(broker): Extension<Access>,
    Extension(connection): Extension<Arc<Account>>,
    body: Bytes,
) -> Result<Response, Problem> {
    let wrong = |error: serde_json::Error| Problem::invalid(format!("the body is no transaction: {error}"));
    let TransactionBody { messages, ack, complete, confirm } = serde_json::from_slice(&body).map_err(wrong)?;
    let (Few(messages), Few(ack), Few(complete)) = (messages, ack, complete);
    for (what, count, limit) in [
        ("messages", messages.len(), Limits::MESSAGES_OF_JSON),
        ("acks", ack.len(), Limits::SETTLEMENTS),
        ("completions", complete.len(), Limits::SETTLEMENTS),
    ] {
        if count > limit {
            let what = format!("the number of {what} of a transaction");
            return Err(BrokerError::LimitExceeded { what, value: count as u64, limit: limit as u64 }.into());
        }
    }
    let messages: Vec<TransactionMessage> =
        (0..).zip(messages).map(|(position, one)| one.message(position)).collect::<Result<_, _>>()?;
    let acks = ack.into_iter().map(AckOf::ack).collect::<Result<_, _>>()?;
    let completions = complete.into_iter().map(CompleteOf::completion).collect::<Result<_, _>>()?;
    let request = TransactionRequest { messages, acks, completions };
    let (count, bytes) = request.size();
    let _held = broker.admit_together(&connection, count, bytes)?;
    let outcomes = broker.transact(&request, confirm.into()).await?;
    let acked = request.messages.iter().zip(&outcomes);
    let acked = acked.map(|(message, outcome)| Acked::of(&message.channel, None, outcome));
    Ok(Json(Transacted { messages: acked.collect() }).into_response())
}

impl AckOf {
    fn ack(self) -> Result<TransactionAck, Problem> {
        let Self { channel, consumer, token, tokens: Few(tokens) } = self;
        Broker::check_settlements(tokens.len())?;
        if token.is_none() && tokens.is_empty() {
            return Err(Problem::invalid(format!("an ack of consumer `{consumer}` needs token or tokens")));
        }
        let tokens: Result<Vec<DeliveryToken>, InvalidToken> =
            token.iter().chain(&tokens).map(|token| token.parse()).collect();
        let tokens = tokens.map_err(|error| Problem::invalid(error.to_string()))?;
        Ok(TransactionAck { channel, consumer, tokens })
    }
}

impl CompleteOf {
    fn completion(self) -> Result<TransactionCompletion, Problem> {
        let Self { namespace, key, token, receipt, receipt_base64 } = self;
        let receipt = receipt_of(receipt, receipt_base64)?;
        Ok(TransactionCompletion { namespace, key, token, receipt })
    }
}

impl OneOf {
    fn message(self, position: usize) -> Result<TransactionMessage, Problem> {
        let wrong = |why: String| Problem::invalid(format!("message {position}: {why}"));
        let payload = content::payload(self.payload, self.payload_base64).map_err(wrong)?;
        let headers = self.headers.headers().map_err(wrong)?;
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
    Extension(broker): Extension<Access>,
    Extension(connection): Extension<Arc<Account>>,
    arrived: Option<Extension<Progress>>,
    Path(channel): Path<String>,
    Query(query): Query<RequestQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let timeout = query.timeout.as_deref().map(duration).transpose()?.unwrap_or(REQUEST_TIMEOUT);
    // Its bytes are in flight only until it is published, and it waits longer.
    let held = broker.admit_together(&connection, 1, body.len())?.with(arrived.map(|Extension(arrived)| arrived));
    let envelope = envelope(&broker, &headers, body)?;
    let reply = broker.request_held(&channel, envelope, timeout, Some(held)).await?;
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
    Extension(broker): Extension<Access>,
    Path(inbox): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    broker.reply(&inbox, envelope(&broker, &headers, body)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn envelope(broker: &Access, headers: &HeaderMap, payload: Bytes) -> Result<Envelope, Problem> {
    let template = template(headers, broker.now_ms())?;
    if template.key.is_some() {
        return Err(Problem::invalid("a request or a reply is sent at most once: leave the Idempotency-Key out"));
    }
    Ok(Envelope::from(Message { payload, ..template }))
}
