//! What the faces may see of the node as a whole, beside its broker: `condition`, `metrics` and `admin` answer from it.

use std::sync::{Arc, atomic::AtomicBool};

use tokio_util::sync::CancellationToken;

use super::disk::Disk;
use crate::{
    broker::{Broker, BrokerError, Gate},
    budget::Budgets,
    http,
    raft::RaftGroup,
    tls::Tls,
};

/// A node whose applied index is this far behind the commit index is not caught up.
pub(super) const BEHIND: u64 = 1_000;

pub(super) struct View {
    pub(super) broker: Broker,
    pub(super) group: RaftGroup,
    pub(super) budgets: Budgets,
    pub(super) tls: Tls,
    pub(super) gate: Arc<Gate>,
    /// Whether the channels of the configuration exist.
    pub(super) configured: Arc<AtomicBool>,
    pub(super) channels: http::ChannelMetrics,
    pub(super) consumers: http::ConsumerMetrics,
    pub(super) rejected: http::RejectedMetrics,
    pub(super) disk: Disk,
    pub(super) stopping: CancellationToken,
}

impl View {
    pub(super) fn store_failed(&self, error: &dyn std::fmt::Display) -> BrokerError {
        let node = self.broker.local().name.clone();
        BrokerError::StoreFailed { node, reason: error.to_string(), proposed: false }
    }
}
