//! Nodes that come, go, move and come back on wrong disks. Real processes, because the disks are what matters.

use std::time::Duration;

use liminal::client::{Client, ClusterStatus, Consistency, Message, NodeRole, Start};
use rustix::process::Signal;

use super::support::{
    eventually,
    processes::{Node, Processes},
};

const DRAIN: Duration = Duration::from_secs(2);

async fn publish(client: &Client, from: u32, count: u32) {
    for number in from..from + count {
        let message = Message::new(format!("{{\"id\":{number}}}")).with_key(format!("k{number}"));
        client.publish("orders", message).await.unwrap();
    }
}

async fn stored(client: &Client) -> u64 {
    client.read("orders", Start::Earliest, 1, Consistency::Linearizable).await.unwrap().end_seq
}

fn role(status: &ClusterStatus, name: &str) -> Option<NodeRole> {
    status.nodes.iter().find(|node| node.name == name).map(|node| node.role)
}

/// Waits until the cluster, as its nodes see it, is as it should be.
async fn cluster(client: &Client, what: &str, is: impl Fn(&ClusterStatus) -> bool) -> ClusterStatus {
    eventually(what, async || client.cluster_status().await.ok().filter(|status| is(status))).await
}

fn voters(status: &ClusterStatus) -> usize {
    let votes = |node: &&liminal::client::NodeStatus| matches!(node.role, NodeRole::Leader | NodeRole::Follower);
    status.nodes.iter().filter(votes).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn more_fresh_nodes_than_found_a_cluster_become_one_cluster() {
    // Each looks only at the one before it, so that they do not all meet at once.
    let mut processes = Processes::prepared(5, DRAIN, "expect = 3\n");
    for number in 0..5_usize {
        processes.seed(number, &[number.saturating_sub(1)]);
    }
    for number in (0..5).rev() {
        processes.run(number);
    }
    processes.ready().await;
    let client = processes.client().await;
    cluster(&client, "five voters", |status| voters(status) == 5).await;
    processes.leader().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_nodes_that_expect_different_numbers_found_nothing_and_say_what_differs() {
    let mut processes = Processes::prepared(3, DRAIN, "expect = 3\n");
    processes.expect(2, 2);
    for number in 0..3 {
        processes.run(number);
    }
    for number in 0..3 {
        eventually(&format!("n{number} says so"), async || {
            processes.log(number).contains("n0 expects 3, n1 expects 3, n2 expects 2").then_some(())
        })
        .await;
    }
    assert!(processes.log(0).contains("`cluster.expect` differs"));
    processes.kill(2);
    processes.expect(2, 3);
    processes.run(2);
    processes.ready().await;
    processes.leader().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_the_seeds_found_nothing_and_say_what_they_wait_for() {
    let mut processes = Processes::prepared(6, DRAIN, "expect = 3\n");
    for number in 0..3 {
        processes.run(number);
    }
    let waits = eventually("they say what they wait for", async || {
        let waits = super::support::wire::http_body(&processes.http[0], "/ready").await?;
        waits.contains("3 of 6 seeds").then_some(waits)
    })
    .await;
    assert!(waits.contains(&processes.peers[5]), "{waits}");
    processes.run(3);
    processes.ready().await;
    for number in 4..6 {
        processes.run(number);
    }
    processes.ready().await;
    let client = processes.client().await;
    cluster(&client, "six voters", |status| voters(status) == 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_even_number_of_nodes_founds_a_cluster_too() {
    let processes = Processes::configured(4, DRAIN, "expect = 4\n").await;
    let client = processes.client().await;
    assert_eq!(voters(&client.cluster_status().await.unwrap()), 4);
    processes.leader().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_nodes_join_a_running_cluster_and_vote_once_they_have_caught_up() {
    let mut processes = Processes::start(3, DRAIN).await;
    let client = processes.client().await;
    publish(&client, 0, 50).await;
    for _ in 0..2 {
        let number = processes.add(Node::default());
        processes.run(number);
    }
    let status = cluster(&client, "five voters", |status| voters(status) == 5).await;
    assert_eq!(status.nodes.len(), 5);
    // Two of five may be lost now.
    processes.kill(0);
    processes.kill(1);
    let survivors = Client::builder().servers(processes.clients[2..].to_vec()).connect().await.unwrap();
    eventually("the rest takes publishes", async || survivors.publish("orders", Message::new("{}")).await.ok()).await;
    assert_eq!(stored(&survivors).await, 51);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_stays_out_until_an_operator_lets_it_in() {
    let mut processes = Processes::start(4, DRAIN).await;
    let client = processes.client().await;
    let leader = processes.leader().await;
    let name = format!("n{leader}");
    // Even the leader: it hands over first.
    client.remove_node(&name).await.unwrap();
    cluster(&client, "it is out", |status| voters(status) == 3 && role(status, &name).is_none()).await;
    publish(&client, 0, 5).await;
    processes.signal(leader, Signal::TERM);
    processes.wait(leader).await;
    processes.run(leader);
    let log = eventually("it is refused", async || {
        Some(processes.log(leader)).filter(|log| log.contains("the node was removed from the cluster"))
    })
    .await;
    assert!(log.contains(&format!("liminal cluster join {name}")), "{log}");
    eventually("it is let in", async || client.join_node(&name).await.ok()).await;
    cluster(&client, "it votes again", |status| role(status, &name).is_some() && voters(status) == 4).await;
    for wanted in ["transferred", "removed", "readmitted", "joined", "promoted"] {
        eventually(&format!("`{wanted}` is among the events"), async || {
            let events = client.cluster_events().await.ok()?;
            events.iter().any(|event| event.event == wanted).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_gone_for_long_is_removed_and_comes_back_by_itself() {
    let mut processes = Processes::configured(3, DRAIN, "remove_departed_after = \"2s\"\n").await;
    let client = processes.client().await;
    let fourth = processes.add(Node::default());
    processes.run(fourth);
    cluster(&client, "four nodes vote", |status| voters(status) == 4).await;
    let leader = processes.leader().await;
    let gone = (0..4).find(|number| *number != leader).unwrap();
    let name = format!("n{gone}");
    processes.kill(gone);
    cluster(&client, "it is removed", |status| role(status, &name).is_none() && voters(status) == 3).await;
    processes.run(gone);
    cluster(&client, "it votes again", |status| voters(status) == 4).await;
    // Three are what the configuration expects: they are never fewer.
    let leader = processes.leader().await;
    let gone: Vec<usize> = (0..4).filter(|number| *number != leader).take(2).collect();
    processes.kill(gone[0]);
    cluster(&client, "one is removed", |status| voters(status) == 3).await;
    processes.kill(gone[1]);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(voters(&client.cluster_status().await.unwrap()), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_may_come_back_at_another_address() {
    let mut processes = Processes::start(3, DRAIN).await;
    let client = processes.client().await;
    publish(&client, 0, 5).await;
    let moved = processes.leader().await;
    processes.signal(moved, Signal::TERM);
    processes.wait(moved).await;
    let old = processes.peers[moved].clone();
    processes.readdress(moved);
    processes.run(moved);
    let client = processes.client().await;
    let name = format!("n{moved}");
    let status = cluster(&client, "the others know the new address", |status| {
        status.nodes.iter().any(|node| node.name == name && node.peer_address != old)
    })
    .await;
    assert_eq!(voters(&status), 3);
    processes.ready().await;
    publish(&client, 5, 5).await;
    processes.caught_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_may_come_back_at_other_addresses_at_once() {
    let mut processes = Processes::start(3, DRAIN).await;
    publish(&processes.client().await, 0, 5).await;
    for number in 0..3 {
        processes.kill(number);
    }
    let stays = 2; // the others find each other through it
    for number in (0..3).filter(|number| *number != stays) {
        processes.readdress(number);
    }
    for number in 0..3 {
        processes.run(number);
    }
    processes.ready().await;
    let client = processes.client().await;
    publish(&client, 5, 5).await;
    assert_eq!(stored(&client).await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_whose_disk_was_lost_is_told_to_be_removed_and_then_joins_as_a_new_node() {
    let mut processes = Processes::start(3, DRAIN).await;
    let client = processes.client().await;
    publish(&client, 0, 5).await;
    let leader = processes.leader().await;
    let lost = (0..3).find(|number| *number != leader).unwrap();
    processes.kill(lost);
    std::fs::remove_dir_all(processes.data(lost)).unwrap();
    processes.run(lost);
    let name = format!("n{lost}");
    eventually("it is refused", async || {
        processes.log(lost).contains(&format!("liminal cluster remove {name}")).then_some(())
    })
    .await;
    let others: Vec<String> =
        (0..3).filter(|number| *number != lost).map(|number| processes.clients[number].clone()).collect();
    let client = Client::builder().servers(others).connect().await.unwrap();
    assert_eq!(voters(&client.cluster_status().await.unwrap()), 3);
    client.remove_node(&name).await.unwrap();
    cluster(&client, "it votes under another id", |status| voters(status) == 3).await;
    processes.ready().await;
    publish(&client, 5, 5).await;
    processes.caught_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_disk_is_refused_beside_its_original_and_an_old_copy_in_its_place() {
    let mut processes = Processes::start(3, DRAIN).await;
    let client = processes.client().await;
    let leader = processes.leader().await;
    let original = (0..3).find(|number| *number != leader).unwrap();
    processes.signal(original, Signal::TERM);
    processes.wait(original).await;
    let copy = processes.add(Node { name: Some(format!("n{original}")), ..Node::default() });
    processes.copy_data(original, copy);
    processes.run(original);
    processes.ready().await;
    processes.run(copy);
    assert_eq!(processes.wait(copy).await.code(), Some(1));
    let log = processes.log(copy);
    assert!(log.contains("copy of"), "{log}");

    // The original goes on, and its disk is then replaced by the copy, which knows less.
    publish(&client, 0, 20).await;
    processes.caught_up_nodes(3).await;
    processes.signal(original, Signal::TERM);
    processes.wait(original).await;
    processes.copy_data(copy, original);
    processes.run(original);
    assert_eq!(processes.wait(original).await.code(), Some(1));
    let log = processes.log(original);
    assert!(log.contains("old copy"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_changed_is_refused_with_the_reason() {
    let mut processes = Processes::start(3, DRAIN).await;
    let client = processes.client().await;
    let refused = |error: liminal::client::ClientError| {
        assert_eq!(error.code(), "CHANGE_REFUSED", "{error:?}");
        error.message().to_owned()
    };
    let error = refused(client.remove_node("n9").await.unwrap_err());
    assert!(error.contains("its nodes are n0, n1, n2") || error.contains("`n9`"), "{error}");
    let error = refused(client.promote_node("n0").await.unwrap_err());
    assert!(error.contains("is a voter already"), "{error}");
    let error = refused(client.join_node("127.0.0.1:1").await.unwrap_err());
    assert!(error.contains("no node `127.0.0.1:1` has asked to be let in"), "{error}");
    // Nor does anybody look there.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let error = refused(client.join_node(&address).await.unwrap_err());
    assert!(error.contains("has asked to be let in"), "{error}");
    let called = tokio::time::timeout(std::time::Duration::from_millis(300), listener.accept()).await;
    assert!(called.is_err(), "a node called an address that a client gave it");
    let error = refused(client.join_node("n1").await.unwrap_err());
    assert!(error.contains("is in the cluster already"), "{error}");
    let leader = processes.leader().await;
    let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    processes.kill(others[0]);
    let error = refused(client.remove_node(&format!("n{}", others[1])).await.unwrap_err());
    assert!(error.contains("no majority"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_away_for_longer_than_the_log_gets_only_what_it_lacks_of_the_state() {
    let mut processes = Processes::configured(3, DRAIN, "[raft]\nlog_keep_entries = 5\n").await;
    let client = processes.client().await;
    publish(&client, 0, 300).await;
    let leader = processes.leader().await;
    let away = (0..3).find(|number| *number != leader).unwrap();
    processes.caught_up().await;
    processes.signal(away, Signal::TERM);
    processes.wait(away).await;
    publish(&client, 300, 50).await;
    let to_leader = Client::connect([processes.clients[leader].clone()]).await.unwrap();
    eventually("the leader's log is cut", async || {
        let done = to_leader.snapshot_node().await.ok()?;
        (done.log_entries < 40).then_some(())
    })
    .await;
    processes.run(away);
    processes.ready().await;
    processes.caught_up().await;
    let log = processes.log(leader);
    assert!(log.contains("sending a snapshot"), "{log}");
    let verified = client.verify_cluster().await.unwrap();
    assert!(verified.nodes.iter().all(|node| node.state_hash == verified.nodes[0].state_hash), "{verified:?}");
}
