//! What machines that watch a node ask for: health, readiness and metrics.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::future::BoxFuture;
use serde_json::json;

use super::{
    cluster::ClusterView,
    exposition::{self, Format},
    metrics::Metric,
};

/// What the HTTP face shows of its node.
pub trait NodeView: ClusterView {
    /// Why the process cannot do its work at all; none while it can.
    fn failure(&self) -> Option<String>;
    /// The parts of the node that do not work now, with the reasons; empty when all do.
    fn unwell(&self) -> Vec<(&'static str, String)>;
    /// Why clients should not be sent here now; empty when they should.
    fn unmet(&self) -> Vec<String>;
    /// What its operator should look at, though it works.
    fn warnings(&self) -> Vec<String>;
    /// All metrics as they are now.
    fn metrics(&self) -> BoxFuture<'_, Vec<Metric>>;
}

type Shared = State<Arc<dyn NodeView>>;

pub(super) async fn health(State(view): Shared) -> Response {
    let unwell: BTreeMap<_, _> = view.unwell().into_iter().collect();
    match view.failure() {
        None => {
            let warnings = view.warnings();
            // What another process would find as well is no reason to end this one.
            let mut body = json!({ "status": if unwell.is_empty() { "ok" } else { "unwell" } });
            if !unwell.is_empty() {
                body["unwell"] = json!(unwell);
            }
            if !warnings.is_empty() {
                body["warnings"] = json!(warnings);
            }
            Json(body).into_response()
        }
        Some(reason) => {
            let body = Json(json!({ "status": "failed", "reason": reason, "unwell": unwell }));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

pub(super) async fn ready(State(view): Shared) -> Response {
    let unmet = view.unmet();
    if unmet.is_empty() {
        return Json(json!({ "status": "ready" })).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "not ready", "unmet": unmet }))).into_response()
}

pub(super) async fn metrics(State(view): Shared, headers: HeaderMap) -> Response {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let format = Format::accepted(accepted.flat_map(|accept| accept.split(',')));
    let text = exposition::encode(&view.metrics().await, format);
    ([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")], text).into_response()
}
