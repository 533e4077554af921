//! Claims on three nodes whose leader goes away in the middle of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use liminal::client::{Client, Once, Taken};
use parking_lot::Mutex;

use super::support::{eventually, processes::Processes};

const DRAIN: Duration = Duration::from_secs(2);
const LEASE: Duration = Duration::from_secs(60);
const WORKERS: usize = 4;

async fn client(processes: &Processes, first: usize) -> Client {
    let mut servers = processes.clients.clone();
    let first = first % servers.len();
    servers.rotate_left(first);
    Client::builder().servers(servers).retry_for(Duration::from_secs(60)).connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leaders_death_repeats_no_work_loses_no_receipt_and_gives_no_token_twice() {
    let mut processes = Processes::start(3, DRAIN).await;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    // Every run of the work of a key, by the token under which it ran.
    let runs: Arc<Mutex<Vec<(String, u64)>>> = Arc::default();
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        let claims = client(&processes, number).await.claims("jobs").named(format!("w{number}"));
        let (stop, done, runs) = (stop.clone(), done.clone(), runs.clone());
        workers.push(tokio::spawn(async move {
            let mut receipts = BTreeMap::new();
            // All workers want the same keys.
            for key in (0..).map(|key: u32| key.to_string()).take_while(|_| !stop.load(Ordering::SeqCst)) {
                let once = claims.once(&key, LEASE, async |token| {
                    runs.lock().push((key.clone(), token));
                    Ok::<_, std::convert::Infallible>(token.to_string())
                });
                match once.await.unwrap() {
                    Once::Ran(receipt) | Once::DoneBefore(receipt) => {
                        receipts.insert(key, receipt);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                    Once::InFlight(_) => {}
                }
            }
            receipts
        }));
    }
    let more = async |count: usize| {
        let goal = done.load(Ordering::SeqCst) + count;
        eventually("work is done", async || (done.load(Ordering::SeqCst) >= goal).then_some(())).await;
    };
    more(50).await;
    let leader = processes.leader().await;
    processes.kill(leader);
    assert_ne!(processes.leader().await, leader);
    more(50).await;
    processes.run(leader);
    processes.ready().await;
    more(20).await;
    stop.store(true, Ordering::SeqCst);
    let mut known = BTreeMap::new();
    for worker in workers {
        for (key, receipt) in worker.await.unwrap() {
            let first = known.entry(key.clone()).or_insert_with(|| receipt.clone());
            assert_eq!(*first, receipt, "{key} has one receipt");
        }
    }
    let runs = runs.lock().clone();
    let keys: BTreeSet<_> = runs.iter().map(|(key, _)| key).collect();
    let tokens: BTreeSet<_> = runs.iter().map(|(_, token)| token).collect();
    assert_eq!((keys.len(), tokens.len()), (runs.len(), runs.len()), "a key ran twice, or a token was given twice");
    processes.caught_up().await;
    for number in 0..3 {
        let claims = client(&processes, number).await.claims("jobs");
        for (key, receipt) in &known {
            match claims.show(key).await.unwrap() {
                Some(Taken::Completed(shown)) => assert_eq!(shown.receipt, *receipt, "{key}"),
                other => panic!("{key}: {other:?}"),
            }
        }
    }
    let states = processes.stop_and_hash().await;
    assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claim_of_a_worker_that_is_gone_is_free_again_under_another_leader() {
    let mut processes = Processes::start(3, DRAIN).await;
    let claims = client(&processes, 0).await.claims("jobs");
    let Taken::Claimed(lost) = claims.take("k", Duration::from_secs(2)).await.unwrap() else { panic!("it is free") };
    let leader = processes.leader().await;
    processes.kill(leader);
    let next = eventually("the claim is free", async || match claims.take("k", LEASE).await.unwrap() {
        Taken::Claimed(lease) => Some(lease),
        Taken::InFlight(holder) => {
            assert_eq!(holder.token, lost.token);
            None
        }
        Taken::Completed(receipt) => panic!("nobody did it: {receipt:?}"),
    })
    .await;
    assert!(next.token > lost.token);
    let late = claims.complete("k", lost.token, "late").await.unwrap_err();
    assert_eq!(late.code(), "CLAIM_STALE");
    claims.complete("k", next.token, "done").await.unwrap();
    processes.run(leader);
    processes.ready().await;
    let Some(Taken::Completed(done)) = claims.show("k").await.unwrap() else { panic!("the receipt is lost") };
    assert_eq!(done.receipt, "done");
}
