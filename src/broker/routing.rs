//! Decides to which channels the messages of a batch are copied.
//!
//! The node that received a message decides, as it does for schemas, and the log entry carries what it decided with the
//! version of the rules that it went by. The machine refuses what went by others, so a message and its copies are
//! appended together or not at all, and replicas need not agree on how a predicate is judged.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message as _;

use super::{Broker, BrokerError, CompiledSchema, router::Router};
use crate::{
    model::{ChannelId, ChannelMeta, Durability, Frame, MessageView, Route},
    proto::v1::Message,
};

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
}
