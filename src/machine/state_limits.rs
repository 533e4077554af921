//! How much state there may be. What is refused because of it would be refused by one node and taken by another if each
//! went by its own configuration, so the leader writes its own into the log before it proposes anything else.

use super::{Effects, Machine, keys::Key};
use crate::model::{OperationReply, StateLimits};

impl Machine {
    /// What holds now.
    pub fn state_limits(&self) -> StateLimits {
        self.state_limits
    }

    /// What is there already stays, however much.
    pub(super) fn limit_state(&mut self, limits: StateLimits, effects: &mut Effects) -> OperationReply {
        if limits != self.state_limits {
            self.restore_state_limits(limits);
            effects.put(Key::StateLimits, &limits);
        }
        OperationReply::StateLimited
    }

    pub(super) fn restore_state_limits(&mut self, limits: StateLimits) {
        self.state_limits = limits;
        self.namespaces.limit(limits.claim_namespaces, limits.live_claims);
    }
}
