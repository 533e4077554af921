//! Nodes that are killed without a word while publishers are at work. This is the broker's central promise, so it is
//! shown on real processes and real disks: what was acknowledged is on every node exactly once, where the ack said,
//! in one order, and the replicas can prove that they are equal.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt as _;
use liminal::client::{Client, Confirm, Consistency, ConsumerConfig, Deliveries, Message, Start};
use rustix::process::Signal;
use tokio::task::JoinHandle;

use tokio::net::TcpListener;

use super::support::{PATIENCE, eventually, processes::Processes, wire};

const PUBLISHERS: usize = 6;
const DRAIN: Duration = Duration::from_secs(2);

/// A key's payload; not all of one length, so that a mix-up shows.
fn payload(key: &str) -> Bytes {
    format!("{{\"key\":\"{key}\",\"fill\":\"{}\"}}", "x".repeat(key.len() * 7)).into()
}

/// Publishers that give every message a key of its own, until they are told to stop.
struct Publishers {
    stop: Arc<AtomicBool>,
    acks: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<Published>>,
}

/// What publishers know at their end.
#[derive(Default)]
struct Published {
    /// Acknowledged: key and sequence number.
    acked: HashMap<String, u64>,
    /// Never acknowledged, and perhaps stored.
    unknown: Vec<String>,
    /// Certainly not stored, with the reason.
    failed: HashMap<String, String>,
}

