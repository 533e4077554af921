//! The one place where the broker's errors become gRPC's: the status that the table of codes has for them, the stable reason,
//! and help for people.

use std::collections::HashMap;

use liminal_wire::{Code as Stable, headers};
use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::{BadRequest, ErrorDetails, FieldViolation, Help, StatusExt as _};

use crate::{
    broker::{Admission, BrokerError, Violation},
    proto::v1,
};

/// The `domain` of every ErrorInfo.
const DOMAIN: &str = "liminal";
/// Bytes of violations in a status: it travels in a header, and clients take 8 KiB of those.
const STATUS_DETAILS: usize = 4 << 10;
/// Bytes of violations in one answer of a stream.
const STREAM_DETAILS: usize = 16 << 10;

/// The gRPC status that stands for an error.
fn grpc_code(error: &BrokerError) -> Code {
    let row = error.code().meaning().told_as(error.outcome_unknown());
    row.grpc.unwrap_or(Code::Unknown)
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
pub(super) fn library_code(code: Code) -> &'static Stable {
    match code {
        // A message over the size limit.
        Code::OutOfRange | Code::ResourceExhausted => &Stable::LimitExceeded,
        Code::InvalidArgument | Code::Internal => &Stable::InvalidArgument,
        Code::Unimplemented => &Stable::Unimplemented,
        Code::Cancelled | Code::DeadlineExceeded => &Stable::Cancelled,
        Code::Unavailable => &Stable::Stopping,
        _ => &Stable::Internal,
    }
}

/// The status of a failed call.
pub fn to_status(error: &BrokerError) -> Status {
    let reason = error.code().as_str();
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
    let Help { links } = Help::with_link(error.help(), "");
    details.set_help(links);
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
    let row = Stable::RequestTooSlow.meaning();
    metadata.insert(headers::CODE, tonic::metadata::MetadataValue::from_static(row.code));
    Status::with_metadata(row.grpc.unwrap_or(Code::DeadlineExceeded), reason, metadata)
}

/// A place in a payload or a schema.
pub(super) fn detail(place: &Violation) -> v1::ErrorDetail {
    v1::ErrorDetail { pointer: place.pointer.clone(), message: place.message.clone() }
}

/// The error of one message of a stream.
pub fn stream_error(error: &BrokerError) -> v1::Error {
    let details = fitting(error.places(), STREAM_DETAILS).map(detail).collect();
    v1::Error {
        code: error.code().to_string(),
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
        let failed = |proposed| BrokerError::StoreFailed { node: "n1".into(), reason: "x".into(), proposed };
        assert_eq!(to_status(&failed(true)).code(), Code::Unknown);
        assert_eq!(to_status(&failed(false)).code(), Code::Unavailable);
        assert!(!stream_error(&BrokerError::Stopping).unknown_outcome);
        let of_newer = |unknown| BrokerError::OfNewerVersion {
            code: "NEWEST".into(),
            text: "so it is".into(),
            unknown,
            retry_after_ms: 0,
        };
        assert_eq!(to_status(&of_newer(true)).code(), Code::Unknown);
        assert_eq!(to_status(&of_newer(false)).code(), Code::Internal);
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
