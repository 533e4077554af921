//! How much those may take who have a role. What a role says nothing of, it does not limit; of several roles that say
//! something of the same, the one that allows most counts.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{RoleName, SecurityState, Token};

macro_rules! quantities {
    ($($(#[$doc:meta])+ $quantity:ident = $field:ident, $what:literal;)+) => {
        /// Something that a role may limit. Variants are append-only: their order is part of the format.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Quantity {
            $($(#[$doc])+ $quantity,)+
        }

        impl Quantity {
            /// All of them.
            pub const ALL: [Self; [$($what),+].len()] = [$(Self::$quantity),+];

            /// As programs name it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$quantity => stringify!($field),)+
                }
            }

            /// For people.
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$quantity => $what,)+
                }
            }
        }

        /// What a role limits, for each token that has it; none of a field is no limit by this role.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct RoleQuota {
            $($(#[$doc])+ pub $field: Option<u64>,)+
        }

        impl RoleQuota {
            /// The limit of one of them.
            pub fn get(&self, quantity: Quantity) -> Option<u64> {
                match quantity {
                    $(Quantity::$quantity => self.$field,)+
                }
            }
        }
    };
}

quantities! {
    /// Connections to one node.
    Connections = connections, "connections";
    /// Requests and streams that are open on one node.
    Streams = streams, "open requests and streams";
    /// Bytes of publishes that one node has not answered yet.
    InFlightBytes = in_flight_bytes, "bytes in flight";
    /// Messages that are published in a second through one node.
    MessagesPerSecond = messages_per_second, "messages a second";
    /// Bytes that are published in a second through one node.
    BytesPerSecond = bytes_per_second, "bytes a second";
    /// Milliseconds in a second that one node judges messages by filters.
    FilterMsPerSecond = filter_ms_per_second, "milliseconds of filters a second";
    /// Channels of the cluster that were created so.
    Channels = channels, "channels";
    /// Consumers of the cluster that were created so.
    Consumers = consumers, "consumers";
    /// Claims of the cluster that were taken so, until they are forgotten.
    Claims = claims, "claims";
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())
    }
}

impl RoleQuota {
    /// Whether it limits nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What it limits, and how much of it there may be.
    pub fn limits(&self) -> impl Iterator<Item = (Quantity, u64)> {
        Quantity::ALL.into_iter().filter_map(|quantity| Some((quantity, self.get(quantity)?)))
    }
}

/// How much a token may take of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// So much.
    pub limit: u64,
    /// The role that says so.
    pub role: RoleName,
}

impl SecurityState {
    /// How much a token may take of something: what the role says that allows most. None where no role of it says anything.
    pub fn allowance(&self, token: &Token, quantity: Quantity) -> Option<Allowance> {
        let said = token.roles.iter().filter_map(|role| Some((self.quotas.get(role)?.get(quantity)?, role)));
        // Of equal ones the first, which is the last one that is less than no other.
        let (limit, role) = said.rev().max_by_key(|(limit, _)| *limit)?;
        Some(Allowance { limit, role: role.clone() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{TokenHash, TokenId};

    fn token(roles: &[&str]) -> Token {
        Token {
            id: TokenId(1),
            hash: TokenHash([1; 32]),
            description: String::new(),
            roles: roles.iter().map(|role| role.parse().unwrap()).collect(),
            created_ms: 1,
            rotated_ms: 1,
            expires_ms: None,
        }
    }

    #[test]
    fn of_several_roles_the_largest_allowance_counts_and_a_role_that_says_nothing_adds_nothing() {
        let mut state = SecurityState::default();
        let mut put = |role: &str, quota| state.quotas.insert(role.parse().unwrap(), Arc::new(quota));
        put("small", RoleQuota { streams: Some(5), channels: Some(7), ..RoleQuota::default() });
        put("large", RoleQuota { streams: Some(50), claims: Some(0), ..RoleQuota::default() });
        put("same", RoleQuota { streams: Some(50), ..RoleQuota::default() });
        let of = |roles: &[&str], quantity| {
            let allowance = state.allowance(&token(roles), quantity);
            allowance.map(|Allowance { limit, role }| (limit, role.to_string()))
        };
        let said = |limit, role: &str| Some((limit, role.to_owned()));
        for (roles, quantity, expected) in [
            (&["small"][..], Quantity::Streams, said(5, "small")),
            (&["small", "large"], Quantity::Streams, said(50, "large")),
            (&["large", "small"], Quantity::Streams, said(50, "large")),
            (&["same", "large"], Quantity::Streams, said(50, "same")),
            (&["small", "large"], Quantity::Channels, said(7, "small")),
            (&["small", "silent"], Quantity::Streams, said(5, "small")),
            (&["large"], Quantity::Claims, said(0, "large")),
            (&["small", "large"], Quantity::Connections, None),
            (&["silent"], Quantity::Streams, None),
        ] {
            assert_eq!(of(roles, quantity), expected, "{roles:?} {quantity}");
        }
    }

    #[test]
    fn a_quota_tells_what_it_limits_and_each_quantity_has_a_name_of_its_own() {
        let quota = RoleQuota { consumers: Some(3), connections: Some(0), ..RoleQuota::default() };
        assert_eq!(quota.limits().collect::<Vec<_>>(), [(Quantity::Connections, 0), (Quantity::Consumers, 3)]);
        assert!(!quota.is_empty() && RoleQuota::default().is_empty());
        let names: std::collections::BTreeSet<_> = Quantity::ALL.map(Quantity::name).into();
        assert_eq!(names.len(), Quantity::ALL.len());
    }
}
