//! What `/metrics` says of a node that does something.

use liminal::{
    broker::{Envelope, Start},
    http::metrics::{ALL, MetricKind},
    model::Limits,
};
use serde_json::json;

use super::{http::request, node};

const MESSAGES: &str = "/v1/channels/orders/messages";
const OPEN: [(&str, &str); 1] = [("Accept", "application/openmetrics-text;version=1.0.0")];

/// The value of a series.
fn value(text: &str, series: &str) -> f64 {
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let found = found.unwrap_or_else(|| panic!("{series} is not in\n{text}"));
    found.split(' ').next().unwrap().parse().unwrap()
}

async fn metrics(http: &str) -> String {
    request(http, "GET", "/metrics", &[], "").await.body
}

#[tokio::test]
async fn a_leader_without_tls_tells_all_other_declared_metrics_in_both_formats_and_nothing_else() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    for headers in [&[][..], &OPEN] {
        let text = request(http, "GET", "/metrics", headers, "").await.body;
        let mut told: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .map(|name| name.trim_end_matches("_total").to_owned())
            .collect();
        told.sort();
        let declared = ALL.iter().filter(|declared| !declared.name.starts_with("tls_"));
        let mut declared: Vec<String> = declared.map(|declared| format!("liminal_{}", declared.name)).collect();
        declared.sort();
        assert_eq!(told, declared);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let is = |kind: MetricKind, ends: &[&str]| {
                ALL.iter()
                    .filter(|declared| declared.kind == kind)
                    .any(|declared| ends.iter().any(|end| name == format!("liminal_{}{end}", declared.name)))
            };
            let known = is(MetricKind::Gauge, &[""])
                || is(MetricKind::Counter, &["_total"])
                || is(MetricKind::Histogram, &["_bucket", "_sum", "_count"]);
            assert!(known, "{line}");
        }
        assert_eq!(text.ends_with("# EOF\n"), headers == OPEN);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_publish_is_in_the_histogram_of_what_it_waited_for_and_its_trace_is_an_exemplar_of_openmetrics_alone() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let id = "0af7651916cd43dd8448eb211c80319c";
    let traced = format!("00-{id}-b7ad6b7169203331-01");
    let commit = format!("{MESSAGES}?confirm=commit");
    let headers = [("traceparent", traced.as_str())];
    assert_eq!(request(http, "POST", &commit, &headers, "1").await.status, 200);
    assert_eq!(request(http, "POST", MESSAGES, &[], "2").await.status, 200);
    assert_eq!(request(http, "POST", "/v1/channels/nowhere/messages", &[], "3").await.status, 404);
    let text = metrics(http).await;
    for confirm in ["commit", "delivery"] {
        let count = value(&text, &format!("liminal_publish_seconds_count{{confirm=\"{confirm}\"}}"));
        let all = value(&text, &format!("liminal_publish_seconds_bucket{{confirm=\"{confirm}\",le=\"+Inf\"}}"));
        assert_eq!((count, all), (1.0, 1.0), "{confirm}: what was refused is not counted");
        assert!(value(&text, &format!("liminal_publish_seconds_sum{{confirm=\"{confirm}\"}}")) > 0.0);
    }
    assert!(
        value(&text, "liminal_apply_seconds_count") >= 2.0 && value(&text, "liminal_log_append_seconds_count") >= 2.0
    );
    assert_eq!(value(&text, "liminal_delivery_wait_seconds_count"), 1.0, "of the second one");
    assert!(!text.contains(id), "{text}");
    let open = request(http, "GET", "/metrics", &OPEN, "").await.body;
    let of_trace: Vec<&str> = open.lines().filter(|line| line.contains(id)).collect();
    assert_eq!(of_trace.len(), 1, "{open}");
    assert!(of_trace[0].starts_with("liminal_publish_seconds_bucket{confirm=\"commit\",le="), "{}", of_trace[0]);
    node.stop().await;
}

#[tokio::test]
async fn only_what_is_handed_to_a_subscriber_of_the_node_is_in_the_histogram_of_the_fan_out() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    let publish = async || {
        let envelope = Envelope { payload: "1".into(), ..Envelope::default() };
        node.broker().publish("orders", envelope, None).await.unwrap()
    };
    publish().await;
    assert_eq!(value(&metrics(http).await, "liminal_fan_out_seconds_count"), 0.0);
    let subscription = node.broker().subscribe("orders", Start::Latest).await.unwrap();
    assert_eq!(publish().await.delivered, Some(true));
    assert_eq!(value(&metrics(http).await, "liminal_fan_out_seconds_count"), 1.0);
    drop(subscription);
    node.stop().await;
}

#[tokio::test]
async fn channels_beyond_the_limit_of_series_are_summed_up_and_the_sum_is_that_of_all() {
    let node = node(Limits { metric_series: 1, ..Limits::default() }).await;
    let http = node.http_address();
    for payload in ["1", "2"] {
        assert_eq!(request(http, "POST", MESSAGES, &[], payload).await.status, 200);
    }
    metrics(http).await;
    for channel in ["bills", "mails"] {
        let base = format!("/v1/channels/{channel}");
        assert_eq!(request(http, "PUT", &base, &[], "").await.status, 200);
        assert_eq!(
            request(http, "POST", &format!("{base}/messages"), &[("Idempotency-Key", "k")], "3").await.status,
            200
        );
    }
    let text = metrics(http).await;
    let of = |name: &str, channel: &str| value(&text, &format!("liminal_channel_{name}{{channel=\"{channel}\"}}"));
    for name in ["messages", "published_messages_total"] {
        assert_eq!((of(name, "orders"), of(name, "(others)")), (2.0, 2.0), "{name}");
    }
    assert_eq!((of("live_keys", "orders"), of("live_keys", "(others)")), (0.0, 2.0));
    assert_eq!(of("live_keys_limit", "(others)"), 2.0 * of("live_keys_limit", "orders"));
    assert!(of("bytes", "orders") > 0.0 && of("published_bytes_total", "(others)") > 0.0);
    assert_eq!((value(&text, "liminal_channels"), value(&text, "liminal_channels_not_shown")), (3.0, 2.0));
    assert!(!text.contains("channel=\"bills\""), "{text}");
    node.stop().await;
}

#[tokio::test]
async fn the_oldest_message_that_a_consumer_has_not_settled_has_an_age_and_nothing_has_none() {
    let node = node(Limits::default()).await;
    let http = node.http_address();
    assert_eq!(request(http, "POST", MESSAGES, &[], "1").await.status, 200);
    for (name, start) in [("behind", "earliest"), ("done", "latest")] {
        let create = json!({"name": name, "start": start}).to_string();
        assert_eq!(request(http, "POST", "/v1/channels/orders/consumers", &[], create).await.status, 200);
    }
    let orders = "orders".parse().unwrap();
    let (view, stored) = (node.broker().view(), node.broker().stored_at(&orders, 0).await.expect("the first message"));
    assert_eq!(node.broker().stored_at(&orders, 1).await, None);
    let before = (view.clock().now_ms() - stored) / 1000;
    let text = metrics(http).await;
    let after = (view.clock().now_ms() - stored) / 1000;
    let age = |consumer: &str| {
        value(&text, &format!("liminal_consumer_oldest_age_seconds{{channel=\"orders\",consumer=\"{consumer}\"}}"))
    };
    assert!((before as f64..=after as f64).contains(&age("behind")), "{before} {after} {}", age("behind"));
    assert_eq!(age("done"), 0.0);
    node.stop().await;
}
