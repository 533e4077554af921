//! The errors of single operations: each type has what its operation can fail with and nothing else, so that callers can
//! tell and the compiler checks it. Their variants are those of [`BrokerError`] by name and fields; all of them become that
//! at the faces and between brokers, and it has their messages, codes and help.

use liminal_wire::Code;

use super::BrokerError;
use crate::model::ClaimInfo;

/// An error type whose variants are some of [`BrokerError`]'s, and perhaps those of other such types.
macro_rules! errors {
    ($(#[$doc:meta])+ $name:ident $(or $other:ident)* {
        $($variant:ident $({ $($field:ident: $type:ty),+ })?,)+
    }) => {
        $(#[$doc])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $(
                #[doc = concat!("As [`BrokerError::", stringify!($variant), "`].")]
                $variant $({ $(#[doc = "As there."] $field: $type),+ })?,
            )+
            $(
                #[doc = concat!("See [`", stringify!($other), "`].")]
                $other($other),
            )*
        }

        impl $name {
            /// Its stable code.
            pub fn code(&self) -> &'static Code {
                BrokerError::from(self.clone()).code()
            }

            /// What to do next, for people.
            pub fn help(&self) -> String {
                BrokerError::from(self.clone()).help()
            }

            /// Whether what was asked for may have happened, or may yet happen.
            pub fn outcome_unknown(&self) -> bool {
                BrokerError::from(self.clone()).outcome_unknown()
            }
        }

        impl From<$name> for BrokerError {
            fn from(error: $name) -> Self {
                match error {
                    $($name::$variant $({ $($field),+ })? => Self::$variant $({ $($field),+ })?,)+
                    $($name::$other(error) => error.into(),)*
                }
            }
        }

        $(
            impl From<$other> for $name {
                fn from(error: $other) -> Self {
                    Self::$other(error)
                }
            }
        )*

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&BrokerError::from(self.clone()), f)
            }
        }

        impl std::error::Error for $name {}
    };
}

errors! {
    /// Why a request was not served, whatever it asked for: it says something about this node, the cluster, or how much is
    /// asked of them.
    Unserved {
        Stopping,
        NotAMember { reason: String },
        NoLeader { waited_ms: u64 },
        NoMajority { reason: String },
        NotConfirmed { waited_ms: u64 },
        StoreFailed { node: String, reason: String, proposed: bool },
        Overloaded { in_flight: u64, limit: u64, retry_after_ms: u64 },
        QuotaExceeded { what: String, limit: u64, retry_after_ms: u64 },
        LimitExceeded { what: String, value: u64, limit: u64 },
        OutcomeUnknown { reason: String },
        Internal { reason: String },
        NotUnderstood { node: String, what: String },
        NotUpgraded { needs: u32, cluster: u32, node: String, speaks: u32 },
        OfNewerVersion { code: String, text: String, unknown: bool, retry_after_ms: u64 },
    }
}

impl Unserved {
    /// A log entry would be larger than nodes take from each other.
    pub(in crate::broker) fn entry_too_large(value: u64, limit: u64) -> Self {
        Self::LimitExceeded { what: "the log entry that it would be part of (bytes)".into(), value, limit }
    }

