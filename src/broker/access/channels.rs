//! What a caller may do with channels, and with the rules between them.

use super::{Access, Object, policy::shown};
use crate::{
    broker::{BrokerError, ChannelInfo, HistoryReport, NamedPage, RuleInfo, Start, Trim, Violation},
    model::{Action, ChannelConfig, ChannelUpdate, Compatibility, Quantity, Retention, SchemaVersion},
};

impl Access {
    /// See `Broker::create_channel`; needs `manage`, and `publish` on its quarantine.
    ///
    /// # Errors
    /// As there.
    pub async fn create_channel(&self, name: &str, config: ChannelConfig) -> Result<ChannelInfo, BrokerError> {
        self.may(Action::Manage, name)?;
        if let Some(quarantine) = &config.quarantine {
            self.may(Action::Publish, quarantine.as_str())?;
        }
        let act = self.begin("channel.create", Object::Channel(name).to_string());
        let made = self.broker.create_channel_for(name, config, self.caller.owner(Quantity::Channels)).await;
        let made = self.caller.count_if_over(Quantity::Channels, made);
        act.end(made.map_err(|error| self.told(error)))
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
        let act = self.begin("channel.update", Object::Channel(name).to_string());
        act.end(self.broker.update_channel(name, update).await.map_err(|error| self.told(error)))
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
        let act = self.begin("channel.delete", Object::Channel(name).to_string());
        act.end(self.broker.delete_channel(name).await.map_err(|error| self.told(error)))
    }

    /// See `Broker::trim_channel`; needs `manage`.
    ///
    /// # Errors
    /// As there.
    pub async fn trim_channel(&self, name: &str, trim: Trim) -> Result<u64, BrokerError> {
        self.may(Action::Manage, name)?;
        let act = self.begin("channel.trim", Object::Channel(name).to_string());
        act.end(self.broker.trim_channel(name, trim).await.map_err(|error| self.told(error)))
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

    /// See `Broker::put_rule`; needs `read` and `manage` on the source, and `publish` on the target.
    ///
    /// # Errors
    /// As there.
    pub async fn put_rule(&self, source: &str, target: &str, predicate: Option<&str>) -> Result<RuleInfo, BrokerError> {
        self.may(Action::Manage, source)?;
        self.may(Action::Read, source)?;
        self.may(Action::Publish, target)?;
        let act = self.begin("rule.put", rule_name(source, target));
        act.end(self.broker.put_rule(source, target, predicate).await.map_err(|error| self.told(error.into())))
    }

    /// See `Broker::delete_rule`; needs `manage` on the source, and any right to the target.
    ///
    /// # Errors
    /// As there.
    pub async fn delete_rule(&self, source: &str, target: &str) -> Result<RuleInfo, BrokerError> {
        self.may(Action::Manage, source)?;
        self.may_see(target)?;
        let act = self.begin("rule.delete", rule_name(source, target));
        act.end(self.broker.delete_rule(source, target).await.map_err(|error| self.told(error.into())))
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
}

/// As records name a rule.
fn rule_name(source: &str, target: &str) -> String {
    format!("rule:{}:{}", shown(source), shown(target))
}
