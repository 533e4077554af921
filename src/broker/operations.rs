//! Operations on their way into the log: as with publishes, all that arrive while proposals are under way share the
//! next entry.

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

pub(super) use super::operation_queue::Operated;
use super::{
    Broker, Unserved,
    forward::{Request, Response},
    leader::Asking,
    operation_queue::{Answer, QUEUE, Queued},
    stats::overloaded,
    submission::{PROPOSALS, SubmitError, failing},
};
use crate::model::{Command, Operation, OperationReply, Refusal, Reply, StateLimits};

pub(super) async fn run(broker: Broker, mut queue: mpsc::Receiver<Queued>) {
    let (most, most_bytes) = (broker.limits().entry_operations, broker.limits().entry_bytes);
    let most_copied = broker.limits().copied_bytes as u64;
    let mut proposals = FuturesUnordered::new();
    let mut next = None;
    loop {
        if proposals.len() >= PROPOSALS {
            tokio::select! {
                biased;
                _ = proposals.next() => {}
                () = refuse(&broker, &mut next, &mut queue) => {}
            }
            continue;
        }
        tokio::select! {
            biased;
            first = take(&mut next, &mut queue) => {
                let Some(first) = first else { return };
                let (mut bytes, mut copied) = (first.operation.bytes(), first.operation.copied_bytes());
                let mut waiting = vec![first];
                while waiting.len() < most && let Ok(queued) = queue.try_recv() {
                    bytes += queued.operation.bytes();
                    copied += queued.operation.copied_bytes();
                    if bytes > most_bytes || copied > most_copied {
                        next = Some(queued);
                        break;
                    }
                    waiting.push(queued);
                }
                let mut proposal = Box::pin(propose(broker.clone(), waiting));
                // The sequencer takes a command at its first poll: in this order.
                if futures::poll!(&mut proposal).is_pending() {
                    proposals.push(proposal);
                }
            }
            Some(()) = proposals.next(), if !proposals.is_empty() => {}
        }
    }
}

/// The operation that was too large for the last entry, else the next one. Nothing is lost when this is dropped.
async fn take(next: &mut Option<Queued>, queue: &mut mpsc::Receiver<Queued>) -> Option<Queued> {
    match next.take() {
        Some(next) => Some(next),
        None => queue.recv().await,
    }
}

/// Refuses what waits behind proposals that do not get on, while nothing can be stored: it is surely not proposed.
/// Nothing is lost when this is dropped.
async fn refuse(broker: &Broker, next: &mut Option<Queued>, queue: &mut mpsc::Receiver<Queued>) {
    loop {
        broker.refuses().await;
        let Some(queued) = take(next, queue).await else { return std::future::pending().await };
        match broker.refusal() {
            Some(error) => drop(queued.answer.send(Err(SubmitError::Refused(error)))), // it may have given up
            None => *next = Some(queued),
        }
    }
}

async fn propose(broker: Broker, waiting: Vec<Queued>) {
    let time_ms = broker.inner.view.clock().now_ms();
    let (operations, answers): (Vec<_>, Vec<_>) =
        waiting.into_iter().map(|Queued { operation, answer }| (operation, answer)).unzip();
    let mut health = broker.inner.view.commits();
    let mut proposal = broker.inner.sequencer.propose(Command::Operations { time_ms, operations });
    let proposed = tokio::select! {
        biased;
        proposed = &mut proposal => proposed,
        reason = failing(&mut health) => {
            let error = Unserved::StoreFailed { node: broker.local().name.clone(), reason, proposed: true };
            let error = SubmitError::Refused(error);
            answer_all(answers, &error);
            // The entry is applied when the store works again, before anything that comes after it.
            let _ = proposal.await;
            return;
        }
    };
    match proposed {
        Ok(proposed) => match proposed.reply {
            Reply::Operations(replies) if replies.len() == answers.len() => {
                for (answer, reply) in answers.into_iter().zip(replies) {
                    let _ = answer.send(Ok(Operated { index: proposed.index, term: proposed.term, reply })); // it may have given up
                }
            }
            other => answer_all(answers, &SubmitError::Unknown(format!("an unexpected reply: {other:?}"))),
        },
        Err(error) => answer_all(answers, &error.into()),
    }
}

