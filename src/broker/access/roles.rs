//! Roles as administrators see them, with what they limit.

use super::{Access, manage};
use crate::{
    broker::BrokerError,
    model::{Grant, Quantity, Role, RoleQuota, SecurityOperation},
    proto::v1,
};

/// A role, and how much each token may take that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleInfo {
    /// What it grants.
    pub role: Role,
    /// What it limits.
    pub quota: RoleQuota,
}

impl RoleInfo {
    /// As the public API says it.
    pub fn to_proto(&self) -> v1::Role {
        let grant = |grant: &Grant| v1::Grant {
            scope: grant.scope.to_string(),
            actions: grant.actions.iter().map(|action| action.name().to_owned()).collect(),
        };
        let Role { name, description, grants } = &self.role;
        v1::Role {
            name: name.to_string(),
            description: description.clone(),
            grants: grants.iter().map(grant).collect(),
            quota: (!self.quota.is_empty()).then(|| to_proto(self.quota)),
        }
    }
}

macro_rules! quotas {
    ($($field:ident),+) => {
        fn to_proto(RoleQuota { $($field),+ }: RoleQuota) -> v1::RoleQuota {
            v1::RoleQuota { $($field),+ }
        }

        fn of_proto(v1::RoleQuota { $($field),+ }: v1::RoleQuota) -> RoleQuota {
            RoleQuota { $($field),+ }
        }
    };
}

quotas! {
    connections, streams, in_flight_bytes, messages_per_second, bytes_per_second, filter_ms_per_second, channels, consumers,
    claims
}

/// A rate of nothing would defer for ever what it should refuse.
fn check(quota: &RoleQuota) -> Result<(), BrokerError> {
    let rates = [Quantity::MessagesPerSecond, Quantity::BytesPerSecond, Quantity::FilterMsPerSecond];
    let Some(rate) = rates.into_iter().find(|rate| quota.get(*rate) == Some(0)) else { return Ok(()) };
    let name = rate.name();
    let reason = format!("{name} is 0: give at least 1, or take the right away where nothing is to be allowed");
    Err(BrokerError::InvalidArgument { reason })
}

impl Access {
    /// Says how much each token may take that has a role, in the place of what was said before. Nothing is a quota that
    /// limits nothing.
    ///
    /// # Errors
    /// `RoleNotFound`, `InvalidArgument`.
    pub async fn set_role_quota(&self, role: &str, quota: v1::RoleQuota) -> Result<RoleInfo, BrokerError> {
        self.may_admin()?;
        let role = manage::role_name(role)?;
        manage::check_changeable(&role)?;
        let quota = of_proto(quota);
        check(&quota)?;
        let said: Vec<String> =
            quota.limits().map(|(quantity, limit)| format!("{}={limit}", quantity.name())).collect();
        let act = self.begin("role.quota", manage::role_act(&role)).with(manage::listed("quota", &said));
        act.end(self.role_of(SecurityOperation::SetRoleQuota { role, quota }).await)
    }
}
