//! What a call can fail with, as the caller sees it: one type for refusals by the server, lost connections and
//! deadlines, because all of them are handled by the same three questions: which code, did anything happen, what
//! to do next.

use std::{collections::HashMap, error::Error, fmt, sync::Arc, time::Duration};

pub use liminal_wire::Admission;
use liminal_wire::{Code, Notice, code::Outcome, headers, v1};
use tonic_types::StatusExt as _;

/// Why a call failed. Cloning is cheap.
#[derive(Clone)]
pub struct ClientError(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    code: Code,
    message: String,
    help: Option<String>,
    details: Vec<ErrorDetail>,
    outcome_unknown: bool,
    retry_after: Option<Duration>,
    admission: Option<Admission>,
    notice: Option<Box<Notice>>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// One of several things that are wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ErrorDetail {
    /// JSON pointer (RFC 6901) into the payload, or the name of a request's field.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
}

impl Inner {
    fn new(code: Code, message: String) -> Self {
        Self {
            code,
            message,
            help: None,
            details: Vec::new(),
            outcome_unknown: false,
            retry_after: None,
            admission: None,
            notice: None,
            source: None,
        }
    }
}

impl ClientError {
    /// Stable, for programs: from a server, or [`Code::Unreachable`], [`Code::ConnectionLost`] or [`Code::Timeout`] when none
    /// answered.
    pub fn code(&self) -> &Code {
        &self.0.code
    }

    /// For people: what happened.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// For people: what to do next.
    pub fn help(&self) -> Option<&str> {
        let of_code = || match &self.0.code {
            Code::Other(_) => None,
            code => Some(code.meaning().next),
        };
        self.0.help.as_deref().or_else(of_code)
    }

    /// Every single thing that is wrong, where the server said so.
    pub fn details(&self) -> &[ErrorDetail] {
        &self.0.details
    }

    /// Whether what was asked for may have happened, or may yet happen. When `false`, nothing happened.
    pub fn outcome_unknown(&self) -> bool {
        self.0.outcome_unknown
    }

    /// The earliest time to try again, where the server said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether to try again, where the server said so.
    pub fn admission(&self) -> Option<Admission> {
        self.0.admission
    }

    /// What has become of the history behind a subscription, and where it goes on: it has not ended, if it does go on.
    pub fn notice(&self) -> Option<&Notice> {
        self.0.notice.as_deref()
    }

