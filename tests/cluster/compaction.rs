//! Compaction is decided by the log: alike on every node, through a failover and a restart.

use bytes::Bytes;
use liminal::{
    broker::{Confirm, Start},
    model::{ChannelUpdate, Frame, Retention},
    proto::v1::{Header, Message},
};

use super::support::{eventually, in_process::Cluster};

async fn publish(cluster: &Cluster, number: usize, values: std::ops::Range<u64>) {
    for value in values {
        let header = Header { name: "user".into(), value: (value % 7).to_string() };
        let payload = Bytes::from(value.to_string());
        let frame = Frame::encode([&Message { payload, headers: vec![header], ..Message::default() }]);
        cluster.broker(number).publish_frame("orders", frame, Confirm::Commit).await.remove(0).unwrap();
    }
}

async fn stored(cluster: &Cluster, number: usize) -> Vec<u64> {
    let page = cluster.broker(number).read("orders", Start::Earliest, 0, Default::default(), None).await.unwrap();
    page.batches.iter().flat_map(|batch| batch.first_seq..batch.end_seq()).collect()
}

/// Waits until all nodes hold these messages.
async fn hold(cluster: &Cluster, expected: std::ops::Range<u64>) {
    let expected: Vec<u64> = expected.collect();
    eventually("all nodes hold the last of each key", async || {
        for number in cluster.running() {
            if stored(cluster, number).await != expected {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_each_key_is_left_on_all_nodes_whoever_leads() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let retention = Retention { compact_by: Some("user".into()), ..Retention::default() };
    let update = ChannelUpdate { retention: Some(retention), ..ChannelUpdate::default() };
    cluster.broker(0).update_channel("orders", update).await.unwrap();
    let first = cluster.leader().await;
    publish(&cluster, (first + 1) % 3, 0..100).await;
    hold(&cluster, 93..100).await;

    cluster.stop_node(first).await;
    let second = cluster.leader().await;
    publish(&cluster, second, 100..150).await;
    hold(&cluster, 143..150).await;
    cluster.start_node(first).await;
    hold(&cluster, 143..150).await;

    for number in 0..3 {
        cluster.stop_node(number).await;
    }
    for number in 0..3 {
        cluster.start_node(number).await;
    }
    let leader = cluster.leader().await;
    publish(&cluster, leader, 150..160).await;
    hold(&cluster, 153..160).await;
    cluster.assert_equal(leader).await;
    cluster.stop().await;
}
