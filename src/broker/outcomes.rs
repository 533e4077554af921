//! What publishers are told of each message, out of what the log says of groups.

use std::time::Instant;

use super::{Broker, BrokerError, Confirm, Outcome, checks::Checked, delivery::EXPIRY};
use crate::model::{Assigned, ChannelId, Full, History, KeyOutcome, Refusal};

/// What became of each message of a submission that was committed.
pub(super) type Results = Vec<Result<Outcome, BrokerError>>;

impl Broker {
    /// On the leader: whether the new messages of a group that was committed were handed on; nothing where nobody asks.
    pub(super) async fn delivered(
        &self,
        channel: ChannelId,
        assigned: &Assigned,
        count: u32,
        confirm: Confirm,
        term: u64,
    ) -> Vec<Option<bool>> {
        let new = u64::from(count) - assigned.except.len() as u64;
        if confirm == Confirm::Commit || new == 0 {
            return Vec::new();
        }
        let end = assigned.first_seq + new;
        let (delivery, fanout, limit) =
            (&self.inner.delivery, self.inner.view.fanout(), self.limits().delivery_timeout);
        let begun = Instant::now();
        let delivered = if confirm == Confirm::Certainty {
            let others = self.inner.peers.others().into_iter().map(|node| node.id).collect();
            let certain = (term, others, limit + EXPIRY);
            delivery.wait_certain(fanout, channel, assigned.first_seq..end, certain).await
        } else {
            delivery.wait(fanout, channel, assigned.first_seq..end, limit).await
        };
        self.inner.view.meters().delivery.since(begun);
        delivered
    }
}

impl Broker {
    /// Why messages were refused because of a copy that a channel does not take, and the position of the first of them;
    /// none where that is not the reason.
    pub(super) fn copy_refused(&self, refusal: &Refusal) -> Option<(u32, BrokerError)> {
        let (channel, position, outcome) = match refusal {
            Refusal::CopyRefused { channel, position, outcome } => (*channel, *position, *outcome),
            Refusal::TargetFull { channel, full } => (*channel, 0, KeyOutcome::Full(*full)),
            _ => return None,
        };
        let name = self.inner.view.meta(channel).map(|meta| meta.name.to_string()).unwrap_or_default();
        let error = match outcome {
            KeyOutcome::TooLarge { bytes, limit } => BrokerError::copy_too_large(&name, bytes, limit),
            KeyOutcome::Full(full) => channel_full(name, full),
            other => BrokerError::Internal { reason: format!("a copy in `{name}` is refused: {other:?}") },
        };
        Some((position, error))
    }
}

impl Outcome {
    /// Of a message that is stored as `seq`.
    fn stored(seq: u64, duplicate: bool, delivered: Option<bool>, term: u64) -> Self {
        Self { seq, duplicate, delivered, term, scheduled_ms: None, position: None }
    }

    /// Of a message that waits until then.
    pub(super) fn waiting(due_ms: u64, duplicate: bool, term: u64) -> Self {
        Self { seq: 0, duplicate, delivered: None, term, scheduled_ms: Some(due_ms), position: None }
    }

    /// Whether it is that of a message which has its place already.
    pub(super) fn repeats(&self) -> bool {
        self.duplicate && self.scheduled_ms.is_none()
    }
}

/// Conflicts come back from the log without the text of the key, and all without the name of the channel.
pub(super) fn name_keys(results: &mut Results, checked: &Checked) {
    let channel = checked.meta.name.as_str();
    for error in results.iter_mut().filter_map(|result| result.as_mut().err()) {
        *error = named(error.clone(), channel, "");
    }
    for (claim, name) in checked.keys.iter().zip(&checked.names) {
        if let Some(result @ Err(_)) = results.get_mut(claim.position as usize)
            && let Err(error) = std::mem::replace(result, Err(BrokerError::Stopping))
        {
            *result = Err(named(error, channel, name));
        }
    }
}