    /// What the leader refuses an operation with before it is in the log: nothing else than these.
    pub(in crate::broker) fn of_leader(error: BrokerError) -> Self {
        match error {
            BrokerError::Stopping => Self::Stopping,
            BrokerError::NotAMember { reason } => Self::NotAMember { reason },
            BrokerError::NoLeader { waited_ms } => Self::NoLeader { waited_ms },
            BrokerError::NoMajority { reason } => Self::NoMajority { reason },
            BrokerError::NotConfirmed { waited_ms } => Self::NotConfirmed { waited_ms },
            BrokerError::StoreFailed { node, reason, proposed } => Self::StoreFailed { node, reason, proposed },
            BrokerError::Overloaded { in_flight, limit, retry_after_ms } => {
                Self::Overloaded { in_flight, limit, retry_after_ms }
            }
            BrokerError::QuotaExceeded { what, limit, retry_after_ms } => {
                Self::QuotaExceeded { what, limit, retry_after_ms }
            }
            BrokerError::LimitExceeded { what, value, limit } => Self::LimitExceeded { what, value, limit },
            BrokerError::OutcomeUnknown { reason } => Self::OutcomeUnknown { reason },
            BrokerError::Internal { reason } => Self::Internal { reason },
            BrokerError::NotUnderstood { node, what } => Self::NotUnderstood { node, what },
            BrokerError::NotUpgraded { needs, cluster, node, speaks } => {
                Self::NotUpgraded { needs, cluster, node, speaks }
            }
            BrokerError::OfNewerVersion { code, text, unknown, retry_after_ms } => {
                Self::OfNewerVersion { code, text, unknown, retry_after_ms }
            }
            other => Self::Internal { reason: format!("the leader refused it with what it never should: {other}") },
        }
    }
}

errors! {
    /// Why an operation on a claim, or on a namespace of claims, failed.
    ClaimError or Unserved {
        InvalidArgument { reason: String },
        LimitExceeded { what: String, value: u64, limit: u64 },
        NamespaceNotFound { name: String },
        TooManyClaims { namespace: String, limit: u64 },
        RoleQuotaExceeded { what: String, value: u64, limit: u64, name: String, retry_after_ms: u64 },
        ClaimStale { namespace: String, key: String, token: u64, current: Option<ClaimInfo> },
        ClaimCompleted { namespace: String, key: String, token: u64, completed_ms: u64 },
        ClaimOutcomeUnknown { reason: String },
    }
}

errors! {
    /// Why there is no channel under a name.
    NoChannel {
        InvalidChannelName { reason: String },
        ChannelNotFound { name: String, similar: Option<String> },
    }
}

errors! {
    /// Why an operation on a rule between channels failed.
    RuleError or NoChannel or Unserved {
        InvalidArgument { reason: String },
        LimitExceeded { what: String, value: u64, limit: u64 },
        RuleNotFound { source_channel: String, target_channel: String },
        RuleRefused { reason: String },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unserved() -> Vec<Unserved> {
        let (text, limit, retry_after_ms) = (|| "x".to_owned(), 2, 3);
        vec![
            Unserved::Stopping,
            Unserved::NotAMember { reason: text() },
            Unserved::NoLeader { waited_ms: 1 },
            Unserved::NoMajority { reason: text() },
            Unserved::NotConfirmed { waited_ms: 1 },
            Unserved::StoreFailed { node: text(), reason: text(), proposed: true },
            Unserved::Overloaded { in_flight: 1, limit, retry_after_ms },
            Unserved::QuotaExceeded { what: text(), limit, retry_after_ms },
            Unserved::entry_too_large(3, limit),
            Unserved::OutcomeUnknown { reason: text() },
            Unserved::Internal { reason: text() },
            Unserved::NotUnderstood { node: text(), what: text() },
            Unserved::NotUpgraded { needs: 4, cluster: 3, node: text(), speaks: 3 },
            Unserved::OfNewerVersion { code: text(), text: text(), unknown: true, retry_after_ms },
        ]
    }

    #[test]
    fn what_a_leader_refuses_any_request_with_is_the_same_for_who_asked_it() {
        for error in unserved() {
            assert_eq!(Unserved::of_leader(error.clone().into()), error);
        }
        let foreign = Unserved::of_leader(BrokerError::StaleSchema);
        assert!(matches!(&foreign, Unserved::Internal { reason } if reason.contains("schema changed")), "{foreign}");
    }

    #[test]
    fn an_error_of_an_operation_says_what_it_says_at_the_faces() {
        for error in unserved().into_iter().map(ClaimError::from) {
            let told = BrokerError::from(error.clone());
            assert_eq!((error.code(), error.to_string(), error.help()), (told.code(), told.to_string(), told.help()));
            assert_eq!(error.outcome_unknown(), told.outcome_unknown());
        }
    }
}
