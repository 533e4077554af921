//! Transactions, requests and replies.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Client, Delivery,
    error::ClientError,
    message::{Confirm, Message, Published, Received, malformed},
    pool::Prefer,
    retry::Repeat,
};
use liminal_wire::Code;
use liminal_wire::v1::{
    self, PublishTransactionRequest, ReplyRequest, RequestRequest, TransactionAck, TransactionCompletion,
    TransactionMessage, broker_client::BrokerClient,
};

/// How much longer than the server a client waits for the answer to a request.
const GRACE: Duration = Duration::from_secs(5);

/// Messages for any channels, acknowledgements and completions of claims: all of it is done, or nothing is. See
/// [`Client::transaction`].
///
/// The output of a message is stored exactly once if the transaction that publishes it acknowledges the message too:
///
/// ```no_run
/// use futures::StreamExt as _;
/// use liminal_client::{Client, Code, Message};
///
/// # async fn example(client: Client) -> Result<(), liminal_client::ClientError> {
/// let mut orders = client.consumer("orders", "billing").open().await?;
/// while let Some(delivery) = orders.next().await {
///     let delivery = delivery?;
///     let invoice = Message::new(format!("invoice of order {}", delivery.received.seq));
///     match client.transaction().publish("invoices", invoice).ack(&delivery).commit().await {
///         Ok(_) => {}
///         // Somebody else has got the order since, or has done it.
///         Err(error) if *error.code() == Code::StaleDelivery => {}
///         Err(error) => return Err(error),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct Transaction {
    client: Client,
    request: PublishTransactionRequest,
}

impl Transaction {
    /// Adds a message. All messages have an idempotency key or none has.
    pub fn publish(self, channel: impl Into<String>, message: Message) -> Self {
        self.add(channel.into(), message, None)
    }

    /// Adds a message that has to get this sequence number.
    pub fn publish_at(self, channel: impl Into<String>, message: Message, expected_seq: u64) -> Self {
        self.add(channel.into(), message, Some(expected_seq))
    }

    /// Acknowledges a delivery. `STALE_DELIVERY` refuses the whole: the message has been handed out again, or is settled
    /// already and would get its output a second time.
    pub fn ack(mut self, delivery: &Delivery) -> Self {
        let (channel, consumer) = delivery.consumer();
        let same = |ack: &&mut TransactionAck| ack.channel == channel && ack.consumer == consumer;
        let token = delivery.token().to_owned();
        match self.request.acks.iter_mut().find(same) {
            Some(ack) => ack.tokens.push(token),
            None => {
                let (channel, consumer) = (channel.to_owned(), consumer.to_owned());
                self.request.acks.push(TransactionAck { channel, consumer, tokens: vec![token] });
            }
        }
        self
    }

    /// Completes a claim under the token that was given when it was taken, with what those who come later are told.
    pub fn complete(
        mut self,
        namespace: impl Into<String>,
        key: impl Into<String>,
        token: u64,
        receipt: impl Into<Bytes>,
    ) -> Self {
        let (namespace, key, receipt) = (namespace.into(), key.into(), receipt.into());
        self.request.completions.push(TransactionCompletion { namespace, key, token, receipt });
        self
    }

    /// What the answer waits for; [`Confirm::Delivery`] unless set.
    pub fn confirm(mut self, confirm: Confirm) -> Self {
        self.request.confirm = v1::Confirm::from(confirm).into();
        self
    }

    fn add(mut self, channel: String, message: Message, expected_seq: Option<u64>) -> Self {
        self.request.messages.push(TransactionMessage { channel, message: Some(message.into()), expected_seq });
        self
    }

    /// Does all of it, or nothing; one answer for each message, in order.
    ///
    /// # Errors
    /// When a part was refused: nothing was done. With messages that have no keys it is not tried again once it may have
    /// been done.
    pub async fn commit(self) -> Result<Vec<Published>, ClientError> {
        let Self { client, request } = self;
        let keyed = |one: &TransactionMessage| one.message.as_ref().is_some_and(|message| message.key.is_some());
        let repeat = Repeat::of_publish(request.messages.iter().all(keyed));
        let commit = |link| {
            let request = request.clone();
            async move { BrokerClient::new(link).publish_transaction(request).await }
        };
        let (response, _) = client.pool.call(Prefer::Leader, repeat, commit).await?;
        Ok(response.results.into_iter().map(Published::from).collect())
    }
}

impl Client {
    /// Begins a transaction. Nothing is sent before [`Transaction::commit`].
    pub fn transaction(&self) -> Transaction {
        let confirm = v1::Confirm::Delivery.into();
        let request = PublishTransactionRequest { confirm, ..PublishTransactionRequest::default() };
        Transaction { client: self.clone(), request }
    }

    /// Publishes a message and waits for the reply of whoever handles it.
    ///
    /// # Errors
    /// `NO_RESPONDERS` at once when nobody listens; `REPLY_TIMEOUT` when no reply came in time. It is not tried again
    /// once it may have been handled.
    pub async fn request(&self, channel: &str, message: Message, timeout: Duration) -> Result<Message, ClientError> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        let request = RequestRequest { channel: channel.to_owned(), message: Some(message.into()), timeout_ms };
        let ask = |link| {
            let request = request.clone();
            async move { BrokerClient::new(link).request(request).await }
        };
        let within = timeout.saturating_add(GRACE);
        let (response, _) = self.pool.call_within(within, Prefer::Any, Repeat::OnlyIfNothingHappened, ask).await?;
        response.message.map(Message::from).ok_or_else(|| malformed("reply"))
    }

    /// Answers a request that was received.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when it is no request, `INBOX_GONE` when nobody waits for the reply any more.
    pub async fn reply(&self, request: &Received, message: Message) -> Result<(), ClientError> {
        let Some(inbox) = request.reply_to() else {
            let text = format!("message {} is no request: it does not say where a reply would go", request.seq);
            return Err(ClientError::new(Code::InvalidArgument, text));
        };
        self.reply_to(inbox, message).await
    }

    /// The same by the request's inbox, its header `liminal-reply-to`.
    ///
    /// # Errors
    /// As [`Client::reply`].
    pub async fn reply_to(&self, inbox: &str, message: Message) -> Result<(), ClientError> {
        let request = ReplyRequest { inbox: inbox.to_owned(), message: Some(message.into()) };
        let reply = |link| {
            let request = request.clone();
            async move { BrokerClient::new(link).reply(request).await }
        };
        self.pool.call(Prefer::Any, Repeat::OnlyIfNothingHappened, reply).await?;
        Ok(())
    }
}
