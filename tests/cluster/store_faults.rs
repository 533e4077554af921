//! A leader whose store refuses to write, in a cluster of three. The entry is in the log and on a majority by then, so
//! nothing may be lost or doubled; but the publisher must not be left waiting, and its retry must be told the truth.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use liminal::broker::{Broker, BrokerError, Outcome, Start};
use parking_lot::Mutex;

use super::support::{
    eventually,
    in_process::{Cluster, envelope, payloads},
};

/// A refusal must not take as long as a timeout.
const PROMPT: Duration = Duration::from_secs(2);

/// What a subscription has received so far.
type Received = Arc<Mutex<Vec<String>>>;

async fn follow(broker: &Broker) -> Received {
    let mut subscription = broker.subscribe("orders", Start::Latest).await.unwrap();
    let received = Received::default();
    let into = received.clone();
    tokio::spawn(async move {
        while let Ok(batch) = subscription.next().await {
            let texts = batch.frame.messages().map(|message| String::from_utf8(message.unwrap().payload.to_vec()));
            into.lock().extend(texts.map(Result::unwrap));
        }
    });
    received
}

async fn refused(broker: &Broker, text: &str) -> BrokerError {
    let begin = Instant::now();
    let error = broker.publish("orders", envelope(text), Some(text)).await.unwrap_err();
    assert_eq!(error.code().as_str(), "STORE_FAILED", "{error:?}");
    assert!(error.to_string().contains("injected fault"), "{error}");
    assert!(begin.elapsed() < PROMPT, "it took {:?}", begin.elapsed());
    error
}

async fn retried(broker: &Broker, text: &str) -> Outcome {
    eventually("the retry succeeds", async || broker.publish("orders", envelope(text), Some(text)).await.ok()).await
}

/// Counts panics in any task or thread of this process from now on.
fn count_panics() -> Arc<AtomicUsize> {
    let (count, before) = (Arc::new(AtomicUsize::new(0)), std::panic::take_hook());
    let counter = count.clone();
    std::panic::set_hook(Box::new(move |info| {
        counter.fetch_add(1, Ordering::SeqCst);
        before(info);
    }));
    count
}

#[derive(Clone, Copy)]
enum Fault {
    Commits,
    Everything,
}

async fn a_refused_append(fault: Fault) {
    let panics = count_panics();
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start_faulty(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    let [follower, subscriber] = [(leader + 1) % 3, (leader + 2) % 3];
    let received = follow(cluster.broker(subscriber)).await;
    let fail = |fail: bool| {
        cluster.stores[leader].fail_commits(fail);
        if matches!(fault, Fault::Everything) {
            cluster.stores[leader].fail_removes(fail);
            cluster.stores[leader].fail_flushes(fail);
        }
    };

    // The first publish finds the fault, through the leader and then through a follower; the next one is not even
    // proposed.
    for (round, [finder, other]) in [[leader, follower], [follower, leader]].into_iter().enumerate() {
        let [found, second] = [format!("found-{round}"), format!("second-{round}")];
        fail(true);
        let error = refused(cluster.broker(finder), &found).await;
        // A flush of the store's own, or an entry of the cluster's that it then refused, may have found it before.
        let found_before = matches!(fault, Fault::Everything) && error.to_string().contains("injected fault");
        assert!(error.outcome_unknown() || found_before, "{error:?}");
        let error = refused(cluster.broker(other), &second).await;
        assert!(!error.outcome_unknown(), "{error:?}");
        let error = refused(cluster.broker(finder), &found).await;
        assert!(error.to_string().contains("injected fault"), "{error}");
        fail(false);
        assert!(cluster.stores[leader].refused() > 0);
        for (text, through) in [(&found, finder), (&second, other)] {
            let outcome = retried(cluster.broker(through), text).await;
            assert_eq!((outcome.duplicate, outcome.delivered), (false, Some(true)), "{text}");
            let again = retried(cluster.broker(through), text).await;
            assert_eq!((again.seq, again.duplicate, again.delivered), (outcome.seq, true, Some(false)), "{text}");
        }
        assert!(cluster.leads(leader), "the leader changed in between: the test was too slow to show anything");
    }

    let expected = ["found-0", "second-0", "found-1", "second-1"];
    eventually("the subscriber has all", async || (received.lock().len() >= expected.len()).then_some(())).await;
    for number in 0..3 {
        assert_eq!(payloads(cluster.broker(number), "orders").await, expected);
    }
    assert_eq!(*received.lock(), expected);
    assert_eq!(panics.load(Ordering::SeqCst), 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_append_on_the_leader_is_an_error_at_once_and_the_retry_delivers_one_copy() {
    a_refused_append(Fault::Commits).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_removals_and_flushes_too_leaves_the_first_error_as_it_is() {
    a_refused_append(Fault::Everything).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_store_stays_broken_another_node_leads_and_the_retry_gets_the_original_seq() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start_faulty(dir.path()).await;
    cluster.create("orders").await;
    let broken = cluster.leader().await;
    let follower = (broken + 1) % 3;
    let received = follow(cluster.broker((broken + 2) % 3)).await;
    cluster.stores[broken].fail_commits(true);
    assert!(refused(cluster.broker(broken), "a").await.outcome_unknown());
    let leads = |number: &usize| *number != broken && cluster.leads(*number);
    eventually("another node leads", async || (0..3).find(leads)).await;
    // The new leader only knows that the key was used: the message was handed on before anybody could be told.
    let outcome = retried(cluster.broker(follower), "a").await;
    assert_eq!((outcome.seq, outcome.duplicate, outcome.delivered), (0, true, Some(false)));
    // The node with the broken store serves on through the others.
    let outcome = retried(cluster.broker(broken), "b").await;
    assert_eq!((outcome.seq, outcome.duplicate, outcome.delivered), (1, false, Some(true)));
    cluster.stores[broken].fail_commits(false);
    for number in 0..3 {
        assert_eq!(payloads(cluster.broker(number), "orders").await, ["a", "b"]);
    }
    assert_eq!(*received.lock(), ["a", "b"]);
    cluster.stop().await;
}
