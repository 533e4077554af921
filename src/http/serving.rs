//! The connections of the HTTP face: HTTP/1 and what it is upgraded to, nothing else, within what a connection may hold.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, Response, StatusCode, header},
    response::IntoResponse as _,
};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use liminal_wire::Code;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{MONITORING, Sizes, hardening::harden, problem::Problem};
use crate::{
    broker::over_budget,
    budget::{Account, Arriving, Holding, OPEN, Refusal, UNFINISHED, UNTAKEN},
    env::{Connection, Listener, accept},
};

/// Bytes of a request's head that are not its message's headers.
const AROUND_HEADERS: usize = 48 << 10;

/// What the connections share.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) router: Router,
    pub(super) sizes: Sizes,
    /// Bytes of the headers of a message.
    pub(super) header_bytes: usize,
}

impl Serving {
    /// Serves until `shutdown`; then requests under way may end.
    pub(super) async fn run(self, mut listener: Box<dyn Listener>, shutdown: CancellationToken) {
        let mut http = http1::Builder::new();
        // Clocks are the budget's, which has them for all faces; hyper itself takes at most 100 headers.
        http.header_read_timeout(None::<Duration>).half_close(false).max_buf_size(AROUND_HEADERS + self.header_bytes);
        let tasks = TaskTracker::new();
        loop {
            let (connection, _) = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accept(&mut listener) => accepted,
            };
            tasks.spawn(self.clone().connection(http.clone(), connection, shutdown.clone()));
        }
        drop(listener);
        tasks.close();
        tasks.wait().await;
    }

    async fn connection(self, mut http: http1::Builder, connection: Connection, shutdown: CancellationToken) {
        let account = connection.account();
        http.keep_alive(!account.is_for_monitoring());
        let service = service_fn(move |request| self.clone().answer(account.clone(), request));
        let mut served = pin!(http.serve_connection(TokioIo::new(connection), service).with_upgrades());
        let ended = tokio::select! {
            ended = &mut served => ended,
            () = shutdown.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection over HTTP ended");
        }
    }

    async fn answer(
        self,
        account: Arc<Account>,
        request: Request<Incoming>,
    ) -> Result<Response<Holding<Body>>, Infallible> {
        let path = request.uri().path().to_owned();
        let mut answer = self.answer_plainly(account, &path, request).await;
        harden(&path, answer.headers_mut());
        Ok(answer)
    }

    async fn answer_plainly(
        self,
        account: Arc<Account>,
        path: &str,
        mut request: Request<Incoming>,
    ) -> Response<Holding<Body>> {
        account.prove();
        account.took_all();
        let open = match account.begin() {
            Ok(open) => open,
            Err(full) => {
                // It counts all the same until it is told so.
                let open = account.begin_anyway();
                let refused = ending(over_budget(OPEN, full).into());
                return refused.map(|body| Holding::new(body, account, open));
            }
        };
        let monitors = MONITORING.iter().any(|(known, _)| *known == path);
        if account.is_for_monitoring() && !monitors {
            let refused = ending(crowded());
            return refused.map(|body| Holding::new(body, account, open));
        }
        let most = self.sizes.most(path).saturating_add(1);
        request.extensions_mut().insert(account.clone());
        request.extensions_mut().insert(open.clone());
        let answer = if request.body().is_end_stream() {
            self.route(request.map(Body::new)).await
        } else {
            let (mut parts, body) = request.into_parts();
            let (body, progress) = Arriving::whole(body, account.clone(), most);
            parts.extensions.insert(progress.clone());
            let answer = self.route(Request::from_parts(parts, Body::new(body))).await;
            progress.answered();
            match progress.refusal() {
                Some(refusal) => ending(explain(refusal)),
                None => answer,
            }
        };
        let (mut parts, body) = answer.into_parts();
        let mut body = Holding::new(body, account, open);
        // Monitoring is answered whatever others hold.
        if !monitors && let Err(full) = body.begin().await {
            let (refused, instead) = Problem::from(over_budget(UNTAKEN, full)).into_response().into_parts();
            body.say_instead(instead);
            parts = refused;
        }
        Response::from_parts(parts, body)
    }

    async fn route(self, request: Request<Body>) -> Response<Body> {
        let Ok(answer) = self.router.oneshot(request).await;
        answer
    }
}

fn explain(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Full(full) => over_budget(UNFINISHED, full).into(),
        Refusal::Slow { .. } => Problem::new(&Code::RequestTooSlow, refusal.to_string()),
        Refusal::Large { .. } => Problem::invalid(refusal.to_string()), // only of messages over gRPC
    }
}

/// There is no place but for monitoring.
fn crowded() -> Problem {
    let paths: Vec<&str> = MONITORING.iter().map(|(path, _)| *path).collect();
    let detail = format!(
        "there are as many connections as limits.connections and limits.connections_per_address allow: only {} are \
         answered",
        paths.join(", ")
    );
    Problem::new(&Code::Overloaded, detail).with_status(StatusCode::SERVICE_UNAVAILABLE)
}

/// The answer after which the connection is closed.
fn ending(problem: Problem) -> Response<Body> {
    let mut answer = problem.into_response();
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}
