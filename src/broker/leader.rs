//! The one way in which the leader is asked, for everything that only it may do. The leader may be this node or another one,
//! or nobody for a while, and it may change while it is asked. Three things can come of an attempt: it was done, it was surely
//! not taken, or nobody knows. What was surely not taken is asked again of whoever leads then. What nobody knows of is asked
//! again only where doing it twice is the same as doing it once ([`Request::repeating`]); then what the last attempt came to
//! is not all that is known, so [`Asking`] remembers that an earlier one may have been carried out.

#[cfg(test)]
mod tests;

use std::time::{self, Duration};

use tokio::time::Instant;

use super::{
    Broker, BrokerError, Leader, NodeAddress, PeerMessage, SequencerError, Unserved,
    forward::{Repeating, Request, Response, not_submitted},
};
use crate::health::Part;

/// How long to wait before what was surely not done is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(20);
/// How long a deposed leader's answers may still come: most of them say for certain what became of a publish.
const LATE: Duration = Duration::from_millis(300);

/// One thing that is asked of whoever leads, in as many attempts as it takes.
pub(super) struct Asking {
    deadline: Instant,
    /// Why an earlier attempt may have been carried out, or may yet be; none where that is certain of none.
    unknown: Option<String>,
}

impl Asking {
    pub(super) fn until(deadline: Instant) -> Self {
        Self { deadline, unknown: None }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What is certain of all attempts together, when an error is what is known of the last one.
    pub(super) fn conclude(&self, error: BrokerError) -> BrokerError {
        error.after_unknown(self.unknown.clone())
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }
}

impl Broker {
    /// The answer of whoever leads, this node included. Waits for a leader, and asks again as said above.
    ///
    /// # Errors
    /// `NoLeader` and the like: it was not done. `OutcomeUnknown`: it may have been, or may yet be. What the leader refuses it
    /// with.
    pub(super) async fn ask_leader(&self, request: &Request, asking: &mut Asking) -> Result<Response, BrokerError> {
        let answered = self.ask_until_known(request, asking).await;
        answered.map_err(|error| asking.conclude(error))
    }

