//! Acks, nacks and signs of life on their way into the log. Doing them twice is the same as doing them once, so an
//! unknown outcome is tried again until there is a known one.

use std::collections::BTreeMap;

use super::{
    super::{Broker, BrokerError},
    named::Named,
};
use crate::model::{
    ConsumerId, ConsumerOperation, ConsumerReply, DeliveryOrigin, DeliveryToken, Limits, Operation, OperationReply,
    Refusal, Settlement, Verdict,
};

/// Longest reason of a nack in bytes: it is kept until the message is settled.
const MAX_REASON: usize = 256;

impl Broker {
    /// Settles deliveries of a consumer; one result for each, in order. `StaleDelivery`: it came too late, and the
    /// message has been handed out again. `ForeignDelivery`: it is not of this consumer in the history as it is. To
    /// acknowledge what is acknowledged already is no error.
    ///
    /// # Errors
    /// `ConsumerNotFound`, `NoLeader` and the like: of all. `LimitExceeded` beyond [`Limits::SETTLEMENTS`].
    pub async fn settle(
        &self,
        channel: &str,
        name: &str,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<Result<(), BrokerError>>, BrokerError> {
        Self::check_settlements(settlements.len())?;
        let tokens: Vec<DeliveryToken> = settlements.iter().map(|settlement| settlement.token).collect();
        let (named, mut results) = self.find_settled(channel, name, &tokens).await?;
        let own: Vec<(usize, Settlement)> =
            settlements.into_iter().enumerate().filter(|(position, _)| results[*position].is_ok()).collect();
        let (positions, own): (Vec<usize>, Vec<Settlement>) = own.into_iter().unzip();
        if own.is_empty() && !results.is_empty() {
            return Ok(results);
        }
        let stale = self.settle_part(named.id, own).await?.map_err(|refusal| named.refused(refusal))?;
        for position in stale.into_iter().filter_map(|stale| positions.get(stale as usize)) {
            results[*position] = Err(BrokerError::StaleDelivery { seq: tokens[*position].seq });
        }
        Ok(results)
    }

    /// The consumer of that name, and of each delivery whether it is one of it. A node that knows otherwise first hears what the
    /// leader knows.
    pub(in crate::broker) async fn find_settled(
        &self,
        channel: &str,
        name: &str,
        tokens: &[DeliveryToken],
    ) -> Result<(Named, Vec<Result<(), BrokerError>>), BrokerError> {
        let named = self.find_consumer(channel, name).await?;
        let judged = self.judge_origins(&named, tokens);
        if judged.iter().all(Result::is_ok) {
            return Ok((named, judged));
        }
        self.catch_up().await?;
        let named = self.find_consumer(channel, name).await?;
        let judged = self.judge_origins(&named, tokens);
        Ok((named, judged))
    }

    /// Whether deliveries are of a consumer, in its channel's history as it is. Neither changes as long as the consumer is there:
    /// a history goes another way only in a cluster that is begun from a backup.
    fn judge_origins(&self, named: &Named, tokens: &[DeliveryToken]) -> Vec<Result<(), BrokerError>> {
        let view = &self.inner.view;
        let channel = view.consumers(|all| all.get(named.id).map(|consumer| consumer.meta().channel));
        let history = channel.and_then(|channel| view.history(channel));
        let judge = |token: &DeliveryToken| {
            let (Some(DeliveryOrigin { consumer, position }), Some(history)) = (token.of, &history) else {
                return Ok(());
            };
            let (seq, change) = (token.seq, history.left(position));
            if change.is_some() || consumer != named.id {
                return Err(BrokerError::ForeignDelivery { seq, change });
            }
            Ok(())
        };
        tokens.iter().map(judge).collect()
    }

    /// Before anything is made of them.
    ///
    /// # Errors
    /// `LimitExceeded`.
    pub fn check_settlements(count: usize) -> Result<(), BrokerError> {
        if count > Limits::SETTLEMENTS {
            let (what, limit) = ("the settlements of one request".to_owned(), Limits::SETTLEMENTS as u64);
            return Err(BrokerError::LimitExceeded { what, value: count as u64, limit });
        }
        Ok(())
    }

    /// What one settlement may say.
    ///
    /// # Errors
    /// `InvalidArgument` when the reason is too long.
    pub fn nack(delay_ms: u64, reason: String) -> Result<Verdict, BrokerError> {
        if reason.len() > MAX_REASON {
            let (what, value) = ("the reason of a nack (bytes)".to_owned(), reason.len() as u64);
            return Err(BrokerError::LimitExceeded { what, value, limit: MAX_REASON as u64 });
        }
        Ok(Verdict::Nack { delay_ms, reason })
    }

    async fn settle_part(
        &self,
        consumer: ConsumerId,
        settlements: Vec<Settlement>,
    ) -> Result<Result<Vec<u32>, Refusal>, BrokerError> {
        match self.operate_still(Operation::Consumer(ConsumerOperation::Settle { consumer, settlements })).await? {
            Ok(OperationReply::Consumer(ConsumerReply::Settled { stale })) => Ok(Ok(stale)),
            Ok(other) => Err(BrokerError::Internal { reason: format!("an unexpected reply: {other:?}") }),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// Messages that are not there to be handed on: they are done with.
    pub(super) async fn settle_gone(&self, named: &Named, gone: Vec<DeliveryToken>) -> Result<(), BrokerError> {
        let settlements = gone.into_iter().map(|token| Settlement { token, verdict: Verdict::Ack }).collect();
        let _stale = self.settle_part(named.id, settlements).await?.map_err(|refusal| named.refused(refusal))?;
        Ok(())
    }

    /// Of a member that is gone: nobody else gets its messages before. What it has not begun costs no attempt.
    pub(super) async fn leave(&self, consumer: ConsumerId, member: u64, begun: &BTreeMap<u64, u32>) {
        self.forget_member(consumer, member).await;
        let caught_up = self.catch_up().await.is_ok();
        let held: Vec<(u64, u32)> = self
            .inner
            .view
            .consumers(|all| all.get(consumer).map_or_else(Vec::new, |group| group.held_by(member).collect()));
        if caught_up && held.is_empty() {
            return; // not worth a word in the log
        }
        let idle: Vec<(u64, u32)> = held.into_iter().filter(|(seq, attempt)| begun.get(seq) != Some(attempt)).collect();
        if let Err(error) = self.say_of_all(consumer, member, idle, &Verdict::Return).await {
            tracing::debug!(%error, consumer = consumer.0, "a member's messages were not given back");
        }
        let left = self.operate_still(Operation::Consumer(ConsumerOperation::Leave { consumer, member })).await;
        if let Err(error) = left {
            // Its messages come again after the ack timeout.
            tracing::debug!(%error, consumer = consumer.0, "a member's leave was not ordered");
        }
    }

    /// Says one thing of messages that a member has not begun to work on, named with their attempts.
    pub(super) async fn say_of_all(
        &self,
        consumer: ConsumerId,
        member: u64,
        idle: Vec<(u64, u32)>,
        verdict: &Verdict,
    ) -> Result<(), BrokerError> {
        let settlement = |(seq, attempt): &(u64, u32)| Settlement {
            token: DeliveryToken { seq: *seq, attempt: *attempt, member, of: None },
            verdict: verdict.clone(),
        };
        for part in idle.chunks(Limits::SETTLEMENTS) {
            // Those that came too late are settled, or somebody else's already; and so is a consumer that is gone.
            let _ = self.settle_part(consumer, part.iter().map(settlement).collect()).await?;
        }
        Ok(())
    }
}
