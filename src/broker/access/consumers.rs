//! What a caller may do with consumers, and with the letters of what died.

use std::time::Duration;

use super::{Access, Object, Standing, caller::Right, policy::shown};
use crate::{
    broker::{
        BrokerError, ConsumerDelivery, ConsumerInfo, ConsumerUpdate, DeadLetters, Holding, LetterPage, Letters, Member,
        NamedPage, RedriveTo, Redriven, Start, consume::DEAD,
    },
    model::{Action, Notice, Quantity, Settlement},
};

impl Access {
    /// The channel that only gets the dead letters of another one is as that one is; others need a right of their own.
    fn may_with_letters(&self, action: Action, channel: &str, letters: &str) -> Result<(), BrokerError> {
        if letters.strip_suffix(DEAD) == Some(channel) { Ok(()) } else { self.may(action, letters) }
    }

    fn may_have_letters(&self, channel: &str, letters: Option<&DeadLetters>) -> Result<(), BrokerError> {
        match letters {
            Some(DeadLetters::To(letters)) => self.may_with_letters(Action::Publish, channel, letters.as_str()),
            Some(DeadLetters::Usual | DeadLetters::Drop) | None => Ok(()),
        }
    }

    /// See `Broker::create_consumer`; needs `manage`, and `publish` on a dead-letter channel that is not its own.
    ///
    /// # Errors
    /// As there.
    pub async fn create_consumer(
        &self,
        channel: &str,
        name: &str,
        wanted: ConsumerUpdate,
        start: Start,
    ) -> Result<ConsumerInfo, BrokerError> {
        self.may(Action::Manage, channel)?;
        self.may_have_letters(channel, wanted.dead_letters.as_ref())?;
        let act = self.begin("consumer.create", consumer_name(channel, name));
        let owner = self.caller.owner(Quantity::Consumers);
        let made = self.broker.create_consumer_for((channel, name), wanted, start, owner).await;
        let made = self.caller.count_if_over(Quantity::Consumers, made);
        act.end(made.map_err(|error| self.told(error)))
    }

    /// See `Broker::update_consumer`; needs what its creation needs.
    ///
    /// # Errors
    /// As there.
    pub async fn update_consumer(
        &self,
        channel: &str,
        name: &str,
        update: ConsumerUpdate,
    ) -> Result<ConsumerInfo, BrokerError> {
        self.may(Action::Manage, channel)?;
        self.may_have_letters(channel, update.dead_letters.as_ref())?;
        let act = self.begin("consumer.update", consumer_name(channel, name));
        act.end(self.broker.update_consumer(channel, name, update).await.map_err(|error| self.told(error)))
    }

    /// See `Broker::delete_consumer`; needs `manage`.
    ///
    /// # Errors
    /// As there.
    pub async fn delete_consumer(&self, channel: &str, name: &str) -> Result<(), BrokerError> {
        self.may(Action::Manage, channel)?;
        let act = self.begin("consumer.delete", consumer_name(channel, name));
        act.end(self.broker.delete_consumer(channel, name).await.map_err(|error| self.told(error)))
    }

    /// See `Broker::reset_consumer`; needs `manage`.
    ///
    /// # Errors
    /// As there.
    pub async fn reset_consumer(&self, channel: &str, name: &str, start: Start) -> Result<ConsumerInfo, BrokerError> {
        self.may(Action::Manage, channel)?;
        let act = self.begin("consumer.reset", consumer_name(channel, name));
        act.end(self.broker.reset_consumer(channel, name, start).await.map_err(|error| self.told(error)))
    }

    /// See `Broker::consumer`; needs any right to its channel.
    ///
    /// # Errors
    /// As there.
    pub async fn consumer(&self, channel: &str, name: &str) -> Result<ConsumerInfo, BrokerError> {
        self.may_see(channel)?;
        self.broker.consumer(channel, name).await.map_err(|error| self.told(error))
    }

    /// See `Broker::consumers_after`; needs any right to their channel.
    ///
    /// # Errors
    /// As there.
    pub async fn consumers_after(
        &self,
        channel: &str,
        name: &str,
        limit: usize,
    ) -> Result<NamedPage<ConsumerInfo>, BrokerError> {
        self.may_see(channel)?;
        self.broker.consumers_after(channel, name, limit).await.map_err(|error| self.told(error))
    }