/// What the log does not know by name.
pub(super) fn named(error: BrokerError, channel: &str, key: &str) -> BrokerError {
    let (channel, key) = (channel.to_owned(), key.to_owned());
    match error {
        BrokerError::KeyConflict { seq, .. } => BrokerError::KeyConflict { channel, key, seq },
        BrokerError::KeyWaits { due_ms, .. } => BrokerError::KeyWaits { channel, key, due_ms },
        BrokerError::TooManyKeys { limit, .. } => BrokerError::TooManyKeys { channel, limit },
        BrokerError::WrongSeq { expected, actual, .. } => BrokerError::WrongSeq { channel, expected, actual },
        // That of a copy's channel is known.
        BrokerError::ChannelFull { channel: unknown, what, limit } if unknown.is_empty() => {
            BrokerError::ChannelFull { channel, what, limit }
        }
        other => other,
    }
}

/// What a message is told whose key was used, without its names.
pub(super) fn excepted(outcome: KeyOutcome, term: u64, confirm: Confirm) -> Result<Outcome, BrokerError> {
    let delivered = (confirm != Confirm::Commit).then_some(false);
    let (channel, key) = (String::new(), String::new());
    match outcome {
        KeyOutcome::Duplicate { seq } => Ok(Outcome::stored(seq, true, delivered, term)),
        KeyOutcome::Waiting { due_ms } => Ok(Outcome::waiting(due_ms, true, term)),
        KeyOutcome::Conflict { seq } => Err(BrokerError::KeyConflict { channel, key, seq }),
        KeyOutcome::WaitingConflict { due_ms } => Err(BrokerError::KeyWaits { channel, key, due_ms }),
        KeyOutcome::TooManyKeys { limit } => Err(BrokerError::TooManyKeys { channel, limit }),
        KeyOutcome::TooManyKeysInAll { limit } => Err(BrokerError::TooManyKeysInAll { limit }),
        KeyOutcome::Full(full) => Err(channel_full(channel, full)),
        KeyOutcome::TooLarge { bytes, limit } => {
            let what = "the message (bytes) for what the channel may hold".to_owned();
            Err(BrokerError::LimitExceeded { what, value: bytes, limit })
        }
    }
}

fn channel_full(channel: String, full: Full) -> BrokerError {
    let (what, limit) = match full {
        Full::Messages(limit) => ("messages", limit),
        Full::Bytes(limit) => ("bytes", limit),
    };
    BrokerError::ChannelFull { channel, what: what.into(), limit }
}

/// `delivered` has the new messages in order, or nothing.
pub(super) fn results(
    assigned: &Assigned,
    count: u32,
    term: u64,
    delivered: &[Option<bool>],
    confirm: Confirm,
) -> Results {
    let mut except = assigned.except.iter().peekable();
    let mut seq = assigned.first_seq;
    let mut delivered = delivered.iter().copied();
    (0..count)
        .map(|position| match except.next_if(|(at, _)| *at == position) {
            None => {
                seq += 1;
                let delivered = delivered.next().flatten();
                Ok(Outcome::stored(seq - 1, false, delivered, term))
            }
            Some((_, outcome)) => excepted(*outcome, term, confirm),
        })
        .collect()
}

/// Says of which history the messages are that have their place.
pub(super) fn place<'a>(outcomes: impl IntoIterator<Item = &'a mut Outcome>, history: Option<&History>) {
    let Some(history) = history else { return };
    for outcome in outcomes.into_iter().filter(|outcome| outcome.scheduled_ms.is_none()) {
        outcome.position = Some(history.position(outcome.seq));
    }
}

pub(super) fn refusals(refused: Vec<(u32, BrokerError)>) -> Vec<(u32, Result<Outcome, BrokerError>)> {
    refused.into_iter().map(|(position, error)| (position, Err(error))).collect()
}

/// Puts the results of some messages, by position, between those of the others.
pub(super) fn merge(results: Results, some: Vec<(u32, Result<Outcome, BrokerError>)>) -> Results {
    let mut merged = Vec::with_capacity(results.len() + some.len());
    let mut results = results.into_iter();
    for (position, result) in some {
        merged.extend(results.by_ref().take(position as usize - merged.len()));
        merged.push(result);
    }
    merged.extend(results);
    merged
}