    /// An error of a program that refuses something itself, before or in place of a server: nothing happened.
    pub fn refused(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, message)
    }

    pub(crate) fn of_notice(notice: Notice) -> Self {
        Self::new(notice.change.code().clone(), notice.to_string())
            .with_help(format!("the subscription goes on at {}", notice.next))
            .edit(|inner| inner.notice = Some(Box::new(notice)))
    }

    pub(crate) fn new(code: impl Into<Code>, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner::new(code.into(), message.into())))
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    pub(crate) fn with_help(self, help: impl Into<String>) -> Self {
        self.edit(|inner| inner.help = Some(help.into()))
    }

    #[cfg(test)]
    pub(crate) fn with_admission(self, admission: Admission) -> Self {
        self.edit(|inner| inner.admission = Some(admission))
    }

    pub(crate) fn with_source(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.edit(|inner| inner.source = Some(Arc::from(source.into())))
    }

    /// The same error about something that was sent, so that it may have happened all the same.
    pub(crate) fn unknown(self) -> Self {
        if self.0.outcome_unknown {
            return self;
        }
        self.edit(|inner| {
            inner.outcome_unknown = true;
            inner.help.get_or_insert_with(|| "retry with the same idempotency key: it is stored at most once".into());
        })
    }

    /// No node could be reached: nothing was sent.
    pub(crate) fn unreachable(address: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = source.into();
        let help = help_of_tls(source.as_ref());
        let help = help.unwrap_or("check the address (`--server`, `LIMINAL_SERVER`) and that the node is running");
        Self::new(Code::Unreachable, format!("cannot reach {address}: {}", innermost(source.as_ref())))
            .with_help(help)
            .with_source(source)
    }

    /// A node refuses this client's certificate, or wants one: nothing happened, and nothing will.
    #[cfg(feature = "tls")]
    pub(crate) fn refused_by_tls(refusal: &liminal_tls::Failure, status: tonic::Status) -> Self {
        Self::new(Code::Unauthenticated, refusal.what.clone()).with_help(refusal.help).with_source(status)
    }

    /// The request was sent, and no answer came within `after`.
    pub(crate) fn timeout(address: &str, after: Duration) -> Self {
        Self::new(Code::Timeout, format!("{address} did not answer within {} ms", after.as_millis())).unknown()
    }

    /// The connection ended before an answer came.
    pub(crate) fn lost(address: &str) -> Self {
        Self::new(Code::ConnectionLost, format!("{address} closed the connection before it answered")).unknown()
    }

    /// What a server, or the connection to it, answered to a call.
    pub(crate) fn from_status(address: &str, status: tonic::Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let code = status
            .metadata()
            .get(headers::CODE)
            .and_then(|value| value.to_str().ok())
            .or_else(|| info.map(|info| info.reason.as_str()))
            .map(Code::from);
        let Some(code) = code else { return Self::from_transport(address, status) };
        let unknown =
            info.is_some_and(|info| says_unknown(&info.metadata)) || code.meaning().outcome == Outcome::Unknown;
        Self(Arc::new(Inner {
            message: status.message().to_owned(),
            help: details.help().and_then(|help| help.links.first()).map(|link| link.description.clone()),
            details: details.bad_request().map_or_else(Vec::new, |bad| {
                let violations = bad.field_violations.iter();
                violations.map(|v| ErrorDetail { pointer: v.field.clone(), message: v.description.clone() }).collect()
            }),
            outcome_unknown: unknown,
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
            admission: status.metadata().get(headers::ADMISSION).and_then(|value| match value.to_str().ok()? {
                headers::DEFER => Some(Admission::Defer),
                headers::REJECT => Some(Admission::Reject),
                _ => None,
            }),
            notice: None,
            source: Some(Arc::new(status)),
            code,
        }))
    }

    /// A status that no liminal server wrote: from the connection, a proxy or the gRPC library.
    fn from_transport(address: &str, status: tonic::Status) -> Self {
        if was_never_sent(&status) {
            return Self::unreachable(address, status);
        }
        if speaks_no_grpc(&status) {
            return Self::new(Code::Unreachable, format!("{address} answers, but not as a gRPC port of a node"))
                .with_help("give the port for clients (`listen_address`, 7101), not the one for HTTP or for nodes")
                .with_source(status);
        }
        match status.code() {
            tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown | tonic::Code::Internal => {
                let reason = innermost(&status);
                Self::new(Code::ConnectionLost, format!("the connection to {address} failed: {reason}"))
                    .with_source(status)
                    .unknown()
            }
            code => {
                // `PermissionDenied` becomes PERMISSION_DENIED: the names of gRPC's own codes.
                let message = format!("{address}: {}", status.message());
                Self::new(screaming(&format!("{code:?}")).as_str(), message).with_source(status)
            }
        }
    }

    /// What a server answered for one message of a stream.
    pub(crate) fn from_proto(error: v1::Error) -> Self {
        let admission = match error.admission() {
            v1::Admission::Defer => Some(Admission::Defer),
            v1::Admission::Reject => Some(Admission::Reject),
            v1::Admission::Unspecified => None,
        };
        let details = error.details.into_iter();
        Self(Arc::new(Inner {
            details: details.map(|d| ErrorDetail { pointer: d.pointer, message: d.message }).collect(),
            outcome_unknown: error.unknown_outcome,
            admission,
            retry_after: (error.retry_after_ms > 0).then(|| Duration::from_millis(error.retry_after_ms)),
            ..Inner::new(error.code.as_str().into(), error.message)
        }))
    }
}

fn says_unknown(metadata: &HashMap<String, String>) -> bool {
    ["outcome_unknown", "unknown_outcome"].iter().any(|name| metadata.get(*name).is_some_and(|value| value == "true"))
}

