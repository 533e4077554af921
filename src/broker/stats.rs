//! What a broker counts, for metrics; and the bytes in flight, which it bounds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::{Broker, BrokerError, Outcome, Unserved};
use crate::{
    budget::{Full, Lease, Level},
    model::{ChannelId, ChannelMeta},
};

/// When a publisher that was refused for lack of room should try again.
pub(super) const RETRY_AFTER_MS: u64 = 50;

/// Counts since the start of the process, of publishes that clients sent to this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages that were stored, or passed on by an ephemeral channel.
    pub published: u64,
    /// Messages whose key had been used before.
    pub duplicates: u64,
    /// Messages that were refused or whose outcome is unknown, by stable code.
    pub failed: BTreeMap<&'static str, u64>,
    /// Copies that rules asked for and that were not made, because they would have broken their channel's schema.
    pub unrouted: u64,
    /// Messages that broke their channel's schema, by channel; only channels that had any.
    pub rejected: BTreeMap<String, u64>,
    /// Refused messages that should have been in their channel's quarantine and are not: over the rate, or not taken.
    pub quarantine_dropped: u64,
    /// Bytes of publishes that are not answered yet, those of other nodes' clients included.
    pub in_flight_bytes: u64,
}

pub(super) struct Counters {
    published: AtomicU64,
    duplicates: AtomicU64,
    failed: Mutex<BTreeMap<&'static str, u64>>,
    unrouted: AtomicU64,
    /// By the schema, of channels that exist.
    rejected: Mutex<BTreeMap<ChannelId, u64>>,
    /// Bytes of publishes that are not answered.
    in_flight: Arc<Level>,
}

impl Counters {
    /// With the bytes that may be in flight.
    pub(super) fn new(in_flight_bytes: usize) -> Self {
        Self {
            published: AtomicU64::default(),
            duplicates: AtomicU64::default(),
            failed: Mutex::default(),
            unrouted: AtomicU64::default(),
            rejected: Mutex::default(),
            in_flight: Level::new("node", in_flight_bytes),
        }
    }
}

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

pub(super) fn overloaded(in_flight: usize, limit: usize) -> Unserved {
    Unserved::Overloaded { in_flight: in_flight as u64, limit: limit as u64, retry_after_ms: RETRY_AFTER_MS }
}
