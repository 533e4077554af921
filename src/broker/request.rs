//! Requests and replies. A request is a message with a header that names an *inbox*: the node on which the requester
//! waits, and a random token. The reply goes from whichever node gets it to that node, and not through the log: it
//! arrives at most once. Before anything is published it is asked whether somebody is there who could answer: where it is
//! certain that nobody is, nothing is stored. Once it is stored, whoever comes in time may answer.

use std::time::Duration;

pub use liminal_wire::headers::REPLY_TO;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Broker, BrokerError, Confirm, Envelope, Held, Leader, Outcome, PublishOptions, Unserved,
    delivery::EXPIRY,
    forward::{Request, Response},
    inboxes::Inbox,
    leader::Asking,
};
use crate::{
    model::{ChannelId, ChannelMeta, Durability, Frame},
    proto::v1::{Header, Message},
};

impl Broker {
    /// Publishes a message and waits for the reply of whoever handles it.
    ///
    /// # Errors
    /// `NoResponders` when it is certain that the channel has no live subscriber and no consumer: the message is not stored;
    /// `ReplyTimeout` when no reply came in time, though the message is in the channel; and as [`Broker::publish`].
    pub async fn request(&self, channel: &str, envelope: Envelope, timeout: Duration) -> Result<Message, BrokerError> {
        self.request_held(channel, envelope, timeout, None).await
    }

