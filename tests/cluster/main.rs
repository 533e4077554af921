//! Whole clusters, over loopback and real disks: three nodes in this process here, and in processes of their own where
//! they are killed and signalled.

#![allow(missing_docs)]

mod addresses;
mod aside;
mod claims;
mod clocks;
mod compaction;
mod consumers;
mod corpus;
mod damage;
mod delivered;
mod disks;
mod equality;
mod filters;
mod invitations;
mod kills;
mod large_entries;
mod membership;
mod metrics;
mod publishing;
mod quotas;
mod readers;
mod recorded;
mod redrive;
mod restored;
mod retention;
mod reviews;
mod security;
mod signals;
mod store_faults;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod versions;

use liminal::{
    broker::Start,
    client::{Client, Message},
    proto::v1,
};
use prost::Message as _;

use support::in_process::{Cluster, envelope, payloads};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_delivered_once_with_publisher_subscriber_and_leader_on_three_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    let [publisher, subscriber] = [(leader + 1) % 3, (leader + 2) % 3].map(|number| cluster.broker(number));
    assert_eq!(publisher.publish("orders", envelope("nobody"), None).await.unwrap().delivered, Some(false));
    let mut subscription = subscriber.subscribe("orders", Start::Latest).await.unwrap();
    let begin = subscription.position();
    let reader = tokio::spawn(async move {
        let mut got = Vec::new();
        while got.len() < 2 {
            let batch = subscription.next().await.unwrap();
            got.extend(batch.frame.messages().map(|message| message.unwrap().payload));
        }
        got
    });
    assert_eq!(publisher.publish("orders", envelope("a"), Some("1")).await.unwrap().delivered, Some(true));
    let again = publisher.publish("orders", envelope("a"), Some("1")).await.unwrap();
    assert_eq!((again.seq, again.duplicate, again.delivered), (1, true, Some(false)));
    assert_eq!(publisher.publish("orders", envelope("b"), Some("2")).await.unwrap().delivered, Some(true));
    assert_eq!(begin, 1);
    assert_eq!(reader.await.unwrap(), ["a", "b"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_to_a_subscription_was_not_acknowledged_before_it_through_any_node() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    for number in 0..20 {
        let published = cluster.broker(leader).publish("orders", envelope("old"), None).await.unwrap();
        let subscriber = cluster.broker((leader + 1 + number % 2) % 3);
        let subscription = subscriber.subscribe("orders", Start::Latest).await.unwrap();
        assert_eq!(subscription.position(), published.seq + 1);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_the_leader_and_a_restart_of_all_with_equal_states() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let first = cluster.leader().await;
    for number in 0..20 {
        let key = format!("k{number}");
        cluster.broker((first + 1) % 3).publish("orders", envelope(&number.to_string()), Some(&key)).await.unwrap();
    }
    cluster.stop_node(first).await;
    cluster.leader().await;
    let survivor = (first + 1) % 3;
    let again = cluster.broker(survivor).publish("orders", envelope("3"), Some("k3")).await.unwrap();
    assert!(again.duplicate && again.seq == 3);
    cluster.broker(survivor).publish("orders", envelope("20"), Some("k20")).await.unwrap();
    for number in cluster.running().collect::<Vec<_>>() {
        cluster.stop_node(number).await;
    }
    for number in 0..3 {
        cluster.start_node(number).await;
    }
    let expected: Vec<String> = (0..=20).map(|number| number.to_string()).collect();
    for number in 0..3 {
        assert_eq!(payloads(cluster.broker(number), "orders").await, expected);
        let stored = cluster.broker(number).store().read_from("orders:0", 0, 100).await.unwrap();
        let decoded = stored.iter().map(|entry| v1::Message::decode(entry.payload.clone()).unwrap().payload);
        assert_eq!(decoded.collect::<Vec<_>>(), expected);
    }
    // Each start is an entry of its own, which comes when it comes.
    support::eventually("all second starts are written down", async || {
        let view = cluster.broker(cluster.leader().await).view();
        let started = |number: usize| {
            let node = cluster.nodes[number].as_ref()?.group().state().address.id;
            view.member(node).filter(|member| member.starts == 2).map(drop)
        };
        (0..3).all(|number| started(number).is_some()).then_some(())
    })
    .await;
    // An entry of the cluster's own may come at any time: states are compared where all have applied the same.
    let states = support::eventually("all have applied the same", async || {
        let mut states = Vec::new();
        for number in 0..3 {
            states.push(cluster.broker(number).store().root_hash().await.unwrap());
        }
        states.iter().all(|(_, mark)| *mark == states[0].1).then_some(states)
    })
    .await;
    assert!(states.iter().all(|(hash, _)| *hash == states[0].0), "{states:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_written_down_though_the_leader_that_was_told_of_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    for number in 0..3 {
        cluster.stop_node(number).await;
    }
    for number in 0..3 {
        cluster.start_node(number).await;
    }
    let mut starts = [2; 3];
    // Leaders go as soon as they lead, which is when the others announce themselves.
    for _ in 0..3 {
        let leader = cluster.leader().await;
        cluster.stop_node(leader).await;
        starts[leader] += 1;
        cluster.start_node(leader).await;
    }
    support::eventually("all starts are written down", async || {
        let view = cluster.broker(cluster.leader().await).view();
        let written = |number: usize| {
            let node = cluster.nodes[number].as_ref()?.group().state().address.id;
            view.member(node).filter(|member| member.starts == starts[number]).map(drop)
        };
        (0..3).all(|number| written(number).is_some()).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_publishes_through_any_node_and_reads_from_another() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let address = |number: usize| format!("http://{}", cluster.nodes[number].as_ref().unwrap().client_address());
    let writer = Client::connect([address(1)]).await.unwrap();
    for number in 0..50 {
        let message = Message::new(number.to_string()).with_key(format!("k{number}"));
        assert_eq!(writer.publish("orders", message).await.unwrap().seq, number);
    }
    let expected: Vec<String> = (0..50).map(|number: u64| number.to_string()).collect();
    assert_eq!(payloads(cluster.broker(2), "orders").await, expected);
    let error = writer.publish("ordres", Message::default()).await.unwrap_err();
    assert_eq!(error.code(), "CHANNEL_NOT_FOUND");
    assert_eq!(writer.cluster_status().await.unwrap().nodes.len(), 3);
    cluster.stop().await;
}
