//! The one place where the broker's errors become gRPC's: a code for programs, the stable reason, and help for people.

use std::collections::HashMap;

use liminal_wire::headers;
use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::{BadRequest, ErrorDetails, FieldViolation, Help, StatusExt as _};

use crate::{
    broker::{Admission, BrokerError, Violation},
    budget::TOO_SLOW,
    proto::v1,
};

/// The `domain` of every ErrorInfo.
const DOMAIN: &str = "liminal";
/// Bytes of violations in a status: it travels in a header, and clients take 8 KiB of those.
const STATUS_DETAILS: usize = 4 << 10;
/// Bytes of violations in one answer of a stream.
const STREAM_DETAILS: usize = 16 << 10;

/// The gRPC code that stands for an error.
fn grpc_code(error: &BrokerError) -> Code {
    match error {
        BrokerError::ConsumerNotFound { .. } => Code::NotFound,
        BrokerError::ConsumerExists { .. } => Code::AlreadyExists,
        BrokerError::InTransaction { error, .. } => grpc_code(error),
        BrokerError::ChannelNotFound { .. } | BrokerError::InboxGone { .. } => Code::NotFound,
        BrokerError::RuleNotFound { .. } => Code::NotFound,
        BrokerError::NamespaceNotFound { .. } => Code::NotFound,
        BrokerError::ChannelExists { .. }
        | BrokerError::KeyConflict { .. }
        | BrokerError::KeyWaits { .. }
        | BrokerError::KeyUsedApart { .. }
        | BrokerError::ClaimCompleted { .. } => Code::AlreadyExists,
        BrokerError::WrongSeq { .. } | BrokerError::NoResponders { .. } => Code::FailedPrecondition,
        BrokerError::ReplyTimeout { .. } => Code::DeadlineExceeded,
        BrokerError::InvalidChannelName { .. }
        | BrokerError::InvalidConsumerName { .. }
        | BrokerError::SchemaViolation { .. }
        | BrokerError::SchemaTooExpensive { .. }
        | BrokerError::InvalidSchema { .. }
        | BrokerError::LimitExceeded { .. }
        | BrokerError::InvalidArgument { .. } => Code::InvalidArgument,
        BrokerError::TooManyKeys { .. }
        | BrokerError::TooManyKeysInAll { .. }
        | BrokerError::TooManyClaims { .. }
        | BrokerError::Overloaded { .. } => Code::ResourceExhausted,
        BrokerError::ClaimStale { .. } => Code::FailedPrecondition,
        BrokerError::ClaimInFlight { .. } => Code::Aborted,
        BrokerError::QuotaExceeded { .. } | BrokerError::ChannelFull { .. } => Code::ResourceExhausted,
        BrokerError::OutOfRange { .. } | BrokerError::HistoryChanged(_) => Code::OutOfRange,
        BrokerError::StaleDelivery { .. } | BrokerError::ForeignDelivery { .. } => Code::FailedPrecondition,
        BrokerError::NotStored { .. } | BrokerError::ChangeRefused { .. } => Code::FailedPrecondition,
        BrokerError::RuleRefused { .. } => Code::FailedPrecondition,
        BrokerError::StaleSchema | BrokerError::SchemaIncompatible { .. } => Code::FailedPrecondition,
        BrokerError::OutcomeUnknown { .. }
        | BrokerError::ClaimOutcomeUnknown { .. }
        | BrokerError::StoreFailed { proposed: true, .. } => Code::Unknown,
        BrokerError::NoLeader { .. }
        | BrokerError::NoMajority { .. }
        | BrokerError::NotConfirmed { .. }
        | BrokerError::StoreFailed { proposed: false, .. }
        | BrokerError::NotAMember { .. }
        | BrokerError::Stopping => Code::Unavailable,
        BrokerError::Internal { .. } => Code::Internal,
        BrokerError::NotUnderstood { .. } => Code::Unimplemented,
        BrokerError::OfNewerVersion { unknown: true, .. } => Code::Unknown,
        BrokerError::OfNewerVersion { .. } if error.retry_after().is_some() => Code::ResourceExhausted,
        BrokerError::OfNewerVersion { .. } => Code::FailedPrecondition,
    }
}

/// The first violations, as many as fit; the error's message says how many there are.
fn fitting(violations: &[Violation], bytes: usize) -> impl Iterator<Item = &Violation> {
    let mut room = bytes;
    violations.iter().take_while(move |violation| {
        let size = violation.pointer.len() + violation.message.len() + 16;
        let fits = size <= room;
        room = room.saturating_sub(size);
        fits
    })
}

/// The code for a failure that the gRPC library found itself, before a service saw the request.
pub(super) fn library_code(code: Code) -> &'static str {
    match code {
        // A message over the size limit.
        Code::OutOfRange | Code::ResourceExhausted => "LIMIT_EXCEEDED",
        Code::InvalidArgument | Code::Internal => "INVALID_ARGUMENT",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Cancelled | Code::DeadlineExceeded => "CANCELLED",
        Code::Unavailable => "STOPPING",
        _ => "INTERNAL",
    }
}

