//! Requests between the brokers of different nodes: what a follower asks the leader for its clients.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Broker, BrokerError, Confirm, Leader, NodeAddress, Outcome, SequencerError, Unserved,
    batcher::SubmitError,
    delivery::ChannelReport,
    operations::Operated,
    publish::{Failure, RETRY},
};
use crate::{
    budget::Lease,
    codec,
    health::Part,
    model::{ChannelId, ConsumerId, Frame, Operation, PublishGroup, Transaction},
};

use super::channels::ChannelCommand;

#[cfg(test)]
mod tests;

/// How long a deposed leader's answers may still come: most of them say for certain what became of a publish.
const LATE: Duration = Duration::from_millis(300);

/// What one broker asks another. Its bytes stand for a version of the nodes' handshake: see `forward/tests.rs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Publish {
        group: PublishGroup,
        confirm: Confirm,
    },
    ReadIndex,
    Channel(ChannelCommand),
    Interest(Vec<ChannelReport>),
    Operate(Operation),
    SeatMember {
        consumer: ConsumerId,
        member: u64,
        window: u32,
        once: bool,
    },
    ForgetMember {
        consumer: ConsumerId,
        member: u64,
    },
    Transact {
        transaction: Transaction,
        confirm: Confirm,
    },
    /// For the leader's time to be written down.
    PassTime,
    /// A reply to a request that waits there: the token of its inbox and the message in one frame.
    Reply {
        token: u128,
        reply: Frame,
    },
    /// Whether somebody follows a channel, on any node.
    Listens {
        channel: ChannelId,
    },
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Response {
    Published(Vec<Result<Outcome, BrokerError>>),
    NotProposed,
    Unknown(String),
    Stale,
    Refused(BrokerError),
    /// A log index to wait for.
    Index(u64),
    Done,
    Operated(Operated),
    /// With whether the new messages of each part were handed on, as in `outcomes`.
    Transacted(Operated, Vec<Vec<Option<bool>>>),
    NoInbox,
    /// False only when it is certain that nobody does.
    Listens(bool),
}

pub(super) fn not_submitted(error: SubmitError) -> Response {
    match error {
        SubmitError::NotLeader => Response::NotProposed,
        SubmitError::Unknown(reason) => Response::Unknown(reason),
        SubmitError::Refused(error) => Response::Refused(error.into()),
    }
}

impl From<SequencerError> for Response {
    fn from(error: SequencerError) -> Self {
        not_submitted(error.into())
    }
}

