//! Requests and replies. A request is a message with a header that names an *inbox*: the node on which the requester
//! waits, and a random token. The reply goes from whichever node gets it to that node, and not through the log: it
//! arrives at most once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Broker, BrokerError, Confirm, Envelope, Held, Outcome, PublishOptions, SequencerError,
    forward::{Request, Response},
};
use crate::{
    model::Frame,
    proto::v1::{Header, Message},
};

/// The header of a request that says where its reply goes.
pub const REPLY_TO: &str = "liminal-reply-to";

/// Requests that wait on this node, by their tokens. One takes the first reply only.
#[derive(Default)]
pub(super) struct Inboxes {
    open: Mutex<HashMap<u128, oneshot::Sender<Frame>>>,
}

impl Inboxes {
    /// Whether somebody waited for the reply.
    pub(super) fn deliver(&self, token: u128, reply: Frame) -> bool {
        let waiting = self.open.lock().remove(&token);
        waiting.is_some_and(|waiting| waiting.send(reply).is_ok())
    }
}

/// An inbox that goes when it is dropped.
struct Inbox {
    inboxes: Arc<Inboxes>,
    token: u128,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.inboxes.open.lock().remove(&self.token);
    }
}

impl Broker {
    /// Publishes a message and waits for the reply of whoever handles it.
    ///
    /// # Errors
    /// `NoResponders` as soon as it is certain that the message was handed to nobody and the channel has no consumer,
    /// `ReplyTimeout` when no reply
    /// came in time; and as [`Broker::publish`]. Except after the latter's the message is in the channel.
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
        let (inbox, mut reply) = self.open_inbox()?;
        let name = format!("{:x}.{:032x}", self.local().id, inbox.token);
        envelope.headers.retain(|header| header.name != REPLY_TO);
        envelope.headers.push(Header { name: REPLY_TO.into(), value: name });
        let options = PublishOptions { confirm: Confirm::Certainty, expected_seq: None };
        let deadline = Instant::now() + timeout;
        let exchange = async {
            tokio::select! {
                biased;
                Ok(reply) = &mut reply => return Ok(reply),
                published = self.publish_with(channel, envelope, None, options) => {
                    drop(held);
                    match published {
                        Ok(outcome) if nobody_listened(&outcome) && self.nobody_consumes(channel).await => {
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
        match tokio::time::timeout(self.limits().read_timeout, self.call(&address, &request)).await {
            Ok(Ok(Response::Done)) => Ok(()),
            Ok(Ok(Response::NoInbox)) => Err(gone(answered)),
            Ok(Err(SequencerError::NotLeader | SequencerError::Stopped)) | Ok(Ok(Response::NotProposed)) => {
                Err(gone("its node is not reached"))
            }
            Ok(Err(SequencerError::Unknown(reason))) => Err(BrokerError::OutcomeUnknown { reason }),
            Ok(Ok(other)) => Err(BrokerError::Internal { reason: format!("an unexpected answer: {other:?}") }),
            Err(_) => {
                let reason = format!("node {} did not answer in time", address.name);
                Err(BrokerError::OutcomeUnknown { reason })
            }
        }
    }

    /// Whether it is certain that a channel has no consumer, whose members may come for the request at any time.
    async fn nobody_consumes(&self, channel: &str) -> bool {
        // A consumer may be newer than what this node knows.
        let known = self.catch_up().await.is_ok();
        let meta = self.find(channel);
        known && meta.is_ok_and(|meta| self.inner.view.consumers(|all| all.of(meta.id).next().is_none()))
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

/// Whether it is certain that a request which was published was handed to no live subscriber.
fn nobody_listened(outcome: &Outcome) -> bool {
    !outcome.duplicate && outcome.delivered == Some(false)
}
