//! What a channel keeps is decided by the log: alike on every node, whatever happens to them.

use liminal::{
    broker::{Broker, BrokerError, Start, Trim},
    model::{ChannelStats, ChannelUpdate, Quota, Retention},
};

use super::support::{
    eventually,
    in_process::{Cluster, envelope, payloads},
};

async fn update(broker: &Broker, update: ChannelUpdate) {
    broker.update_channel("orders", update).await.unwrap();
}

async fn publish(broker: &Broker, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let key = format!("k{number}");
        broker.publish("orders", envelope(&number.to_string()), Some(&key)).await.unwrap();
    }
}

/// The counters as each node has applied them, once all have applied the same.
async fn stats(cluster: &Cluster) -> ChannelStats {
    eventually("all nodes have the same counters", async || {
        let mut all = Vec::new();
        for number in cluster.running() {
            let view = cluster.broker(number).view();
            let id = view.catalog().get("orders")?.id;
            all.push(view.stats(id)?);
        }
        all.windows(2).all(|pair| pair[0] == pair[1]).then(|| all[0])
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_trims_leave_equal_states_through_a_failover_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let retention = Retention { max_messages: Some(20), max_bytes: Some(400), ..Retention::default() };
    update(cluster.broker(0), ChannelUpdate { retention: Some(retention), ..ChannelUpdate::default() }).await;
    let first = cluster.leader().await;
    publish(cluster.broker((first + 1) % 3), 0..60).await;
    assert_eq!(stats(&cluster).await.first_seq, 40);

    cluster.stop_node(first).await;
    let second = cluster.leader().await;
    publish(cluster.broker(second), 60..90).await;
    let gone = cluster.broker(second).read("orders", Start::Seq(69), 0, Default::default(), None).await;
    assert_eq!(gone.err(), Some(BrokerError::OutOfRange { channel: "orders".into(), seq: 69, first: 70 }));
    assert_eq!(cluster.broker(second).trim_channel("orders", Trim::Keep(5)).await.unwrap(), 85);
    // Long gone, and still the same message.
    let again = cluster.broker(second).publish("orders", envelope("0"), Some("k0")).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (0, true));

    cluster.start_node(first).await;
    publish(cluster.broker(first), 90..100).await;
    let before = stats(&cluster).await;
    assert_eq!((before.first_seq, before.next_seq), (85, 100));
    for number in 0..3 {
        cluster.stop_node(number).await;
    }
    for number in 0..3 {
        cluster.start_node(number).await;
    }
    let leader = cluster.leader().await;
    assert_eq!(stats(&cluster).await, before);
    publish(cluster.broker(leader), 100..110).await;
    for number in 0..3 {
        let expected: Vec<String> = (90..110).map(|number| number.to_string()).collect();
        assert_eq!(payloads(cluster.broker(number), "orders").await, expected);
    }
    cluster.assert_equal(leader).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channels_quota_counts_what_comes_through_all_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let quota = Quota { messages_per_second: None, bytes_per_second: Some(1) };
    update(cluster.broker(0), ChannelUpdate { quota: Some(quota), ..ChannelUpdate::default() }).await;
    cluster.leader().await;
    publish(cluster.broker(0), 0..1).await;
    for number in 0..3 {
        let error = cluster.broker(number).publish("orders", envelope("x"), None).await.unwrap_err();
        assert!(matches!(error, BrokerError::QuotaExceeded { limit: 1, .. }), "{error:?}");
    }
    cluster.stop().await;
}
