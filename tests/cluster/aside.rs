//! Nodes that cannot do their work: they are not ready, say why, and somebody else leads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use liminal::{
    broker::{BrokerError, Consistency, Leader, Start},
    env::Env,
    health::Part,
    model::MemberEvent,
    node::{Node, Storage},
    proto::v1::{NodeHealth, NodeRole, NodeStatus},
    raft::{Change, ChangeError},
};

use super::support::{
    eventually,
    in_process::{Cluster, envelope, payloads},
    wire::{http_status, status},
};

/// Entries that a leader has under way at most: what comes behind them waits and is not proposed.
const PROPOSALS: usize = 4;
/// A refusal must not take as long as a timeout.
const PROMPT: Duration = Duration::from_secs(2);

impl Cluster {
    fn node(&self, number: usize) -> &Node {
        self.nodes[number].as_ref().unwrap()
    }

    async fn ready(&self, number: usize) -> bool {
        http_status(self.node(number).http_address(), "/ready").await == Some(200)
    }

    /// Waits until a node is not ready and another one leads; gives that one.
    async fn replaced(&self, unwell: usize) -> usize {
        eventually("the node is not ready", async || (!self.ready(unwell).await).then_some(())).await;
        let leads = |number: &usize| *number != unwell && self.leads(*number);
        eventually("another node leads", async || self.running().find(leads)).await
    }

    /// What the cluster says of a node, asked through another.
    async fn said_of(&self, number: usize, through: usize) -> NodeStatus {
        let status = status(self.node(through).client_address()).await.unwrap();
        status.nodes.into_iter().find(|node| node.name == format!("n{number}")).unwrap()
    }

    async fn transfer(&self, number: usize, through: usize) -> Result<String, ChangeError> {
        self.node(through).group().change(Change::Transfer { name: format!("n{number}") }).await
    }

