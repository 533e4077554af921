//! Transactions, requests and replies.

use std::time::Duration;

use tonic::Status;

use super::{
    publishing::{ack, confirm_of, invalid},
    to_status,
};
use crate::{
    broker::{Access, Envelope, TransactionAck, TransactionCompletion, TransactionMessage, TransactionRequest},
    budget::{Account, Progress},
    model::InvalidToken,
    proto::v1::{self, Message},
};

/// How long a request waits that does not say it.
const REQUEST_TIMEOUT_MS: u64 = 5000;

pub(super) async fn transaction(
    broker: &Access,
    connection: &Account,
    request: v1::PublishTransactionRequest,
) -> Result<v1::PublishTransactionResponse, Status> {
    let confirm = confirm_of(request.confirm)?;
    let each = |one: v1::TransactionMessage| {
        let v1::TransactionMessage { channel, message, expected_seq } = one;
        let message = message.ok_or_else(|| invalid("every entry of a transaction needs a message"))?;
        Ok(TransactionMessage { channel, message, expected_seq })
    };
    let messages = request.messages.into_iter().map(each).collect::<Result<Vec<_>, Status>>()?;
    let acked = |ack: v1::TransactionAck| {
        let v1::TransactionAck { channel, consumer, tokens } = ack;
        let tokens = tokens.iter().map(|token| token.parse()).collect::<Result<_, InvalidToken>>();
        Ok(TransactionAck { channel, consumer, tokens: tokens.map_err(|error| invalid(&error.to_string()))? })
    };
    let acks = request.acks.into_iter().map(acked).collect::<Result<Vec<_>, Status>>()?;
    let completion = |one: v1::TransactionCompletion| {
        let v1::TransactionCompletion { namespace, key, token, receipt } = one;
        TransactionCompletion { namespace, key, token, receipt }
    };
    let completions = request.completions.into_iter().map(completion).collect();
    let request = TransactionRequest { messages, acks, completions };
    let (count, bytes) = request.size();
    let held = broker.admit_together(connection, count, bytes);
    let _held = held.map_err(|error| to_status(&error))?;
    let outcomes = broker.transact(&request, confirm).await.map_err(|error| to_status(&error))?;
    Ok(v1::PublishTransactionResponse { results: outcomes.iter().map(ack).collect() })
}

pub(super) async fn request(
    broker: &Access,
    connection: &Account,
    request: v1::RequestRequest,
    arrived: Option<Progress>,
) -> Result<v1::RequestResponse, Status> {
    let v1::RequestRequest { channel, message, timeout_ms } = request;
    let bytes = message.as_ref().map_or(0, prost::Message::encoded_len);
    // Its bytes are in flight only until it is published, and it waits longer.
    let held = broker.admit_together(connection, 1, bytes).map_err(|error| to_status(&error))?.with(arrived);
    let envelope = envelope(message, "a request")?;
    let timeout = Duration::from_millis(if timeout_ms == 0 { REQUEST_TIMEOUT_MS } else { timeout_ms });
    let reply = broker.request_held(&channel, envelope, timeout, Some(held)).await;
    let reply = reply.map_err(|error| to_status(&error))?;
    Ok(v1::RequestResponse { message: Some(reply) })
}

pub(super) async fn reply(broker: &Access, request: v1::ReplyRequest) -> Result<v1::ReplyResponse, Status> {
    let v1::ReplyRequest { inbox, message } = request;
    let envelope = envelope(message, "a reply")?;
    broker.reply(&inbox, envelope).await.map_err(|error| to_status(&error))?;
    Ok(v1::ReplyResponse {})
}

/// The key means nothing here: a request is published once, and a reply is not stored.
fn envelope(message: Option<Message>, what: &str) -> Result<Envelope, Status> {
    let message = message.ok_or_else(|| invalid(&format!("{what} needs a message")))?;
    if message.key.is_some() {
        return Err(invalid(&format!("{what} has no idempotency key: it is sent at most once")));
    }
    Ok(Envelope::from(message))
}
