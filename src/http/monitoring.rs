//! What machines that watch a node ask for: health, readiness and metrics.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    sync::Arc,
};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Registry,
};
use serde_json::json;

use super::{
    cluster::ClusterView,
    metrics::{Metric, MetricKind},
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
    fn metrics(&self) -> Vec<Metric>;
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

/// The metrics of one moment, as the library wants them.
#[derive(Debug)]
struct Figures(Vec<Metric>);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Metric { declared, values } in &self.0 {
            let kind = match declared.kind {
                MetricKind::Counter => MetricType::Counter,
                MetricKind::Gauge => MetricType::Gauge,
            };
            let mut metric = encoder.encode_descriptor(declared.name, declared.help, None, kind)?;
            let write = |encoder: &mut MetricEncoder<'_>, value: u64| match declared.kind {
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

/// The older text format, which is what a reader gets that does not ask for OpenMetrics.
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn metrics(State(view): Shared, headers: HeaderMap) -> Response {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let open = accepted.flat_map(|accept| accept.split(',')).any(wants_open_metrics);
    let text = encoded(view.metrics());
    let (kind, text) = if open { (OPEN_METRICS, text) } else { (PLAIN, plain(&text)) };
    ([(header::CONTENT_TYPE, kind), (header::VARY, "accept")], text).into_response()
}

fn wants_open_metrics(kind: &str) -> bool {
    let mut parts = kind.split(';').map(str::trim);
    let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/openmetrics-text"));
    named && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
}

/// The same figures in the older format: a counter's name is that of its values there, and nothing marks the end.
fn plain(open_metrics: &str) -> String {
    let lines: Vec<&str> = open_metrics.lines().collect();
    let counters: BTreeSet<&str> =
        lines.iter().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in lines {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => {}
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
                let _ = writeln!(text, "# {what} {name}_total {rest}"); // writing to a String cannot fail
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

fn encoded(metrics: Vec<Metric>) -> String {
    let mut registry = Registry::with_prefix("liminal");
    registry.register_collector(Box::new(Figures(metrics)));
    let mut text = String::new();
    if prometheus_client::encoding::text::encode(&mut text, &registry).is_err() {
        let _ = text.write_str("# the metrics could not be encoded\n"); // writing to a String cannot fail
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{super::metrics, *};

    #[test]
    fn the_older_format_has_the_names_of_its_values_and_no_end() {
        let text = plain(&encoded(vec![metrics::READY.of(1), metrics::PUBLISHED_MESSAGES.of(7)]));
        for line in [
            "# TYPE liminal_ready gauge",
            "liminal_ready 1",
            "# HELP liminal_published_messages_total Messages acknowledged to clients of this node",
            "# TYPE liminal_published_messages_total counter",
            "liminal_published_messages_total 7",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("EOF"), "{text}");
    }

    #[test]
    fn a_reader_gets_the_format_that_it_asks_for() {
        assert!(wants_open_metrics("application/openmetrics-text;version=1.0.0;q=0.5"));
        assert!(!wants_open_metrics("text/plain;version=0.0.4") && !wants_open_metrics("*/*"));
        assert!(!wants_open_metrics("application/openmetrics-text; q=0"));
    }
}