    async fn ask_until_known(&self, request: &Request, asking: &mut Asking) -> Result<Response, BrokerError> {
        loop {
            let leader = self.leader_now(asking.deadline).await?;
            let wait = match self.ask(&leader, request, asking.deadline).await {
                Response::NotProposed if !asking.is_over() => RETRY,
                Response::NotProposed => return Err(self.no_leader(self.limits().publish_timeout).into()),
                Response::Unknown(reason) => match request.repeating() {
                    Repeating::Harmless if !asking.is_over() => RETRY,
                    Repeating::Safe if !asking.is_over() => {
                        asking.unknown = Some(reason);
                        RETRY
                    }
                    _ => return Err(BrokerError::OutcomeUnknown { reason }),
                },
                Response::Refused(error) => match error.worth_waiting(asking.unknown.as_deref(), asking.deadline) {
                    Some(wait) => wait,
                    None => return Err(error),
                },
                answer => return Ok(answer),
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// One attempt with a leader.
    pub(super) async fn ask(&self, leader: &Leader, request: &Request, deadline: Instant) -> Response {
        match leader {
            Leader::Local { .. } => self.answer(self.local(), request.clone(), deadline).await,
            Leader::Remote(node) => self.ask_node(node, request, deadline).await,
            Leader::Unknown => Response::NotProposed,
        }
    }

    /// One attempt with another node. `NotProposed` where it surely did not hear of it.
    pub(super) async fn ask_node(&self, node: &NodeAddress, request: &Request, deadline: Instant) -> Response {
        // This node will have to apply what it asks for; a publish is answered without that.
        let publishes = matches!(request, Request::Publish { .. });
        let _expecting = (!publishes).then(|| self.inner.view.expect());
        let begun = publishes.then(time::Instant::now);
        let answer = tokio::select! {
            answered = tokio::time::timeout_at(deadline, self.call(node, request)) => match answered {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => not_submitted(error),
                Err(_) => Response::Unknown(format!("node {} did not answer in time", node.name)),
            },
            () = self.deposed(node) => {
                Response::Unknown(format!("node {} leads no longer, and did not answer", node.name))
            }
        };
        if let Some(begun) = begun
            && matches!(answer, Response::Published(_))
        {
            self.inner.view.meters().forward.since(begun);
        }
        answer
    }

    /// In the newest version that the node understands, which is certain only when it is connected.
    async fn call(&self, node: &NodeAddress, request: &Request) -> Result<Response, SequencerError> {
        let mut version = self.inner.peers.version(node);
        loop {
            if request.needs() > version {
                // Which may be this one: then they speak with each other what it does.
                let known = self.inner.peers.lacking(request.needs()).filter(|(_, speaks)| speaks.is_some());
                let (lacks, speaks) = known.unwrap_or_else(|| (node.clone(), Some(version)));
                return Ok(Response::Refused(self.not_upgraded(request.needs(), &lacks, speaks)));
            }
            let said = PeerMessage { version, bytes: request.encode() };
            let answer = match self.inner.peers.call(node, said).await {
                Err(SequencerError::NotLeader) if self.inner.peers.version(node) != version => {
                    version = self.inner.peers.version(node);
                    continue;
                }
                answer => answer?,
            };
            return Response::decode(answer).map_err(|error| {
                let reason = format!("the answer of node {} cannot be read: {error}", node.name);
                SequencerError::Unknown(reason)
            });
        }
    }

    /// Resolves some time after a node that leads now has been followed by another. A leader that is frozen keeps its
    /// connections, and whoever waits for its answer waits as long as it sleeps.
    async fn deposed(&self, node: &NodeAddress) {
        let mut leader = self.inner.sequencer.leader();
        let is_it = |leader: &Leader| matches!(leader, Leader::Remote(known) if known.id == node.id);
        if !is_it(&leader.borrow()) {
            return std::future::pending().await;
        }
        let another = leader.wait_for(|leader| *leader != Leader::Unknown && !is_it(leader)).await.is_ok();
        if !another {
            return std::future::pending().await; // the node is stopping
        }
        tokio::time::sleep(LATE).await;
    }

    /// Waits until somebody leads, at most until `deadline` or for the time that a request waits for a leader.
    async fn leader_now(&self, deadline: Instant) -> Result<Leader, Unserved> {
        let mut leader = self.inner.sequencer.leader();
        let patience = self.limits().read_timeout;
        let until = deadline.min(Instant::now() + patience);
        if let Some(reason) = self.inner.view.health().of(Part::Majority) {
            return Err(Unserved::NoMajority { reason });
        }
        let known = leader.wait_for(|leader| *leader != Leader::Unknown);
        tokio::select! {
            biased;
            known = tokio::time::timeout_at(until, known) => match known {
                Ok(Ok(leader)) => Ok(leader.clone()),
                Ok(Err(_)) => Err(Unserved::Stopping),
                Err(_) => Err(self.no_leader(patience)),
            },
            error = self.without_majority() => Err(error),
        }
    }

    fn no_leader(&self, waited: Duration) -> Unserved {
        Unserved::NoLeader { waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX) }
    }

    /// As the leader: the log index that covers everything acknowledged before.
    ///
    /// # Errors
    /// `NoMajority` as soon as it is known that nobody can confirm it.
    pub(super) async fn confirm_leadership(&self) -> Result<Result<u64, SequencerError>, Unserved> {
        tokio::select! {
            biased;
            index = self.inner.sequencer.read_index() => Ok(index),
            error = self.without_majority() => Err(error),
        }
    }

    /// Resolves while no majority answers.
    async fn without_majority(&self) -> Unserved {
        let mut health = self.inner.view.health().changes();
        let missed = health.wait_for(|failures| failures.of(Part::Majority).is_some()).await;
        match missed.map(|failures| failures.of(Part::Majority).unwrap_or_default().to_owned()) {
            Ok(reason) => Unserved::NoMajority { reason },
            Err(_) => std::future::pending().await, // the node is gone
        }
    }
}
