//! Readers of a cluster that was lost and restored from an older backup.

use std::{process::Command, time::Duration};

use liminal::{
    broker,
    client::{Client, Consistency, HistoryChange, Message, Start},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::support::{
    PATIENCE, eventually,
    in_process::{Cluster, envelope},
    processes::{Node, Processes},
};

const DRAIN: Duration = Duration::from_secs(2);

fn liminal(server: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_liminal")).args(["--server", server]).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

/// Follows a channel as a browser does that comes back, until a text comes.
async fn events(http: &str, last: &str, until: &str) -> String {
    let mut stream = TcpStream::connect(http).await.unwrap();
    let request = format!("GET /v1/channels/orders/events HTTP/1.1\r\nhost: {http}\r\nlast-event-id: {last}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    let reading = async {
        let mut bytes = [0; 4096];
        while !seen.contains(until) {
            let count = stream.read(&mut bytes).await.unwrap();
            assert!(count > 0, "it ended: {seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("`{until}` does not come"));
    seen
}

fn last_id(seen: &str) -> String {
    seen.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().unwrap().to_owned()
}

async fn publish(client: &Client, payloads: std::ops::Range<u64>) {
    for payload in payloads {
        client.publish("orders", Message::new(payload.to_string())).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_had_read_beyond_a_restored_backup_are_told_on_every_node_and_miss_nothing() {
    let mut processes = Processes::start(3, DRAIN).await;
    let client = processes.client().await;
    let server = format!("http://{}", processes.clients[0]);
    publish(&client, 0..7).await;
    let within = client.read("orders", Start::Seq(3), 1, Consistency::Linearizable).await.unwrap().next.unwrap();
    let file = processes.data(0).with_extension("backup");
    let name = file.to_str().unwrap();
    liminal(&server, &["cluster", "backup", name]);
    publish(&client, 7..10).await;
    let seen = events(&processes.http[1], "-1", "\"payload\":9}").await;
    let (beyond, position) = (last_id(&seen), client.read("orders", Start::Latest, 0, Consistency::Linearizable).await);
    let position = position.unwrap().next.unwrap();
    assert_eq!((beyond.clone(), position.seq), (position.to_string(), 10));
    drop(client);

    for number in 0..3 {
        processes.kill(number);
    }
    let restored = processes.add(Node { seeds: Some(Vec::new()), ..Node::default() });
    let config = processes.config(restored);
    liminal(&server, &["cluster", "restore", name, "--config", config.to_str().unwrap()]);
    processes.run(restored);
    let seeds = vec![processes.peers[restored].clone()];
    for _ in 0..2 {
        let number = processes.add(Node { seeds: Some(seeds.clone()), ..Node::default() });
        processes.run(number);
    }
    processes.ready().await;
    let servers = processes.clients[3..].to_vec();
    let client = eventually("the nodes are up", async || {
        Client::builder().servers(servers.clone()).retry_for(DRAIN * 10).connect().await.ok()
    })
    .await;
    // The new history grows beyond where the old one ended.
    publish(&client, 100..105).await;

    for number in 3..6 {
        let http = &processes.http[number];
        let seen = events(http, &beyond, "\"payload\":104}").await;
        assert!(seen.contains("event: notice\n") && seen.contains("\"code\":\"HISTORY_REWOUND\""), "{seen}");
        assert!(seen.contains("\"from_seq\":10") && seen.contains("\"next_seq\":7"), "{seen}");
        let told = seen.find("event: notice").unwrap();
        let first = seen.find("\"payload\":100}").expect("the first message of the new history");
        assert!(told < first && !seen.contains("\"payload\":6}"), "{seen}");
        // Who had read only what was kept goes on without a word, and so does who was told.
        for place in [within.to_string(), last_id(&seen[..first])] {
            let seen = events(http, &place, "\"payload\":104}").await;
            assert!(!seen.contains("event: notice"), "{seen}");
        }
        let one = Client::connect([format!("http://{}", processes.clients[number])]).await.unwrap();
        let mut messages = one.subscribe("orders", Start::Position(position)).await.unwrap();
        let told = messages.next_batch().await.unwrap().unwrap_err();
        let notice = told.notice().unwrap();
        assert_eq!((notice.change, notice.from_seq, notice.next.seq), (HistoryChange::Rewound, 10, 7));
        assert_eq!(messages.next_batch().await.unwrap().unwrap()[0].seq, 7);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_beyond_a_lagging_nodes_end_is_asked_of_the_leader_and_without_one_the_end_is_told_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let local = broker::Consistency::Local;
    // Whoever read to the end on one node goes on at once on any other, also on one that has not applied it all yet.
    for number in 0..20 {
        cluster.broker(leader).publish("orders", envelope(&number.to_string()), None).await.unwrap();
        let next = cluster.broker(leader).read("orders", broker::Start::Latest, 0, local, None).await.unwrap().next;
        let place = broker::Start::Position(next);
        let page = cluster.broker(follower).read("orders", place, 0, local, None).await.unwrap();
        assert_eq!((page.notice, page.next_seq, page.end_seq), (None, number + 1, number + 1));
    }
    for number in (0..3).filter(|number| *number != follower) {
        cluster.stop_node(number).await;
    }
    let alone = cluster.broker(follower);
    let page = alone.read("orders", broker::Start::Seq(1000), 0, local, None).await.unwrap();
    assert_eq!((page.batches.len(), page.next_seq, page.end_seq), (0, 1000, 20));
    cluster.stop().await;
}