    /// The same for a request whose bytes count as in flight until it is published; the reply is waited for without.
    ///
    /// # Errors
    /// As [`Broker::request`].
    pub async fn request_held(
        &self,
        channel: &str,
        mut envelope: Envelope,
        timeout: Duration,
        held: Option<Held>,
    ) -> Result<Message, BrokerError> {
        self.check_running()?;
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (waited_ms, limit) = (milliseconds(timeout), milliseconds(self.limits().request_timeout));
        if waited_ms > limit {
            let what = "the time to wait for a reply (ms)".to_owned();
            return Err(BrokerError::LimitExceeded { what, value: waited_ms, limit });
        }
        if envelope.deliver_at_ms > 0 {
            let reason = "a request is handled at once: leave its delivery time out".to_owned();
            return Err(BrokerError::InvalidArgument { reason });
        }
        let deadline = Instant::now() + timeout;
        let meta = self.resolve(channel).await?;
        if self.nobody_listens(&meta, deadline).await? {
            return Err(BrokerError::NoResponders { channel: channel.into() });
        }
        let (inbox, mut reply) = self.open_inbox()?;
        let name = format!("{:x}.{:032x}", self.local().id, inbox.token);
        envelope.headers.retain(|header| header.name != REPLY_TO);
        envelope.headers.push(Header { name: REPLY_TO.into(), value: name });
        // What is not stored is known to be for nobody once it was handed to nobody.
        let ephemeral = meta.config.durability == Durability::Ephemeral;
        let confirm = if ephemeral { Confirm::Certainty } else { Confirm::Commit };
        let options = PublishOptions::new().confirm(confirm);
        let exchange = async {
            tokio::select! {
                biased;
                Ok(reply) = &mut reply => return Ok(reply),
                published = self.publish_with(channel, envelope, None, options) => {
                    drop(held);
                    match published {
                        Ok(outcome) if ephemeral && nobody_listened(&outcome) => {
                            return Err(BrokerError::NoResponders { channel: channel.into() });
                        }
                        Ok(_) => {}
                        // It may be handled all the same.
                        Err(error) if error.outcome_unknown() => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            (&mut reply).await.map_err(|_| BrokerError::Stopping)
        };
        let frame = tokio::select! {
            exchanged = tokio::time::timeout_at(deadline, exchange) => match exchanged {
                Ok(exchanged) => exchanged?,
                Err(_) => return Err(BrokerError::ReplyTimeout { waited_ms }),
            },
            () = self.inner.stopping.cancelled() => return Err(BrokerError::Stopping),
        };
        let message = frame.messages().next().and_then(Result::ok);
        message.ok_or_else(|| BrokerError::Internal { reason: "a reply that cannot be read".into() })
    }

    /// Sends the reply to a request, at most once. `inbox` is the request's header [`REPLY_TO`].
    ///
    /// # Errors
    /// `InboxGone` when nobody waits for it any more, or its node is not reached; `OutcomeUnknown` when that is not
    /// certain.
    pub async fn reply(&self, inbox: &str, envelope: Envelope) -> Result<(), BrokerError> {
        let _request = self.inner.requests.token();
        self.check_running()?;
        let parsed = inbox.split_once('.').and_then(|(node, token)| {
            Some((u64::from_str_radix(node, 16).ok()?, u128::from_str_radix(token, 16).ok()?))
        });
        let Some((node, token)) = parsed else {
            let reason = format!("`{inbox}` is no inbox: give the header `{REPLY_TO}` of the request");
            return Err(BrokerError::InvalidArgument { reason });
        };
        let message = envelope.into_message(None);
        self.check_size(&message)?;
        let reply = Frame::encode([&message]);
        let gone = |reason: &str| BrokerError::InboxGone { inbox: inbox.to_owned(), reason: reason.to_owned() };
        let answered = "it was answered, or waited no longer";
        if node == self.local().id {
            return if self.inner.inboxes.deliver(token, reply) { Ok(()) } else { Err(gone(answered)) };
        }
        let Some(address) = self.inner.peers.others().into_iter().find(|known| known.id == node) else {
            return Err(gone("its node is not in the cluster"));
        };
        let request = Request::Reply { token, reply };
        match self.ask_node(&address, &request, Instant::now() + self.limits().read_timeout).await {
            Response::Done => Ok(()),
            Response::NoInbox => Err(gone(answered)),
            Response::NotProposed => Err(gone("its node is not reached")),
            Response::Unknown(reason) => Err(BrokerError::OutcomeUnknown { reason }),
            Response::Refused(error) => Err(error),
            other => Err(other.unexpected().into()),
        }
    }

    /// Whether it is certain that a channel has no live subscriber on any node, and no consumer, whose members may come for
    /// the request at any time.
    ///
    /// # Errors
    /// Nothing can be published now, and nothing was.
    async fn nobody_listens(&self, meta: &ChannelMeta, deadline: Instant) -> Result<bool, Unserved> {
        let view = &self.inner.view;
        let is_consumed = || view.consumers(|all| all.of(meta.id).next().is_some());
        if view.fanout().interest_in(meta.id).is_some() || is_consumed() {
            return Ok(false);
        }
        let listens = Request::Listens { channel: meta.id };
        let mut asking = Asking::until(deadline);
        let asked = async { self.ask_leader(&listens, &mut asking).await.map_err(Unserved::of_leader) };
        match tokio::time::timeout_at(deadline, asked).await {
            // A consumer may be newer than what this node knows.
            Ok(Ok(Response::Listens(false))) => Ok(self.catch_up().await.is_ok() && !is_consumed()),
            Ok(Err(error @ (Unserved::NoLeader { .. } | Unserved::NoMajority { .. }))) => Err(error),
            // It is not certain, in time or from a leader of another version.
            Ok(_) | Err(_) => Ok(false),
        }
    }

    /// On the leader, which says no only while it leads.
    pub(super) async fn somebody_listens(&self, channel: ChannelId) -> Response {
        let Leader::Local { term } = self.leader() else { return Response::NotProposed };
        let others = self.inner.peers.others().into_iter().map(|node| node.id).collect();
        let certain = (term, others, self.limits().delivery_timeout + EXPIRY);
        let listens = self.inner.delivery.is_followed(self.inner.view.fanout(), channel, certain).await;
        let leads = async { matches!(self.confirm_leadership().await, Ok(Ok(_))) };
        Response::Listens(listens || !leads.await)
    }

    fn open_inbox(&self) -> Result<(Inbox, oneshot::Receiver<Frame>), BrokerError> {
        let random = &self.inner.env.random;
        let token = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
        let (sender, receiver) = oneshot::channel();
        let mut open = self.inner.inboxes.open.lock();
        if open.len() >= self.limits().requests {
            let (value, limit) = (open.len() as u64 + 1, self.limits().requests as u64);
            let what = "the number of requests that wait on this node".to_owned();
            return Err(BrokerError::LimitExceeded { what, value, limit });
        }
        open.insert(token, sender);
        Ok((Inbox { inboxes: self.inner.inboxes.clone(), token }, receiver))
    }
}

/// Whether it is certain that a request was handed to no live subscriber.
fn nobody_listened(outcome: &Outcome) -> bool {
    !outcome.duplicate && outcome.delivered == Some(false)
}