/// Whether the request failed before any of it left this process.
fn was_never_sent(status: &tonic::Status) -> bool {
    let mut next = status.source();
    while let Some(error) = next {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// Whether something else answered: an HTTP server, whose body is no gRPC message, or a node's port for other nodes, which
/// knows none of the services.
fn speaks_no_grpc(status: &tonic::Status) -> bool {
    let foreign = status.message().contains("invalid compression flag");
    foreign || (status.code() == tonic::Code::Unimplemented && status.message().is_empty())
}

/// What to do next where TLS failed.
#[cfg(feature = "tls")]
fn help_of_tls(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(failure) = inside.and_then(|inner| inner.downcast_ref::<liminal_tls::Failure>()) {
            return Some(failure.help);
        }
        next = error.source();
    }
    None
}

#[cfg(not(feature = "tls"))]
fn help_of_tls(_: &(dyn Error + 'static)) -> Option<&'static str> {
    None
}

/// The cause of all causes: `transport error` says less than `connection refused`.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

fn screaming(camel: &str) -> String {
    let mut text = String::with_capacity(camel.len() + 4);
    for (at, letter) in camel.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)?;
        if self.0.outcome_unknown { f.write_str(" (outcome unknown)") } else { Ok(()) }
    }
}

/// Errors are equal when programs cannot tell them apart.
impl PartialEq for ClientError {
    fn eq(&self, other: &Self) -> bool {
        (self.code(), self.message(), self.outcome_unknown())
            == (other.code(), other.message(), other.outcome_unknown())
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_refusal_keeps_its_code_its_places_and_its_help() {
        let mut details = ErrorDetails::with_error_info("SCHEMA_VIOLATION", "liminal", HashMap::new());
        details.add_bad_request_violation("/id", "is missing");
        details.add_help_link("mend the places named", "");
        let status = tonic::Status::with_error_details(tonic::Code::InvalidArgument, "the payload is wrong", details);
        let error = ClientError::from_status("n1:7101", status);
        assert_eq!(error.code(), "SCHEMA_VIOLATION");
        assert_eq!(error.message(), "the payload is wrong");
        assert_eq!(error.help(), Some("mend the places named"));
        assert_eq!(error.details(), [ErrorDetail { pointer: "/id".into(), message: "is missing".into() }]);
        assert!(!error.outcome_unknown());
    }

    #[test]
    fn a_failed_connection_is_unreachable_and_nothing_happened() {
        let refused = tonic::ConnectError(Box::new(std::io::Error::other("connection refused")));
        let error = ClientError::from_status("n1:7101", tonic::Status::from_error(Box::new(refused)));
        assert_eq!(*error.code(), Code::Unreachable);
        assert!(!error.outcome_unknown());
        assert!(error.message().contains("n1:7101") && error.message().contains("connection refused"), "{error}");
    }

    #[test]
    fn a_connection_that_breaks_after_sending_leaves_the_outcome_unknown() {
        let error = ClientError::from_status("n1:7101", tonic::Status::unavailable("broken pipe"));
        assert_eq!(*error.code(), Code::ConnectionLost);
        assert!(error.outcome_unknown());
    }

    #[test]
    fn a_port_that_speaks_something_else_is_said_to_be_the_wrong_one() {
        let text = "protocol error: received message with invalid compression flag: 123 (valid flags are 0 and 1)";
        for status in [tonic::Status::internal(text), tonic::Status::unimplemented("")] {
            let error = ClientError::from_status("n1:7201", status);
            assert_eq!((error.code(), error.outcome_unknown()), (&Code::Unreachable, false), "{error}");
            assert!(error.message().contains("n1:7201") && error.help().unwrap().contains("7101"), "{error}");
        }
    }

    #[test]
    fn a_status_without_a_liminal_code_gets_the_name_of_its_grpc_code() {
        let error = ClientError::from_status("n1:7101", tonic::Status::permission_denied("no"));
        assert_eq!(error.code(), "PERMISSION_DENIED");
    }
}
