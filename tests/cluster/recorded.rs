//! Data directories that earlier builds wrote: everything that they promised holds still. `recorded/with-work` was written by
//! `liminal serve` of the first build with work queues, keys in files and the nodes' handshake, and stopped in order; the last
//! entries are in its log only. A directory is never changed once it is here: a new format gets one of its own beside it.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use liminal::{
    broker::{BrokerError, Claim, ConsumerDelivery, Envelope, Member, Start},
    config::ServerConfig,
    env::{Clock, Env},
    model::{Settlement, Verdict},
    node::{Node, Storage},
};

use super::support::{
    PATIENCE, eventually, free_addresses,
    in_process::{envelope, payloads},
};

/// A minute after it was written. Its keys are remembered for a day, a message waits for a day, and a lease ends eight minutes
/// later.
const THEN_MS: u64 = 1_795_942_700_000;

/// A clock that goes on from a moment in the past.
struct Then {
    from_ms: u64,
    since: std::time::Instant,
}

impl Clock for Then {
    fn now_ms(&self) -> u64 {
        self.from_ms + self.since.elapsed().as_millis() as u64
    }
}

/// The real environment, but that it is this time now: what a recorded directory remembers for a day is not forgotten.
pub fn env_of(from_ms: u64) -> Env {
    Env { clock: Arc::new(Then { from_ms, since: std::time::Instant::now() }), ..Env::real() }
}

async fn start(dir: &Path) -> Node {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/recorded/with-work");
    assert!(Command::new("cp").arg("-a").arg(recorded).arg(dir).status().unwrap().success());
    open(dir).await
}

async fn open(dir: &Path) -> Node {
    let [client, http] = free_addresses(2).try_into().unwrap();
    let config = ServerConfig {
        listen_address: client,
        health_listen_address: http,
        drain_timeout: Duration::from_secs(1),
        persistence_path: Some(dir.to_owned()),
        ..ServerConfig::default()
    };
    let env = env_of(THEN_MS);
    let storage = {
        let (config, env) = (config.clone(), env.clone());
        tokio::task::spawn_blocking(move || Storage::open(&config, &env)).await.unwrap().unwrap()
    };
    let node = Node::start(config, env, storage).await.unwrap();
    eventually("it leads and knows the time", async || {
        (node.broker().leads() && node.broker().view().clock().is_certain()).then_some(())
    })
    .await;
    node
}

async fn take(member: &mut Member, count: usize) -> Vec<ConsumerDelivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = tokio::time::timeout(PATIENCE, member.next()).await;
        taken.extend(next.unwrap_or_else(|_| panic!("only {taken:?}")).unwrap());
    }
    taken
}