fn answer_all(answers: Vec<oneshot::Sender<Answer>>, error: &SubmitError) {
    for answer in answers {
        let _ = answer.send(Err(error.clone())); // it may have given up
    }
}

impl Broker {
    /// Has an operation done by the log, by way of the leader, and waits until this node has applied it.
    ///
    /// # Errors
    /// `NoLeader` and the like: it was not done. `OutcomeUnknown`: it may have been, or may yet be.
    pub(super) async fn operate(&self, operation: Operation) -> Result<Result<OperationReply, Refusal>, Unserved> {
        let _request = self.inner.requests.token();
        self.check_running()?;
        self.operate_still(operation).await
    }

    /// The same while the broker stops: what ends something has to be heard.
    ///
    /// # Errors
    /// As [`Broker::operate`].
    pub(super) async fn operate_still(
        &self,
        operation: Operation,
    ) -> Result<Result<OperationReply, Refusal>, Unserved> {
        let mut asking = Asking::until(Instant::now() + self.limits().publish_timeout);
        Ok(self.operate_by(operation, &mut asking).await?.reply)
    }

    /// The same within a request that is counted already, with all that is known of what was done.
    pub(super) async fn operate_by(&self, operation: Operation, asking: &mut Asking) -> Result<Operated, Unserved> {
        let answer = self.ask_leader(&Request::Operate(operation), asking).await;
        match answer.map_err(Unserved::of_leader)? {
            Response::Operated(operated) => {
                self.see(operated.index, asking.deadline()).await?;
                Ok(operated)
            }
            other => Err(other.unexpected()),
        }
    }

    /// Waits until this node has applied what was done, so that its client sees it here.
    pub(super) async fn see(&self, index: u64, deadline: Instant) -> Result<(), Unserved> {
        let mut commits = self.inner.view.commits();
        tokio::select! {
            biased;
            () = self.inner.view.wait_applied(index) => Ok(()),
            reason = failing(&mut commits) => {
                Err(Unserved::StoreFailed { node: self.local().name.clone(), reason, proposed: true })
            }
            () = tokio::time::sleep_until(deadline) => {
                let reason = format!("node {} has not applied log entry {index} in time", self.local().name);
                Err(Unserved::OutcomeUnknown { reason })
            }
        }
    }

    /// On the leader.
    pub(super) async fn submit_operation(&self, operation: Operation) -> Answer {
        self.write_state_limits().await?;
        self.enqueue(operation).await
    }

    /// On the leader, before anything is proposed that is refused when there is too much of it: what this node's
    /// configuration says holds on every node once it is in the log, and not before.
    pub(super) async fn write_state_limits(&self) -> Result<(), SubmitError> {
        let wanted = StateLimits::from(self.limits());
        if wanted != self.inner.view.state_limits() {
            self.enqueue(Operation::LimitState(wanted)).await?;
        }
        Ok(())
    }

    async fn enqueue(&self, operation: Operation) -> Answer {
        if let Some(error) = self.refusal() {
            return Err(SubmitError::Refused(error));
        }
        // Charged when they come; by the time that they become visible they are long accepted.
        if let Operation::Schedule(schedule) = &operation {
            let charge = (schedule.channel, schedule.messages.len() as u64, operation.bytes());
            self.charge(&[charge]).map_err(SubmitError::Refused)?;
        }
        let (answer, answered) = oneshot::channel();
        match self.inner.operations.queue.try_send(Queued { operation, answer }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Err(SubmitError::Refused(overloaded(QUEUE, QUEUE)));
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(SubmitError::Refused(Unserved::Stopping)),
        }
        match tokio::time::timeout(self.limits().publish_timeout, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(SubmitError::Unknown("this node is stopping".into())),
            Err(_) => Err(SubmitError::Unknown("no outcome in time".into())),
        }
    }
}
