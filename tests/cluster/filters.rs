//! Filtered subscriptions that lose their node, and what publishers hear of them through other nodes.

use futures::StreamExt as _;
use liminal::{
    broker::{Confirm, Start},
    client::{self, Client},
    model::Frame,
    proto::v1::Message,
};

use super::support::{
    PATIENCE, eventually,
    in_process::{Cluster, envelope},
};

/// Publishes numbers from `first` on, in batches of a hundred.
async fn publish(cluster: &Cluster, node: usize, numbers: std::ops::Range<u64>) {
    for first in numbers.clone().step_by(100) {
        let message = |number: u64| Message {
            payload: number.to_string().into(),
            key: Some(format!("k{number}")),
            ..Message::default()
        };
        let messages: Vec<Message> = (first..numbers.end.min(first + 100)).map(message).collect();
        for result in cluster.broker(node).publish_frame("orders", Frame::encode(&messages), Confirm::Commit).await {
            result.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_subscription_that_moves_to_another_node_misses_and_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let address = |number: usize| format!("http://{}", cluster.nodes[number].as_ref().unwrap().client_address());
    let client = Client::connect([address(0), address(1), address(2)]).await.unwrap();
    publish(&cluster, 0, 0..3000).await;
    let filter = "$payload in [7, 8, 2990, 3010, 5999]";
    let mut messages = client.subscribe("orders", client::Start::Earliest).filter(filter).await.unwrap();
    let mut next = async || {
        let received = tokio::time::timeout(PATIENCE, messages.next()).await.expect("a message").unwrap().unwrap();
        assert_eq!(received.message.payload, received.seq.to_string());
        received.seq
    };
    for seq in [7, 8, 2990] {
        assert_eq!(next().await, seq);
    }
    let serving = || {
        (0..3).find(|number| {
            let node = cluster.nodes[*number].as_ref();
            node.is_some_and(|node| node.broker().view().fanout().all_followers() > 0)
        })
    };
    let first = serving().unwrap();
    cluster.stop_node(first).await;
    let other = (first + 1) % 3;
    cluster.leader().await;
    publish(&cluster, other, 3000..6000).await;
    for seq in [3010, 5999] {
        assert_eq!(next().await, seq);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_filter_on_any_node_lets_through_is_known_to_be_undelivered() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    let numbers = [leader, (leader + 1) % 3, (leader + 2) % 3];
    for (number, filter) in numbers.into_iter().zip(["$payload == 0", "$payload == 1", "$payload in [2, 3]"]) {
        let filter = Some(filter.parse().unwrap());
        let mut subscription =
            cluster.broker(number).subscribe_filtered("orders", Start::Latest, filter).await.unwrap();
        tokio::spawn(async move { while subscription.next().await.is_ok() {} });
    }
    let publisher = cluster.broker((leader + 1) % 3);
    for (payload, expected) in [("0", true), ("1", true), ("2", true), ("3", true), ("4", false), ("no JSON", false)] {
        // A machine that is busy may take longer than a publisher waits: then it is not told anything wrong.
        eventually("the delivery is certain", async || {
            let outcome = publisher.publish("orders", envelope(payload), None).await.unwrap();
            outcome.delivered.map(|delivered| assert_eq!(delivered, expected, "{payload}"))
        })
        .await;
    }
    cluster.stop().await;
}
