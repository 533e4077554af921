//! What a caller may do with messages: publish, read and follow them.

use std::time::Duration;

use super::{Access, Object, caller::Right};
use crate::{
    broker::{
        BrokerError, Confirm, DelayedPage, Envelope, Held, Outcome, Page, PublishOptions, ReadOptions, Start,
        SubscribeOptions, Subscription, TransactionRequest,
    },
    model::{Action, Frame},
    proto::v1::Message,
};

/// What became of each message of a frame.
type Results = Vec<Result<Outcome, BrokerError>>;

impl Access {
    /// See `Broker::publish_frame_with`; needs `publish`.
    pub async fn publish_frame_with(&self, channel: &str, frame: Frame, options: PublishOptions) -> Results {
        if let Err(error) = self.may(Action::Publish, channel) {
            return vec![Err(error); frame.count() as usize];
        }
        let results = self.broker.publish_frame_with(channel, frame, options).await;
        results.into_iter().map(|result| result.map_err(|error| self.told(error))).collect()
    }

    /// See `Broker::check_frame`; needs `publish`.
    ///
    /// # Errors
    /// As there.
    pub async fn check_frame(&self, channel: &str, frame: &Frame) -> Result<(), BrokerError> {
        self.may(Action::Publish, channel)?;
        self.broker.check_frame(channel, frame).await.map_err(|error| self.told(error))
    }

    /// See `Broker::transact`; every part needs its right.
    ///
    /// # Errors
    /// As there.
    pub async fn transact(&self, request: &TransactionRequest, confirm: Confirm) -> Result<Vec<Outcome>, BrokerError> {
        for message in &request.messages {
            self.may(Action::Publish, &message.channel)?;
        }
        for ack in &request.acks {
            self.may(Action::Consume, &ack.channel)?;
        }
        for completion in &request.completions {
            self.caller.may(Action::Claim, Object::Claims(&completion.namespace))?;
        }
        self.broker.transact(request, confirm).await.map_err(|error| self.told(error))
    }

    /// See `Broker::request_held`; needs `publish`.
    ///
    /// # Errors
    /// As there.
    pub async fn request_held(
        &self,
        channel: &str,
        envelope: Envelope,
        timeout: Duration,
        held: Option<Held>,
    ) -> Result<Message, BrokerError> {
        self.may(Action::Publish, channel)?;
        self.broker.request_held(channel, envelope, timeout, held).await.map_err(|error| self.told(error))
    }

    /// See `Broker::reply`. Who knows the inbox has read the request: it is a random number of 128 bits.
    ///
    /// # Errors
    /// As there.
    pub async fn reply(&self, inbox: &str, envelope: Envelope) -> Result<(), BrokerError> {
        self.broker.reply(inbox, envelope).await
    }

    /// See `Broker::read_with`; needs `read`.
    ///
    /// # Errors
    /// As there.
    pub async fn read_with(&self, channel: &str, start: Start, options: ReadOptions) -> Result<Page, BrokerError> {
        self.may(Action::Read, channel)?;
        self.broker.read_with(channel, start, options).await.map_err(|error| self.told(error))
    }

    /// See `Broker::subscribe_with`; needs `read`, and ends with it.
    ///
    /// # Errors
    /// As there.
    pub async fn subscribe_with(
        &self,
        channel: &str,
        start: Start,
        options: SubscribeOptions,
    ) -> Result<Subscription, BrokerError> {
        self.may(Action::Read, channel)?;
        let options = if options.filter.is_some() {
            self.caller.may_judge()?;
            SubscribeOptions { payer: Some(self.payer()), ..options }
        } else {
            options
        };
        let subscription = self.broker.subscribe_with(channel, start, options).await;
        let subscription = subscription.map_err(|error| self.told(error))?;
        Ok(subscription.while_standing(self.caller.standing(Right::Channel(Action::Read, channel.to_owned()))))
    }

    /// See `Broker::delayed_messages`; needs `read`.
    ///
    /// # Errors
    /// As there.
    pub async fn delayed_messages(&self, channel: &str, after: u64, limit: usize) -> Result<DelayedPage, BrokerError> {
        self.may(Action::Read, channel)?;
        self.broker.delayed_messages(channel, after, limit).await.map_err(|error| self.told(error))
    }

    /// See `Broker::withdraw_delayed`; needs `manage`.
    ///
    /// # Errors
    /// As there.
    pub async fn withdraw_delayed(&self, channel: &str, id: u64) -> Result<bool, BrokerError> {
        self.may(Action::Manage, channel)?;
        self.broker.withdraw_delayed(channel, id).await.map_err(|error| self.told(error))
    }
}