impl Publishers {
    /// `patience` bounds how long one message is tried again.
    async fn start(processes: &Processes, patience: Duration) -> Self {
        let (stop, acks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = Vec::new();
        for number in 0..PUBLISHERS {
            let mut servers = processes.clients.clone();
            servers.rotate_left(number % 3);
            let client = Client::builder().servers(servers).retry_for(patience).connect().await.unwrap();
            let (stop, acks) = (stop.clone(), acks.clone());
            tasks.push(tokio::spawn(async move {
                let mut published = Published::default();
                let keys = (0..).map(|count| format!("p{number}-{count}"));
                for key in keys.take_while(|_| !stop.load(Ordering::SeqCst)) {
                    let message = Message::new(payload(&key)).with_key(key.as_str());
                    match client.publish("orders", message).confirm(Confirm::Commit).await {
                        Ok(ack) => {
                            published.acked.insert(key, ack.seq);
                            acks.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) if error.outcome_unknown() => published.unknown.push(key),
                        Err(error) => {
                            published.failed.insert(key, format!("{error:?}"));
                        }
                    }
                }
                published
            }));
        }
        Self { stop, acks, tasks }
    }

    /// Waits for this many acks from now on.
    async fn more_acks(&self, count: usize) {
        let goal = self.acks.load(Ordering::SeqCst) + count;
        eventually("acks", async || (self.acks.load(Ordering::SeqCst) >= goal).then_some(())).await;
    }

    async fn stop(self) -> Published {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Published::default();
        for task in self.tasks {
            let Published { acked, unknown, failed } = task.await.unwrap();
            all.acked.extend(acked);
            all.unknown.extend(unknown);
            all.failed.extend(failed);
        }
        all
    }
}

/// Reads every node both ways and compares all of it with what was acknowledged.
async fn check(processes: &Processes, published: &Published) {
    let mut first = None;
    for address in &processes.clients {
        for consistency in [Consistency::Linearizable, Consistency::Local] {
            let stored = wire::read_all(address, "orders", consistency).await;
            let mut at = HashMap::new();
            for (expected, (seq, _, message)) in (0..).zip(&stored) {
                assert_eq!(*seq, expected, "sequence numbers have a gap on {address}");
                assert_eq!(message.payload, payload(message.key()), "{} has another payload", message.key());
                assert_eq!(at.insert(message.key().to_owned(), *seq), None, "{} is stored twice", message.key());
            }
            for (key, seq) in &published.acked {
                assert_eq!(at.remove(key), Some(*seq), "{key} was acknowledged at {seq}; read on {address}");
            }
            for key in at.keys() {
                assert!(published.unknown.contains(key), "{key} is stored; it failed: {:?}", published.failed.get(key));
            }
            let first = first.get_or_insert_with(|| stored.clone());
            assert!(*first == stored, "{address} has something else than the first node");
        }
    }
}

async fn term(processes: &Processes) -> u64 {
    wire::status(&processes.clients[0]).await.unwrap().nodes.iter().map(|node| node.term).max().unwrap()
}

fn assert_equal_states(states: &[(Bytes, String)]) {
    assert!(
        states.iter().all(|(mark, _)| *mark == states[0].0),
        "the nodes stopped at different log positions: {states:?}"
    );
    assert!(states.iter().all(|(_, hash)| *hash == states[0].1), "{states:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_dash_9_of_the_leader_during_keyed_publishing_loses_and_repeats_nothing() {
    let mut processes = Processes::start(3, DRAIN).await;
    let publishers = Publishers::start(&processes, Duration::from_secs(60)).await;
    publishers.more_acks(100).await;
    let leader = processes.leader().await;
    processes.kill(leader);
    assert_ne!(processes.leader().await, leader);
    publishers.more_acks(100).await;
    processes.run(leader);
    processes.ready().await;
    publishers.more_acks(50).await;
    let published = publishers.stop().await;
    assert!(published.unknown.is_empty(), "two nodes were enough: {:?}", published.unknown);
    assert!(published.failed.is_empty(), "two nodes were enough: {:?}", published.failed);
    processes.caught_up().await;
    check(&processes, &published).await;
    processes.caught_up().await;
    assert_equal_states(&processes.stop_and_hash().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_dash_9_of_all_nodes_during_keyed_publishing_loses_and_repeats_nothing() {
    let mut processes = Processes::start(3, DRAIN).await;
    let publishers = Publishers::start(&processes, Duration::from_millis(500)).await;
    publishers.more_acks(200).await;
    let before = term(&processes).await;
    for number in 0..3 {
        processes.kill(number);
    }
    let published = publishers.stop().await;
    assert!(!published.unknown.is_empty(), "the kill came between two publishes of everyone");
    for number in 0..3 {
        processes.run(number);
    }
    processes.ready().await;
    // What the old leader had sent may be missing in its own log, so it must not go on in its old term.
    eventually("a term of its own", async || (term(&processes).await > before).then_some(())).await;
    processes.leader().await;
    processes.caught_up().await;
    check(&processes, &published).await;

    let client = processes.client().await;
    let retry = async |key: &str| {
        let message = Message::new(payload(key)).with_key(key);
        client.publish("orders", message).confirm(Confirm::Commit).await.unwrap()
    };
    for (key, seq) in &published.acked {
        let again = retry(key).await;
        assert_eq!((again.seq, again.duplicate), (*seq, true), "{key}");
    }
    let mut all = published;
    for key in std::mem::take(&mut all.unknown) {
        let again = retry(&key).await;
        all.acked.insert(key, again.seq);
    }
    for key in std::mem::take(&mut all.failed).into_keys() {
        let first = retry(&key).await;
        assert!(!first.duplicate, "{key} had certainly not been stored");
        all.acked.insert(key, first.seq);
    }
    check(&processes, &all).await;
    processes.caught_up().await;
    assert_equal_states(&processes.stop_and_hash().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_follower_is_tried_again_at_a_measured_pace() {
    let mut processes = Processes::start(3, DRAIN).await;
    let leader = processes.leader().await;
    let dead = (leader + 1) % 3;
    processes.kill(dead);
    let client = processes.client().await;
    client.publish("orders", Message::new("what the dead one lacks").with_key("k")).await.unwrap();
    // In its place, connections are counted and cut.
    let listener = TcpListener::bind(&processes.peers[dead]).await.unwrap();
    let mut tries = 0;
    let counted = async {
        loop {
            drop(listener.accept().await.unwrap());
            tries += 1;
        }
    };
    let observed = Duration::from_secs(2);
    let _: Result<(), _> = tokio::time::timeout(observed, counted).await;
    // Entries every 100 ms and heartbeats every 250 ms by the leader, over connections of their own; the other
    // follower asks now and then.
    assert!((1..=150).contains(&tries), "{tries} connections within {observed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_leader_is_replaced_and_publishing_through_the_others_goes_on_without_it() {
    let mut processes = Processes::start(3, DRAIN).await;
    let publishers = Publishers::start(&processes, Duration::from_secs(60)).await;
    publishers.more_acks(200).await;
    let frozen = processes.leader().await;
    processes.signal(frozen, Signal::STOP);
    publishers.more_acks(500).await;
    processes.signal(frozen, Signal::CONT);
    publishers.more_acks(200).await;
    let published = publishers.stop().await;
    processes.caught_up().await;
    check(&processes, &published).await;
    assert_equal_states(&processes.stop_and_hash().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_all_nodes_one_after_another_under_load_loses_and_repeats_nothing() {
    let mut processes = Processes::start(3, DRAIN).await;
    let publishers = Publishers::start(&processes, Duration::from_secs(60)).await;
    for number in 0..3 {
        publishers.more_acks(200).await;
        processes.signal(number, Signal::TERM);
        assert_eq!(processes.wait(number).await.code(), Some(0));
        processes.run(number);
        processes.ready().await;
    }
    let published = publishers.stop().await;
    assert!(published.failed.is_empty(), "{:?}", published.failed);
    processes.caught_up().await;
    check(&processes, &published).await;
}

/// Takes five messages as a member on a node, each with its attempt.
async fn take_five(server: &str) -> (Deliveries, Vec<(u64, u32)>) {
    let client = Client::connect([server]).await.unwrap();
    let mut deliveries = client.consumer("orders", "w").credit(8).open().await.unwrap();
    let mut got = Vec::new();
    while got.len() < 5 {
        let next = tokio::time::timeout(PATIENCE, deliveries.next()).await.expect("it is handed on");
        let delivery = next.unwrap().unwrap();
        got.push((delivery.received.seq, delivery.attempt));
    }
    got.sort_unstable();
    (deliveries, got)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_had_whose_node_is_killed_comes_again_long_before_its_ack_timeout() {
    let mut processes = Processes::start(3, DRAIN).await;
    let client = processes.client().await;
    let config = ConsumerConfig::new().ack_timeout(Duration::from_secs(3_600));
    client.create_consumer("orders", "w", config, Start::Earliest).await.unwrap();
    for number in 0..5 {
        client.publish("orders", Message::new(number.to_string())).await.unwrap();
    }
    // A follower first, whose member the leader knew; then a leader, whose own members the next one does not know.
    let leader = processes.leader().await;
    let (first, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let (held, got) = take_five(&processes.clients[first]).await;
    assert_eq!(got, [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]);
    processes.kill(first);
    drop(held);
    let (held, again) = take_five(&processes.clients[leader]).await;
    assert_eq!(again, [(0, 2), (1, 2), (2, 2), (3, 2), (4, 2)]);
    processes.run(first);
    processes.ready().await;
    processes.kill(leader);
    drop(held);
    let (_, again) = take_five(&processes.clients[third]).await;
    assert_eq!(again, [(0, 3), (1, 3), (2, 3), (3, 3), (4, 3)]);
}
