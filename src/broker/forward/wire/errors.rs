//! Errors as brokers say them to each other. Each has its fields, and beside them what holds of every error: its stable code,
//! its text, whether the outcome is unknown, and when to try again. A node that does not know a kind of error hands on those.

use super::{Kinds, Misread, Wire, choices, kinds, only_kinds, peer, records, required};
use crate::{
    broker::{BrokerError, TransactionPart, Violation},
    model::{HistoryChange, Notice, Position},
};

choices! {
    HistoryChange { Cut, Rewound, Recreated, BeyondEnd }
}

records! {
    Violation = Violation { pointer, message }
    Position = Position { channel, epoch, history, seq }
    Notice = Notice { change, channel, from_seq, first_seq, end_seq; next }
}

kinds! { TransactionPart in transaction_part { one [Message, Ack, Completion] } }
only_kinds!(TransactionPart);

/// The kinds of errors whose fields are called the same on the wire. Behind the semicolon: fields that are messages.
macro_rules! errors {
    ($($kind:ident { $($field:ident),* $(; $($inner:ident),+)? })*) => {
        /// What only this kind of error says. None for those that are said otherwise.
        fn fields(error: &BrokerError) -> Option<peer::Error> {
            match error {
                $(BrokerError::$kind { $($field,)* $($($inner,)+)? } => Some(peer::Error {
                    kind: peer::ErrorKind::$kind.into(),
                    $($field: $field.to_wire(),)*
                    $($($inner: Some($inner.to_wire()),)+)?
                    ..peer::Error::default()
                }),)*
                BrokerError::InTransaction { .. }
                | BrokerError::HistoryChanged(_)
                | BrokerError::RoleInUse { .. }
                | BrokerError::OfNewerVersion { .. } => None,
            }
        }

        /// The error of a kind that has such fields.
        fn of_fields(kind: peer::ErrorKind, message: peer::Error) -> Result<BrokerError, Misread> {
            Ok(match kind {
                $(peer::ErrorKind::$kind => BrokerError::$kind {
                    $($field: Wire::from_wire(message.$field)?,)*
                    $($($inner: required(message.$inner, stringify!($inner))?,)+)?
                },)*
                peer::ErrorKind::HistoryChanged => {
                    BrokerError::HistoryChanged(Box::new(required(message.notice, "notice")?))
                }
                peer::ErrorKind::RoleInUse => BrokerError::RoleInUse { name: message.name, token: message.id },
                peer::ErrorKind::Unspecified => return Err(Misread::unknown("Error")),
            })
        }
    };
}

errors! {
    ChannelNotFound { name, similar }
    ChannelExists { name }
    InvalidChannelName { reason }
    SchemaViolation { channel, violations }
    SchemaTooExpensive { channel, reason }
    InvalidSchema { reason }
    KeyConflict { channel, key, seq }
    LimitExceeded { what, value, limit }
    TooManyKeys { channel, limit }
    Overloaded { in_flight, limit, retry_after_ms }
    OutOfRange { channel, seq, first }
    InvalidArgument { reason }
    NotStored { channel }
    NoLeader { waited_ms }
    NotConfirmed { waited_ms }
    OutcomeUnknown { reason }
    StoreFailed { node, reason, proposed }
    Stopping {}
    Internal { reason }
    NotAMember { reason }
    StaleSchema {}
    RuleNotFound { source_channel, target_channel }
    RuleRefused { reason }
    ConsumerNotFound { channel, name, similar }
    ConsumerExists { channel, name }
    InvalidConsumerName { reason }
    StaleDelivery { seq }
    ChangeRefused { reason }
    SchemaIncompatible { channel, reasons }
    NamespaceNotFound { name }
    TooManyClaims { namespace, limit }
    ClaimInFlight { namespace, key, retry_after_ms; holder }
    ClaimStale { namespace, key, token, current }
    ClaimCompleted { namespace, key, token, completed_ms }
    ClaimOutcomeUnknown { reason }
    ChannelFull { channel, what, limit }
    QuotaExceeded { what, limit, retry_after_ms }
    WrongSeq { channel, expected, actual }
    KeyWaits { channel, key, due_ms }
    KeyUsedApart { channel, key }
    NoResponders { channel }
    ReplyTimeout { waited_ms }
    InboxGone { inbox, reason }
    NoMajority { reason }
    TooManyKeysInAll { limit }
    ForeignDelivery { seq, change }
    NotUnderstood { node, what }
    NotUpgraded { needs, cluster, node, speaks }
    Unauthenticated { reason }
    PermissionDenied { who, action, on }
    TokenNotFound { id }
    RoleNotFound { name }
    RoleExists { name }
    LastAdministrator { id }
    RoleQuotaExceeded { what, value, limit, name, retry_after_ms }
}

