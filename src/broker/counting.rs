//! Counts what a broker does, and takes room for what is in flight.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
};

use super::{
    Broker, BrokerError, Outcome, Unserved,
    stats::{Stats, overloaded},
};
use crate::{
    budget::{Full, Lease},
    model::{ChannelId, ChannelMeta},
};

impl Broker {
    /// Counts for metrics.
    pub fn stats(&self) -> Stats {
        let counters = &self.inner.counters;
        Stats {
            published: counters.published.load(Ordering::Relaxed),
            duplicates: counters.duplicates.load(Ordering::Relaxed),
            failed: counters.failed.lock().clone(),
            unrouted: counters.unrouted.load(Ordering::Relaxed),
            rejected: self.all_rejected(),
            quarantine_dropped: self.inner.quarantine.dropped(),
            in_flight_bytes: counters.in_flight.held() as u64,
        }
    }

    pub(super) fn count_unrouted(&self) {
        self.inner.counters.unrouted.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages of the channel that this node refused because of the schema, since it started.
    pub(super) fn rejected(&self, channel: ChannelId) -> u64 {
        self.inner.counters.rejected.lock().get(&channel).copied().unwrap_or(0)
    }

    fn all_rejected(&self) -> BTreeMap<String, u64> {
        let (catalog, rejected) = (self.inner.view.catalog(), self.inner.counters.rejected.lock());
        if rejected.is_empty() {
            return BTreeMap::new();
        }
        let count = |meta: &Arc<ChannelMeta>| Some((meta.name.to_string(), *rejected.get(&meta.id)?));
        catalog.iter().filter_map(count).collect()
    }

    fn count_rejected(&self, channel: &str) {
        let catalog = self.inner.view.catalog();
        let Some(meta) = catalog.get(channel) else { return };
        let mut rejected = self.inner.counters.rejected.lock();
        if !rejected.contains_key(&meta.id) && rejected.len() >= catalog.len() {
            // Some are of channels that were deleted.
            let live: BTreeSet<ChannelId> = catalog.iter().map(|meta| meta.id).collect();
            rejected.retain(|channel, _| live.contains(channel));
        }
        *rejected.entry(meta.id).or_default() += 1;
    }

    pub(super) fn count(&self, results: &[Result<Outcome, BrokerError>]) {
        let (mut published, mut duplicates) = (0, 0);
        for result in results {
            match result {
                Ok(outcome) if outcome.duplicate => duplicates += 1,
                Ok(_) => published += 1,
                Err(error) => {
                    *self.inner.counters.failed.lock().entry(error.code().as_str()).or_default() += 1;
                    if let BrokerError::SchemaViolation { channel, .. } = error {
                        self.count_rejected(channel);
                    }
                }
            }
        }
        self.inner.counters.published.fetch_add(published, Ordering::Relaxed);
        self.inner.counters.duplicates.fetch_add(duplicates, Ordering::Relaxed);
    }

    /// Takes room for a publish. One publish alone is never too large.
    pub(super) fn admit(&self, bytes: usize) -> Result<Lease, Unserved> {
        let admitted = self.inner.counters.in_flight.take(bytes);
        admitted.map_err(|Full { held, limit, .. }| overloaded(held + bytes, limit))
    }

    /// So many messages were refused for one reason.
    pub(super) fn count_refused(&self, error: &BrokerError, messages: u32) {
        *self.inner.counters.failed.lock().entry(error.code().as_str()).or_default() += u64::from(messages);
    }
}
