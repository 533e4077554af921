//! A request that is open, on its connection and for whoever asked, until nobody holds this any more: its answer holds it,
//! and whoever finds out who asked adds to it.

use std::sync::OnceLock;

use super::level::Lease;

/// See the module.
#[derive(Debug)]
pub struct Open {
    _of_connection: Lease,
    of_token: OnceLock<Lease>,
}

impl Open {
    pub(super) fn new(of_connection: Lease) -> Self {
        Self { _of_connection: of_connection, of_token: OnceLock::new() }
    }

    /// It counts for a token as well.
    pub fn counts_for_token(&self, lease: Lease) {
        // Nobody else asks.
        let _ = self.of_token.set(lease);
    }
}
