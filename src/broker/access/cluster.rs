//! What a caller may do to the cluster as a whole. The node does it; here is only the check.

use super::{Access, Object, Standing, caller::Right};
use crate::{broker::BrokerError, model::Action};

impl Access {
    /// Whether the caller may do this to the cluster, now.
    ///
    /// # Errors
    /// `Unauthenticated`, `PermissionDenied`.
    pub fn may_on_cluster(&self, action: Action) -> Result<(), BrokerError> {
        self.caller.may(action, Object::Cluster)
    }

    /// The same of an answer that takes long, which ends with the right.
    ///
    /// # Errors
    /// As [`Access::may_on_cluster`].
    pub fn may_long_on_cluster(&self, action: Action) -> Result<Option<Standing>, BrokerError> {
        self.may_on_cluster(action)?;
        Ok(self.caller.standing(Right::Cluster(action)))
    }
}
