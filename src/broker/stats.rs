//! What a broker counts, for metrics; and the bytes in flight, which it bounds.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
};

use parking_lot::Mutex;

use super::error::Unserved;
use crate::{budget::Level, model::ChannelId};

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
    pub(super) published: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) failed: Mutex<BTreeMap<&'static str, u64>>,
    pub(super) unrouted: AtomicU64,
    /// By the schema, of channels that exist.
    pub(super) rejected: Mutex<BTreeMap<ChannelId, u64>>,
    /// Bytes of publishes that are not answered.
    pub(super) in_flight: Arc<Level>,
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

pub(super) fn overloaded(in_flight: usize, limit: usize) -> Unserved {
    Unserved::Overloaded { in_flight: in_flight as u64, limit: limit as u64, retry_after_ms: RETRY_AFTER_MS }
}
