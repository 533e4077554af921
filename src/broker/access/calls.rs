//! What a caller may do with channels, consumers and claims: each call of the broker that a face makes, behind the check of
//! what it is about.

use std::time::Duration;

use bytes::Bytes;

use super::{Access, Object, Standing, caller::Right};
use crate::{
    broker::{
        BrokerError, ChannelInfo, Claim, Completed, Confirm, ConsumerDelivery, ConsumerInfo, ConsumerUpdate,
        DeadLetters, DelayedPage, Envelope, Held, HistoryReport, LetterPage, Letters, Member, NamedPage, Outcome, Page,
        PublishOptions, ReadOptions, RedriveTo, Redriven, RuleInfo, Start, SubscribeOptions, Subscription,
        TransactionRequest, Trim, Violation, consume::DEAD, turns::Turn,
    },
    budget::Account,
    model::{
        Action, ChannelConfig, ChannelUpdate, ClaimInfo, Compatibility, Frame, Limits, NamespaceInfo, Notice,
        Retention, SchemaVersion, Settlement,
    },
    proto::v1::Message,
};

/// What is asked of each message of a frame.
type Results = Vec<Result<Outcome, BrokerError>>;

impl Access {
    fn may(&self, action: Action, channel: &str) -> Result<(), BrokerError> {
        self.caller.may(action, Object::Channel(channel))
    }

    fn may_claim(&self, action: Action, namespace: &str) -> Result<(), BrokerError> {
        self.caller.may(action, Object::Claims(namespace))
    }

    /// Whoever may do anything to a channel may look at it.
    fn may_see(&self, channel: &str) -> Result<(), BrokerError> {
        self.caller.may_one_of(&Action::ALL, Object::Channel(channel))
    }

    /// The channel that only gets the dead letters of another one is as that one is; others need a right of their own.
    fn may_with_letters(&self, action: Action, channel: &str, letters: &str) -> Result<(), BrokerError> {
        if letters.strip_suffix(DEAD) == Some(channel) { Ok(()) } else { self.may(action, letters) }
    }

