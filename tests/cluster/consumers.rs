//! Groups whose members are on several nodes, and what becomes of their work when nodes are lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use liminal::{
    broker::{Broker, Member, Start},
    client::{Client, ConsumerConfig as ClientConfig, Nack},
    model::{ConsumerConfig, Settlement, Verdict},
};
use tokio::sync::mpsc;

use super::support::{
    PATIENCE, eventually,
    in_process::{Cluster, envelope},
};

/// Longer than the test: what comes again does so because a member went.
const NEVER: u64 = 600_000;

async fn consuming(cluster: &Cluster, ack_timeout_ms: u64) {
    cluster.create("orders").await;
    let broker = cluster.broker(cluster.leader().await);
    let config = ConsumerConfig { ack_timeout_ms, ..ConsumerConfig::default() };
    broker.create_consumer("orders", "w", config, Start::Earliest).await.unwrap();
}

async fn publish(broker: &Broker, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let key = format!("k{number}");
        let stored = eventually("it is published", async || {
            broker.publish("orders", envelope(&number.to_string()), Some(&key)).await.ok()
        });
        stored.await;
    }
}

/// What a worker says of a message.
enum Word {
    /// It is about to settle it.
    Tries(u64),
    /// It is settled for certain.
    Settled(u64),
}

/// Works until it is dropped.
fn work(broker: Broker, mut member: Member, said: mpsc::Sender<Word>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok(deliveries) = member.next().await {
            for delivery in deliveries {
                let seq = delivery.token.seq;
                let _ = said.try_send(Word::Tries(seq)); // there is room, or the test is over
                let settlement = Settlement { token: delivery.token, verdict: Verdict::Ack };
                let settled = broker.settle("orders", "w", vec![settlement]).await;
                if settled.is_ok_and(|results| results[0].is_ok()) {
                    let _ = said.try_send(Word::Settled(seq)); // as above
                }
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_never_comes_again_and_the_rest_does_when_the_leader_is_lost_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    consuming(&cluster, NEVER).await;
    let leader = cluster.leader().await;
    let (near, far) = ((leader + 1) % 3, (leader + 2) % 3);
    publish(cluster.broker(near), 0..20).await;
    let mut member = cluster.broker(near).join_consumer("orders", "w", 10).await.unwrap();
    let mut got = BTreeMap::new();
    while got.len() < 10 {
        let next = tokio::time::timeout(PATIENCE, member.next()).await.expect("messages").unwrap();
        got.extend(next.into_iter().map(|delivery| (delivery.token.seq, delivery.token)));
    }
    let ack = |seq: u64| Settlement { token: got[&seq], verdict: Verdict::Ack };
    let acked = cluster.broker(far).settle("orders", "w", (0..5).map(ack).collect()).await.unwrap();
    assert!(acked.iter().all(Result::is_ok), "{acked:?}");
    cluster.stop_node(leader).await;
    // The member does not notice: the new leader hands out what there is room for.
    let mut more = BTreeSet::new();
    while more.len() < 5 {
        let next = tokio::time::timeout(PATIENCE, member.next()).await.expect("more messages").unwrap();
        for delivery in next {
            assert_eq!(delivery.token.attempt, 1, "nothing came back: {delivery:?}");
            more.insert(delivery.token.seq);
        }
    }
    assert_eq!(more, (10..15).collect());
    // What it had before the failover is still its to settle.
    let acked = cluster.broker(near).settle("orders", "w", (5..8).map(ack).collect()).await.unwrap();
    assert!(acked.iter().all(Result::is_ok), "{acked:?}");
    drop(member);
    let mut next = cluster.broker(far).join_consumer("orders", "w", 100).await.unwrap();
    let mut again = BTreeMap::new();
    while again.len() < 12 {
        let next = tokio::time::timeout(PATIENCE, next.next()).await.expect("the rest").unwrap();
        again.extend(next.into_iter().map(|delivery| (delivery.token.seq, delivery.token.attempt)));
    }
    assert_eq!(again.keys().copied().collect::<Vec<_>>(), (8..20).collect::<Vec<_>>());
    // What became free in the member's window may have been handed to it at the last moment.
    let attempts = |seqs: std::ops::Range<u64>| seqs.map(|seq| again[&seq]).collect::<Vec<_>>();
    assert_eq!((attempts(8..15), attempts(18..20)), (vec![2; 7], vec![1; 2]));
    assert!(attempts(15..18).iter().all(|attempt| *attempt <= 2), "{again:?}");
    drop(next);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_on_three_nodes_settles_everything_though_one_of_them_dies() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    consuming(&cluster, 1_000).await;
    let (mut workers, mut words) = (Vec::new(), Vec::new());
    for number in 0..3 {
        let broker = cluster.broker(number).clone();
        let member = eventually("it is a member", async || broker.join_consumer("orders", "w", 4).await.ok()).await;
        let (sender, receiver) = mpsc::channel(1_024);
        workers.push(work(broker, member, sender));
        words.push(receiver);
    }
    let victim = (cluster.leader().await + 1) % 3;
    publish(cluster.broker((victim + 1) % 3), 0..30).await;
    // Its member goes without a word, with what it has.
    workers[victim].abort();
    cluster.stop_node(victim).await;
    publish(cluster.broker((victim + 1) % 3), 30..60).await;
    let survivor = cluster.broker((victim + 1) % 3);
    eventually("nothing is left", async || {
        let info = survivor.consumer("orders", "w").await.ok()?;
        (info.status.lag == 0).then_some(())
    })
    .await;
    // What is settled was in somebody's hands; only the victim may not have lived to hear of it.
    let mut known = BTreeSet::new();
    eventually("every message was worked on", async || {
        for (number, words) in words.iter_mut().enumerate() {
            while let Ok(word) = words.try_recv() {
                match word {
                    Word::Settled(seq) => known.extend([seq]),
                    Word::Tries(seq) if number == victim => known.extend([seq]),
                    Word::Tries(_) => {}
                }
            }
        }
        (known == (0..60).collect()).then_some(())
    })
    .await;
    workers.iter().for_each(tokio::task::JoinHandle::abort);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_consuming_on_another_node_and_stops_without_leaving_work_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let addresses: Vec<String> =
        (0..3).map(|number| cluster.nodes[number].as_ref().unwrap().client_address().to_owned()).collect();
    let client = Client::connect(addresses).await.unwrap();
    let config = ClientConfig::new().ack_timeout(Duration::from_millis(NEVER));
    client.create_consumer("orders", "w", config, liminal::client::Start::Earliest).await.unwrap();
    publish(cluster.broker(1), 0..20).await;
    let consumer = client.consumer("orders", "w").credit(8).concurrency(4);
    let stop = consumer.stopper();
    let (sender, mut seen) = mpsc::channel(1_024);
    let running = tokio::spawn(consumer.run(move |delivery| {
        let sender = sender.clone();
        async move {
            // Every fifth one needs a second try.
            if delivery.received.seq % 5 == 0 && delivery.attempt == 1 {
                return Err(Nack::after(Duration::from_millis(20)).because("not yet"));
            }
            let _ = sender.try_send(delivery.received.seq); // the test may be over
            Ok(())
        }
    }));
    let mut all = BTreeSet::new();
    let mut until = async |count: usize| {
        while all.len() < count {
            all.extend(tokio::time::timeout(PATIENCE, seen.recv()).await.expect("messages"));
        }
        all.len()
    };
    assert_eq!(until(20).await, 20);
    // The client is connected to the first node.
    cluster.stop_node(0).await;
    publish(cluster.broker(1), 20..40).await;
    assert_eq!(until(40).await, 40);
    stop.cancel();
    tokio::time::timeout(PATIENCE, running).await.expect("it stops").unwrap().unwrap();
    assert_eq!(client.consumer_status("orders", "w").await.unwrap().lag, 0);
    cluster.stop().await;
}