/// The status of a failed call.
pub fn to_status(error: &BrokerError) -> Status {
    let reason = error.code().0;
    let mut details = ErrorDetails::new();
    let unknown = error.outcome_unknown().then(|| ("outcome_unknown".to_owned(), "true".to_owned()));
    let next = error.notice().map(|notice| ("next".to_owned(), notice.next.to_string()));
    details.set_error_info(reason, DOMAIN, unknown.into_iter().chain(next).collect::<HashMap<_, _>>());
    if !error.places().is_empty() {
        let field = |violation: &Violation| FieldViolation::new(&violation.pointer, &violation.message);
        let fields: Vec<_> = fitting(error.places(), STATUS_DETAILS).map(field).collect();
        let BadRequest { field_violations } = BadRequest::new(fields);
        details.set_bad_request(field_violations);
    }
    if let Some(help) = error.help() {
        let Help { links } = Help::with_link(help, "");
        details.set_help(links);
    }
    if let Some(delay) = error.retry_after() {
        details.set_retry_info(Some(delay));
    }
    let mut metadata = MetadataMap::new();
    metadata.insert(headers::CODE, tonic::metadata::MetadataValue::from_static(reason));
    if let Some(admission) = error.admission() {
        let admission = match admission {
            Admission::Defer => headers::DEFER,
            Admission::Reject => headers::REJECT,
        };
        metadata.insert(headers::ADMISSION, tonic::metadata::MetadataValue::from_static(admission));
    }
    Status::with_error_details_and_metadata(grpc_code(error), error.to_string(), details, metadata)
}

/// The status of a request that did not come in time.
pub(super) fn too_slow(reason: &str) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert(headers::CODE, tonic::metadata::MetadataValue::from_static(TOO_SLOW));
    Status::with_metadata(Code::DeadlineExceeded, reason, metadata)
}

/// A place in a payload or a schema.
pub(super) fn detail(place: &Violation) -> v1::ErrorDetail {
    v1::ErrorDetail { pointer: place.pointer.clone(), message: place.message.clone() }
}

/// The error of one message of a stream.
pub fn stream_error(error: &BrokerError) -> v1::Error {
    let details = fitting(error.places(), STREAM_DETAILS).map(detail).collect();
    v1::Error {
        code: error.code().0.into(),
        message: error.to_string(),
        details,
        unknown_outcome: error.outcome_unknown(),
        retry_after_ms: error.retry_after().map_or(0, |delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
        admission: error
            .admission()
            .map_or(v1::Admission::Unspecified, |admission| match admission {
                Admission::Defer => v1::Admission::Defer,
                Admission::Reject => v1::Admission::Reject,
            })
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_carries_the_code_the_places_and_the_help() {
        let violations = vec![Violation { pointer: "/id".into(), message: "required property is missing".into() }];
        let status = to_status(&BrokerError::SchemaViolation { channel: "c".into(), violations });
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.metadata().get(headers::CODE).unwrap(), "SCHEMA_VIOLATION");
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "SCHEMA_VIOLATION");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "/id");
        assert!(details.help().is_some());
    }

    #[test]
    fn a_status_stays_small_enough_for_a_header_however_many_places_are_wrong() {
        let violation = Violation { pointer: "/items/0/name".into(), message: "is wrong ".repeat(20) };
        let error = BrokerError::SchemaViolation { channel: "c".into(), violations: vec![violation; 100] };
        let status = to_status(&error);
        assert!(status.details().len() < 6 << 10);
        assert!(status.message().contains("100 place"), "{}", status.message());
        assert!(!status.get_error_details().bad_request().unwrap().field_violations.is_empty());
    }

    #[test]
    fn only_unknown_outcomes_are_reported_as_unknown() {
        let unknown = BrokerError::OutcomeUnknown { reason: "x".into() };
        assert!(stream_error(&unknown).unknown_outcome);
        assert_eq!(to_status(&unknown).code(), Code::Unknown);
        assert!(!stream_error(&BrokerError::Stopping).unknown_outcome);
    }

    #[test]
    fn a_publisher_is_told_to_come_again_or_not_to() {
        let error = BrokerError::QuotaExceeded { what: "x".into(), limit: 1, retry_after_ms: 70 };
        let status = to_status(&error);
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.metadata().get(headers::ADMISSION).unwrap(), "defer");
        let delay = status.get_error_details().retry_info().unwrap().retry_delay;
        assert_eq!(delay, Some(std::time::Duration::from_millis(70)));
        let told = stream_error(&error);
        assert_eq!((told.admission(), told.retry_after_ms), (v1::Admission::Defer, 70));
        let full = BrokerError::ChannelFull { channel: "c".into(), what: "bytes".into(), limit: 1 };
        assert_eq!(to_status(&full).metadata().get(headers::ADMISSION).unwrap(), "reject");
        assert_eq!(stream_error(&full).admission(), v1::Admission::Reject);
        assert_eq!(stream_error(&BrokerError::Stopping).admission(), v1::Admission::Unspecified);
    }
}
