//! The check that stands before all routes: who sends a request, and what its call needs. A request without a valid token is
//! refused before anything of its body is read.
//!
//! Programs send `Authorization: Bearer TOKEN`. A browser cannot when it opens a WebSocket, so there the token may be among
//! the protocols that it offers, as `liminal.bearer.TOKEN` beside `liminal.v1`; only the latter is answered.

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{problem::Problem, rights};
use crate::{
    broker::{Gate, Need, Turned},
    budget::{Account, Open},
};

/// How a protocol begins that a WebSocket offers and that is a token.
const BEARER_PROTOCOL: &str = "liminal.bearer.";

pub(super) async fn guard(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let row = path.and_then(|path| rights::need(method, path));
    let account = request.extensions().get::<Arc<Account>>().cloned().unwrap_or_default();
    // Who may know nothing is not told which paths there are either.
    let admitted = gate.admit(token(request.headers()), &account, row.unwrap_or(Need::Known));
    match admitted {
        Ok(access) => {
            let open = request.extensions().get::<Arc<Open>>().cloned().unwrap_or_else(|| account.begin_anyway());
            if let Err(error) = access.enter(&account, &open) {
                return Problem::from(error).into_response();
            }
            // Without a row there is no handler, or one that answers nobody because its row was forgotten.
            if row.is_some() {
                request.extensions_mut().insert(access);
            }
            next.run(request).await
        }
        Err(Turned { error, delay }) => {
            if let Some(delay) = delay {
                delay.pass().await;
            }
            Problem::from(*error).into_response()
        }
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    if let Some(said) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = said.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim());
    }
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    offered.flat_map(|value| value.split(',')).find_map(|protocol| protocol.trim().strip_prefix(BEARER_PROTOCOL))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_token_is_in_the_header_or_among_the_protocols_of_a_websocket() {
        let of = |name: HeaderName, value: &'static str| {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            token(&headers).map(str::to_owned)
        };
        assert_eq!(of(header::AUTHORIZATION, "Bearer lim_x"), Some("lim_x".into()));
        assert_eq!(of(header::AUTHORIZATION, "Basic lim_x"), None);
        assert_eq!(of(header::SEC_WEBSOCKET_PROTOCOL, "liminal.v1, liminal.bearer.lim_x"), Some("lim_x".into()));
        assert_eq!(of(header::SEC_WEBSOCKET_PROTOCOL, "liminal.v1"), None);
        assert_eq!(token(&HeaderMap::new()), None);
    }
}