    /// See `Broker::holdings`; needs any right to their channel.
    ///
    /// # Errors
    /// As there.
    pub async fn holdings(&self, channel: &str, name: &str) -> Result<Vec<Holding>, BrokerError> {
        self.may_see(channel)?;
        self.broker.holdings(channel, name).await.map_err(|error| self.told(error))
    }

    /// The consumers of all channels that the caller may see, after a place `channel/consumer`.
    ///
    /// # Errors
    /// As `Broker::consumers_after`.
    pub async fn all_consumers_after(&self, place: &str, limit: usize) -> Result<NamedPage<ConsumerInfo>, BrokerError> {
        self.broker.consumers_seen(place, limit, |name| self.caller.sees(Object::Channel(name))).await
    }

    /// See `Broker::join_consumer`; needs `consume`, and the membership ends with it.
    ///
    /// # Errors
    /// As there.
    pub async fn join_consumer(&self, channel: &str, name: &str, window: u32) -> Result<Member, BrokerError> {
        self.may(Action::Consume, channel)?;
        let member = self.broker.join_consumer(channel, name, window).await;
        let mut member = member.map_err(|error| self.told(error))?;
        member.while_standing(self.caller.standing(Right::Channel(Action::Consume, channel.to_owned())));
        Ok(member)
    }

    /// See `Broker::pull_told`; needs `consume`.
    ///
    /// # Errors
    /// As there.
    pub async fn pull_told(
        &self,
        channel: &str,
        name: &str,
        max: u32,
        wait: Duration,
    ) -> Result<(Vec<ConsumerDelivery>, Option<Notice>), BrokerError> {
        self.may(Action::Consume, channel)?;
        let mut standing = self.caller.standing(Right::Channel(Action::Consume, channel.to_owned()));
        tokio::select! {
            biased;
            error = Standing::ended_of(&mut standing) => Err(error),
            pulled = self.broker.pull_told(channel, name, max, wait) => pulled.map_err(|error| self.told(error)),
        }
    }

    /// See `Broker::settle`; needs `consume`.
    ///
    /// # Errors
    /// As there.
    pub async fn settle(
        &self,
        channel: &str,
        name: &str,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<Result<(), BrokerError>>, BrokerError> {
        self.may(Action::Consume, channel)?;
        self.broker.settle(channel, name, settlements).await.map_err(|error| self.told(error))
    }

    /// See `Broker::dead_letters_of`; needs `read` on the channel, and on a dead-letter channel that is not its own.
    ///
    /// # Errors
    /// As there.
    pub async fn dead_letters_of(&self, wanted: &Letters) -> Result<LetterPage, BrokerError> {
        self.may_with_letters_of(&[Action::Read], wanted).await?;
        self.broker.dead_letters_of(wanted).await.map_err(|error| self.told(error))
    }

    /// See `Broker::redrive`; needs `read` and `manage` on the channel and on a dead-letter channel that is not its own,
    /// and `publish` on the channel that the letters go to.
    ///
    /// # Errors
    /// As there.
    pub async fn redrive(&self, wanted: &Letters, to: &RedriveTo) -> Result<Redriven, BrokerError> {
        self.may(Action::Publish, to.channel.as_deref().unwrap_or(&wanted.channel))?;
        self.may_with_letters_of(&[Action::Read, Action::Manage], wanted).await?;
        let act = self.begin("consumer.redrive", consumer_name(&wanted.channel, &wanted.consumer));
        act.end(self.broker.redrive(wanted, to).await.map_err(|error| self.told(error)))
    }

    /// What is done to letters is done to the channel in which they died and to the one in which they are.
    async fn may_with_letters_of(&self, actions: &[Action], wanted: &Letters) -> Result<(), BrokerError> {
        for action in actions {
            self.may(*action, &wanted.channel)?;
            if let Some(letters) = &wanted.dead_letter {
                self.may_with_letters(*action, &wanted.channel, letters)?;
            }
        }
        if wanted.dead_letter.is_none() {
            // The consumer says where its letters are.
            let letters = self.broker.letters_channel(wanted).await.map_err(|error| self.told(error))?;
            for action in actions {
                self.may_with_letters(*action, &wanted.channel, letters.name.as_str())?;
            }
        }
        Ok(())
    }
}

/// As records name a consumer.
fn consumer_name(channel: &str, name: &str) -> String {
    format!("consumer:{}:{}", shown(channel), shown(name))
}