    /// How often leadership was handed to a node.
    fn transfers(&self, number: usize, as_seen_by: usize) -> usize {
        let log = self.broker(as_seen_by).view().member_log();
        let to = |entry: &&liminal::model::MemberLogEntry| {
            entry.name == format!("n{number}") && entry.event == MemberEvent::Transferred
        };
        log.iter().filter(to).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_cannot_flush_gives_up_leadership_and_gets_it_back_only_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start_faulty(dir.path()).await;
    cluster.create("orders").await;
    let broken = cluster.leader().await;
    cluster.stores[broken].fail_flushes(true);
    let leader = cluster.replaced(broken).await;
    let said = eventually("the status tells", async || {
        Some(cluster.said_of(broken, leader).await).filter(|node| node.health() == NodeHealth::Unwell)
    })
    .await;
    assert!(said.failure.contains("injected fault"), "{said:?}");
    let error = cluster.transfer(broken, leader).await.unwrap_err();
    assert!(matches!(&error, ChangeError::Refused(reason) if reason.contains("injected fault")), "{error:?}");
    // Through the node itself everything goes on, because another one leads.
    cluster.broker(broken).publish("orders", envelope("a"), Some("a")).await.unwrap();
    assert_eq!(cluster.leader().await, leader);

    cluster.stores[broken].fail_flushes(false);
    eventually("it is ready again", async || cluster.ready(broken).await.then_some(())).await;
    let before = cluster.transfers(broken, leader);
    let done = cluster.transfer(broken, leader).await;
    assert_eq!(done, Ok(format!("n{broken} leads now")));
    eventually("it knows", async || cluster.leads(broken).then_some(())).await;
    eventually("it is written down", async || (cluster.transfers(broken, leader) == before + 1).then_some(())).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_store_stands_still_refuses_what_it_has_not_proposed_and_another_one_leads() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start_faulty(dir.path()).await;
    cluster.create("orders").await;
    let broken = cluster.leader().await;
    cluster.stores[broken].stall_commits(true);
    let mut waiting = Vec::new();
    for _ in 0..PROPOSALS + 2 {
        let broker = cluster.broker(broken).clone();
        waiting.push(tokio::spawn(async move { broker.publish("orders", envelope("a"), None).await }));
        // Each in an entry of its own, for as long as there may be another one.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (number, published) in waiting.into_iter().enumerate() {
        let error = published.await.unwrap().unwrap_err();
        assert_eq!(error.code().as_str(), "STORE_FAILED", "{error:?}");
        assert_eq!(error.outcome_unknown(), number < PROPOSALS, "publish {number}: {error:?}");
        assert!(error.to_string().contains(&format!("node `n{broken}`")), "{error}");
    }
    let begin = Instant::now();
    if let Err(error) = cluster.broker(broken).publish("orders", envelope("b"), None).await {
        assert!(!error.outcome_unknown(), "{error:?}");
        assert!(begin.elapsed() < PROMPT, "{:?}", begin.elapsed());
    }
    let leader = cluster.replaced(broken).await;
    cluster.broker(leader).publish("orders", envelope("c"), None).await.unwrap();
    cluster.stores[broken].stall_commits(false);
    eventually("it is ready again", async || cluster.ready(broken).await.then_some(())).await;
    assert_eq!(payloads(cluster.broker(broken), "orders").await, payloads(cluster.broker(leader), "orders").await);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_store_stands_still_is_not_ready_and_is_not_elected() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start_faulty(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    let [broken, other] = [(leader + 1) % 3, (leader + 2) % 3];
    cluster.stores[broken].stall_commits(true);
    cluster.broker(leader).publish("orders", envelope("a"), None).await.unwrap();
    eventually("the follower is not ready", async || (!cluster.ready(broken).await).then_some(())).await;
    let said = cluster.said_of(broken, leader).await;
    assert_eq!(said.health(), NodeHealth::Unwell);
    assert!(said.failure.contains("a commit has waited"), "{said:?}");
    // What needs this node to apply it does not wait for ever.
    let operated = cluster.broker(broken).put_claim_namespace("jobs", Duration::from_secs(60));
    let error = tokio::time::timeout(2 * PROMPT, operated).await.unwrap().unwrap_err();
    assert!(error.outcome_unknown(), "{error:?}");
    cluster.stop_node(leader).await;
    assert_eq!(cluster.leader().await, other);
    cluster.broker(other).publish("orders", envelope("b"), None).await.unwrap();
    cluster.stores[broken].stall_commits(false);
    eventually("it is ready again", async || cluster.ready(broken).await.then_some(())).await;
    assert_eq!(payloads(cluster.broker(broken), "orders").await, ["a", "b"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_node_that_has_all_entries_leads_though_its_store_fails_until_another_one_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start_faulty(dir.path()).await;
    cluster.create("orders").await;
    let first = cluster.leader().await;
    let [broken, behind] = [(first + 1) % 3, (first + 2) % 3];
    cluster.stop_node(behind).await;
    cluster.broker(first).publish("orders", envelope("a"), None).await.unwrap();
    cluster.stores[broken].fail_flushes(true);
    eventually("the follower is not ready", async || (!cluster.ready(broken).await).then_some(())).await;
    cluster.stop_node(first).await;
    // It lacks what was acknowledged, so it cannot be elected; and who has that cannot make it durable in its store.
    cluster.start_node(behind).await;
    eventually("the one that is well leads", async || cluster.leads(behind).then_some(())).await;
    cluster.broker(behind).publish("orders", envelope("b"), None).await.unwrap();
    assert_eq!(payloads(cluster.broker(behind), "orders").await, ["a", "b"]);
    cluster.stores[broken].fail_flushes(false);
    eventually("it is ready again", async || cluster.ready(broken).await.then_some(())).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_log_stands_still_gives_up_leadership() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start_faulty(dir.path()).await;
    cluster.create("orders").await;
    let broken = cluster.leader().await;
    cluster.logs[broken].store(true, Ordering::Release);
    // A majority without it is enough, so that nobody would notice otherwise.
    cluster.broker(broken).publish("orders", envelope("a"), None).await.unwrap();
    let leader = cluster.replaced(broken).await;
    cluster.broker(leader).publish("orders", envelope("b"), None).await.unwrap();
    cluster.logs[broken].store(false, Ordering::Release);
    eventually("it is ready again", async || cluster.ready(broken).await.then_some(())).await;
    assert_eq!(payloads(cluster.broker(broken), "orders").await, ["a", "b"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_all_logs_stand_still_what_was_not_proposed_is_refused_definitely_and_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start_faulty(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    let stall = |stalled: bool| cluster.logs.iter().for_each(|log| log.store(stalled, Ordering::Release));
    stall(true);
    let mut waiting = Vec::new();
    for _ in 0..PROPOSALS + 2 {
        let broker = cluster.broker(leader).clone();
        waiting.push(tokio::spawn(async move { broker.publish("orders", envelope("a"), None).await }));
        // Each in an entry of its own, for as long as there may be another one.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (number, published) in waiting.into_iter().enumerate() {
        let error = published.await.unwrap().unwrap_err();
        assert!(number < PROPOSALS || !error.outcome_unknown(), "publish {number}: {error:?}");
    }
    eventually("the leader is not ready", async || (!cluster.ready(leader).await).then_some(())).await;
    let begin = Instant::now();
    let error = cluster.broker(leader).publish("orders", envelope("b"), Some("b")).await.unwrap_err();
    assert!(!error.outcome_unknown(), "{error:?}");
    assert!(begin.elapsed() < PROMPT, "{:?}: {error:?}", begin.elapsed());
    stall(false);
    let leader = eventually("somebody leads", async || {
        let leader = cluster.running().find(|number| cluster.leads(*number))?;
        cluster.ready(leader).await.then_some(leader)
    })
    .await;
    let stored = cluster.broker(leader).publish("orders", envelope("b"), Some("b")).await.unwrap();
    assert!(!stored.duplicate, "it was refused for certain");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_by_command_says_by_its_exit_code_whether_leadership_was_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    let other = (leader + 1) % 3;
    let server = format!("http://{}", cluster.node(leader).client_address());
    let transfer = |node: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_liminal"));
        let output = command.args(["--server", &server, "cluster", "transfer", node]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = transfer("n9");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("error: ") && said.contains("n9"), "{said}");
    assert!(cluster.leads(leader), "it is as it was");
    let done = eventually("leadership is handed over", async || {
        // A node may be behind for a moment, which is refused.
        let (code, said) = transfer(&format!("n{other}"));
        assert!(code == Some(0) || code == Some(1), "{said}");
        (code == Some(0)).then_some(said)
    })
    .await;
    assert!(done.contains(&format!("n{other} leads now")), "{done}");
    eventually("it leads", async || cluster.leads(other).then_some(())).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_a_majority_says_so_and_refuses_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for other in others {
        cluster.stop_node(other).await;
    }
    eventually("the leader is not ready", async || (!cluster.ready(leader).await).then_some(())).await;
    let broker = cluster.broker(leader);
    let reason = eventually("it says why", async || broker.view().health().of(Part::Majority)).await;
    assert!(others.iter().all(|other| reason.contains(&format!("n{other}"))), "{reason}");
    let begin = Instant::now();
    let refusals = [
        broker.publish("orders", envelope("a"), Some("a")).await.unwrap_err(),
        broker.read("orders", Start::Earliest, 0, Consistency::Linearizable, None).await.unwrap_err(),
        broker.put_claim_namespace("jobs", Duration::from_secs(60)).await.unwrap_err().into(),
    ];
    assert!(begin.elapsed() < PROMPT, "{:?}", begin.elapsed());
    for error in refusals {
        assert_eq!((error.code().as_str(), error.outcome_unknown()), ("NO_LEADER", false), "{error:?}");
    }
    broker.read("orders", Start::Earliest, 0, Consistency::Local, None).await.unwrap();
    let said = cluster.said_of(leader, leader).await;
    assert_eq!((said.role(), said.health()), (NodeRole::Leader, NodeHealth::Unwell));
    assert_eq!(http_status(cluster.node(leader).http_address(), "/health").await, Some(200));

    cluster.start_node(others[0]).await;
    eventually("it is ready again", async || cluster.ready(leader).await.then_some(())).await;
    cluster.start_node(others[1]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_read_its_data_names_its_disk_and_does_not_lead_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start_faulty(dir.path()).await;
    cluster.create("orders").await;
    let broken = cluster.leader().await;
    cluster.broker(broken).publish("orders", envelope("a"), None).await.unwrap();
    cluster.stores[broken].fail_reads(true);
    let read = cluster.broker(broken).read("orders", Start::Earliest, 0, Consistency::Local, None).await;
    let error = read.unwrap_err();
    assert!(matches!(&error, BrokerError::StoreFailed { node, .. } if *node == format!("n{broken}")), "{error:?}");
    assert!(error.to_string().starts_with(&format!("the store of node `n{broken}` failed: ")), "{error}");
    let leader = cluster.replaced(broken).await;
    assert!(cluster.broker(broken).view().health().of(Part::Data).is_some());
    assert_eq!(http_status(cluster.node(broken).http_address(), "/health").await, Some(200));
    assert!(cluster.transfer(broken, leader).await.is_err());
    cluster.stores[broken].fail_reads(false);
    eventually("it is ready again", async || cluster.ready(broken).await.then_some(())).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_not_handed_to_a_node_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    let [gone, other] = [(leader + 1) % 3, (leader + 2) % 3];
    cluster.stop_node(gone).await;
    for through in [leader, other] {
        let error = cluster.transfer(gone, through).await.unwrap_err();
        assert!(matches!(&error, ChangeError::Refused(reason) if reason.contains("does not answer")), "{error:?}");
    }
    assert!(cluster.leads(leader));
    assert_eq!(cluster.transfers(gone, leader), 0);
    let done = cluster.node(leader).group().change(Change::Transfer { name: String::new() }).await;
    assert_eq!(done, Ok(format!("n{other} leads now")), "the one that is there");
    cluster.stop().await;
}

/// Three nodes, each on a runtime of its own as in processes of their own.
#[test]
fn a_leader_whose_runtime_does_not_answer_gives_up_leadership() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (here, runtimes) = (runtime(), [runtime(), runtime(), runtime()]);
    let mut cluster = Cluster::prepare(dir.path());
    let started: Vec<_> = (0..3)
        .map(|number| {
            let config = cluster.configs[number].clone();
            runtimes[number].spawn(async move {
                let storage = Storage::open(&config, &Env::real()).unwrap();
                Node::start(config, Env::real(), storage).await.unwrap()
            })
        })
        .collect();
    here.block_on(async {
        for (number, node) in started.into_iter().enumerate() {
            cluster.nodes[number] = Some(node.await.unwrap());
        }
        let blocked = cluster.leader().await;
        let release = Arc::new(AtomicBool::new(false));
        let released = release.clone();
        runtimes[blocked].spawn(async move {
            while !released.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let leads = |number: &usize| *number != blocked && cluster.leads(*number);
        let leader = eventually("another node leads", async || (0..3).find(leads)).await;
        let health = cluster.broker(blocked).view().health();
        assert!(health.of(Part::Runtime).is_some());
        assert!(matches!(cluster.broker(leader).leader(), Leader::Local { .. }));
        release.store(true, Ordering::Release);
        eventually("it answers again", async || health.of(Part::Runtime).is_none().then_some(())).await;
        for (number, node) in cluster.nodes.iter_mut().enumerate() {
            let node = node.take().unwrap();
            runtimes[number].spawn(node.stop()).await.unwrap();
        }
    });
    runtimes.into_iter().for_each(tokio::runtime::Runtime::shutdown_background);
}
