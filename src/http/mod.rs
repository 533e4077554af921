//! The HTTP face: health, readiness and metrics.

use std::{
    fmt::Write as _,
    future::Future,
    io,
    sync::{Arc, atomic::AtomicU64},
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::env::{Connection, Listener};

/// What the HTTP face shows of its node.
pub trait NodeView: Send + Sync + 'static {
    /// Why the process cannot do its work at all; none while it can.
    fn failure(&self) -> Option<String>;
    /// Why clients should not be sent here now; empty when they should.
    fn unmet(&self) -> Vec<String>;
    /// Figures, each with its name, help and value.
    fn metrics(&self) -> Vec<(&'static str, &'static str, u64)>;
}

type Shared = State<Arc<dyn NodeView>>;

/// Serves until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    view: Arc<dyn NodeView>,
    listener: Box<dyn Listener>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let router = Router::new()
        .route("/", get(index))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(view);
    axum::serve(Accepting(listener), router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

struct Accepting(Box<dyn Listener>);

impl axum::serve::Listener for Accepting {
    type Io = Connection;
    type Addr = String;

    fn accept(&mut self) -> impl Future<Output = (Connection, String)> + Send {
        crate::env::accept(&mut self.0)
    }

    fn local_addr(&self) -> io::Result<String> {
        Ok(self.0.local_address())
    }
}

async fn index() -> Html<&'static str> {
    Html(
        "<!doctype html><title>liminal</title><h1>liminal</h1><ul><li><a href=health>health</a>\
         <li><a href=ready>ready</a><li><a href=metrics>metrics</a></ul>",
    )
}

async fn health(State(view): Shared) -> Response {
    match view.failure() {
        None => Json(json!({ "status": "ok" })).into_response(),
        Some(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "failed", "reason": reason }))).into_response()
        }
    }
}

async fn ready(State(view): Shared) -> Response {
    let unmet = view.unmet();
    if unmet.is_empty() {
        return Json(json!({ "status": "ready" })).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "not ready", "unmet": unmet }))).into_response()
}

async fn metrics(State(view): Shared) -> Response {
    let mut registry = Registry::with_prefix("liminal");
    for (name, help, value) in view.metrics() {
        let gauge: Gauge<u64, AtomicU64> = Gauge::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
    let mut text = String::new();
    if prometheus_client::encoding::text::encode(&mut text, &registry).is_err() {
        let _ = text.write_str("# the metrics could not be encoded\n"); // writing to a String cannot fail
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
