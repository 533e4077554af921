//! Removing old messages by hand, and the limits of a channel that make sense.

use liminal_wire::time::from_ms;

use super::{Broker, BrokerError, Start};
use crate::model::{Durability, Operation, OperationReply, Quota, Refusal, Retention};

/// What a trim leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// Messages from this sequence number on.
    To(u64),
    /// So many of the newest.
    Keep(u64),
    /// Those of the last so many milliseconds.
    OlderThan(u64),
}

impl Broker {
    /// About how many messages of a channel would go at once if it kept something else, as of now (linearizable). Changes
    /// nothing.
    ///
    /// # Errors
    /// `ChannelNotFound`; `InvalidArgument` for limits that cannot be kept.
    pub async fn would_remove(&self, name: &str, retention: &Retention) -> Result<u64, BrokerError> {
        check(Some(retention), None)?;
        self.catch_up().await?;
        Ok(self.inner.view.would_remove(self.find(name)?.id, retention))
    }

    /// Removes the oldest messages of a channel; gives the first sequence number that is left.
    ///
    /// # Errors
    /// `ChannelNotFound`; `NotStored` for an ephemeral channel; `InvalidArgument` beyond the channel's end.
    pub async fn trim_channel(&self, name: &str, trim: Trim) -> Result<u64, BrokerError> {
        self.catch_up().await?;
        let meta = self.find(name)?;
        if meta.config.durability == Durability::Ephemeral {
            return Err(BrokerError::NotStored { channel: name.into() });
        }
        let end = self.inner.view.stats(meta.id).unwrap_or_default().next_seq;
        let up_to = match trim {
            Trim::To(seq) if seq > end => {
                let reason =
                    format!("channel `{name}` ends before {end}: it cannot begin at {seq}; give at most {end}");
                return Err(BrokerError::InvalidArgument { reason });
            }
            Trim::To(seq) => seq,
            Trim::Keep(messages) => end.saturating_sub(messages),
            Trim::OlderThan(age_ms) => {
                self.position(&meta, Start::Time(from_ms(self.now_ms().saturating_sub(age_ms)))).await?
            }
        };
        match self.operate(Operation::Trim { channel: meta.name.clone(), up_to }).await? {
            Ok(OperationReply::Trimmed { first_seq }) => Ok(first_seq),
            Err(Refusal::NoChannelNamed(name)) => {
                Err(BrokerError::ChannelNotFound { name: name.to_string(), similar: None })
            }
            other => Err(BrokerError::Internal { reason: format!("an unexpected answer to a trim: {other:?}") }),
        }
    }
}

/// Whether limits can be kept.
pub(super) fn check(retention: Option<&Retention>, quota: Option<&Quota>) -> Result<(), BrokerError> {
    let Retention { max_messages, max_bytes, max_age_ms, compact_by, .. } = retention.cloned().unwrap_or_default();
    let Quota { messages_per_second, bytes_per_second } = quota.copied().unwrap_or_default();
    let limits = [
        ("max_messages", max_messages),
        ("max_bytes", max_bytes),
        ("max_age_ms", max_age_ms),
        ("messages_per_second", messages_per_second),
        ("bytes_per_second", bytes_per_second),
    ];
    if let Some((name, _)) = limits.iter().find(|(_, limit)| *limit == Some(0)) {
        let reason = format!("{name} is 0: give at least 1, or leave it out for no limit");
        return Err(BrokerError::InvalidArgument { reason });
    }
    if compact_by.is_some() && max_messages.is_some() {
        let reason = "compact_by does not go with max_messages: limit the channel by max_bytes or max_age_ms, or not";
        return Err(BrokerError::InvalidArgument { reason: reason.into() });
    }
    Ok(())
}
