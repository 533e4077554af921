//! Who works on what: the members of a consumer that hold messages, as the replicated state has them. Members that wait for
//! messages are known only to the leader, and are not among these.

use std::collections::BTreeMap;

use super::{super::Broker, member::is_pull};
use crate::broker::BrokerError;

/// What one member of a consumer holds, or all that pulled without a stream together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The member; none for all that pulled.
    pub member: Option<u64>,
    /// Messages that it holds.
    pub held: u64,
    /// The first of them.
    pub first_seq: u64,
    /// How often work on one of them was begun, at most.
    pub attempts: u32,
    /// When the first of them comes again unless it is settled, milliseconds since the Unix epoch.
    pub due_ms: u64,
}

impl Broker {
    /// The members of a consumer that hold messages, those with the oldest messages first, as of now (linearizable).
    ///
    /// # Errors
    /// `ChannelNotFound`, `ConsumerNotFound`; `NoLeader` or `NotConfirmed` without a majority.
    pub async fn holdings(&self, channel: &str, name: &str) -> Result<Vec<Holding>, BrokerError> {
        self.catch_up().await?;
        let named = self.find_consumer(channel, name).await?;
        let view = &self.inner.view;
        let mut found = BTreeMap::<Option<u64>, Holding>::new();
        view.consumers(|all| {
            let pending = all.get(named.id).into_iter().flat_map(|consumer| consumer.pending().iter());
            for (seq, pending) in pending {
                let Some(id) = pending.member else { continue };
                let member = Some(id).filter(|id| !is_pull(*id));
                let first = Holding { member, held: 0, first_seq: *seq, attempts: 0, due_ms: pending.due_ms };
                let holding = found.entry(member).or_insert(first);
                holding.held += 1;
                holding.attempts = holding.attempts.max(pending.attempts);
                holding.due_ms = holding.due_ms.min(pending.due_ms);
            }
        });
        let mut holdings: Vec<Holding> = found.into_values().collect();
        holdings.sort_by_key(|holding| holding.first_seq);
        for holding in &mut holdings {
            holding.due_ms = view.time_of_day(holding.due_ms);
        }
        Ok(holdings)
    }
}
