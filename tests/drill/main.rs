//! The failover drill: real containers on a network of their own, and everything that happens to a cluster in its
//! life, while messages go in through any node and come out through another. It needs Docker and takes minutes, so
//! `cluster/drill.sh` runs it, and nothing else does.

use std::{
    collections::{HashMap, HashSet},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use liminal::client::{
    Client, ClusterStatus, Confirm, Consistency, Message, NodeHealth, NodeRole, PublisherOptions, Start,
};
use parking_lot::Mutex;
use tokio::{task::JoinHandle, time::Instant};

const PROJECT: &str = "liminal-drill";
const CHANNEL: &str = "webhooks";
/// Where the compose file publishes the nodes' gRPC ports.
const PORTS: std::ops::RangeInclusive<u16> = 7101..=7107;
/// Publishes a second.
const RATE: u32 = 500;
/// How long the cluster may take to be as it should.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long each fault lasts, and how long publishing goes on between two.
const FAULT: Duration = Duration::from_secs(6);

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("docker runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {}: {error}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Compose v2 if it is there, else the older tool.
fn compose(arguments: &[&str]) {
    let v2 = Command::new("docker").args(["compose", "version"]).output().is_ok_and(|output| output.status.success());
    let mut command = if v2 { Command::new("docker") } else { Command::new("docker-compose") };
    if v2 {
        command.arg("compose");
    }
    command.args(["-p", PROJECT]).args(arguments).env("LIMINAL_REMOVE_DEPARTED_AFTER", "15s");
    let output = command.output().expect("compose runs");
    assert!(output.status.success(), "compose {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn containers() -> Vec<String> {
    let label = format!("label=com.docker.compose.project={PROJECT}");
    docker(&["ps", "-aq", "--filter", &label]).lines().map(str::to_owned).collect()
}

/// The container of a node: of a service that is called like it, or one that the node is named after.
fn container(node: &str) -> String {
    let of_project = format!("label=com.docker.compose.project={PROJECT}");
    let of_service = format!("label=com.docker.compose.service={node}");
    let found = docker(&["ps", "-aq", "--filter", &of_project, "--filter", &of_service]);
    found.lines().next().map_or_else(|| node.to_owned(), str::to_owned)
}

/// The cluster as the nodes see it, asked through whichever answers.
async fn status() -> Option<ClusterStatus> {
    let servers = PORTS.map(|port| format!("http://127.0.0.1:{port}"));
    let client = Client::builder().servers(servers).connect_timeout(Duration::from_millis(500));
    client.connect().await.ok()?.cluster_status().await.ok()
}

fn votes(status: &ClusterStatus) -> usize {
    status.nodes.iter().filter(|node| matches!(node.role, NodeRole::Leader | NodeRole::Follower)).count()
}

/// Waits until there are this many voters and all are well.
async fn whole(voters: usize) -> ClusterStatus {
    let give_up = Instant::now() + PATIENCE;
    let mut seen = None;
    while Instant::now() < give_up {
        if let Some(status) = status().await {
            let well = status.nodes.iter().all(|node| node.health == NodeHealth::Ok);
            if votes(&status) == voters && status.nodes.len() == voters && well && !status.leader.is_empty() {
                return status;
            }
            seen = Some(status);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("not {voters} healthy voters within {PATIENCE:?}; last seen: {seen:?}");
}

fn leader(status: &ClusterStatus) -> String {
    container(&status.leader)
}

fn a_follower(status: &ClusterStatus) -> String {
    let follower = status.nodes.iter().find(|node| node.role == NodeRole::Follower);
    container(&follower.expect("there is a follower").name)
}

/// Takes a container off the cluster's network.
fn cut(container: &str) {
    docker(&["network", "disconnect", &format!("{PROJECT}_default"), container]);
}

/// Puts it back, under the name that the others know.
fn join(container: &str) {
    let service = docker(&["inspect", "-f", "{{index .Config.Labels \"com.docker.compose.service\"}}", container]);
    docker(&["network", "connect", "--alias", &service, &format!("{PROJECT}_default"), container]);
}

async fn client() -> Client {
    let servers: Vec<String> = PORTS.map(|port| format!("http://127.0.0.1:{port}")).collect();
    let builder = Client::builder().servers(servers).retry_for(PATIENCE).connect_timeout(Duration::from_millis(500));
    builder.answer_timeout(Duration::from_secs(2)).connect().await.expect("a node answers")
}

/// Publishing with keys on schedule, and following, for as long as the drill takes.
struct Traffic {
    stop: Arc<AtomicBool>,
    /// When the newest acks came.
    acks: Arc<Mutex<Vec<Instant>>>,
    publisher: JoinHandle<HashMap<String, u64>>,
    follower: JoinHandle<Vec<u64>>,
    followed: Arc<AtomicBool>,
}

impl Traffic {
    async fn start(payloads: Vec<String>) -> Self {
        let (stop, followed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let acks = Arc::new(Mutex::new(Vec::new()));
        let publisher = tokio::spawn(publish(client().await, payloads, stop.clone(), acks.clone()));
        let mut subscription = client().await.subscribe(CHANNEL, Start::Earliest).await.unwrap();
        let end = followed.clone();
        let follower = tokio::spawn(async move {
            let mut seqs = Vec::new();
            loop {
                match tokio::time::timeout(Duration::from_secs(1), subscription.next_batch()).await {
                    Ok(Some(Ok(batch))) => seqs.extend(batch.iter().map(|received| received.seq)),
                    Ok(Some(Err(error))) => panic!("the subscription ended: {error}"),
                    Ok(None) => panic!("the subscription ended"),
                    Err(_) if end.load(Ordering::SeqCst) => return seqs,
                    Err(_) => {}
                }
            }
        });
        Self { stop, acks, publisher, follower, followed }
    }

    /// The longest time without an ack since a moment, until now.
    fn gap(&self, since: Instant) -> Duration {
        let acks = self.acks.lock();
        let from = acks.partition_point(|ack| *ack < since).saturating_sub(1);
        let last = acks.last().map_or(Duration::ZERO, Instant::elapsed);
        let gaps = acks[from..].windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default().max(last)
    }
}

async fn publish(
    client: Client,
    payloads: Vec<String>,
    stop: Arc<AtomicBool>,
    times: Arc<Mutex<Vec<Instant>>>,
) -> HashMap<String, u64> {
    let options = PublisherOptions { confirm: Confirm::Commit, in_flight: 100_000, ..PublisherOptions::default() };
    let publisher = client.publisher(CHANNEL, options);
    let (sender, mut acks) = tokio::sync::mpsc::channel(200_000);
    let collect = tokio::spawn(async move {
        let mut acked = HashMap::new();
        while let Some((key, ack)) = acks.recv().await {
            let ack: liminal::client::Ack = ack;
            let published = ack.await.expect("every publish is acknowledged in the end");
            times.lock().push(Instant::now());
            acked.insert(key, published.seq);
        }
        acked
    });
    let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
    for number in 0usize.. {
        tick.tick().await;
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let key = format!("drill-{number}");
        let message = Message::new(payloads[number % payloads.len()].clone()).with_key(key.clone());
        let ack = publisher.enqueue(message).await.expect("the publisher runs");
        sender.send((key, ack)).await.expect("the collector runs");
    }
    publisher.flush().await;
    drop(sender);
    collect.await.unwrap()
}

/// Real webhook messages where they are given, else ones that look like them.
fn payloads() -> Vec<String> {
    match std::env::var("LIMINAL_DRILL_MESSAGES") {
        Ok(path) => {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            let lines: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
            println!("{} messages of {path}", lines.len());
            lines
        }
        Err(_) => (0..500)
            .map(|number| {
                format!(
                    "{{\"action\":\"opened\",\"number\":{number},\"pull_request\":{{\"title\":\"{}\"}}}}",
                    "x".repeat(300)
                )
            })
            .collect(),
    }
}

struct Drill {
    traffic: Traffic,
    rows: Vec<(String, Duration)>,
}

impl Drill {
    /// Does something to the cluster, lets it be so for a while, undoes it, and waits until `voters` are well.
    async fn step(&mut self, what: &str, voters: usize, happens: impl FnOnce(), ends: impl FnOnce()) {
        let begun = Instant::now();
        happens();
        tokio::time::sleep(FAULT).await;
        ends();
        whole(voters).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.row(what, begun);
    }

    fn row(&mut self, what: &str, begun: Instant) {
        let gap = self.traffic.gap(begun);
        println!("{what:<44} longest gap {:>7.0} ms", gap.as_secs_f64() * 1000.0);
        self.rows.push((what.to_owned(), gap));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Docker and minutes: run cluster/drill.sh"]
async fn a_cluster_of_containers_loses_and_repeats_nothing_in_all_that_happens_to_it() {
    compose(&["down", "-v", "--remove-orphans"]);
    compose(&["up", "-d", "--scale", "more=0"]);
    whole(3).await;
    client().await.create_channel(CHANNEL, liminal::client::ChannelConfig::default()).await.unwrap();
    let mut drill = Drill { traffic: Traffic::start(payloads()).await, rows: Vec::new() };
    tokio::time::sleep(Duration::from_secs(2)).await;

    let begun = Instant::now();
    compose(&["up", "-d", "--no-recreate", "--scale", "more=2"]);
    whole(5).await;
    drill.row("scale from three to five voters", begun);

    let victim = leader(&whole(5).await);
    drill
        .step("kill -9 of the leader", 5, || drop(docker(&["kill", &victim])), || drop(docker(&["start", &victim])))
        .await;
    let victim = leader(&whole(5).await);
    drill
        .step("the leader is paused", 5, || drop(docker(&["pause", &victim])), || drop(docker(&["unpause", &victim])))
        .await;
    let victim = a_follower(&whole(5).await);
    drill
        .step("a follower is paused", 5, || drop(docker(&["pause", &victim])), || drop(docker(&["unpause", &victim])))
        .await;
    let victim = a_follower(&whole(5).await);
    drill.step("a follower loses its network", 5, || cut(&victim), || join(&victim)).await;
    let victim = leader(&whole(5).await);
    drill.step("the leader loses its network", 5, || cut(&victim), || join(&victim)).await;

    let begun = Instant::now();
    for container in containers() {
        docker(&["restart", "-t", "20", &container]);
        whole(5).await;
    }
    drill.row("rolling restart of all five", begun);

    let begun = Instant::now();
    compose(&["up", "-d", "--no-recreate", "--scale", "more=0"]);
    whole(3).await;
    drill.row("scale back to three voters", begun);

    let begun = Instant::now();
    compose(&["down"]);
    compose(&["up", "-d", "--scale", "more=0"]);
    whole(3).await;
    drill.row("all containers removed and made anew", begun);

    let Drill { traffic, rows } = drill;
    traffic.stop.store(true, Ordering::SeqCst);
    let acked = traffic.publisher.await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    traffic.followed.store(true, Ordering::SeqCst);
    let seen = traffic.follower.await.unwrap();

    let client = client().await;
    let verified = client.verify_cluster().await.unwrap();
    let hashes: HashSet<&str> =
        verified.nodes.iter().map(|node| node.state_hash.as_deref().unwrap_or_default()).collect();
    assert!(hashes.len() == 1 && !hashes.contains(""), "the states differ: {verified:?}");

    let mut stored: HashMap<String, Vec<u64>> = HashMap::new();
    let (mut next, mut count) = (0, 0u64);
    loop {
        let page = client.read(CHANNEL, Start::Seq(next), 0, Consistency::Linearizable).await.unwrap();
        let Some(last) = page.messages.last() else { break };
        next = last.seq + 1;
        for received in &page.messages {
            stored.entry(received.message.key().to_owned()).or_default().push(received.seq);
            count += 1;
        }
    }
    let lost = acked.iter().filter(|(key, seq)| !stored.get(*key).is_some_and(|seqs| seqs.contains(seq))).count();
    let duplicated: usize = stored.values().map(|seqs| seqs.len() - 1).sum();
    let in_order = seen.iter().copied().eq(0..count);
    println!("\n{:<44} {:>14}", "WHAT HAPPENED", "LONGEST GAP");
    for (what, gap) in &rows {
        println!("{what:<44} {:>11.0} ms", gap.as_secs_f64() * 1000.0);
    }
    println!("\n{} acknowledged, {count} stored, {} delivered to one subscription", acked.len(), seen.len());
    println!("states equal on {} nodes at log index {}", verified.nodes.len(), verified.index);
    println!("lost {lost}, duplicated {duplicated}");
    compose(&["down", "-v"]);
    assert_eq!((lost, duplicated), (0, 0));
    assert!(in_order, "the subscription saw every message once, in order");
}
