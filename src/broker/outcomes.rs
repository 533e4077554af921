//! What publishers are told of each message, out of what the log says of groups.

use super::{Broker, BrokerError, Confirm, Outcome, delivery::EXPIRY, publish::Checked};
use crate::model::{Assigned, ChannelId, KeyOutcome};

/// What became of each message of a submission that was committed.
pub(super) type Results = Vec<Result<Outcome, BrokerError>>;

/// Whether new messages were handed on: all together or, where some may have expired before, each by itself.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) enum Delivered {
    All(Option<bool>),
    Each(Vec<Option<bool>>),
}

impl Delivered {
    fn of(&self, position: u64) -> Option<bool> {
        match self {
            Self::All(delivered) => *delivered,
            Self::Each(each) => usize::try_from(position).ok().and_then(|at| each.get(at).copied()).flatten(),
        }
    }
}

impl Broker {
    /// On the leader: whether the new messages of a group that was committed were handed on.
    pub(super) async fn delivered(
        &self,
        channel: ChannelId,
        assigned: &Assigned,
        count: u32,
        (expires, confirm, term): (bool, Confirm, u64),
    ) -> Delivered {
        let new = u64::from(count) - assigned.except.len() as u64;
        if confirm == Confirm::Commit || new == 0 {
            return Delivered::All(None);
        }
        let end = assigned.first_seq + new;
        let (delivery, fanout, limit) =
            (&self.inner.delivery, self.inner.view.fanout(), self.limits().delivery_timeout);
        if confirm == Confirm::Certainty {
            let others = self.inner.peers.others().into_iter().map(|node| node.id).collect();
            let certain = (term, others, limit + EXPIRY);
            return Delivered::All(delivery.wait_certain(fanout, channel, assigned.first_seq..end, certain).await);
        }
        if !expires {
            return Delivered::All(delivery.wait(fanout, channel, assigned.first_seq..end, limit).await);
        }
        // Some may have expired before others were handed on, so the last one does not stand for all.
        let each = (assigned.first_seq..end).map(|seq| delivery.wait(fanout, channel, seq..seq + 1, limit));
        Delivered::Each(futures::future::join_all(each).await)
    }
}

impl Outcome {
    /// Whether it is that of a message which has its place already.
    pub(super) fn repeats(&self) -> bool {
        self.duplicate && self.scheduled_ms.is_none()
    }
}

/// Conflicts come back from the log without the text of the key.
pub(super) fn name_keys(results: &mut Results, checked: &Checked) {
    for (claim, name) in checked.keys.iter().zip(&checked.names) {
        if let Some(result @ Err(_)) = results.get_mut(claim.position as usize)
            && let Err(error) = std::mem::replace(result, Err(BrokerError::Stopping))
        {
            *result = Err(named(error, checked.meta.name.as_str(), name));
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
        other => other,
    }
}

/// What a message is told whose key was used, without its names.
pub(super) fn excepted(outcome: KeyOutcome, term: u64, confirm: Confirm) -> Result<Outcome, BrokerError> {
    let delivered = (confirm != Confirm::Commit).then_some(false);
    let (channel, key) = (String::new(), String::new());
    match outcome {
        KeyOutcome::Duplicate { seq } => Ok(Outcome { seq, duplicate: true, delivered, term, scheduled_ms: None }),
        KeyOutcome::Waiting { due_ms } => {
            Ok(Outcome { seq: 0, duplicate: true, delivered: None, term, scheduled_ms: Some(due_ms) })
        }
        KeyOutcome::Conflict { seq } => Err(BrokerError::KeyConflict { channel, key, seq }),
        KeyOutcome::WaitingConflict { due_ms } => Err(BrokerError::KeyWaits { channel, key, due_ms }),
        KeyOutcome::TooManyKeys { limit } => Err(BrokerError::TooManyKeys { channel, limit }),
    }
}

pub(super) fn results(assigned: &Assigned, count: u32, term: u64, delivered: &Delivered, confirm: Confirm) -> Results {
    let mut except = assigned.except.iter().peekable();
    let mut new = 0;
    (0..count)
        .map(|position| match except.next_if(|(at, _)| *at == position) {
            None => {
                let (seq, delivered) = (assigned.first_seq + new, delivered.of(new));
                new += 1;
                Ok(Outcome { seq, duplicate: false, delivered, term, scheduled_ms: None })
            }
            Some((_, outcome)) => excepted(*outcome, term, confirm),
        })
        .collect()
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
