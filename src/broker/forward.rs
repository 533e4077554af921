//! Requests between the brokers of different nodes: what a follower asks the leader for its clients.

mod version2;
mod wire;

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::Instant;

use self::wire::Misread;
use super::{
    Broker, BrokerError, Confirm, NodeAddress, Outcome, PeerMessage, PeerVersion, Unserved,
    channel_command::ChannelCommand, delivery::ChannelReport, operation_queue::Operated, submission::SubmitError,
};
use crate::{
    budget::Lease,
    model::{ChannelId, ConsumerId, ConsumerOperation, Frame, Operation, Part, PublishGroup, Schedule, Transaction},
};

/// What one broker asks another. How it is said is in [`wire`].
#[derive(Clone, Debug)]
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
#[derive(Debug)]
pub(super) enum Response {
    Published(Vec<Result<Outcome, BrokerError>>),
    /// Surely not done: somebody else may lead.
    NotProposed,
    Unknown(String),
    Stale,
    Refused(BrokerError),
    /// A log index to wait for.
    Index(u64),
    Done,
    Operated(Operated),
    Transacted {
        operated: Operated,
        /// For each part that publishes.
        delivered: Vec<Deliveries>,
    },
    NoInbox,
    /// False only when it is certain that nobody does.
    Listens(bool),
}

/// Whether the new messages of a group were handed on, as in `outcomes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deliveries(pub(super) Vec<Option<bool>>);

/// What it means to ask for something again that may have been done already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeating {
    /// Nothing: it changes nothing that lasts.
    Harmless,
    /// It is done once, and the answer is the same.
    Safe,
    /// It may be done twice, or be refused because it was done.
    Unsafe,
}

impl Request {
    pub(super) fn repeating(&self) -> Repeating {
        let safe = match self {
            Self::ReadIndex
            | Self::Interest(_)
            | Self::SeatMember { .. }
            | Self::ForgetMember { .. }
            | Self::PassTime
            | Self::Listens { .. } => return Repeating::Harmless,
            Self::Publish { group, .. } => is_keyed(group),
            // What is not a message knows by itself that it was done.
            Self::Transact { transaction, .. } => transaction.parts.iter().all(|part| match part {
                Part::Publish(group) => is_keyed(group),
                Part::Ack { .. } | Part::Complete { .. } => true,
            }),
            Self::Operate(Operation::Schedule(Schedule { messages, .. })) => {
                messages.iter().all(|message| message.claim.is_some())
            }
            Self::Operate(Operation::Consumer(operation)) => {
                matches!(operation, ConsumerOperation::Settle { .. } | ConsumerOperation::Leave { .. })
            }
            Self::Operate(_) | Self::Channel(_) | Self::Reply { .. } => false,
        };
        if safe { Repeating::Safe } else { Repeating::Unsafe }
    }

    pub(super) fn encode(&self, version: PeerVersion) -> Bytes {
        if version.is_positional() { version2::encode_request(self) } else { wire::encode_request(self) }
    }

    pub(super) fn decode(PeerMessage { version, bytes }: PeerMessage) -> Result<Self, Misread> {
        if version.is_positional() { version2::decode_request(&bytes) } else { wire::decode_request(bytes) }
    }
}

impl Response {
    pub(super) fn encode(self, version: PeerVersion) -> Bytes {
        if version.is_positional() { version2::encode_response(self) } else { wire::encode_response(&self) }
    }

    pub(super) fn decode(PeerMessage { version, bytes }: PeerMessage) -> Result<Self, Misread> {
        if version.is_positional() { version2::decode_response(&bytes) } else { wire::decode_response(bytes) }
    }

    /// As an error: whatever was asked for may have been done.
    pub(super) fn unexpected(&self) -> Unserved {
        Unserved::OutcomeUnknown { reason: format!("an unexpected answer: {self:?}") }
    }
}

/// Whether every message has a key, so that it is stored once however often it is sent.
fn is_keyed(group: &PublishGroup) -> bool {
    group.keys.len() == group.frame.count() as usize
}

/// What is answered where something was not ordered, or may not have been.
pub(super) fn not_submitted(error: impl Into<SubmitError>) -> Response {
    match error.into() {
        SubmitError::NotLeader => Response::NotProposed,
        SubmitError::Unknown(reason) => Response::Unknown(reason),
        SubmitError::Refused(error) => Response::Refused(error.into()),
    }
}

impl Broker {
    /// Answers the requests that other nodes' brokers send through [`super::Peers::call`]. Does not keep the broker
    /// alive: its sequencer holds the handler.
    pub fn peer_handler(
        &self,
    ) -> impl Fn(NodeAddress, PeerMessage) -> BoxFuture<'static, PeerMessage> + Send + Sync + use<> {
        let broker = std::sync::Arc::downgrade(&self.inner);
        move |from: NodeAddress, request: PeerMessage| {
            let broker = broker.upgrade().map(|inner| Self { inner, _in_use: None });
            async move {
                let version = request.version;
                let response = match broker {
                    Some(broker) => broker.handle_peer(&from, request).await,
                    None => Response::NotProposed,
                };
                PeerMessage { version, bytes: response.encode(version) }
            }
            .boxed()
        }
    }

    async fn handle_peer(&self, from: &NodeAddress, request: PeerMessage) -> Response {
        match Request::decode(request) {
            Ok(request) => self.answer(from, request, Instant::now() + self.limits().publish_timeout).await,
            Err(Misread::Unknown(what)) => {
                Response::Refused(BrokerError::NotUnderstood { node: self.local().name.clone(), what })
            }
            Err(Misread::Malformed(reason)) => {
                let reason = format!("a request of node {} cannot be read: {reason}", from.name);
                Response::Refused(BrokerError::Internal { reason })
            }
        }
    }

    /// What this node answers to a node, maybe itself.
    pub(super) async fn answer(&self, from: &NodeAddress, request: Request, deadline: Instant) -> Response {
        match request {
            Request::Publish { group, confirm } => {
                let _admitted = match self.admit_peer(from, group.frame.len()) {
                    Ok(admitted) => admitted,
                    Err(error) => return Response::Refused(error.into()),
                };
                self.submit(group, confirm, deadline).await.map_or_else(|refused| refused, Response::Published)
            }
            Request::ReadIndex => match self.confirm_leadership().await {
                Ok(Ok(index)) => Response::Index(index),
                Ok(Err(error)) => not_submitted(error),
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
                    Ok((operated, delivered)) => Response::Transacted { operated, delivered },
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

    /// Room for what another node sends. This node's own requests have theirs already.
    fn admit_peer(&self, from: &NodeAddress, bytes: usize) -> Result<Option<Lease>, Unserved> {
        if from.id == self.local().id { Ok(None) } else { self.admit(bytes).map(Some) }
    }
}
