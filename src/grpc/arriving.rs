//! What stands before the services: a request proves its connection, takes one of its streams until the answer has ended,
//! and its messages are counted as they come.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tonic::{Request, Status, body::Body, codegen::http};
use tower::{Layer, Service};

use super::{status, to_status};
use crate::{
    broker::{BrokerError, over_budget},
    budget::{Account, Arriving, Holding, OPEN, Progress, Refusal, UNFINISHED, UNTAKEN},
};

/// The connection that a request came through.
pub(super) fn account<T>(request: &Request<T>) -> Arc<Account> {
    of_connection(request.extensions())
}

pub(super) fn of_connection(extensions: &http::Extensions) -> Arc<Account> {
    extensions.get::<Arc<Account>>().cloned().unwrap_or_default()
}

/// How a request has arrived.
pub(super) fn progress<T>(request: &Request<T>) -> Option<Progress> {
    request.extensions().get().cloned()
}

/// Counts the requests to the services behind it.
#[derive(Clone, Copy)]
pub(crate) struct Counting {
    /// Bytes of the largest message; the services refuse larger ones themselves.
    pub(crate) most: usize,
}

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, service: S) -> Counted<S> {
        Counted { service, most: self.most }
    }
}

/// The services behind it.
#[derive(Clone)]
pub(crate) struct Counted<S> {
    service: S,
    most: usize,
}

impl<S> Service<http::Request<Body>> for Counted<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let account = of_connection(request.extensions());
        account.prove();
        let open = match account.begin() {
            Ok(open) => open,
            Err(full) => {
                let refused = to_status(&over_budget(OPEN, full)).into_http();
                return Box::pin(std::future::ready(Ok(refused)));
            }
        };
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path();
        let (body, progress) =
            Arriving::messages(body, account.clone(), path, self.most, |refusal| explain(refusal).into());
        parts.extensions.insert(progress.clone());
        parts.extensions.insert(open.clone());
        let answer = self.service.call(http::Request::from_parts(parts, Body::new(body)));
        Box::pin(async move {
            let answer = answer.await?;
            progress.answered();
            let (mut parts, body) = answer.into_parts();
            let mut body = Holding::new(body, account, open);
            if let Err(full) = body.begin().await {
                let (refused, instead) = to_status(&over_budget(UNTAKEN, full)).into_http().into_parts();
                body.say_instead(instead);
                parts = refused;
            }
            Ok(http::Response::from_parts(parts, Body::new(body)))
        })
    }
}

/// For whoever reads the messages.
fn explain(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Full(full) => to_status(&over_budget(UNFINISHED, full)),
        Refusal::Slow { .. } => status::too_slow(&refusal.to_string()),
        Refusal::Large { bytes, limit } => to_status(&BrokerError::LimitExceeded {
            what: "the size of a message once it is decoded, bytes".into(),
            value: bytes as u64,
            limit: limit as u64,
        }),
    }
}
