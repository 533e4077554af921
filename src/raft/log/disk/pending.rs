//! What was given to the log and is not written yet.

use super::{super::OnDurable, format::Unit};

/// A unit on its way to a place in the log.
pub(super) struct Pending {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) unit: Unit,
    pub(super) on_durable: Option<OnDurable>,
}
