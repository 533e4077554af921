//! Messages for any channels that are all stored, deliveries that are all settled and claims that are all completed: in
//! one log entry, or nothing of it.

mod parts;

use tokio::time::Instant;

use self::parts::Prepared;
pub use self::parts::{TransactionAck, TransactionCompletion, TransactionMessage, TransactionRequest};
use super::{
    Broker, BrokerError, Confirm, Outcome, TransactionPart,
    forward::{Deliveries, Request, Response},
    leader::Asking,
    operation_queue::Operated,
    outcomes::{place, results},
    submission::SubmitError,
};
use crate::model::{Assigned, Frame, Operation, OperationReply, Part, PartReply, Refusal, Transaction};

/// What the leader did, or why it is to be tried again.
enum Tried {
    Done(Vec<Outcome>),
    Stale,
}

impl Broker {
    /// Publishes all the messages, in their order, or none. They have a key each or none has; with keys a retry gets
    /// the original answer.
    ///
    /// # Errors
    /// As [`Broker::transact`].
    pub async fn publish_transaction(
        &self,
        messages: Vec<TransactionMessage>,
        confirm: Confirm,
    ) -> Result<Vec<Outcome>, BrokerError> {
        self.transact(&TransactionRequest { messages, ..TransactionRequest::default() }, confirm).await
    }

    /// Stores all the messages, acknowledges all the deliveries and completes all the claims of the request, or does
    /// nothing; one outcome for each message, in order. A delivery that came too late refuses the whole, and so does one
    /// that is settled or a claim that is completed already, where there are new messages: they would be the output of
    /// the same work once more.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use liminal::{Broker, broker::*, config::ServerConfig, model::{ChannelConfig, ConsumerConfig}, store::MemoryStore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BrokerError> {
    /// # let broker = Broker::embedded(&ServerConfig::default(), Arc::new(MemoryStore::new())).await?;
    /// # for channel in ["orders", "invoices"] { broker.create_channel(channel, ChannelConfig::default()).await?; }
    /// # broker.create_consumer("orders", "billing", ConsumerConfig::default(), Start::Earliest).await?;
    /// # broker.publish("orders", Envelope { payload: "order".into(), ..Envelope::default() }, None).await?;
    /// let delivery = broker.pull("orders", "billing", 1, Duration::from_secs(5)).await?.remove(0);
    /// let invoice = TransactionMessage { channel: "invoices".into(), ..TransactionMessage::default() };
    /// let ack =
    ///     TransactionAck { channel: "orders".into(), consumer: "billing".into(), tokens: vec![delivery.token] };
    /// let request = TransactionRequest { messages: vec![invoice], acks: vec![ack], ..TransactionRequest::default() };
    /// broker.transact(&request, Confirm::Commit).await?;
    /// // Its invoice is written once.
    /// let error = broker.transact(&request, Confirm::Commit).await.unwrap_err();
    /// assert_eq!(error.code(), "STALE_DELIVERY");
    /// # broker.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InTransaction` names the part that cannot be done; otherwise see [`BrokerError`].
    pub async fn transact(&self, request: &TransactionRequest, confirm: Confirm) -> Result<Vec<Outcome>, BrokerError> {
        let _request = self.inner.requests.token();
        let mut asking = Asking::until(Instant::now() + self.limits().publish_timeout);
        let done = self.admit_transaction(request, confirm, &mut asking).await;
        let done = done.map_err(|error| asking.conclude(error));
        match &done {
            Ok(outcomes) => self.count(&outcomes.iter().copied().map(Ok).collect::<Vec<_>>()),
            Err(error) => {
                self.count(&vec![Err(error.clone()); request.messages.len()]);
                self.sample_refused_part(&request.messages, error);
            }
        }
        done
    }

