//! What a transaction is made of: as its user says it, as the log does it, and back again for what is refused.

use bytes::Bytes;

use crate::{
    broker::{
        Broker, BrokerError, Confirm, TransactionPart,
        checks::Checked,
        claims::Subject,
        consume::Named,
        outcomes::{excepted, named},
    },
    model::{DeliveryToken, Frame, Part, Refusal, Transaction},
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

/// Deliveries that a transaction acknowledges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionAck {
    /// The consumer's channel.
    pub channel: String,
    /// The consumer.
    pub consumer: String,
    /// By which the deliveries came.
    pub tokens: Vec<DeliveryToken>,
}

/// A claim that a transaction completes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionCompletion {
    /// The claim's namespace.
    pub namespace: String,
    /// Its key.
    pub key: String,
    /// The one that was given when it was taken.
    pub token: u64,
    /// What those who come later are told.
    pub receipt: Bytes,
}

/// What is done together or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TransactionRequest {
    /// Stored in this order. They have a key each or none has.
    pub messages: Vec<TransactionMessage>,
    /// Settled.
    pub acks: Vec<TransactionAck>,
    /// Ended.
    pub completions: Vec<TransactionCompletion>,
}

impl TransactionPart {
    fn error(self, error: impl Into<BrokerError>) -> BrokerError {
        BrokerError::InTransaction { part: self, error: Box::new(error.into()) }
    }
}

/// Consecutive messages for one channel.
pub(super) struct Checking {
    /// Position in the transaction of the first of them.
    first: u32,
    pub(super) checked: Checked,
    expected_seq: Option<u64>,
}

/// A transaction whose names are resolved.
pub(super) struct Prepared<'a> {
    pub(super) publishes: Vec<Checking>,
    acks: Vec<(Named, &'a TransactionAck)>,
    completions: Vec<(Subject<'a>, &'a TransactionCompletion)>,
}

impl TransactionRequest {
    /// How many things these are and about how many bytes, as a connection is charged for them.
    pub fn size(&self) -> (u32, usize) {
        let tokens = self.acks.iter().map(|ack| ack.tokens.len()).sum::<usize>();
        let count = self.messages.len() + tokens + self.completions.len();
        let messages = self.messages.iter().map(|one| prost::Message::encoded_len(&one.message)).sum::<usize>();
        let receipts = self.completions.iter().map(|one| one.receipt.len()).sum::<usize>();
        (u32::try_from(count).unwrap_or(u32::MAX), messages + tokens * size_of::<DeliveryToken>() + receipts)
    }
}

impl Prepared<'_> {
    /// As the log does it: messages, acknowledgements, completions.
    pub(super) fn transaction(&self) -> Transaction {
        let publish = |part: &Checking| Part::Publish(part.checked.group(part.expected_seq));
        let ack =
            |(named, ack): &(Named, &TransactionAck)| Part::Ack { consumer: named.id, tokens: ack.tokens.clone() };
        let complete = |(subject, completion): &(Subject<'_>, &TransactionCompletion)| Part::Complete {
            namespace: subject.namespace.clone(),
            key: subject.hash,
            token: subject.token,
            receipt: completion.receipt.clone(),
        };
        let parts = self.publishes.iter().map(publish);
        let parts = parts.chain(self.acks.iter().map(ack)).chain(self.completions.iter().map(complete));
        Transaction { parts: parts.collect() }
    }
}

impl Broker {
    /// What can be said without looking at channels; gives the bytes of it all.
    pub(super) fn check_shape(&self, request: &TransactionRequest) -> Result<usize, BrokerError> {
        let invalid = |reason: &str| Err(BrokerError::InvalidArgument { reason: reason.into() });
        let messages = &request.messages;
        let (count, bytes) = request.size();
        if count == 0 {
            return invalid("a transaction needs at least one message, acknowledgement or completion");
        }
        let keys = messages.iter().filter(|one| one.message.key.is_some()).count();
        if keys > 0 && keys < messages.len() {
            return invalid(
                "some messages of the transaction have an idempotency key: give every message one, or none",
            );
        }
        if messages.iter().any(|one| one.message.deliver_at_ms > 0) {
            return invalid("messages of a transaction are visible at once: publish one that waits by itself");
        }
        let (value, limit) = (u64::from(count), self.limits().batch_messages as u64);
        if value > limit {
            let what = "the transaction (messages, acknowledgements and completions)".into();
            return Err(BrokerError::LimitExceeded { what, value, limit });
        }
        let (value, limit) = (bytes as u64, self.limits().batch_bytes as u64);
        if value > limit && count > 1 {
            return Err(BrokerError::LimitExceeded { what: "the transaction (bytes)".into(), value, limit });
        }
        Ok(bytes)
    }

