//! Messages for any channels that are all stored, in one log entry, or none is.

use tokio::time::Instant;

use super::{
    Broker, BrokerError, Confirm, Outcome,
    batcher::SubmitError,
    forward::{Request, Response},
    operations::Operated,
    outcomes::{excepted, named, results},
    publish::{Checked, RETRY},
};
use crate::{
    model::{Frame, Operation, OperationReply, Part, PartReply, Refusal, Transaction},
    proto::v1::Message,
};

/// A message of a transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TransactionMessage {
    /// Where it goes.
    pub channel: String,
    /// What goes there.
    pub message: Message,
    /// Nothing is stored unless it gets this sequence number.
    pub expected_seq: Option<u64>,
}

/// Consecutive messages for one channel.
struct Checking {
    /// Position in the transaction of the first of them.
    first: u32,
    checked: Checked,
    expected_seq: Option<u64>,
}

/// What the leader did, or why it is to be tried again.
enum Tried {
    Done(Vec<Outcome>),
    Stale,
}

impl TransactionMessage {
    /// How many messages these are and their encoded bytes, as a connection is charged for them.
    pub fn size(messages: &[Self]) -> (u32, usize) {
        let bytes = messages.iter().map(|one| prost::Message::encoded_len(&one.message)).sum();
        (u32::try_from(messages.len()).unwrap_or(u32::MAX), bytes)
    }
}

impl Broker {
    /// Publishes all the messages, in their order, or none. They have a key each or none has; with keys a retry gets
    /// the original answer.
    ///
    /// # Errors
    /// `InTransaction` names the message that cannot be stored; otherwise see [`BrokerError`].
    pub async fn publish_transaction(
        &self,
        messages: Vec<TransactionMessage>,
        confirm: Confirm,
    ) -> Result<Vec<Outcome>, BrokerError> {
        let _request = self.inner.requests.token();
        let count = messages.len();
        let mut unknown = None;
        let done = self.admit_transaction(&messages, confirm, &mut unknown).await;
        let done = done.map_err(|error| error.after_unknown(unknown));
        match &done {
            Ok(outcomes) => self.count(&outcomes.iter().copied().map(Ok).collect::<Vec<_>>()),
            Err(error) => {
                self.count(&vec![Err(error.clone()); count]);
                self.sample_refused_part(&messages, error);
            }
        }
        done
    }

    async fn admit_transaction(
        &self,
        messages: &[TransactionMessage],
        confirm: Confirm,
        unknown: &mut Option<String>,
    ) -> Result<Vec<Outcome>, BrokerError> {
        self.check_running()?;
        let bytes = self.check_shape(messages)?;
        let keyed = messages.iter().all(|one| !one.message.key.is_empty());
        let _admitted = self.admit(bytes)?;
        let deadline = Instant::now() + self.limits().publish_timeout;
        loop {
            let parts = self.check_parts(messages).await?;
            match self.try_transaction(&parts, confirm, deadline).await {
                Ok(Tried::Done(outcomes)) => return Ok(outcomes),
                Ok(Tried::Stale) => self.catch_up().await?,
                Err(BrokerError::OutcomeUnknown { reason }) if keyed && Instant::now() < deadline => {
                    *unknown = Some(reason);
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => match error.worth_waiting(unknown.as_deref(), deadline) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(error),
                },
            }
        }
    }

    /// Of a transaction only the message that stood in the way is known to be bad.
    fn sample_refused_part(&self, messages: &[TransactionMessage], error: &BrokerError) {
        let BrokerError::InTransaction { message, error } = error else { return };
        let Some(bad) = messages.get(*message as usize) else { return };
        self.sample_refused(&bad.channel, &Frame::encode([&bad.message]), &[Err(BrokerError::clone(error))]);
    }

    /// What can be said without looking at channels; gives the bytes of it all.
    fn check_shape(&self, messages: &[TransactionMessage]) -> Result<usize, BrokerError> {
        let invalid = |reason: &str| Err(BrokerError::InvalidArgument { reason: reason.into() });
        if messages.is_empty() {
            return invalid("a transaction needs at least one message");
        }
        let keys = messages.iter().filter(|one| !one.message.key.is_empty()).count();
        if keys > 0 && keys < messages.len() {
            return invalid(
                "some messages of the transaction have an idempotency key: give every message one, or none",
            );
        }
        if messages.iter().any(|one| one.message.deliver_at_ms > 0) {
            return invalid("messages of a transaction are visible at once: publish one that waits by itself");
        }
        let (value, limit) = (messages.len() as u64, self.limits().batch_messages as u64);
        if value > limit {
            return Err(BrokerError::LimitExceeded { what: "the transaction (messages)".into(), value, limit });
        }
        let (_, bytes) = TransactionMessage::size(messages);
        let (value, limit) = (bytes as u64, self.limits().batch_bytes as u64);
        if value > limit && messages.len() > 1 {
            return Err(BrokerError::LimitExceeded { what: "the transaction (bytes)".into(), value, limit });
        }
        Ok(bytes)
    }

