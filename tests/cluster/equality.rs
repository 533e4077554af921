//! States that are compared, kept elsewhere and brought back.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use liminal::{
    broker::{BrokerError, Start as From},
    client::{Client, Consistency, Message, NodeRole, Start},
    model::{ChannelConfig, ConsumerConfig},
    store::DurableStore as _,
};
use tokio::time::timeout;

use super::support::{
    PATIENCE, eventually,
    in_process::{Cluster, envelope},
    processes::{Node, Processes},
};

const DRAIN: Duration = Duration::from_secs(2);

fn liminal(server: &str, arguments: &[&str]) -> (i32, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_liminal")).args(["--server", server]).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code().unwrap(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_state_differs_is_named_and_serves_no_longer_while_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start_faulty(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    let wrong = (leader + 1) % 3;
    let group = |number: usize| cluster.nodes[number].as_ref().unwrap().group();
    group(leader).checkpoint().await.unwrap();
    eventually("equal states are seen as equal", async || {
        let verified = group(leader).verified();
        (verified.index > 0 && verified.differing.is_empty()).then_some(())
    })
    .await;

    let named = cluster.broker(leader).create_consumer("orders", "work", ConsumerConfig::default(), From::Latest);
    named.await.unwrap();
    let mut subscription = cluster.broker(wrong).subscribe("orders", From::Latest).await.unwrap();
    let mut member = cluster.broker(wrong).join_consumer("orders", "work", 10).await.unwrap();
    // A bit that flipped, as far as the others can tell.
    cluster.stores[wrong].cas("flipped", None, 1).await.unwrap();
    group(leader).checkpoint().await.unwrap();
    eventually("the node knows", async || group(wrong).refused()).await;
    let reason = group(wrong).refused().unwrap();
    assert!(reason.contains(&format!("liminal cluster remove n{wrong}")), "{reason}");
    eventually("the others name it", async || {
        (group(leader).verified().differing == [format!("n{wrong}")]).then_some(())
    })
    .await;
    assert_eq!(group(leader).refused(), None);
    // Who reads there goes elsewhere.
    let ended = [
        timeout(PATIENCE, subscription.next()).await.expect("the subscription ends").unwrap_err(),
        timeout(PATIENCE, member.next()).await.expect("the member ends").unwrap_err(),
    ];
    assert!(ended.iter().all(|error| matches!(error, BrokerError::NotAMember { .. })), "{ended:?}");
    drop((subscription, member));
    cluster.broker(leader).publish("orders", envelope("{}"), None).await.unwrap();
    assert!(cluster.broker(wrong).create_channel("more", ChannelConfig::default()).await.is_err());

    // Not even after a restart.
    cluster.stop_node(wrong).await;
    cluster.start_node(wrong).await;
    let group = cluster.nodes[wrong].as_ref().unwrap().group();
    eventually("it remembers", async || group.refused()).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_does_not_wait_long_for_a_node_that_is_dead() {
    let mut processes = Processes::start(3, DRAIN).await;
    processes.kill(1);
    let begun = Instant::now();
    let (code, text) = liminal(&format!("http://{}", processes.clients[0]), &["cluster", "verify"]);
    assert!(code == 10 && text.contains("no answer") && text.matches("equal").count() == 2, "{code} {text}");
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_while_publishing_goes_on_becomes_a_new_cluster_in_a_new_epoch() {
    let mut processes = Processes::start(3, DRAIN).await;
    let client = processes.client().await;
    for number in 0..100 {
        let message = Message::new(format!("{{\"id\":{number}}}")).with_key(format!("k{number}"));
        client.publish("orders", message).await.unwrap();
    }
    let server = format!("http://{}", processes.clients[0]);
    let (code, text) = liminal(&server, &["cluster", "verify"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(text.matches("equal").count(), 3, "{text}");

    let file = processes.data(0).with_extension("backup");
    let name = file.to_str().unwrap();
    let publishing = {
        let client = client.clone();
        tokio::spawn(async move {
            for number in 100..300 {
                let message = Message::new(format!("{{\"id\":{number}}}")).with_key(format!("k{number}"));
                client.publish("orders", message).await.unwrap();
            }
        })
    };
    let (code, text) = liminal(&server, &["cluster", "backup", name]);
    assert_eq!(code, 0, "{text}");
    publishing.await.unwrap();
    let (code, text) = liminal(&server, &["cluster", "backup", name]);
    assert!(code == 2 && text.contains("is there already"), "{code} {text}");

    for number in 0..3 {
        processes.kill(number);
    }
    let restored = processes.add(Node { seeds: Some(Vec::new()), ..Node::default() });
    let config = processes.config(restored);
    let (code, text) = liminal(&server, &["cluster", "restore", name, "--config", config.to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = liminal(&server, &["cluster", "restore", name, "--config", config.to_str().unwrap()]);
    assert!(code == 2 && text.contains("is not empty"), "{code} {text}");
    processes.run(restored);
    let seeds = vec![processes.peers[restored].clone()];
    for _ in 0..2 {
        let number = processes.add(Node { seeds: Some(seeds.clone()), ..Node::default() });
        processes.run(number);
    }
    let servers = processes.clients[3..].to_vec();
    let client = eventually("the nodes are up", async || {
        Client::builder().servers(servers.clone()).retry_for(DRAIN * 10).connect().await.ok()
    })
    .await;
    let status = eventually("three voters", async || {
        let status = client.cluster_status().await.ok()?;
        let votes = |role| matches!(role, NodeRole::Leader | NodeRole::Follower);
        (status.nodes.iter().filter(|node| votes(node.role)).count() == 3).then_some(status)
    })
    .await;
    assert_eq!(status.epoch, 2);
    let page = client.read("orders", Start::Earliest, 1000, Consistency::Linearizable).await.unwrap();
    assert!((100..=300).contains(&page.end_seq), "{}", page.end_seq);
    // Keys came along.
    let again = client.publish("orders", Message::new("{\"id\":7}").with_key("k7")).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (7, true));
    let next = client.publish("orders", Message::new("{}")).await.unwrap();
    assert_eq!(next.seq, page.end_seq);
    let events = client.cluster_events().await.unwrap();
    assert!(events.iter().all(|event| !["n0", "n1", "n2"].contains(&event.node.as_str())), "{events:?}");
    let (code, text) = liminal(&format!("http://{}", processes.clients[3]), &["cluster", "verify"]);
    assert_eq!(code, 0, "{text}");
}
