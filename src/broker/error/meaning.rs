//! What programs and people are told of an error beyond its message. Most of it follows from the code, and comes from the
//! table of codes; what an error itself knows better is here.

use std::time::Duration;

use liminal_wire::{Admission, Code, code::Outcome};
use tokio::time::Instant;

use super::{
    BrokerError, Violation,
    text::{Holding, Whose},
};
use crate::model::{HistoryChange, Notice};

/// The code of that text, where this version knows it.
pub(super) fn known_code(text: &str) -> Option<&'static Code> {
    Code::ALL.iter().find(|code| code.as_str() == text)
}

impl BrokerError {
    /// A rule would copy a message into a channel that may never hold so much.
    pub(in crate::broker) fn copy_too_large(channel: &str, value: u64, limit: u64) -> Self {
        let what = format!("the message (bytes) for what channel `{channel}`, to which a rule copies it, may hold");
        Self::LimitExceeded { what, value, limit }
    }

    /// Its stable code.
    pub fn code(&self) -> &'static Code {
        match self {
            Self::ChannelNotFound { .. } => &Code::ChannelNotFound,
            Self::ChannelExists { .. } => &Code::ChannelExists,
            Self::InvalidChannelName { .. } => &Code::InvalidChannelName,
            Self::SchemaViolation { .. } => &Code::SchemaViolation,
            Self::SchemaTooExpensive { .. } => &Code::SchemaTooExpensive,
            Self::InvalidSchema { .. } => &Code::InvalidSchema,
            Self::KeyConflict { .. } => &Code::KeyConflict,
            Self::LimitExceeded { .. } => &Code::LimitExceeded,
            Self::TooManyKeys { .. } | Self::TooManyKeysInAll { .. } => &Code::TooManyKeys,
            Self::Overloaded { .. } => &Code::Overloaded,
            Self::OutOfRange { .. } => &Code::OutOfRange,
            Self::InvalidArgument { .. } => &Code::InvalidArgument,
            Self::NotStored { .. } => &Code::NotStored,
            Self::NoLeader { .. } | Self::NoMajority { .. } => &Code::NoLeader,
            Self::NotConfirmed { .. } => &Code::NotConfirmed,
            Self::OutcomeUnknown { .. } => &Code::OutcomeUnknown,
            Self::StoreFailed { .. } => &Code::StoreFailed,
            Self::Stopping => &Code::Stopping,
            Self::Internal { .. } => &Code::Internal,
            Self::ChangeRefused { .. } => &Code::ChangeRefused,
            Self::NotAMember { .. } => &Code::NotAMember,
            Self::StaleSchema => &Code::StaleSchema,
            Self::RuleNotFound { .. } => &Code::RuleNotFound,
            Self::RuleRefused { .. } => &Code::RuleRefused,
            Self::SchemaIncompatible { .. } => &Code::SchemaIncompatible,
            Self::NamespaceNotFound { .. } => &Code::NamespaceNotFound,
            Self::TooManyClaims { .. } => &Code::TooManyClaims,
            Self::ClaimInFlight { .. } => &Code::ClaimInFlight,
            Self::ClaimStale { .. } => &Code::ClaimStale,
            Self::ClaimCompleted { .. } => &Code::ClaimCompleted,
            Self::ClaimOutcomeUnknown { .. } => &Code::OutcomeUnknown,
            Self::ChannelFull { .. } => &Code::ChannelFull,
            Self::QuotaExceeded { .. } | Self::RoleQuotaExceeded { .. } => &Code::QuotaExceeded,
            Self::ConsumerNotFound { .. } => &Code::ConsumerNotFound,
            Self::ConsumerExists { .. } => &Code::ConsumerExists,
            Self::InvalidConsumerName { .. } => &Code::InvalidConsumerName,
            Self::StaleDelivery { .. } | Self::ForeignDelivery { .. } => &Code::StaleDelivery,
            Self::WrongSeq { .. } => &Code::WrongSeq,
            Self::KeyWaits { .. } | Self::KeyUsedApart { .. } => &Code::KeyConflict,
            Self::InTransaction { error, .. } => error.code(),
            Self::NoResponders { .. } => &Code::NoResponders,
            Self::ReplyTimeout { .. } => &Code::ReplyTimeout,
            Self::InboxGone { .. } => &Code::InboxGone,
            Self::HistoryChanged(notice) => notice.change.code(),
            Self::NotUnderstood { .. } => &Code::Unimplemented,
            Self::NotUpgraded { .. } => &Code::NotUpgraded,
            Self::OfNewerVersion { code, unknown, .. } => {
                known_code(code).unwrap_or(if *unknown { &Code::OutcomeUnknown } else { &Code::Internal })
            }
            Self::Unauthenticated { .. } => &Code::Unauthenticated,
            Self::PermissionDenied { .. } => &Code::PermissionDenied,
            Self::TokenNotFound { .. } => &Code::TokenNotFound,
            Self::RoleNotFound { .. } => &Code::RoleNotFound,
            Self::RoleExists { .. } => &Code::RoleExists,
            Self::RoleInUse { .. } => &Code::RoleInUse,
            Self::LastAdministrator { .. } => &Code::LastAdministrator,
        }
    }

    /// What to do next, for people.
    pub fn help(&self) -> String {
        match self {
            Self::ChannelNotFound { name, similar: Some(similar) } => {
                format!("did you mean `{similar}`? or run `liminal channel create {name}`")
            }
            Self::ChannelNotFound { name, similar: None } => format!("run `liminal channel create {name}`"),
            Self::ChannelExists { name } => {
                format!("look at it with `liminal channel show {name}`, or choose another name")
            }
            Self::SchemaIncompatible { channel, .. } => format!(
                "mend the places named; or see with `liminal channel validate {channel} --schema FILE` whether a stored \
                 message breaks it, and update without the check (compatibility none)"
            ),
            Self::WrongSeq { actual, .. } => {
                format!("read what was published meanwhile, then publish again with expected sequence number {actual}")
            }
            Self::KeyUsedApart { .. } => "repeat a transaction as it was, or give new messages new keys".into(),
            Self::InTransaction { error, .. } => error.help(),
            Self::NoResponders { channel } => {
                format!("start a responder: `liminal subscribe {channel}`; nothing was stored")
            }
            Self::TooManyKeysInAll { .. } => {
                "wait until keys leave their windows, give channels shorter ones, or raise limits.key_memory \
                 (docs/KEYS.md, \"How many keys\")"
                    .into()
            }
            Self::Overloaded { retry_after_ms, .. } => {
                format!("try again in {retry_after_ms} ms, with fewer publishes in flight")
            }
            Self::QuotaExceeded { retry_after_ms, .. } => {
                format!("try again in {retry_after_ms} ms, or have the quota raised")
            }
            Self::RoleQuotaExceeded { name, retry_after_ms, .. } => format!(
                "try again in {retry_after_ms} ms, give back what you do not need, or have the quota raised: \
                 `liminal role quota {name}`"
            ),
            Self::ChannelFull { channel, .. } => format!(
                "let go of old messages with `liminal channel trim {channel} --keep N`, raise its limit with \
                 `liminal channel update`, or let it drop the oldest (`--when-full drop-oldest`)"
            ),
            Self::OutOfRange { first, .. } => format!("begin at {first}, or at `earliest`"),
            Self::HistoryChanged(notice) => format!("go on at `{}`, or begin at `earliest`", notice.next),
            Self::StoreFailed { proposed: true, .. } => Code::OutcomeUnknown.meaning().next.into(),
            Self::StoreFailed { proposed: false, node, .. } => {
                let whose = Whose(node).to_string();
                format!(
                    "look at the disk and the log of {whose}; another node takes its place if one is well: try again"
                )
            }
            Self::ClaimInFlight { retry_after_ms, .. } => {
                format!(
                    "try again in {retry_after_ms} ms: by then it is completed, or its lease has ended or is renewed"
                )
            }
            Self::ClaimOutcomeUnknown { .. } => {
                "repeat the request: a take with the same owner gives the same token, and nothing happens twice".into()
            }
            Self::ConsumerNotFound { similar: Some(similar), channel, name } => {
                format!("did you mean `{similar}`? or run `liminal consumer create {channel} {name}`")
            }
            Self::ConsumerNotFound { similar: None, channel, name } => {
                format!("run `liminal consumer create {channel} {name}`")
            }
            Self::ConsumerExists { channel, name } => {
                format!("look at it with `liminal consumer show {channel} {name}`, or choose another name")
            }
            Self::ForeignDelivery { .. } => "undo what was done for it: what is to be done is handed out anew".into(),
            Self::NotUnderstood { .. } => {
                "upgrade that node, or try again when all nodes are upgraded; nothing was done".into()
            }
            Self::NotUpgraded { node, speaks, .. } => Holding(node, *speaks).help(),
            Self::PermissionDenied { action, on, .. } => {
                format!("ask an administrator for a role that grants `{action}` on {on} (docs/SECURITY.md)")
            }
            Self::RoleExists { name } => {
                format!("look at it with `liminal role show {name}`, or change it with `liminal role update {name}`")
            }
            _ => self.code().meaning().next.into(),
        }
    }

    /// The same as an error that ends a read or a subscription.
    pub(in crate::broker) fn of_notice(notice: Notice) -> Self {
        match notice {
            Notice { change: HistoryChange::Cut, channel, from_seq: seq, first_seq: first, .. } => {
                Self::OutOfRange { channel, seq, first }
            }
            notice => Self::HistoryChanged(Box::new(notice)),
        }
    }

    /// What a reader is told of its history, and where it goes on.
    pub fn notice(&self) -> Option<&Notice> {
        match self {
            Self::HistoryChanged(notice) => Some(notice),
            _ => None,
        }
    }

    /// The places in a payload that break its schema, where that is what is wrong.
    pub fn violations(&self) -> Option<&[Violation]> {
        match self {
            Self::SchemaViolation { violations, .. } => Some(violations),
            Self::InTransaction { error, .. } => error.violations(),
            _ => None,
        }
    }

    /// The same after an earlier attempt whose outcome is not known: what says nothing of that attempt leaves it
    /// unknown.
    pub(in crate::broker) fn after_unknown(self, unknown: Option<String>) -> Self {
        match unknown {
            Some(reason) if self.leaves_unknown() => Self::OutcomeUnknown { reason: format!("{reason}; then {self}") },
            _ => self,
        }
    }

    /// Whether it says nothing of an earlier attempt at the same. A limit is looked at before anything is stored, and may be
    /// that of a log entry which the message shares with others.
    fn leaves_unknown(&self) -> bool {
        let code = self.code();
        let of_this_attempt =
            matches!(self, Self::NotUnderstood { .. } | Self::NotUpgraded { .. } | Self::OfNewerVersion { .. })
                || matches!(code, Code::ChannelFull | Code::LimitExceeded | Code::Internal);
        (code.meaning().retry || of_this_attempt) && !self.outcome_unknown()
    }

    /// How long to wait before a publish is tried again whose earlier attempt may have been committed, so that its
    /// outcome becomes known; none where that is not worth it.
    pub(in crate::broker) fn worth_waiting(&self, unknown: Option<&str>, deadline: Instant) -> Option<Duration> {
        unknown?;
        self.retry_after().filter(|wait| Instant::now() + *wait < deadline)
    }

    /// Whether what was asked for may have happened, or may yet happen.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::StoreFailed { proposed, .. } => *proposed,
            Self::OfNewerVersion { unknown, .. } => *unknown,
            _ => self.code().meaning().outcome == Outcome::Unknown,
        }
    }

    /// Every single thing that is wrong, where there may be several.
    pub fn places(&self) -> &[Violation] {
        match self {
            Self::SchemaViolation { violations, .. } => violations,
            Self::SchemaIncompatible { reasons, .. } => reasons,
            Self::InTransaction { error, .. } => error.places(),
            _ => &[],
        }
    }

    /// When to try again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after_ms, .. }
            | Self::QuotaExceeded { retry_after_ms, .. }
            | Self::RoleQuotaExceeded { retry_after_ms, .. }
            | Self::ClaimInFlight { retry_after_ms, .. } => Some(Duration::from_millis(*retry_after_ms)),
            Self::OfNewerVersion { retry_after_ms, .. } if *retry_after_ms > 0 => {
                Some(Duration::from_millis(*retry_after_ms))
            }
            Self::InTransaction { error, .. } => error.retry_after(),
            _ => None,
        }
    }

    /// What a publisher should do; none where the cluster is in trouble, or the outcome is unknown.
    pub fn admission(&self) -> Option<Admission> {
        let in_trouble = self.code().meaning().retry
            || matches!(self.code(), Code::Internal | Code::Unimplemented | Code::NotUpgraded);
        match self.retry_after() {
            Some(_) => Some(Admission::Defer),
            None if in_trouble || self.outcome_unknown() => None,
            None => Some(Admission::Reject),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_of_an_earlier_attempt_leaves_its_outcome_unknown() {
        let lost = || Some("the leader was lost".to_owned());
        for error in [
            BrokerError::Stopping,
            BrokerError::NoLeader { waited_ms: 1 },
            BrokerError::StoreFailed { node: String::new(), reason: "x".into(), proposed: false },
            BrokerError::ChannelFull { channel: "c".into(), what: "bytes".into(), limit: 1 },
            BrokerError::LimitExceeded { what: "the log entry (bytes)".into(), value: 2, limit: 1 },
        ] {
            assert_eq!(error.clone().after_unknown(None), error, "a first attempt");
            let later = error.after_unknown(lost());
            assert!(later.outcome_unknown() && later.to_string().contains("was lost"), "{later}");
        }
        let ends_elsewhere = BrokerError::WrongSeq { channel: "c".into(), expected: 1, actual: 2 };
        assert_eq!(ends_elsewhere.clone().after_unknown(lost()), ends_elsewhere);
    }

    #[test]
    fn only_what_is_certain_and_will_not_pass_is_rejected() {
        let admission = |error: BrokerError| error.admission();
        assert_eq!(admission(BrokerError::StaleDelivery { seq: 1 }), Some(Admission::Reject));
        assert_eq!(admission(BrokerError::NoLeader { waited_ms: 1 }), None);
        assert_eq!(admission(BrokerError::ClaimOutcomeUnknown { reason: "x".into() }), None);
        let quota = BrokerError::QuotaExceeded { what: "x".into(), limit: 1, retry_after_ms: 1 };
        assert_eq!(admission(quota), Some(Admission::Defer));
        let not_understood = BrokerError::NotUnderstood { node: "b".into(), what: "a kind".into() };
        assert_eq!(admission(not_understood), None, "it is understood when that node is upgraded");
    }
}