    /// Consecutive messages for one channel make one part.
    async fn check_parts(&self, messages: &[TransactionMessage]) -> Result<Vec<Checking>, BrokerError> {
        let mut parts = Vec::new();
        let mut first: u32 = 0;
        let together = |one: &TransactionMessage, next: &TransactionMessage| {
            one.channel == next.channel && next.expected_seq.is_none()
        };
        for part in messages.chunk_by(together) {
            let at = |position: u32, error: BrokerError| BrokerError::InTransaction {
                message: first + position,
                error: Box::new(error),
            };
            let meta = self.resolve(&part[0].channel).await.map_err(|error| at(0, error))?;
            let frame = Frame::encode(part.iter().map(|one| &one.message));
            let mut checked = self.check(meta, &frame).map_err(|error| at(0, error))?;
            if !checked.refused.is_empty() {
                let (position, error) = checked.refused.swap_remove(0);
                return Err(at(position, error));
            }
            parts.push(Checking { first, checked, expected_seq: part[0].expected_seq });
            first += frame.count();
        }
        Ok(parts)
    }

    async fn try_transaction(
        &self,
        parts: &[Checking],
        confirm: Confirm,
        deadline: Instant,
    ) -> Result<Tried, BrokerError> {
        let group = |part: &Checking| Part::Publish(part.checked.group(part.expected_seq));
        let transaction = Transaction { parts: parts.iter().map(group).collect() };
        let unexpected = |what: String| BrokerError::Internal { reason: format!("an unexpected answer: {what}") };
        let response = self.ask_leader(&Request::Transact { transaction, confirm }, deadline).await?;
        let Response::Transacted(Operated { index, term, reply }, delivered) = response else {
            return Err(BrokerError::OutcomeUnknown { reason: format!("an unexpected answer: {response:?}") });
        };
        let _: () = self.inner.view.wait_applied(index).await;
        match reply {
            Ok(OperationReply::Transaction(replies)) => {
                let mut outcomes = Vec::new();
                for ((part, PartReply::Published(assigned)), delivered) in parts.iter().zip(&replies).zip(&delivered) {
                    let count = part.checked.frame.count();
                    outcomes.extend(results(assigned, count, term, delivered, confirm));
                }
                Ok(Tried::Done(outcomes.into_iter().collect::<Result<_, _>>()?))
            }
            Err(Refusal::Part { part, why }) => self.refused(parts, part, *why),
            other => Err(unexpected(format!("{other:?}"))),
        }
    }

    /// On the leader: into the log, with what became of the delivery of each part. Where one part exceeds its channel's
    /// quota, those before it are counted all the same.
    pub(super) async fn submit_transaction(
        &self,
        transaction: Transaction,
        confirm: Confirm,
    ) -> Result<(Operated, Vec<Vec<Option<bool>>>), SubmitError> {
        let part = |Part::Publish(group): &Part| (group.channel, group.frame.count(), group.frame.bytes().len());
        let parts: Vec<_> = transaction.parts.iter().map(part).collect();
        for (channel, count, bytes) in &parts {
            self.charge(*channel, u64::from(*count), *bytes).map_err(SubmitError::Refused)?;
        }
        let operated = self.submit_operation(Operation::Transaction(transaction)).await?;
        let term = operated.term;
        let delivered = match &operated.reply {
            Ok(OperationReply::Transaction(replies)) => {
                let each = parts.into_iter().zip(replies).map(|((channel, count, _), reply)| {
                    let PartReply::Published(assigned) = reply;
                    self.delivered(channel, assigned, count, confirm, term)
                });
                futures::future::join_all(each).await
            }
            _ => Vec::new(),
        };
        Ok((operated, delivered))
    }

    /// What the machine refused, in the words of whoever asked.
    fn refused(&self, parts: &[Checking], part: u32, why: Refusal) -> Result<Tried, BrokerError> {
        let Some(Checking { first, checked, .. }) = parts.get(part as usize) else {
            return Err(BrokerError::Internal { reason: format!("there is no part {part}: {why}") });
        };
        let channel = checked.meta.name.to_string();
        let key = |position: u32| {
            let claim = checked.keys.iter().position(|claim| claim.position == position);
            claim.and_then(|at| checked.names.get(at)).cloned().unwrap_or_default()
        };
        let (position, error) = match why {
            Refusal::NoSuchChannel | Refusal::StaleSchema { .. } | Refusal::StaleRules { .. } => {
                return Ok(Tried::Stale);
            }
            Refusal::TargetFull { channel, full } => (0, self.target_full(channel, full)),
            Refusal::WrongSeq { expected, actual } => (0, BrokerError::WrongSeq { channel, expected, actual }),
            Refusal::UsedInPart { position } => (position, BrokerError::KeyUsedApart { channel, key: key(position) }),
            Refusal::Key { position, outcome } => match excepted(outcome, 0, Confirm::Commit) {
                Err(error) => (position, named(error, &channel, &key(position))),
                Ok(_) => (position, BrokerError::KeyUsedApart { channel, key: key(position) }),
            },
            other => (0, BrokerError::Internal { reason: other.to_string() }),
        };
        Err(BrokerError::InTransaction { message: first + position, error: Box::new(error) })
    }
}