fn seqs(taken: &[ConsumerDelivery]) -> Vec<(u64, u32)> {
    taken.iter().map(|delivery| (delivery.token.seq, delivery.token.attempt)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_directory_keeps_its_keys_schema_rules_and_waiting_messages() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("n1");
    let node = start(&dir).await;
    let broker = node.broker();
    for number in 1..=5u64 {
        let (payload, key) = (format!("{{\"id\":{number}}}"), format!("k{number}"));
        let again = broker.publish("orders", envelope(&payload), Some(&key)).await.unwrap();
        assert_eq!((again.seq, again.duplicate), (number - 1, true), "{key}");
        let other = broker.publish("orders", envelope("{\"id\":0}"), Some(&key)).await.unwrap_err();
        assert!(matches!(other, BrokerError::KeyConflict { seq, .. } if seq == number - 1), "{other:?}");
    }
    let refused = broker.publish("orders", envelope("{\"x\":1}"), None).await.unwrap_err();
    assert_eq!(refused.code().as_str(), "SCHEMA_VIOLATION");
    broker.publish("orders", envelope("{\"id\":6}"), None).await.unwrap();
    let copies = [3, 4, 5, 6].map(|id| format!("{{\"id\":{id}}}"));
    assert_eq!(payloads(broker, "copies").await, copies, "what the rule took, and what it takes now");
    assert!(broker.channel("users").await.unwrap().meta.config.retention.compact_by.is_some());

    let waiting = broker.delayed_messages("later", 0, 0).await.unwrap().messages;
    assert_eq!(waiting.len(), 1);
    assert!(waiting[0].due_ms.abs_diff(THEN_MS + 86_400_000) < 600_000, "{waiting:?}");
    let due_ms = Some(waiting[0].due_ms);
    let again = Envelope { deliver_at_ms: THEN_MS + 3_600_000, ..envelope("{\"later\":1}") };
    let again = broker.publish("later", again, Some("later-1")).await.unwrap();
    assert_eq!((again.duplicate, again.scheduled_ms), (true, due_ms));
    node.stop().await;

    // What this build has written it reads as well.
    let node = open(&dir).await;
    assert_eq!(node.broker().channel("orders").await.unwrap().stats.next_seq, 6);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_directory_keeps_its_consumers_and_its_work_queue() {
    let root = tempfile::tempdir().unwrap();
    let node = start(&root.path().join("n1")).await;
    let broker = node.broker();
    let status = broker.consumer("jobs", "w").await.unwrap().status;
    assert_eq!((status.cursor.next, status.floor, status.waiting, status.lag), (2, 1, 1, 3));
    assert_eq!(status.meta.config.dead_letter.as_ref().map(ToString::to_string).as_deref(), Some("jobs.dead"));
    assert_eq!(broker.channel("jobs").await.unwrap().stats.first_seq, 1, "the first job is done and gone");
    // Of user 1 the first job is done; of user 0 it was nacked for an hour, so the next one waits for it.
    let mut member = broker.join_consumer("jobs", "w", 10).await.unwrap();
    let got = take(&mut member, 1).await;
    assert_eq!(seqs(&got), [(2, 1)]);
    let ack = Settlement { token: got[0].token, verdict: Verdict::Ack };
    broker.settle("jobs", "w", vec![ack]).await.unwrap().remove(0).unwrap();
    eventually("the last job is looked at", async || {
        let status = broker.consumer("jobs", "w").await.unwrap().status;
        (status.waiting == 2 && status.lag == 2).then_some(())
    })
    .await;
    drop(member);

    let mut reader = broker.join_consumer("orders", "reader", 10).await.unwrap();
    assert_eq!(seqs(&take(&mut reader, 4).await), [(1, 1), (2, 1), (3, 1), (4, 1)]);
    let mut letters = broker.subscribe("jobs.dead", Start::Earliest).await.unwrap();
    assert!(letters.try_next().unwrap().is_none(), "no job is dead");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_directory_keeps_its_claims_and_receipts() {
    let root = tempfile::tempdir().unwrap();
    let node = start(&root.path().join("n1")).await;
    let (broker, lease) = (node.broker(), Duration::from_secs(600));
    let done = broker.claim("mails", "done", lease, Some("w2")).await.unwrap();
    let Claim::Completed { claim, receipt } = done else { panic!("{done:?}") };
    assert_eq!((claim.token, receipt.as_ref()), (1, &b"{\"sent\":true}"[..]));
    let held = broker.claim("mails", "held", lease, Some("w2")).await.unwrap();
    assert!(matches!(&held, Claim::InFlight(claim) if claim.token == 2), "{held:?}");
    let mine = broker.claim("mails", "held", lease, Some("w1")).await.unwrap();
    assert!(matches!(&mine, Claim::Claimed { claim, repeated: true } if claim.token == 2), "{mine:?}");
    let new = broker.claim("mails", "new", lease, Some("w2")).await.unwrap();
    assert!(matches!(&new, Claim::Claimed { claim, .. } if claim.token == 3), "tokens only grow: {new:?}");
    node.stop().await;
}
