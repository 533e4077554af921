//! What three nodes tell together: what is the cluster's once, and what is a node's by each.

use super::support::{
    eventually,
    in_process::{Cluster, envelope},
    wire::http_body,
};

/// The values of the series that begin like this.
fn values(text: &str, series: &str) -> Vec<f64> {
    let of_series = text.lines().filter(|line| line.starts_with(series));
    of_series.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
}

async fn told(cluster: &Cluster) -> Vec<String> {
    let mut texts = Vec::new();
    for node in cluster.nodes.iter().flatten() {
        texts.push(http_body(node.http_address(), "/metrics").await.expect("the metrics"));
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_the_clusters_is_told_once_and_what_is_a_nodes_by_each() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    for number in 0..3 {
        eventually("the node publishes", async || {
            cluster.broker(number).publish("orders", envelope("1"), Some("k")).await.ok()
        })
        .await;
    }
    let texts = eventually("one node leads and the others follow", async || {
        let texts = told(&cluster).await;
        let mut lags: Vec<usize> = texts.iter().map(|text| values(text, "liminal_peer_lag_entries{").len()).collect();
        lags.sort_unstable();
        (lags == [0, 0, 2]).then_some(texts)
    })
    .await;
    let sum = |series: &str| texts.iter().flat_map(|text| values(text, series)).sum::<f64>();
    assert_eq!(sum("liminal_channels "), 1.0);
    assert_eq!(sum("liminal_channel_messages{channel=\"orders\"} "), 1.0);
    assert_eq!(sum("liminal_publish_seconds_count{"), 3.0, "each was asked once");
    assert!(sum("liminal_forward_seconds_count ") >= 1.0, "one that does not lead was asked, whoever led when");
    for text in &texts {
        let only = |series: &str| match values(text, series)[..] {
            [value] => value,
            ref other => panic!("{series}: {other:?}"),
        };
        assert!(only("liminal_log_sync_seconds_count ") > 0.0 && only("liminal_log_bytes ") > 0.0);
        assert!(only("liminal_apply_seconds_count ") > 0.0);
        let (free, size) = (only("liminal_disk_free_bytes "), only("liminal_disk_size_bytes "));
        assert!(free <= size && size > 0.0, "{free} of {size}");
    }
    cluster.stop().await;
}
