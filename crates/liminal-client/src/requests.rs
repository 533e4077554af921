//! Calls with choices: what is chosen is said one by one, and `.await` makes the call.

use std::future::{Future, IntoFuture};

use futures::{FutureExt as _, future::BoxFuture};
use liminal_wire::{Confirm, IfChanged, PublishOptions, Start, v1};

use crate::{
    Client,
    error::ClientError,
    message::{Message, Published, SubscribeOptions},
    pool::Prefer,
    retry::Repeat,
    subscription::Subscription,
};

/// A message that is to be published: see [`Client::publish`].
#[must_use = "nothing is published before it is awaited"]
pub struct Publish<'a> {
    client: &'a Client,
    channel: String,
    message: Message,
    options: PublishOptions,
}

impl<'a> Publish<'a> {
    pub(crate) fn new(client: &'a Client, channel: String, message: Message) -> Self {
        Self { client, channel, message, options: PublishOptions::new() }
    }

    /// What the ack waits for; [`Confirm::Delivery`] unless said.
    pub fn confirm(self, confirm: Confirm) -> Self {
        Self { options: self.options.confirm(confirm), ..self }
    }

    /// It is refused with `WRONG_SEQ` unless the message gets this sequence number.
    pub fn expected_seq(self, seq: impl Into<Option<u64>>) -> Self {
        Self { options: self.options.expected_seq(seq), ..self }
    }

    /// All choices at once.
    pub fn options(self, options: PublishOptions) -> Self {
        Self { options, ..self }
    }

    async fn send(self) -> Result<Published, ClientError> {
        let Self { client, channel, message, options } = self;
        let repeat = Repeat::of_publish(message.key.is_some());
        let request = v1::PublishRequest {
            channel,
            message: Some(message.into()),
            confirm: v1::Confirm::from(options.confirm).into(),
            expected_seq: options.expected_seq,
        };
        let publish = |link| {
            let request = request.clone();
            async move { v1::broker_client::BrokerClient::new(link).publish(request).await }
        };
        let (response, _) = client.pool.call(Prefer::Leader, repeat, publish).await?;
        Ok(response.into())
    }
}

impl<'a> IntoFuture for Publish<'a> {
    type Output = Result<Published, ClientError>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        boxed(self.send())
    }
}

/// A subscription that is to be opened: see [`Client::subscribe`].
#[must_use = "nothing is subscribed to before it is awaited"]
pub struct Subscribe<'a> {
    client: &'a Client,
    channel: String,
    start: Start,
    options: SubscribeOptions,
}

impl<'a> Subscribe<'a> {
    pub(crate) fn new(client: &'a Client, channel: String, start: Start) -> Self {
        Self { client, channel, start, options: SubscribeOptions::default() }
    }

    /// Only messages for which this predicate holds; the empty text lets all through. The nodes look at the messages, and
    /// only those that are meant travel.
    pub fn filter(mut self, filter: impl Into<String>) -> Self {
        self.options.filter = filter.into();
        self
    }

    /// What happens when the history behind the subscription has changed. Unless said it is told, and goes on; but a
    /// [`Start::Seq`] that is not there is refused.
    pub fn if_changed(mut self, if_changed: impl Into<Option<IfChanged>>) -> Self {
        self.options.if_changed = if_changed.into();
        self
    }
}

impl<'a> IntoFuture for Subscribe<'a> {
    type Output = Result<Subscription, ClientError>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { client, channel, start, options } = self;
        boxed(Subscription::open(client.pool.clone(), channel, start, options))
    }
}

fn boxed<'a, T>(call: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
    call.boxed()
}
