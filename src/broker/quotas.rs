//! What counts against quotas and places: publishes to each channel, bytes in flight, and what is open on a connection.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::{error::BrokerError, stats::RETRY_AFTER_MS};
use crate::{
    budget::{Full, Lease, Level, Progress},
    model::{ChannelId, Refusal},
    quota::Meter,
};

/// What was published lately to each channel that has a quota, through this node as the leader.
#[derive(Default)]
pub(super) struct Quotas {
    pub(super) meters: Mutex<HashMap<ChannelId, Meter>>,
}

/// Bytes that count as in flight on a connection until this is dropped.
pub struct Held {
    _in_flight: Lease,
    _of_token: Option<Lease>,
    arrived: Option<Progress>,
}

impl Held {
    pub(super) fn new(in_flight: Lease) -> Self {
        Self { _in_flight: in_flight, _of_token: None, arrived: None }
    }

    /// They count for a token as well.
    pub(super) fn with_token(mut self, lease: Option<Lease>) -> Self {
        self._of_token = lease;
        self
    }

    /// With the request that they came with, which counts no longer either.
    #[must_use]
    pub fn with(mut self, arrived: Option<Progress>) -> Self {
        self.arrived = arrived;
        self
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(arrived) = &self.arrived {
            arrived.answered();
        }
    }
}

/// That so much of something is open or under way, on one of the levels that it counts on.
pub fn over_budget(what: &str, full: Full) -> BrokerError {
    let Full { whose, limit, .. } = full;
    let what = format!("{what} of this {whose}");
    BrokerError::QuotaExceeded { what, limit: limit as u64, retry_after_ms: RETRY_AFTER_MS }
}

/// When to try again what is refused because of what there is in the state, which nobody gives back soon.
pub(super) const STATE_RETRY_MS: u64 = 1_000;

/// What the machine refuses because the token has as much as its roles allow.
pub(super) fn over_quota(refusal: Refusal) -> BrokerError {
    match refusal {
        Refusal::OverQuota { quantity, held, limit, role } => BrokerError::RoleQuotaExceeded {
            what: quantity.to_string(),
            value: held.saturating_add(1),
            limit,
            name: role.to_string(),
            retry_after_ms: STATE_RETRY_MS,
        },
        other => BrokerError::Internal { reason: other.to_string() },
    }
}

/// Takes a place on a connection, as long as a subscription lives or a request waits.
///
/// # Errors
/// `LimitExceeded` when it has as many as it may have.
pub fn place_on_connection(places: &Arc<Level>, whose: &str) -> Result<Lease, BrokerError> {
    places.take(1).map_err(|Full { held, limit, .. }| {
        let what = format!("the number of {whose} on this connection");
        BrokerError::LimitExceeded { what, value: held as u64 + 1, limit: limit as u64 }
    })
}
