//! Who follows a channel on a node that lags behind the log, and gets the whole state instead.

use std::path::Path;

use futures::{SinkExt as _, StreamExt as _};
use liminal::{
    broker::{BrokerError, Start, Trim},
    client::{Client, Start as ClientStart},
    model::{ChannelConfig, ConsumerConfig},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::tungstenite;

use super::support::{
    PATIENCE,
    cut::CutNetwork,
    eventually,
    in_process::{Cluster, envelope},
};

/// A cluster that keeps little of its log, of which each node can be cut off from the others.
async fn cluster(dir: &Path) -> (Cluster, Vec<CutNetwork>) {
    let mut cluster = Cluster::prepare(dir);
    let networks: Vec<CutNetwork> = cluster
        .configs
        .iter()
        .map(|config| CutNetwork::new(&config.cluster.as_ref().unwrap().listen_address))
        .collect();
    for (number, network) in networks.iter().enumerate() {
        cluster.configs[number].raft.log_keep_entries = 20;
        cluster.envs[number] = network.env();
    }
    cluster.start_nodes().await;
    (cluster, networks)
}

/// Has a follower, while it is cut off, miss what is done in `meanwhile` and so much else that it gets a snapshot.
async fn fall_behind(cluster: &Cluster, network: &CutNetwork, follower: usize, meanwhile: impl AsyncFnOnce(usize)) {
    network.cut();
    let leader = eventually("another node leads", async || {
        cluster.running().find(|number| *number != follower && cluster.leads(*number))
    })
    .await;
    meanwhile(leader).await;
    for number in 0..60 {
        cluster.broker(leader).publish("busy", envelope(&number.to_string()), None).await.unwrap();
    }
    let group = cluster.nodes[leader].as_ref().unwrap().group();
    let missing = eventually("the log is cut", async || {
        let durable = group.cut_log().await.ok()?;
        (group.log_entries() < 40).then_some(durable)
    })
    .await;
    network.mend();
    let behind = cluster.nodes[follower].as_ref().unwrap().group();
    eventually("the follower has the state", async || (behind.state().applied >= missing).then_some(())).await;
    assert!(behind.log_entries() < 60, "it came as a snapshot, and not by the log");
}

/// Reads until a text comes.
async fn until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = String::new();
    let read = async {
        while !seen.contains(text) {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).await.unwrap();
            assert!(count > 0, "it ended: {seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    };
    timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("`{text}` does not come"));
    seen
}

async fn events(http: &str, channel: &str) -> TcpStream {
    let mut stream = TcpStream::connect(http).await.unwrap();
    let request = format!("GET /v1/channels/{channel}/events HTTP/1.1\r\nhost: {http}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    until(&mut stream, "id: ").await;
    stream
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>;

async fn hear(socket: &mut Socket) -> Value {
    match timeout(PATIENCE, socket.next()).await.expect("something comes") {
        Some(Ok(tungstenite::Message::Text(text))) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_on_a_follower_that_got_a_snapshot_go_on_at_once_and_end_with_their_channel() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, networks) = cluster(dir.path()).await;
    for channel in ["busy", "idle", "gone", "again", "trimmed"] {
        cluster.create(channel).await;
    }
    let follower = (cluster.leader().await + 1) % 3;
    let (node, broker) = (cluster.nodes[follower].as_ref().unwrap(), cluster.broker(follower));
    broker.create_consumer("idle", "w", ConsumerConfig::default(), Start::Earliest).await.unwrap();
    broker.create_consumer("again", "w", ConsumerConfig::default(), Start::Earliest).await.unwrap();
    let mut embedded = broker.subscribe("idle", Start::Latest).await.unwrap();
    let mut gone = broker.subscribe("gone", Start::Latest).await.unwrap();
    let mut again = broker.subscribe("again", Start::Latest).await.unwrap();
    let mut trimmed = broker.subscribe("trimmed", Start::Latest).await.unwrap();
    let mut member = broker.join_consumer("idle", "w", 10).await.unwrap();
    let mut member_of_gone = broker.join_consumer("again", "w", 10).await.unwrap();
    let client = Client::connect([format!("http://{}", node.client_address())]).await.unwrap();
    let mut by_grpc = client.subscribe("idle", ClientStart::Latest).await.unwrap();
    let mut gone_by_grpc = client.subscribe("gone", ClientStart::Latest).await.unwrap();
    let mut by_events = events(node.http_address(), "idle").await;
    let mut gone_by_events = events(node.http_address(), "gone").await;
    let mut socket = tokio_tungstenite::connect_async(format!("ws://{}/v1/ws", node.http_address())).await.unwrap().0;
    for (id, channel) in [(1, "idle"), (2, "gone")] {
        let begin = json!({"id": id, "subscribe": {"channel": channel}});
        socket.send(tungstenite::Message::text(begin.to_string())).await.unwrap();
        assert!(hear(&mut socket).await["ok"].is_object());
    }

    fall_behind(&cluster, &networks[follower], follower, async |leader| {
        let broker = cluster.broker(leader);
        for payload in ["0", "1", "2"] {
            broker.publish("idle", envelope(payload), None).await.unwrap();
            broker.publish("trimmed", envelope(payload), None).await.unwrap();
        }
        broker.trim_channel("trimmed", Trim::To(2)).await.unwrap();
        broker.delete_channel("gone").await.unwrap();
        broker.delete_channel("again").await.unwrap();
        broker.create_channel("again", ChannelConfig::default()).await.unwrap();
        broker.publish("again", envelope("another's"), None).await.unwrap();
    })
    .await;

    let mut payloads = Vec::new();
    while payloads.len() < 3 {
        let batch = timeout(PATIENCE, embedded.next()).await.expect("what the snapshot brought").unwrap();
        payloads.extend(batch.frame.messages().map(|message| message.unwrap().payload));
    }
    assert_eq!(payloads, ["0", "1", "2"]);
    for ended in [&mut gone, &mut again] {
        let error = timeout(PATIENCE, ended.next()).await.expect("an end").unwrap_err();
        assert!(matches!(error, BrokerError::ChannelNotFound { .. }), "{error}");
    }
    let error = timeout(PATIENCE, trimmed.next()).await.expect("the gap is told").unwrap_err();
    assert!(matches!(error, BrokerError::OutOfRange { seq: 0, first: 2, .. }), "{error}");
    let deliveries = timeout(PATIENCE, member.next()).await.expect("work").unwrap();
    assert_eq!(deliveries[0].token.seq, 0);
    let error = timeout(PATIENCE, member_of_gone.next()).await.expect("an end").unwrap_err();
    assert!(matches!(error, BrokerError::ConsumerNotFound { .. }), "{error}");

    for seq in 0..3 {
        let received = timeout(PATIENCE, by_grpc.next()).await.expect("a message").unwrap().unwrap();
        assert_eq!(received.seq, seq);
    }
    let error = timeout(PATIENCE, gone_by_grpc.next()).await.expect("an end").unwrap().unwrap_err();
    assert_eq!(error.code(), "CHANNEL_NOT_FOUND");
    until(&mut by_events, ".3\ndata").await;
    until(&mut gone_by_events, "CHANNEL_NOT_FOUND").await;
    let (mut seqs, mut ended) = (Vec::new(), false);
    while seqs.len() < 3 || !ended {
        let said = hear(&mut socket).await;
        match said["subscription"].as_u64().or(said["id"].as_u64()) {
            Some(1) => seqs.push(said["message"]["seq"].as_u64().unwrap()),
            Some(2) => ended = said.to_string().contains("CHANNEL_NOT_FOUND"),
            other => panic!("{other:?}: {said}"),
        }
    }
    assert_eq!(seqs, [0, 1, 2]);
    drop((socket, by_grpc, gone_by_grpc, client));
    cluster.stop().await;
}