    /// A name that is almost the one that was asked for is told only to whoever may know it.
    fn told(&self, error: BrokerError) -> BrokerError {
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

    // What is no secret and changes nothing.

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

    /// See `Broker::admit_from`.
    ///
    /// # Errors
    /// As there.
    pub fn admit_from(&self, connection: &Account, frame: &Frame) -> Result<Held, BrokerError> {
        self.broker.admit_from(connection, frame)
    }

    /// See `Broker::admit_together`.
    ///
    /// # Errors
    /// As there.
    pub fn admit_together(&self, connection: &Account, messages: u32, bytes: usize) -> Result<Held, BrokerError> {
        self.broker.admit_together(connection, messages, bytes)
    }

    /// See `Broker::admit_stream`.
    ///
    /// # Errors
    /// As there.
    pub fn admit_stream(&self, connection: &Account, frame: &Frame) -> Result<Held, BrokerError> {
        self.broker.admit_stream(connection, frame)
    }

    /// The turn of a connection to have messages judged by its filter.
    ///
    /// # Errors
    /// As the broker says.
    pub(crate) async fn turn_to_judge(&self, connection: &Account) -> Result<Turn, BrokerError> {
        self.broker.turn_to_judge(connection).await
    }

    /// Watches over a connection that stays open for as long as its token is valid.
    pub fn standing(&self) -> Option<Standing> {
        self.caller.standing(Right::Valid)
    }

    // Messages.

    /// See `Broker::publish_frame_with`; needs `publish`.
    pub async fn publish_frame_with(&self, channel: &str, frame: Frame, options: PublishOptions) -> Results {
        if let Err(error) = self.may(Action::Publish, channel) {
            return vec![Err(error); frame.count() as usize];
        }
        let results = self.broker.publish_frame_with(channel, frame, options).await;
        results.into_iter().map(|result| result.map_err(|error| self.told(error))).collect()
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
            self.may_claim(Action::Claim, &completion.namespace)?;
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
        let subscription = self.broker.subscribe_with(channel, start, options).await;
        let subscription = subscription.map_err(|error| self.told(error))?;
        Ok(subscription.as_long_as(self.caller.standing(Right::Channel(Action::Read, channel.to_owned()))))
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

    // Channels.

    /// See `Broker::create_channel`; needs `manage`, and `publish` on its quarantine.
    ///
    /// # Errors
    /// As there.
    pub async fn create_channel(&self, name: &str, config: ChannelConfig) -> Result<ChannelInfo, BrokerError> {
        self.may(Action::Manage, name)?;
        if let Some(quarantine) = &config.quarantine {
            self.may(Action::Publish, quarantine.as_str())?;
        }
        self.broker.create_channel(name, config).await.map_err(|error| self.told(error))
    }

    /// See `Broker::update_channel`; needs what its creation needs.
    ///
    /// # Errors
    /// As there.
    pub async fn update_channel(&self, name: &str, update: ChannelUpdate) -> Result<ChannelInfo, BrokerError> {
        self.may(Action::Manage, name)?;
        if let Some(Some(quarantine)) = &update.quarantine {
            self.may(Action::Publish, quarantine.as_str())?;
        }
        self.broker.update_channel(name, update).await.map_err(|error| self.told(error))
    }

    /// See `Broker::try_update_channel`; needs `manage`.
    ///
    /// # Errors
    /// As there.
    pub async fn try_update_channel(
        &self,
        name: &str,
        schema: Option<&str>,
        mode: Option<Compatibility>,
    ) -> Result<(ChannelInfo, Vec<Violation>), BrokerError> {
        self.may(Action::Manage, name)?;
        self.broker.try_update_channel(name, schema, mode).await.map_err(|error| self.told(error))
    }

    /// See `Broker::would_remove`; needs `manage`.
    ///
    /// # Errors
    /// As there.
    pub async fn would_remove(&self, name: &str, retention: &Retention) -> Result<u64, BrokerError> {
        self.may(Action::Manage, name)?;
        self.broker.would_remove(name, retention).await.map_err(|error| self.told(error))
    }

    /// See `Broker::delete_channel`; needs `manage`.
    ///
    /// # Errors
    /// As there.
    pub async fn delete_channel(&self, name: &str) -> Result<(), BrokerError> {
        self.may(Action::Manage, name)?;
        self.broker.delete_channel(name).await.map_err(|error| self.told(error))
    }

    /// See `Broker::trim_channel`; needs `manage`.
    ///
    /// # Errors
    /// As there.
    pub async fn trim_channel(&self, name: &str, trim: Trim) -> Result<u64, BrokerError> {
        self.may(Action::Manage, name)?;
        self.broker.trim_channel(name, trim).await.map_err(|error| self.told(error))
    }

    /// See `Broker::channel`; needs any right to it.
    ///
    /// # Errors
    /// As there.
    pub async fn channel(&self, name: &str) -> Result<ChannelInfo, BrokerError> {
        self.may_see(name)?;
        self.broker.channel(name).await.map_err(|error| self.told(error))
    }

    /// See `Broker::channels_after`: those that the caller may see.
    ///
    /// # Errors
    /// As there.
    pub async fn channels_after(&self, name: &str, limit: usize) -> Result<NamedPage<ChannelInfo>, BrokerError> {
        self.broker.channels_seen(name, limit, |name| self.caller.sees(Object::Channel(name))).await
    }

    /// See `Broker::schemas_after`; needs any right to the channel, as a publisher has to know what fits.
    ///
    /// # Errors
    /// As there.
    pub async fn schemas_after(
        &self,
        channel: &str,
        after: u64,
        limit: usize,
    ) -> Result<(Vec<SchemaVersion>, Option<u64>), BrokerError> {
        self.may_see(channel)?;
        self.broker.schemas_after(channel, after, limit).await.map_err(|error| self.told(error))
    }

    /// See `Broker::validate_history`; needs `read`.
    ///
    /// # Errors
    /// As there.
    pub async fn validate_history(
        &self,
        channel: &str,
        schema: &str,
        from: Start,
        limit: u64,
    ) -> Result<HistoryReport, BrokerError> {
        self.may(Action::Read, channel)?;
        self.broker.validate_history(channel, schema, from, limit).await.map_err(|error| self.told(error))
    }

    // Rules.

    /// See `Broker::put_rule`; needs `read` and `manage` on the source, and `publish` on the target.
    ///
    /// # Errors
    /// As there.
    pub async fn put_rule(&self, source: &str, target: &str, predicate: Option<&str>) -> Result<RuleInfo, BrokerError> {
        self.may(Action::Manage, source)?;
        self.may(Action::Read, source)?;
        self.may(Action::Publish, target)?;
        self.broker.put_rule(source, target, predicate).await.map_err(|error| self.told(error))
    }

    /// See `Broker::delete_rule`; needs `manage` on the source, and any right to the target.
    ///
    /// # Errors
    /// As there.
    pub async fn delete_rule(&self, source: &str, target: &str) -> Result<RuleInfo, BrokerError> {
        self.may(Action::Manage, source)?;
        self.may_see(target)?;
        self.broker.delete_rule(source, target).await.map_err(|error| self.told(error))
    }

    /// See `Broker::rules`: those of which the caller may see both channels.
    ///
    /// # Errors
    /// As there.
    pub async fn rules(&self) -> Result<Vec<RuleInfo>, BrokerError> {
        let rules = self.broker.rules().await?;
        let sees = |name: &str| self.caller.sees(Object::Channel(name));
        Ok(rules.into_iter().filter(|rule| sees(&rule.source) && sees(&rule.target)).collect())
    }

    // Consumers.

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
        self.broker.create_consumer(channel, name, wanted, start).await.map_err(|error| self.told(error))
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
        self.broker.update_consumer(channel, name, update).await.map_err(|error| self.told(error))
    }

    /// See `Broker::delete_consumer`; needs `manage`.
    ///
    /// # Errors
    /// As there.
    pub async fn delete_consumer(&self, channel: &str, name: &str) -> Result<(), BrokerError> {
        self.may(Action::Manage, channel)?;
        self.broker.delete_consumer(channel, name).await.map_err(|error| self.told(error))
    }

    /// See `Broker::reset_consumer`; needs `manage`.
    ///
    /// # Errors
    /// As there.
    pub async fn reset_consumer(&self, channel: &str, name: &str, start: Start) -> Result<ConsumerInfo, BrokerError> {
        self.may(Action::Manage, channel)?;
        self.broker.reset_consumer(channel, name, start).await.map_err(|error| self.told(error))
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

    /// See `Broker::join_consumer`; needs `consume`, and the membership ends with it.
    ///
    /// # Errors
    /// As there.
    pub async fn join_consumer(&self, channel: &str, name: &str, window: u32) -> Result<Member, BrokerError> {
        self.may(Action::Consume, channel)?;
        let member = self.broker.join_consumer(channel, name, window).await;
        let mut member = member.map_err(|error| self.told(error))?;
        member.as_long_as(self.caller.standing(Right::Channel(Action::Consume, channel.to_owned())));
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
        self.broker.redrive(wanted, to).await.map_err(|error| self.told(error))
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

    // Claims.

    /// See `Broker::claim`; needs `claim`.
    ///
    /// # Errors
    /// As there.
    pub async fn claim(
        &self,
        namespace: &str,
        key: &str,
        lease: Duration,
        owner: Option<&str>,
    ) -> Result<Claim, BrokerError> {
        self.may_claim(Action::Claim, namespace)?;
        self.broker.claim(namespace, key, lease, owner).await
    }

    /// See `Broker::complete_claim`; needs `claim`.
    ///
    /// # Errors
    /// As there.
    pub async fn complete_claim(
        &self,
        namespace: &str,
        key: &str,
        token: u64,
        receipt: Bytes,
    ) -> Result<Completed, BrokerError> {
        self.may_claim(Action::Claim, namespace)?;
        self.broker.complete_claim(namespace, key, token, receipt).await
    }

    /// See `Broker::release_claim`; needs `claim`.
    ///
    /// # Errors
    /// As there.
    pub async fn release_claim(&self, namespace: &str, key: &str, token: u64) -> Result<bool, BrokerError> {
        self.may_claim(Action::Claim, namespace)?;
        self.broker.release_claim(namespace, key, token).await
    }

    /// See `Broker::renew_claim`; needs `claim`.
    ///
    /// # Errors
    /// As there.
    pub async fn renew_claim(
        &self,
        namespace: &str,
        key: &str,
        token: u64,
        lease: Duration,
    ) -> Result<ClaimInfo, BrokerError> {
        self.may_claim(Action::Claim, namespace)?;
        self.broker.renew_claim(namespace, key, token, lease).await
    }

    /// See `Broker::show_claim`; needs `claim` or `read`.
    ///
    /// # Errors
    /// As there.
    pub async fn show_claim(&self, namespace: &str, key: &str) -> Result<Option<Claim>, BrokerError> {
        self.caller.may_one_of(&[Action::Claim, Action::Read], Object::Claims(namespace))?;
        self.broker.show_claim(namespace, key).await
    }

    /// See `Broker::put_claim_namespace`; needs `manage`.
    ///
    /// # Errors
    /// As there.
    pub async fn put_claim_namespace(&self, name: &str, window: Duration) -> Result<NamespaceInfo, BrokerError> {
        self.may_claim(Action::Manage, name)?;
        self.broker.put_claim_namespace(name, window).await
    }

    /// See `Broker::delete_claim_namespace`; needs `manage`.
    ///
    /// # Errors
    /// As there.
    pub async fn delete_claim_namespace(&self, name: &str) -> Result<(), BrokerError> {
        self.may_claim(Action::Manage, name)?;
        self.broker.delete_claim_namespace(name).await
    }

    /// See `Broker::claim_namespace`; needs any right to it.
    ///
    /// # Errors
    /// As there.
    pub async fn claim_namespace(&self, name: &str) -> Result<NamespaceInfo, BrokerError> {
        self.caller.may_one_of(&Action::ALL, Object::Claims(name))?;
        self.broker.claim_namespace(name).await
    }

    /// See `Broker::claim_namespaces`: those that the caller may see.
    ///
    /// # Errors
    /// As there.
    pub async fn claim_namespaces(&self) -> Result<Vec<NamespaceInfo>, BrokerError> {
        let all = self.broker.claim_namespaces().await?;
        Ok(all.into_iter().filter(|info| self.caller.sees(Object::Claims(info.name.as_str()))).collect())
    }
}