impl Wire for BrokerError {
    type Message = peer::Error;

    fn to_wire(&self) -> peer::Error {
        let (part, error) = match self {
            Self::InTransaction { part, error } => (Some(part.to_wire()), &**error),
            // As it came: its kind is not known.
            Self::OfNewerVersion { code, text, unknown, retry_after_ms } => {
                return peer::Error {
                    code: code.clone(),
                    text: text.clone(),
                    outcome_unknown: *unknown,
                    retry_after_ms: *retry_after_ms,
                    ..peer::Error::default()
                };
            }
            error => (None, error),
        };
        let said = match error {
            Self::HistoryChanged(notice) => peer::Error {
                kind: peer::ErrorKind::HistoryChanged.into(),
                notice: Some(notice.to_wire()),
                ..peer::Error::default()
            },
            // `token` is a number, that of a claim.
            Self::RoleInUse { name, token } => peer::Error {
                kind: peer::ErrorKind::RoleInUse.into(),
                name: name.clone(),
                id: token.clone(),
                ..peer::Error::default()
            },
            error => fields(error).unwrap_or_default(),
        };
        let retry_after_ms = self.retry_after().map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        peer::Error {
            code: self.code().as_str().to_owned(),
            text: self.to_string(),
            outcome_unknown: self.outcome_unknown(),
            retry_after_ms,
            part,
            ..said
        }
    }

    fn from_wire(message: peer::Error) -> Result<Self, Misread> {
        let in_words = Self::OfNewerVersion {
            code: message.code.clone(),
            text: message.text.clone(),
            unknown: message.outcome_unknown,
            retry_after_ms: message.retry_after_ms,
        };
        match known(message) {
            Err(Misread::Unknown(_)) => Ok(in_words),
            error => error,
        }
    }
}

/// An error of which all is known that it says.
fn known(mut message: peer::Error) -> Result<BrokerError, Misread> {
    let kind = peer::ErrorKind::try_from(message.kind).map_err(|_| Misread::unknown("Error"))?;
    let part: Option<TransactionPart> = Wire::from_wire(message.part.take())?;
    let error = of_fields(kind, message)?;
    Ok(match part {
        Some(part) => BrokerError::InTransaction { part, error: Box::new(error) },
        None => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newer(outcome_unknown: bool) -> BrokerError {
        let message = peer::Error {
            kind: 1_000,
            code: "QUOTA_EXCEEDED".into(),
            text: "the quota of the tenant is used up".into(),
            outcome_unknown,
            retry_after_ms: 70,
            part: Some(TransactionPart::Ack(3).to_wire()),
            ..peer::Error::default()
        };
        BrokerError::from_wire(message).unwrap()
    }

    #[test]
    fn an_error_of_a_kind_that_is_not_known_keeps_its_code_its_text_and_whether_its_outcome_is_known() {
        let error = newer(false);
        assert_eq!(
            (error.code().as_str(), error.to_string().as_str()),
            ("QUOTA_EXCEEDED", "the quota of the tenant is used up")
        );
        assert_eq!(error.retry_after(), Some(std::time::Duration::from_millis(70)));
        assert!(!error.outcome_unknown() && newer(true).outcome_unknown());
    }

    #[test]
    fn an_error_that_was_not_understood_is_handed_on_as_it_came() {
        let error = newer(true);
        assert_eq!(BrokerError::from_wire(error.to_wire()).unwrap(), error);
    }

    #[test]
    fn the_code_of_an_error_that_nobody_knows_here_is_in_its_text() {
        let message = peer::Error { kind: 1_000, code: "NEWEST".into(), text: "so it is".into(), ..Default::default() };
        let error = BrokerError::from_wire(message).unwrap();
        assert_eq!((error.code().as_str(), error.to_string().as_str()), ("INTERNAL", "so it is (NEWEST)"));
    }
}