    /// Everything as this node knows it.
    pub(super) async fn prepare<'a>(&self, request: &'a TransactionRequest) -> Result<Prepared<'a>, BrokerError> {
        let publishes = self.check_messages(&request.messages).await?;
        let mut acks = Vec::with_capacity(request.acks.len());
        for (position, ack) in (0u32..).zip(&request.acks) {
            let found = self.find_settled(&ack.channel, &ack.consumer, &ack.tokens).await;
            let found = found.and_then(|(named, judged)| judged.into_iter().collect::<Result<(), _>>().map(|()| named));
            acks.push((found.map_err(|error| TransactionPart::Ack(position).error(error))?, ack));
        }
        let completion = |(position, one): (u32, &'a TransactionCompletion)| {
            let subject = self.completing(&one.namespace, &one.key, one.token, &one.receipt);
            Ok::<_, BrokerError>((subject.map_err(|error| TransactionPart::Completion(position).error(error))?, one))
        };
        let completions = (0u32..).zip(&request.completions).map(completion).collect::<Result<_, _>>()?;
        Ok(Prepared { publishes, acks, completions })
    }

    /// Consecutive messages for one channel make one part.
    async fn check_messages(&self, messages: &[TransactionMessage]) -> Result<Vec<Checking>, BrokerError> {
        let mut parts = Vec::new();
        let (mut first, mut copied): (u32, u64) = (0, 0);
        let together = |one: &TransactionMessage, next: &TransactionMessage| {
            one.channel == next.channel && next.expected_seq.is_none()
        };
        for part in messages.chunk_by(together) {
            let at = |position: u32, error: BrokerError| TransactionPart::Message(first + position).error(error);
            let meta = self.resolve(&part[0].channel).await.map_err(|error| at(0, error))?;
            let frame = Frame::encode(part.iter().map(|one| &one.message));
            let mut checked = self.check(meta, &frame).await.map_err(|error| at(0, error))?;
            if !checked.refused.is_empty() {
                let (position, error) = checked.refused.swap_remove(0);
                return Err(at(position, error));
            }
            copied += checked.group(None).copied_bytes();
            parts.push(Checking { first, checked, expected_seq: part[0].expected_seq });
            first += frame.count();
        }
        self.check_copied(copied)?;
        Ok(parts)
    }

    /// What the machine refused, in the words of whoever asked; none where this node has to hear more, and try again.
    pub(super) fn transaction_refused(&self, prepared: &Prepared<'_>, part: u32, why: Refusal) -> Option<BrokerError> {
        let (part, published) = (part as usize, prepared.publishes.len());
        if let Some(checking) = prepared.publishes.get(part) {
            return self.message_refused(checking, why);
        }
        let part = part.saturating_sub(published);
        if let (Some((named, _)), Ok(position)) = (prepared.acks.get(part), u32::try_from(part)) {
            return Some(TransactionPart::Ack(position).error(named.refused(why)));
        }
        let part = part.saturating_sub(prepared.acks.len());
        if let (Some((subject, _)), Ok(position)) = (prepared.completions.get(part), u32::try_from(part)) {
            return Some(TransactionPart::Completion(position).error(self.claim_refused(why, subject)));
        }
        Some(BrokerError::Internal { reason: format!("there is no such part of the transaction: {why}") })
    }

    fn message_refused(&self, checking: &Checking, why: Refusal) -> Option<BrokerError> {
        let Checking { first, checked, .. } = checking;
        let channel = checked.meta.name.to_string();
        let key = |position: u32| {
            let claim = checked.keys.iter().position(|claim| claim.position == position);
            claim.and_then(|at| checked.names.get(at)).cloned().unwrap_or_default()
        };
        let (position, error) = match why {
            Refusal::NoSuchChannel | Refusal::StaleSchema { .. } | Refusal::StaleRules { .. } => return None,
            Refusal::WrongSeq { expected, actual } => (0, BrokerError::WrongSeq { channel, expected, actual }),
            Refusal::UsedInPart { position } => (position, BrokerError::KeyUsedApart { channel, key: key(position) }),
            Refusal::Key { position, outcome } => match excepted(outcome, 0, Confirm::Commit) {
                Err(error) => (position, named(error, &channel, &key(position))),
                Ok(_) => (position, BrokerError::KeyUsedApart { channel, key: key(position) }),
            },
            other => {
                let internal = || (0, BrokerError::Internal { reason: other.to_string() });
                self.copy_refused(&other).unwrap_or_else(internal)
            }
        };
        Some(TransactionPart::Message(first + position).error(error))
    }
}
