//! Nodes whose addresses are somebody else's by now: another node's, another cluster's, or of something that is no node.

use std::time::{Duration, Instant};

use liminal::{
    client::{Client, Message},
    env::Env,
    node::{Node, Storage},
};
use rustix::process::Signal;
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use super::support::{
    eventually, free_addresses,
    in_process::{Cluster, envelope},
    processes::Processes,
    wire::http_status,
};

/// A cached connection to the wrong node kept nodes apart for half a minute and more; this leaves room for a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Each of these nodes, which do not run, gets the addresses of the one before it.
fn rotate(cluster: &mut Cluster, numbers: &[usize]) {
    let old: Vec<_> = numbers.iter().map(|number| cluster.configs[*number].clone()).collect();
    for (place, number) in numbers.iter().enumerate() {
        let from = &old[(place + numbers.len() - 1) % numbers.len()];
        let config = &mut cluster.configs[*number];
        config.listen_address.clone_from(&from.listen_address);
        config.health_listen_address.clone_from(&from.health_listen_address);
        let peers = from.cluster.as_ref().unwrap().listen_address.clone();
        config.cluster.as_mut().unwrap().listen_address = peers;
    }
}

/// Waits until every node reaches every other one and a message is stored; tells how long that took.
async fn whole(cluster: &Cluster) -> Duration {
    let begun = Instant::now();
    let group = |number: usize| cluster.nodes[number].as_ref().unwrap().group();
    eventually("all nodes reach each other and follow one leader", async || {
        for one in 0..3 {
            for other in (0..3).filter(|other| *other != one) {
                let state = group(one).state_of(&group(other).state().address).await?;
                (state.leader != 0 && state.leader == group(one).state().leader).then_some(())?;
            }
        }
        cluster.broker(0).publish("orders", envelope("x"), None).await.ok()
    })
    .await;
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_whose_addresses_and_seeds_are_of_ipv6_are_a_cluster_and_serve_on_all_ports() {
    if let Err(error) = std::net::TcpListener::bind("[::1]:0") {
        eprintln!("not tested: this machine has no IPv6 loopback: {error}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::prepare(dir.path());
    for config in &mut cluster.configs {
        let peers = config.cluster.as_mut().unwrap();
        let addresses = [&mut config.listen_address, &mut config.health_listen_address, &mut peers.listen_address];
        for address in addresses.into_iter().chain(&mut peers.seed_nodes) {
            *address = address.replace("127.0.0.1:", "[::1]:");
        }
    }
    cluster.start_nodes().await;
    cluster.create("orders").await;
    whole(&cluster).await;
    for node in cluster.nodes.iter().flatten() {
        let (client, http) = (node.client_address().to_string(), node.http_address().to_string());
        assert!(client.starts_with("[::1]:") && http.starts_with("[::1]:"), "{client} {http}");
        assert_eq!(http_status(&http, "/ready").await, Some(200));
        let client = Client::connect([format!("http://{client}")]).await.unwrap();
        client.publish("orders", Message::new("6")).await.unwrap();
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_exchange_their_addresses_are_one_cluster_soon() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    whole(&cluster).await;
    for round in [&[0, 1][..], &[1, 2], &[0, 1, 2]] {
        for number in round {
            cluster.stop_node(*number).await;
        }
        rotate(&mut cluster, round);
        for number in round {
            cluster.start_node(*number).await;
        }
        let took = whole(&cluster).await;
        assert!(took < SOON, "{round:?} took {took:?}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_exchange_their_addresses_are_one_cluster_soon() {
    let mut processes = Processes::start(3, Duration::from_secs(2)).await;
    let leader = processes.leader().await;
    for swapped in [[leader, (leader + 1) % 3], [(leader + 1) % 3, (leader + 2) % 3]] {
        for number in swapped {
            processes.signal(number, Signal::TERM);
            processes.wait(number).await;
        }
        processes.exchange(swapped[0], swapped[1]);
        let begun = Instant::now();
        for number in swapped {
            processes.run(number);
        }
        processes.ready().await;
        processes.leader().await;
        processes.caught_up().await;
        assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_something_else_took_over_keeps_no_node_apart() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let moved = (cluster.leader().await + 1) % 3;
    cluster.stop_node(moved).await;
    let old = cluster.configs[moved].cluster.as_ref().unwrap().listen_address.clone();
    // First something that says nothing, then something that speaks another protocol.
    for answer in ["", "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"] {
        let squatter = TcpListener::bind(&old).await.unwrap();
        let squat = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = squatter.accept().await {
                stream.write_all(answer.as_bytes()).await.unwrap();
                held.push(stream);
            }
        });
        let [client, http, peers] = free_addresses(3).try_into().unwrap();
        let config = &mut cluster.configs[moved];
        (config.listen_address, config.health_listen_address) = (client, http);
        config.cluster.as_mut().unwrap().listen_address = peers;
        cluster.start_node(moved).await;
        let took = whole(&cluster).await;
        assert!(took < SOON, "{answer:?}: it took {took:?}");
        cluster.stop_node(moved).await;
        squat.abort();
        let _ = squat.await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_that_meet_say_so_on_every_node_and_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    whole(&cluster).await;
    let moved = (cluster.leader().await + 1) % 3;
    cluster.stop_node(moved).await;
    // A cluster of one takes over the address of a node that moves.
    let mut other = cluster.configs[moved].clone();
    other.persistence_path = Some(dir.path().join("other"));
    let alone = other.cluster.as_mut().unwrap();
    (alone.node_name, alone.expect, alone.seed_nodes) = ("other".into(), 1, Vec::new());
    let env = Env::real();
    let other = Node::start(other.clone(), env.clone(), Storage::open(&other, &env).unwrap()).await.unwrap();
    let theirs = eventually("it is a cluster", async || {
        (other.group().state().leader != 0).then(|| other.group().cluster_id()).flatten()
    })
    .await;
    let [client, http, peers] = free_addresses(3).try_into().unwrap();
    let config = &mut cluster.configs[moved];
    (config.listen_address, config.health_listen_address) = (client, http);
    config.cluster.as_mut().unwrap().listen_address = peers;
    cluster.start_node(moved).await;
    whole(&cluster).await;
    let nodes: Vec<&Node> = cluster.nodes.iter().flatten().chain([&other]).collect();
    let ours = nodes[0].group().cluster_id().unwrap();
    for node in nodes {
        let state =
            eventually("it says so", async || Some(node.group().state()).filter(|state| !state.notice.is_empty()))
                .await;
        assert!(state.notice.contains(&ours) && state.notice.contains(&theirs), "{}", state.notice);
        assert!(state.notice.contains("empty directory") && state.failure.is_empty(), "{state:?}");
    }
    other.stop().await;
    cluster.stop().await;
}