    async fn admit_transaction(
        &self,
        request: &TransactionRequest,
        confirm: Confirm,
        asking: &mut Asking,
    ) -> Result<Vec<Outcome>, BrokerError> {
        self.check_running()?;
        let bytes = self.check_shape(request)?;
        let _admitted = self.admit(bytes)?;
        loop {
            let prepared = self.prepare(request).await?;
            match self.try_transaction(&prepared, confirm, asking).await? {
                Tried::Done(outcomes) => return Ok(outcomes),
                Tried::Stale => self.catch_up().await?,
            }
        }
    }

    /// Of a transaction only the message that stood in the way is known to be bad.
    fn sample_refused_part(&self, messages: &[TransactionMessage], error: &BrokerError) {
        let BrokerError::InTransaction { part: TransactionPart::Message(message), error } = error else { return };
        let Some(bad) = messages.get(*message as usize) else { return };
        self.sample_refused(&bad.channel, &Frame::encode([&bad.message]), &[Err(BrokerError::clone(error))]);
    }

    async fn try_transaction(
        &self,
        prepared: &Prepared<'_>,
        confirm: Confirm,
        asking: &mut Asking,
    ) -> Result<Tried, BrokerError> {
        let transaction = prepared.transaction();
        let unexpected = |what: String| BrokerError::Internal { reason: format!("an unexpected answer: {what}") };
        let response = self.ask_leader(&Request::Transact { transaction, confirm }, asking).await?;
        let Response::Transacted { operated: Operated { index, term, reply }, delivered } = response else {
            return Err(response.unexpected().into());
        };
        self.see(index, asking.deadline()).await?;
        match reply {
            Ok(OperationReply::Transaction(replies)) => {
                let mut outcomes = Vec::new();
                let published = prepared.publishes.iter().zip(replies.iter().filter_map(assigned)).zip(&delivered);
                for ((part, assigned), Deliveries(delivered)) in published {
                    let count = part.checked.frame.count();
                    let mut results = results(assigned, count, term, delivered, confirm);
                    place(results.iter_mut().flatten(), self.inner.view.history(part.checked.meta.id).as_ref());
                    outcomes.extend(results);
                }
                Ok(Tried::Done(outcomes.into_iter().collect::<Result<_, _>>()?))
            }
            Err(Refusal::Part { part, why }) => {
                self.transaction_refused(prepared, part, *why).map_or(Ok(Tried::Stale), Err)
            }
            other => Err(unexpected(format!("{other:?}"))),
        }
    }

    /// On the leader: into the log, with what became of the delivery of each part that publishes.
    pub(super) async fn submit_transaction(
        &self,
        transaction: Transaction,
        confirm: Confirm,
    ) -> Result<(Operated, Vec<Deliveries>), SubmitError> {
        let part = |part: &Part| match part {
            Part::Publish(group) => Some((group.channel, group.frame.count(), group.frame.len())),
            Part::Ack { .. } | Part::Complete { .. } => None,
        };
        let parts: Vec<_> = transaction.parts.iter().filter_map(part).collect();
        let charges: Vec<_> =
            parts.iter().map(|(channel, count, bytes)| (*channel, u64::from(*count), *bytes)).collect();
        self.charge(&charges).map_err(SubmitError::Refused)?;
        let operated = self.submit_operation(Operation::Transaction(transaction)).await?;
        let term = operated.term;
        let delivered = match &operated.reply {
            Ok(OperationReply::Transaction(replies)) => {
                let published = parts.into_iter().zip(replies.iter().filter_map(assigned));
                let each = published
                    .map(|((channel, count, _), assigned)| self.delivered(channel, assigned, count, confirm, term));
                futures::future::join_all(each).await.into_iter().map(Deliveries).collect()
            }
            _ => Vec::new(),
        };
        Ok((operated, delivered))
    }
}

fn assigned(reply: &PartReply) -> Option<&Assigned> {
    match reply {
        PartReply::Published(assigned) => Some(assigned),
        PartReply::Acked | PartReply::Completed => None,
    }
}
