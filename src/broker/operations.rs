//! Operations on their way into the log: as with publishes, all that arrive while proposals are under way share the
//! next entry.

use futures::{StreamExt as _, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    Broker, BrokerError, Leader, SequencerError,
    batcher::{PROPOSALS, SubmitError, failing},
    forward::{Request, Response},
    publish::RETRY,
    stats::overloaded,
};
use crate::{
    model::{Command, Operation, OperationReply, Refusal, Reply},
    replica::StoreHealth,
};

/// Operations that may wait.
const QUEUE: usize = 16_384;

/// An operation that was committed and applied by the leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Operated {
    /// Log index of its entry.
    pub(super) index: u64,
    pub(super) reply: Result<OperationReply, Refusal>,
}

type Answer = Result<Operated, SubmitError>;

pub(super) struct Queued {
    operation: Operation,
    answer: oneshot::Sender<Answer>,
}

/// The way in.
pub(super) struct Operations {
    queue: mpsc::Sender<Queued>,
}

impl Operations {
    pub(super) fn new() -> (Self, mpsc::Receiver<Queued>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        (Self { queue }, receiver)
    }
}

pub(super) async fn run(broker: Broker, mut queue: mpsc::Receiver<Queued>) {
    let most = broker.limits().entry_operations;
    let mut proposals = FuturesUnordered::new();
    let mut waiting = Vec::new();
    loop {
        tokio::select! {
            biased;
            taken = queue.recv_many(&mut waiting, most), if proposals.len() < PROPOSALS => {
                if taken == 0 {
                    return;
                }
                let mut proposal = Box::pin(propose(broker.clone(), std::mem::take(&mut waiting)));
                // The sequencer takes a command at its first poll: in this order.
                if futures::poll!(&mut proposal).is_pending() {
                    proposals.push(proposal);
                }
            }
            Some(()) = proposals.next(), if !proposals.is_empty() => {}
        }
    }
}

async fn propose(broker: Broker, waiting: Vec<Queued>) {
    let time_ms = broker.inner.env.clock.now_ms().max(broker.inner.view.time_ms());
    let (operations, answers): (Vec<_>, Vec<_>) =
        waiting.into_iter().map(|Queued { operation, answer }| (operation, answer)).unzip();
    let mut health = broker.inner.view.health();
    let mut proposal = broker.inner.sequencer.propose(Command::Operations { time_ms, operations });
    let proposed = tokio::select! {
        biased;
        proposed = &mut proposal => proposed,
        reason = failing(&mut health) => {
            let error = SubmitError::Refused(BrokerError::StoreFailed { reason, proposed: true });
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
                    let _ = answer.send(Ok(Operated { index: proposed.index, reply })); // it may have given up
                }
            }
            other => answer_all(answers, &SubmitError::Unknown(format!("an unexpected reply: {other:?}"))),
        },
        Err(SequencerError::NotLeader | SequencerError::Stopped) => answer_all(answers, &SubmitError::NotLeader),
        Err(SequencerError::Unknown(reason)) => answer_all(answers, &SubmitError::Unknown(reason)),
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
    pub(super) async fn operate(&self, operation: Operation) -> Result<Result<OperationReply, Refusal>, BrokerError> {
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
    ) -> Result<Result<OperationReply, Refusal>, BrokerError> {
        let deadline = Instant::now() + self.limits().publish_timeout;
        loop {
            let response = match self.leader_now(deadline).await? {
                Leader::Local { .. } => self.submit_operation(operation.clone()).await,
                Leader::Remote(node) => match self.call(&node, &Request::Operate(operation.clone())).await {
                    Ok(Response::Operated(operated)) => Ok(operated),
                    Ok(Response::NotProposed) | Err(SequencerError::NotLeader | SequencerError::Stopped) => {
                        Err(SubmitError::NotLeader)
                    }
                    Ok(Response::Unknown(reason)) | Err(SequencerError::Unknown(reason)) => {
                        Err(SubmitError::Unknown(reason))
                    }
                    Ok(Response::Refused(error)) => Err(SubmitError::Refused(error)),
                    Ok(other) => Err(SubmitError::Unknown(format!("an unexpected answer: {other:?}"))),
                },
                Leader::Unknown => Err(SubmitError::NotLeader),
            };
            match response {
                Ok(Operated { index, reply }) => {
                    let _: () = self.inner.view.wait_applied(index).await;
                    return Ok(reply);
                }
                Err(SubmitError::NotLeader) if Instant::now() < deadline => tokio::time::sleep(RETRY).await,
                Err(SubmitError::NotLeader) => return Err(self.no_leader(self.limits().publish_timeout)),
                Err(SubmitError::Unknown(reason)) => return Err(BrokerError::OutcomeUnknown { reason }),
                Err(SubmitError::Refused(error)) => return Err(error),
            }
        }
    }

    /// On the leader.
    pub(super) async fn submit_operation(&self, operation: Operation) -> Answer {
        if let StoreHealth::Failing(reason) = &*self.inner.view.health().borrow() {
            let error = BrokerError::StoreFailed { reason: reason.clone(), proposed: false };
            return Err(SubmitError::Refused(error));
        }
        let (answer, answered) = oneshot::channel();
        match self.inner.operations.queue.try_send(Queued { operation, answer }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(SubmitError::Refused(overloaded(QUEUE, QUEUE))),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(SubmitError::Refused(BrokerError::Stopping)),
        }
        match tokio::time::timeout(self.limits().publish_timeout, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(SubmitError::Unknown("this node is stopping".into())),
            Err(_) => Err(SubmitError::Unknown("no outcome in time".into())),
        }
    }
}
