//! The one place where the broker's errors become HTTP's: problem details (RFC 9457) with the stable code of the error, and
//! with the status and the title that the table of codes has for it.

use axum::{
    Json,
    body::to_bytes,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use liminal_wire::Code;
use serde::Serialize;

use super::Sizes;
use crate::{
    broker::{BrokerError, ClaimError, RuleError, Unserved, Violation},
    model::NoticeJson,
};

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");
/// How a caller says who it is (RFC 6750).
const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"liminal\"");
/// Of what the HTTP library says of a request that it refused.
const LIBRARY_TEXT: usize = 4 << 10;

/// Why a request failed. Boxed, because it is the rare half of every result.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Problem(Box<Body>);

/// As RFC 9457 says it.
#[derive(Clone, Debug, Serialize)]
struct Body {
    #[serde(skip)]
    http: StatusCode,
    /// What kind of problem, for programs: the code as a URI.
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    code: &'static Code,
    help: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Violation>,
    /// Only where it may have happened, or may yet happen.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unknown_outcome: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// What became of a reader's history, and where it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    notice: Option<NoticeJson>,
}

impl Problem {
    pub(super) fn new(code: &'static Code, detail: String) -> Self {
        Self::told_as(code, code.meaning().http, detail)
    }

    /// With another status than that of its code.
    pub(super) fn with_status(self, http: StatusCode) -> Self {
        Self(Box::new(Body { http, status: http.as_u16(), ..*self.0 }))
    }

    fn told_as(code: &'static Code, status: Option<u16>, detail: String) -> Self {
        let http = status.and_then(|status| StatusCode::from_u16(status).ok());
        let http = http.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self(Box::new(Body {
            http,
            r#type: format!("urn:liminal:error:{code}"),
            title: code.meaning().title,
            status: http.as_u16(),
            detail,
            code,
            help: code.meaning().next.to_owned(),
            violations: Vec::new(),
            unknown_outcome: false,
            retry_after_ms: None,
            notice: None,
        }))
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> &'static Code {
        self.0.code
    }

    /// The request makes no sense.
    pub(super) fn invalid(reason: impl Into<String>) -> Self {
        BrokerError::InvalidArgument { reason: reason.into() }.into()
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        let row = error.code().meaning().told_as(error.outcome_unknown());
        let mut problem = Self::told_as(error.code(), row.http, error.to_string());
        let body = &mut *problem.0;
        body.help = error.help();
        body.unknown_outcome = error.outcome_unknown();
        body.retry_after_ms = error.retry_after().map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        body.violations = error.places().to_vec();
        body.notice = error.notice().map(NoticeJson::of);
        problem
    }
}

macro_rules! problems {
    ($($error:ident),+) => {
        $(impl From<$error> for Problem {
            fn from(error: $error) -> Self {
                BrokerError::from(error).into()
            }
        })+
    };
}

problems!(ClaimError, RuleError, Unserved);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.0;
        let asks_for_token = body.http == StatusCode::UNAUTHORIZED;
        let retry_after = body.retry_after_ms.map(|delay| HeaderValue::from(delay.div_ceil(1000).max(1)));
        let mut response = (body.http, Json(body)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
        if asks_for_token {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, BEARER);
        }
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// What the HTTP library refused by itself (no such path, a wrong method, a body too large) is a problem too.
pub(super) async fn explain(State(sizes): State<Sizes>, request: Request, next: Next) -> Response {
    let most = sizes.most(request.uri().path());
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let response = next.run(request).await;
    let too_large = match length {
        Some(length) => format!("the body has {length} bytes; the limit is {most}"),
        None => format!("the body has more than {most} bytes, which is the limit"),
    };
    of_library(response, too_large).await
}

async fn of_library(response: Response, too_large: String) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !(status.is_client_error() || status.is_server_error()) || kind.ends_with(b"json") {
        return response;
    }
    let code = match status {
        StatusCode::NOT_FOUND => &Code::NoSuchPath,
        StatusCode::METHOD_NOT_ALLOWED => &Code::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => &Code::LimitExceeded,
        _ if status.is_client_error() => &Code::InvalidArgument,
        _ => &Code::Internal,
    };
    let (mut parts, body) = response.into_parts();
    let said = to_bytes(body, LIBRARY_TEXT).await.unwrap_or_default();
    let detail = match String::from_utf8_lossy(&said).trim() {
        _ if status == StatusCode::PAYLOAD_TOO_LARGE => too_large,
        "" => status.canonical_reason().unwrap_or("the request was refused").to_owned(),
        said => said.to_owned(),
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    let mut problem = Problem::new(code, detail).with_status(status).into_response();
    // A refused method comes with those that are allowed.
    problem
        .headers_mut()
        .extend(parts.headers.into_iter().filter(|(name, _)| name.as_ref().is_some_and(|name| *name == header::ALLOW)));
    problem
}
