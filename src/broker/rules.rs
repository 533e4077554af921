//! Rules between channels: managing them, and deciding which channels a message is copied to.
//!
//! The node that received a message decides, as it does for schemas, and the log entry carries what it decided with the
//! version of the rules that it went by. The machine refuses what went by others, so a message and its copies are
//! appended together or not at all, and replicas need not agree on how a predicate is judged.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use prost::Message as _;

use super::{Broker, BrokerError, CompiledSchema, RuleError, Unserved, filter::predicate_of};
use crate::{
    model::{
        Catalog, ChannelId, ChannelMeta, Durability, Frame, MessageView, Operation, OperationReply, Predicate, Refusal,
        Route, Rule,
    },
    proto::v1::{self, Message},
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

/// The rules of one version, ready to be applied.
#[derive(Default)]
pub(super) struct Router {
    version: u64,
    by_source: HashMap<ChannelId, Vec<(ChannelId, Option<Predicate>)>>,
    /// The targets by id.
    targets: HashMap<ChannelId, Arc<ChannelMeta>>,
}

impl Router {
    fn new(catalog: &Catalog) -> Self {
        let rules = catalog.rules();
        let mut router = Self { version: rules.version, ..Self::default() };
        for rule in rules.iter() {
            // Checked before it entered the log; one that this version cannot read lets nothing through.
            let predicate = match rule.predicate.as_deref().map(str::parse::<Predicate>).transpose() {
                Ok(predicate) => predicate,
                Err(error) => {
                    tracing::error!(%error, predicate = rule.predicate, "a rule between channels cannot be read");
                    continue;
                }
            };
            router.by_source.entry(rule.source).or_default().push((rule.target, predicate));
        }
        let wanted: BTreeSet<ChannelId> = rules.iter().map(|rule| rule.target).collect();
        let found = catalog.iter().filter(|meta| wanted.contains(&meta.id));
        router.targets = found.map(|meta| (meta.id, meta.clone())).collect();
        router
    }

    /// Every channel that a message of `source` reaches, over any number of rules; each once.
    fn reached(&self, source: ChannelId, message: &MessageView<'_>) -> BTreeSet<ChannelId> {
        let (mut reached, mut open) = (BTreeSet::new(), vec![source]);
        while let Some(from) = open.pop() {
            for (target, predicate) in self.by_source.get(&from).into_iter().flatten() {
                let goes = predicate.as_ref().is_none_or(|predicate| predicate.matches(message));
                if goes && reached.insert(*target) {
                    open.push(*target);
                }
            }
        }
        reached
    }
}

/// Where it is judged whether copies of a message are too large for their channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// Here, so that a message which never fits is told apart from those beside it.
    Here,
    /// In the log, or nowhere.
    Later,
}

/// Collects the routes of one batch.
pub(super) struct Routing {
    router: Arc<Router>,
    source: ChannelId,
    schemas: BTreeMap<ChannelId, (u64, Option<Arc<CompiledSchema>>)>,
    routes: BTreeMap<ChannelId, Route>,
    copied: u64,
}

impl Routing {
    /// Bytes of the copies so far.
    pub(super) fn copied(&self) -> u64 {
        self.copied
    }

    /// The channels to which a message may be copied, where any may be.
    pub(super) fn targets(&self) -> impl Iterator<Item = &ChannelMeta> {
        let any = self.router.by_source.contains_key(&self.source);
        self.router.targets.values().filter(move |_| any).map(|meta| &**meta)
    }

    /// The version of the rules that it goes by.
    pub(super) fn version(&self) -> u64 {
        self.router.version
    }

    /// Routes the message at a position of the batch; none of it where a copy is more than its channel may ever hold. What
    /// may be a retry of a message that is stored already is `judged` by the log alone.
    pub(super) fn add(
        &mut self,
        broker: &Broker,
        position: u32,
        message: &Message,
        judged: Judged,
    ) -> Result<(), BrokerError> {
        if !self.router.by_source.contains_key(&self.source) {
            return Ok(());
        }
        let mut going = Vec::new();
        for target in self.router.reached(self.source, &MessageView::of(message)) {
            let Some(meta) = self.router.targets.get(&target) else { continue };
            let (schema_id, schema) = match self.schemas.get(&target) {
                Some(known) => known,
                None => {
                    let known = (meta.schema_id, broker.schema_of(meta)?);
                    self.schemas.entry(target).or_insert(known)
                }
            };
            // A copy that would break its channel's schema is not made: the publisher knows nothing of it.
            if schema.as_ref().is_some_and(|schema| schema.check(&message.payload, broker.limits()).is_err()) {
                broker.count_unrouted();
                continue;
            }
            let (value, limit) = (Frame::size_of(message), meta.config.retention.max_bytes.unwrap_or(u64::MAX));
            let stored = meta.config.durability == Durability::Durable;
            if judged == Judged::Here && stored && value > limit {
                return Err(BrokerError::copy_too_large(meta.name.as_str(), value, limit));
            }
            going.push((target, *schema_id));
        }
        for (target, schema_id) in going {
            let fresh = || Route { target, schema_id, positions: Vec::new() };
            self.routes.entry(target).or_insert_with(fresh).positions.push(position);
            self.copied += message.encoded_len() as u64;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Vec<Route> {
        self.routes.into_values().collect()
    }
}

impl Broker {
    /// Begins to route a batch of one channel.
    pub(super) fn routing(&self, source: ChannelId) -> Routing {
        let catalog = self.inner.view.catalog();
        let mut router = self.inner.router.lock();
        // The version also grows when a target's channel is deleted; its schema is checked by the machine.
        let stale = router.version != catalog.rules().version
            || router
                .targets
                .values()
                .any(|meta| !catalog.get(meta.name.as_str()).is_some_and(|present| Arc::ptr_eq(present, meta)));
        if stale {
            *router = Arc::new(Router::new(&catalog));
        }
        Routing { router: router.clone(), source, schemas: BTreeMap::new(), routes: BTreeMap::new(), copied: 0 }
    }

    /// Adds a rule, or changes its predicate: what is published to `source` and matches is appended to `target` too.
    ///
    /// # Errors
    /// `ChannelNotFound`; `InvalidArgument` for a predicate that cannot be read; `RuleRefused` where messages would go
    /// round in a circle; `LimitExceeded`.
    pub async fn put_rule(&self, source: &str, target: &str, predicate: Option<&str>) -> Result<RuleInfo, RuleError> {
        let predicate = predicate_of(predicate.unwrap_or_default());
        let predicate = predicate.map_err(|reason| RuleError::InvalidArgument { reason })?;
        let operation = Operation::PutRule {
            source: super::channels::parse(source)?,
            target: super::channels::parse(target)?,
            predicate: predicate.map(|predicate| predicate.to_string()),
        };
        self.rule(source, target, operation).await
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// `RuleNotFound`, `ChannelNotFound`.
    pub async fn delete_rule(&self, source: &str, target: &str) -> Result<RuleInfo, RuleError> {
        let operation =
            Operation::DeleteRule { source: super::channels::parse(source)?, target: super::channels::parse(target)? };
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
