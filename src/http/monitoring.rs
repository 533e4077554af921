//! What machines that watch a node ask for: health, readiness and metrics.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    sync::Arc,
};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Registry,
};
use serde_json::json;

/// What the HTTP face shows of its node.
pub trait NodeView: Send + Sync + 'static {
    /// Why the process cannot do its work at all; none while it can.
    fn failure(&self) -> Option<String>;
    /// The parts of the node that do not work now, with the reasons; empty when all do.
    fn unwell(&self) -> Vec<(&'static str, String)>;
    /// Why clients should not be sent here now; empty when they should.
    fn unmet(&self) -> Vec<String>;
    /// Figures for monitoring.
    fn metrics(&self) -> Vec<Metric>;
}

/// A figure for monitoring, as it is now.
#[derive(Debug)]
pub struct Metric {
    /// Without the prefix `liminal_`, and without the suffix `_total` of counters.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// How it moves.
    pub kind: MetricKind,
    /// One value, or one for each combination of labels.
    pub values: Vec<(Labels, u64)>,
}

/// Names and values of labels; none for a single value.
pub type Labels = Vec<(&'static str, String)>;

/// How a figure moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only up, from 0 at the start of the process.
    Counter,
    /// Up and down.
    Gauge,
}

impl Metric {
    /// A single value that goes up and down.
    pub fn gauge(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, kind: MetricKind::Gauge, values: vec![(Labels::new(), value)] }
    }

    /// A single value that only goes up.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, kind: MetricKind::Counter, values: vec![(Labels::new(), value)] }
    }
}

type Shared = State<Arc<dyn NodeView>>;

pub(super) async fn health(State(view): Shared) -> Response {
    let unwell: BTreeMap<_, _> = view.unwell().into_iter().collect();
    match view.failure() {
        None if unwell.is_empty() => Json(json!({ "status": "ok" })).into_response(),
        // What another process would find as well is no reason to end this one.
        None => Json(json!({ "status": "unwell", "unwell": unwell })).into_response(),
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

/// The figures of one moment, as the metrics library wants them.
#[derive(Debug)]
struct Figures(Vec<Metric>);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Metric { name, help, kind, values } in &self.0 {
            let kind_of = match kind {
                MetricKind::Counter => MetricType::Counter,
                MetricKind::Gauge => MetricType::Gauge,
            };
            let mut metric = encoder.encode_descriptor(name, help, None, kind_of)?;
            let write = |encoder: &mut MetricEncoder<'_>, value: u64| match kind {
                MetricKind::Counter => encoder.encode_counter::<NoLabelSet, _, u64>(&value, None),
                MetricKind::Gauge => encoder.encode_gauge(&value),
            };
            for (labels, value) in values {
                if labels.is_empty() {
                    write(&mut metric, *value)?;
                } else {
                    write(&mut metric.encode_family(labels)?, *value)?;
                }
            }
        }
        Ok(())
    }
}

pub(super) async fn metrics(State(view): Shared) -> Response {
    let mut registry = Registry::with_prefix("liminal");
    registry.register_collector(Box::new(Figures(view.metrics())));
    let mut text = String::new();
    if prometheus_client::encoding::text::encode(&mut text, &registry).is_err() {
        let _ = text.write_str("# the metrics could not be encoded\n"); // writing to a String cannot fail
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
