//! The rules between channels: adding, changing, removing and listing them. What they do to messages: `routing`.

use std::collections::BTreeMap;

use super::{Broker, RuleError, Unserved, channels::parse, filter::predicate_of};
use crate::{
    model::{ChannelId, Operation, OperationReply, Refusal, Rule},
    proto::v1,
};

/// A rule with the names of its channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    /// From where.
    pub source: String,
    /// To where.
    pub target: String,
    /// Which messages; none means all.
    pub predicate: Option<String>,
}

impl RuleInfo {
    /// As the public API says it.
    pub fn to_proto(&self) -> v1::Rule {
        let Self { source, target, predicate } = self.clone();
        v1::Rule { source, target, predicate: predicate.unwrap_or_default() }
    }
}

impl Broker {
    /// Adds a rule, or changes its predicate: what is published to `source` and matches is appended to `target` too.
    ///
    /// # Errors
    /// `ChannelNotFound`; `InvalidArgument` for a predicate that cannot be read; `RuleRefused` where messages would go
    /// round in a circle; `LimitExceeded`.
    pub async fn put_rule(&self, source: &str, target: &str, predicate: Option<&str>) -> Result<RuleInfo, RuleError> {
        let predicate = predicate_of(predicate.unwrap_or_default());
        let predicate = predicate.map_err(|reason| RuleError::InvalidArgument { reason })?;
        let predicate = predicate.map(|predicate| predicate.to_string());
        let operation = Operation::PutRule { source: parse(source)?, target: parse(target)?, predicate };
        self.rule(source, target, operation).await
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// `RuleNotFound`, `ChannelNotFound`.
    pub async fn delete_rule(&self, source: &str, target: &str) -> Result<RuleInfo, RuleError> {
        let operation = Operation::DeleteRule { source: parse(source)?, target: parse(target)? };
        self.rule(source, target, operation).await
    }

    /// All rules as of now (linearizable).
    ///
    /// # Errors
    /// `NoLeader` or `NotConfirmed` without a majority.
    pub async fn rules(&self) -> Result<Vec<RuleInfo>, Unserved> {
        self.catch_up().await?;
        let catalog = self.inner.view.catalog();
        let names: BTreeMap<ChannelId, &str> = catalog.iter().map(|meta| (meta.id, meta.name.as_str())).collect();
        let info = |rule: &Rule| {
            let (source, target) = (names.get(&rule.source)?, names.get(&rule.target)?);
            Some(RuleInfo {
                source: (*source).to_owned(),
                target: (*target).to_owned(),
                predicate: rule.predicate.clone(),
            })
        };
        Ok(catalog.rules().iter().filter_map(info).collect())
    }

    async fn rule(&self, source: &str, target: &str, operation: Operation) -> Result<RuleInfo, RuleError> {
        match self.operate(operation).await? {
            Ok(OperationReply::Rule(rule)) => {
                Ok(RuleInfo { source: source.into(), target: target.into(), predicate: rule.predicate })
            }
            Err(Refusal::NoChannelNamed(name)) => Err(self.no_channel(name.as_str()).into()),
            Err(Refusal::NoSuchRule) => {
                Err(RuleError::RuleNotFound { source_channel: source.into(), target_channel: target.into() })
            }
            Err(Refusal::RuleCycle) => Err(RuleError::RuleRefused {
                reason: format!(
                    "a rule from `{source}` to `{target}` would send messages round in a circle: `{target}` reaches `{source}` already"
                ),
            }),
            Err(Refusal::TooManyRules { limit }) => {
                Err(RuleError::LimitExceeded { what: "the number of rules".into(), value: limit + 1, limit })
            }
            other => Err(Unserved::Internal { reason: format!("an unexpected reply: {other:?}") }.into()),
        }
    }
}
