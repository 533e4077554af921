//! The consumer that a request names: found by its name, and what its caller hears when it is refused.

use super::super::{Broker, BrokerError, quotas::over_quota};
use crate::model::{ConsumerId, ConsumerName, InvalidConsumerName, Refusal};

/// A consumer that a request names.
#[derive(Clone, Debug)]
pub(in crate::broker) struct Named {
    pub(in crate::broker) id: ConsumerId,
    pub(super) channel: String,
    pub(super) name: String,
}

impl Named {
    pub(super) fn not_found(&self) -> BrokerError {
        let (channel, name) = (self.channel.clone(), self.name.clone());
        BrokerError::ConsumerNotFound { channel, name, similar: None }
    }

    /// What an operation on the consumer was refused for, as its caller hears it.
    pub(in crate::broker) fn refused(&self, refusal: Refusal) -> BrokerError {
        let limit_exceeded = |what: &str, limit: u64| BrokerError::LimitExceeded {
            what: what.to_owned(),
            value: limit.saturating_add(1),
            limit,
        };
        match refusal {
            Refusal::NoSuchConsumer => self.not_found(),
            Refusal::ConsumerExists => {
                BrokerError::ConsumerExists { channel: self.channel.clone(), name: self.name.clone() }
            }
            Refusal::NoChannelNamed(name) => BrokerError::ChannelNotFound { name: name.to_string(), similar: None },
            Refusal::NotStored => BrokerError::NotStored { channel: self.channel.clone() },
            Refusal::TooManyConsumers { limit } => limit_exceeded("the number of consumers", limit),
            Refusal::TooMuchInFlight { limit } => limit_exceeded("max_in_flight", limit),
            refusal @ (Refusal::NoDeadLetterChannel(_) | Refusal::DeadLetterCycle(_)) => {
                BrokerError::InvalidArgument { reason: refusal.to_string() }
            }
            Refusal::WorkWouldBeSkipped => {
                let reason = format!(
                    "`{}` is a work queue: what the filter keeps back would go without anybody having worked on it. Say \
                     settle_skipped (--settle-skipped) if other consumers take it or it may go, or have a rule copy what \
                     is wanted into a queue of its own",
                    self.channel
                );
                BrokerError::InvalidArgument { reason }
            }
            refusal @ Refusal::OverQuota { .. } => over_quota(refusal),
            Refusal::StaleDelivery { seq } => BrokerError::StaleDelivery { seq },
            other => BrokerError::Internal { reason: other.to_string() },
        }
    }
}

impl Broker {
    pub(super) fn consumer_name(&self, name: &str) -> Result<ConsumerName, BrokerError> {
        let limit = self.limits().consumer_name_bytes;
        if name.len() > limit {
            let (what, value) = ("the consumer's name (bytes)".to_owned(), name.len() as u64);
            return Err(BrokerError::LimitExceeded { what, value, limit: limit as u64 });
        }
        name.parse()
            .map_err(|error: InvalidConsumerName| BrokerError::InvalidConsumerName { reason: error.to_string() })
    }

    /// The consumer of that name as this node knows it; a node that does not know it first hears what the leader knows.
    pub(in crate::broker) async fn find_consumer(&self, channel: &str, name: &str) -> Result<Named, BrokerError> {
        let meta = self.resolve(channel).await?;
        let look = || self.inner.view.consumers(|all| all.named(meta.id, name).map(|consumer| consumer.meta().id));
        let mut found = look();
        if found.is_none() {
            self.consumer_name(name)?;
            self.catch_up().await?;
            found = look();
        }
        let (channel, name) = (channel.to_owned(), name.to_owned());
        if let Some(id) = found {
            return Ok(Named { id, channel, name });
        }
        let likeness = |other: &str| strsim::damerau_levenshtein(&name, other);
        let similar = self.inner.view.consumers(|all| {
            let names = all.of(meta.id).map(|consumer| consumer.meta().name.as_str());
            names.min_by_key(|other| likeness(other)).filter(|other| likeness(other) <= 2).map(str::to_owned)
        });
        Err(BrokerError::ConsumerNotFound { channel, name, similar })
    }
}
