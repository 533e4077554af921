//! The check that stands before the services: who sends a request, and what its call needs. A request without a valid token
//! is refused before anything of its body is read.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::{BoxFuture, Either, Ready, ready};
use tonic::{Request, Status, body::Body, codegen::http};
use tower::{Layer, Service};

use super::{arriving, rights, to_status};
use crate::{
    broker::{Access, BrokerError, Gate, Need, Turned},
    budget::{Account, Open},
};

/// The broker, as far as the caller may use it.
pub(super) fn access<T>(request: &Request<T>) -> Result<Access, Status> {
    let missing = || to_status(&BrokerError::Internal { reason: "the call was not checked".into() });
    request.extensions().get::<Access>().cloned().ok_or_else(missing)
}

/// What follows `Bearer `. A header that is something else is no token.
fn token(headers: &http::HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Counts the request for the caller's token.
fn enter(access: &Access, extensions: &http::Extensions, from: &Arc<Account>) -> Result<(), BrokerError> {
    let open = extensions.get::<Arc<Open>>().cloned().unwrap_or_else(|| from.begin_anyway());
    access.enter(from, &open)
}

/// Checks the requests to the services behind it.
#[derive(Clone)]
pub(super) struct Guarding {
    pub(super) gate: Arc<Gate>,
}

impl<S> Layer<S> for Guarding {
    type Service = Guarded<S>;

    fn layer(&self, service: S) -> Guarded<S> {
        Guarded { service, gate: self.gate.clone() }
    }
}

/// The services behind it.
#[derive(Clone)]
pub(super) struct Guarded<S> {
    service: S,
    gate: Arc<Gate>,
}

type Answer = Result<http::Response<Body>, Infallible>;

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Either<Ready<Answer>, BoxFuture<'static, Answer>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // What has no row is no call of this version, or one whose row was forgotten.
        let need = rights::need(request.uri().path()).unwrap_or(Need::ADMIN);
        let from = arriving::of_connection(request.extensions());
        match self.gate.admit(token(request.headers()), &from, need) {
            Ok(access) => match enter(&access, request.extensions(), &from) {
                Ok(()) => {
                    request.extensions_mut().insert(access);
                    Either::Left(self.service.call(request))
                }
                Err(error) => Either::Right(Either::Left(ready(Ok(to_status(&error).into_http())))),
            },
            Err(Turned { error, delay }) => {
                let refused = to_status(&error).into_http();
                Either::Right(match delay {
                    None => Either::Left(ready(Ok(refused))),
                    Some(delay) => Either::Right(Box::pin(async move {
                        delay.pass().await;
                        Ok(refused)
                    })),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_follows_the_scheme() {
        let of = |value: &'static str| {
            let mut headers = http::HeaderMap::new();
            headers.insert(http::header::AUTHORIZATION, http::HeaderValue::from_static(value));
            token(&headers).map(str::to_owned)
        };
        assert_eq!(of("Bearer lim_x"), Some("lim_x".into()));
        assert_eq!(of("bearer lim_x"), Some("lim_x".into()));
        assert_eq!([of("Basic lim_x"), of("lim_x"), of("")], [None, None, None]);
        assert_eq!(token(&http::HeaderMap::new()), None);
    }
}
