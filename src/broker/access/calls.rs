//! What all calls have in common that a caller makes through an [`Access`], and those that need no right.

use super::{Access, Object, Standing, caller::Right};
use crate::{
    broker::BrokerError,
    model::{Action, Limits},
    proto::v1::Message,
};

impl Access {
    pub(super) fn may(&self, action: Action, channel: &str) -> Result<(), BrokerError> {
        self.caller.may(action, Object::Channel(channel))
    }

    /// Whoever may do anything to a channel may look at it.
    pub(super) fn may_see(&self, channel: &str) -> Result<(), BrokerError> {
        self.caller.may_one_of(&Action::ALL, Object::Channel(channel))
    }

    /// A name that is almost the one that was asked for is told only to whoever may know it.
    pub(super) fn told(&self, error: BrokerError) -> BrokerError {
        match error {
            BrokerError::ChannelNotFound { name, similar } => {
                let similar = similar.filter(|similar| self.caller.sees(Object::Channel(similar)));
                BrokerError::ChannelNotFound { name, similar }
            }
            BrokerError::InTransaction { part, error } => {
                BrokerError::InTransaction { part, error: Box::new(self.told(*error)) }
            }
            error => error,
        }
    }

    /// What is accepted, and how much is held.
    pub fn limits(&self) -> &Limits {
        self.broker.limits()
    }

    /// See `Broker::now_ms`.
    pub fn now_ms(&self) -> u64 {
        self.broker.now_ms()
    }

    /// See `Broker::stopped`.
    pub async fn stopped(&self) {
        self.broker.stopped().await;
    }

    /// See `Broker::connection_room`.
    pub fn connection_room(&self) -> usize {
        self.broker.connection_room()
    }

    /// See `Broker::check_size`.
    ///
    /// # Errors
    /// As there.
    pub fn check_size(&self, message: &Message) -> Result<(), BrokerError> {
        self.broker.check_size(message)
    }

    /// Watches over a connection that stays open for as long as its token is valid.
    pub fn standing(&self) -> Option<Standing> {
        self.caller.standing(Right::Valid)
    }
}