impl Broker {
    /// Answers the requests that other nodes' brokers send through [`super::Peers::call`]. Does not keep the broker
    /// alive: its sequencer holds the handler.
    pub fn peer_handler(&self) -> impl Fn(NodeAddress, Bytes) -> BoxFuture<'static, Bytes> + Send + Sync + use<> {
        let broker = Arc::downgrade(&self.inner);
        move |from, request| {
            let broker = broker.upgrade().map(|inner| Self { inner, _in_use: None });
            async move {
                match broker {
                    Some(broker) => broker.handle_peer(&from, request).await,
                    None => codec::encode_record(&Response::NotProposed),
                }
            }
            .boxed()
        }
    }

    async fn handle_peer(&self, from: &NodeAddress, request: Bytes) -> Bytes {
        let response = match codec::decode_record("request", &request) {
            Ok(request) => self.answer(from, request).await,
            Err(error) => Response::Refused(BrokerError::Internal { reason: error.to_string() }),
        };
        codec::encode_record(&response)
    }

    async fn answer(&self, from: &NodeAddress, request: Request) -> Response {
        match request {
            Request::Publish { group, confirm } => {
                let _admitted = match self.admit(group.frame.len()) {
                    Ok(admitted) => admitted,
                    Err(error) => return Response::Refused(error.into()),
                };
                let deadline = Instant::now() + self.limits().publish_timeout;
                match self.submit(group, confirm, deadline).await {
                    Ok(results) => Response::Published(results),
                    Err(Failure::NotProposed) => Response::NotProposed,
                    Err(Failure::Unknown(reason)) => Response::Unknown(reason),
                    Err(Failure::Stale) => Response::Stale,
                    Err(Failure::Definite(error)) => Response::Refused(error),
                }
            }
            Request::ReadIndex => match self.confirm_leadership().await {
                Ok(Ok(index)) => Response::Index(index),
                Ok(Err(error)) => error.into(),
                Err(error) => Response::Refused(error.into()),
            },
            Request::Channel(command) => self.propose_channel(command).await,
            Request::Interest(reports) => {
                self.inner.delivery.heard(from.id, reports);
                Response::Index(self.inner.view.applied())
            }
            Request::SeatMember { consumer, member, window, once } => {
                self.seat_member(consumer, member, window, once).await
            }
            Request::ForgetMember { consumer, member } => {
                self.unseat_member(consumer, member).await;
                Response::Done
            }
            Request::Operate(operation) => {
                let _admitted = match self.admit_peer(from, operation.bytes()) {
                    Ok(admitted) => admitted,
                    Err(error) => return Response::Refused(error.into()),
                };
                match self.submit_operation(operation).await {
                    Ok(operated) => Response::Operated(operated),
                    Err(error) => not_submitted(error),
                }
            }
            Request::Transact { transaction, confirm } => {
                let _admitted = match self.admit_peer(from, transaction.bytes()) {
                    Ok(admitted) => admitted,
                    Err(error) => return Response::Refused(error.into()),
                };
                match self.submit_transaction(transaction, confirm).await {
                    Ok((operated, delivered)) => Response::Transacted(operated, delivered),
                    Err(error) => not_submitted(error),
                }
            }
            Request::PassTime => self.pass_time().await,
            Request::Reply { token, reply } => {
                if self.inner.inboxes.deliver(token, reply) {
                    Response::Done
                } else {
                    Response::NoInbox
                }
            }
            Request::Listens { channel } => self.somebody_listens(channel).await,
        }
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

    /// Room for what another node sends. This node's own requests have theirs already.
    fn admit_peer(&self, from: &NodeAddress, bytes: usize) -> Result<Option<Lease>, Unserved> {
        if from.id == self.local().id { Ok(None) } else { self.admit(bytes).map(Some) }
    }

    /// The answer of whoever leads, this node included. Waits for a leader, and asks again what surely was not taken.
    pub(super) async fn ask_leader(&self, request: &Request, deadline: Instant) -> Result<Response, Unserved> {
        loop {
            let response = match self.leader_now(deadline).await? {
                Leader::Local { .. } => self.answer(&self.local(), request.clone()).await,
                Leader::Remote(node) => match self.call(&node, request).await {
                    Ok(response) => response,
                    Err(error) => error.into(),
                },
                Leader::Unknown => Response::NotProposed,
            };
            match response {
                Response::NotProposed if Instant::now() < deadline => tokio::time::sleep(RETRY).await,
                Response::NotProposed => return Err(self.no_leader(self.limits().publish_timeout)),
                Response::Unknown(reason) => return Err(Unserved::OutcomeUnknown { reason }),
                Response::Refused(error) => return Err(Unserved::of_leader(error)),
                other => return Ok(other),
            }
        }
    }

    pub(super) async fn call(&self, node: &NodeAddress, request: &Request) -> Result<Response, SequencerError> {
        // This node will have to apply what it asks for; a publish is answered without that.
        let _expecting = (!matches!(request, Request::Publish { .. })).then(|| self.inner.view.expect());
        let answer = tokio::select! {
            answer = self.inner.peers.call(node, codec::encode_record(request)) => answer?,
            () = self.deposed(node) => {
                let reason = format!("node {} leads no longer, and did not answer", node.name);
                return Err(SequencerError::Unknown(reason));
            }
        };
        codec::decode_record("answer", &answer).map_err(|error| SequencerError::Unknown(error.to_string()))
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

    pub(super) async fn forward_publish(
        &self,
        node: &NodeAddress,
        group: PublishGroup,
        confirm: Confirm,
        deadline: Instant,
    ) -> Result<Vec<Result<Outcome, BrokerError>>, Failure> {
        let request = Request::Publish { group, confirm };
        let Ok(answer) = tokio::time::timeout_at(deadline, self.call(node, &request)).await else {
            return Err(Failure::Unknown(format!("leader {} did not answer in time", node.name)));
        };
        match answer.unwrap_or_else(Response::from) {
            Response::Published(results) => Ok(results),
            Response::NotProposed => Err(Failure::NotProposed),
            Response::Unknown(reason) => Err(Failure::Unknown(reason)),
            Response::Stale => Err(Failure::Stale),
            Response::Refused(error) => Err(Failure::Definite(error)),
            other => Err(Failure::Unknown(format!("an unexpected answer: {other:?}"))),
        }
    }

    /// Waits until somebody leads, at most until `deadline` or for the time that a request waits for a leader.
    pub(super) async fn leader_now(&self, deadline: Instant) -> Result<Leader, Unserved> {
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

    pub(super) fn no_leader(&self, waited: std::time::Duration) -> Unserved {
        Unserved::NoLeader { waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX) }
    }
}
