//! The rules between channels of one version, compiled: which channels a message reaches.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::model::{Catalog, ChannelId, ChannelMeta, MessageView, Predicate};

/// The rules of one version, ready to be applied.
#[derive(Default)]
pub(super) struct Router {
    pub(super) version: u64,
    pub(super) by_source: HashMap<ChannelId, Vec<(ChannelId, Option<Predicate>)>>,
    /// The targets by id.
    pub(super) targets: HashMap<ChannelId, Arc<ChannelMeta>>,
}

impl Router {
    pub(super) fn new(catalog: &Catalog) -> Self {
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
    pub(super) fn reached(&self, source: ChannelId, message: &MessageView<'_>) -> BTreeSet<ChannelId> {
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
