//! Disks that lie: what a node kept is lost, cut, changed or replaced by an older copy. Each such node is refused by name,
//! or it makes no difference; nothing that was acknowledged is lost by letting it in.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use liminal::{
    broker::{Consistency as Reads, Start},
    client::{Consistency, Message},
    config::{RaftConfig, ServerConfig},
    env::Env,
    node::{Node, Storage},
    store::DurableStore as _,
};

use super::{
    recorded::env_of,
    support::{
        eventually, free_addresses,
        in_process::{Cluster, envelope, payloads},
        processes::Processes,
        wire,
    },
};

const DRAIN: Duration = Duration::from_secs(2);

fn liminal(server: &str, arguments: &[&str]) -> String {
    let server = format!("http://{server}");
    let output =
        Command::new(env!("CARGO_BIN_EXE_liminal")).args(["--server", &server]).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

/// One follower is away while messages are acknowledged, then the other two die, and the log of the one that did not lead
/// is lost. The two that lack the messages are started first: they must not become a majority.
async fn a_member_that_lost_its_log(lost: &[&str], flushed: bool, lost_first: bool) {
    let mut processes = Processes::start(3, DRAIN).await;
    let client = processes.client().await;
    let publish = async |number: u32| {
        let message = Message::new(format!("{{\"id\":{number}}}")).with_key(format!("k{number}"));
        client.publish("orders", message).await.unwrap().seq
    };
    for number in 0..20 {
        assert_eq!(publish(number).await, u64::from(number));
    }
    processes.caught_up().await;
    let leader = processes.leader().await;
    let (away, losing) = ((leader + 1) % 3, (leader + 2) % 3);
    processes.kill(away);
    for number in 20..60 {
        assert_eq!(publish(number).await, u64::from(number));
    }
    if flushed {
        liminal(&processes.clients[losing], &["cluster", "snapshot"]);
    }
    processes.kill(leader);
    processes.kill(losing);
    for part in lost {
        fs::remove_dir_all(processes.data(losing).join(part)).unwrap();
    }
    let order = if lost_first { [losing, away] } else { [away, losing] };
    order.into_iter().for_each(|number| processes.run(number));
    assert!(!processes.wait(losing).await.success());
    let log = processes.log(losing);
    let named = log.lines().rev().find(|line| line.contains("cluster remove")).unwrap_or_else(|| panic!("{log}"));
    let names = |part: &&str| named.contains(processes.data(losing).join(part).to_str().unwrap());
    assert!(lost.iter().any(names), "{named}");

    processes.run(leader);
    processes.ready().await;
    let check = async |number: usize| {
        let stored = wire::read_all(&processes.clients[number], "orders", Consistency::Linearizable).await;
        let keys: Vec<String> = stored.into_iter().map(|(_, _, message)| message.key.unwrap_or_default()).collect();
        assert_eq!(keys, (0..60).map(|number| format!("k{number}")).collect::<Vec<_>>());
    };
    check(leader).await;
    check(away).await;
    // The way out that the refusal names.
    let (at, name) = (processes.clients[leader].clone(), format!("n{losing}"));
    liminal(&at, &["cluster", "remove", &name, "--yes"]);
    fs::remove_dir_all(processes.data(losing)).unwrap();
    processes.run(losing);
    eventually("the node is back", async || {
        let status = wire::status(&at).await?;
        status.nodes.iter().any(|node| node.name == name && node.lag == 0 && node.applied > 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_its_log_is_refused_before_the_first_flush_though_nobody_leads() {
    a_member_that_lost_its_log(&["raft"], false, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_log_and_state_is_refused_after_a_flush_though_it_starts_first() {
    a_member_that_lost_its_log(&["raft", "state"], true, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_an_older_log_is_refused_though_nobody_leads() {
    let mut processes = Processes::start(3, DRAIN).await;
    let client = processes.client().await;
    client.publish("orders", Message::new("1").with_key("k1")).await.unwrap();
    let leader = processes.leader().await;
    let (away, older) = ((leader + 1) % 3, (leader + 2) % 3);
    processes.kill(older);
    let (log, copy) = (processes.data(older).join("raft"), processes.data(older).with_extension("copy"));
    copy_all(&log, &copy);
    processes.run(older);
    processes.ready().await;
    processes.kill(away);
    client.publish("orders", Message::new("2").with_key("k2")).await.unwrap();
    processes.kill(leader);
    processes.kill(older);
    fs::remove_dir_all(&log).unwrap();
    copy_all(&copy, &log);
    processes.run(away);
    processes.run(older);
    assert!(!processes.wait(older).await.success());
    let said = processes.log(older);
    assert!(said.contains(&format!("{} ends with what start 1 of this node wrote", log.display())), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_a_whole_disk_is_refused_by_a_member_that_was_killed_just_after_the_newer_start() {
    let mut processes = Processes::start(3, DRAIN).await;
    let leader = processes.leader().await;
    let (away, older) = ((leader + 1) % 3, (leader + 2) % 3);
    processes.kill(older);
    let (data, copy) = (processes.data(older), processes.data(older).with_extension("copy"));
    copy_all(&data, &copy);
    processes.run(older);
    processes.ready().await;
    // What it has heard of it has not been told to be committed yet.
    processes.kill(away);
    let client = processes.client().await;
    client.publish("orders", Message::new("1").with_key("k1")).await.unwrap();
    processes.kill(leader);
    processes.kill(older);
    fs::remove_dir_all(&data).unwrap();
    copy_all(&copy, &data);
    processes.run(away);
    processes.run(older);
    assert!(!processes.wait(older).await.success());
    let said = processes.log(older);
    assert!(
        said.contains("runs on an old copy of its disk: this is start 2 of the disk, but another process"),
        "{said}"
    );
    processes.run(leader);
    let client = processes.client().await;
    let again = client.publish("orders", Message::new("1").with_key("k1")).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (0, true));
}

fn copy_all(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// A node by itself, started on a directory until it has said what it holds.
async fn start(dir: &Path) -> Result<Node, String> {
    start_in(dir, Env::real()).await
}

async fn start_in(dir: &Path, env: Env) -> Result<Node, String> {
    let [client, http] = free_addresses(2).try_into().unwrap();
    let config = ServerConfig {
        listen_address: client,
        health_listen_address: http,
        drain_timeout: Duration::from_secs(1),
        persistence_path: Some(dir.to_owned()),
        raft: RaftConfig { log_keep_entries: 1, ..RaftConfig::default() },
        ..ServerConfig::default()
    };
    let storage = {
        let (config, env) = (config.clone(), env.clone());
        tokio::task::spawn_blocking(move || Storage::open(&config, &env)).await.unwrap()
    };
    let storage = storage.map_err(|error| error.to_string())?;
    Node::start(config, env, storage).await.map_err(|error| error.to_string())
}

async fn publish(node: &Node, numbers: std::ops::Range<u64>) {
    let _ = node.broker().create_channel("orders", Default::default()).await; // or it is there
    for number in numbers {
        let (payload, key) = (number.to_string(), format!("k{number}"));
        let outcome = node.broker().publish("orders", envelope(&payload), Some(&key)).await.unwrap();
        assert_eq!(outcome.seq, number);
    }
}

/// What becomes of a node that starts on a directory: why it is refused, or that it is as it was.
async fn outcome(dir: &Path) -> Result<(), String> {
    let node = start(dir).await?;
    let leads = async { node.broker().publish("orders", envelope("4"), Some("k4")).await };
    let again = tokio::time::timeout(Duration::from_secs(20), leads).await;
    let result = match again {
        Ok(Ok(again)) => {
            assert_eq!((again.seq, again.duplicate), (4, true));
            let page = node.broker().read("orders", Start::Earliest, 0, Reads::Linearizable, None);
            match page.await {
                Ok(_) => {
                    let held = payloads(node.broker(), "orders").await;
                    assert_eq!(held, (0..8).map(|number| number.to_string()).collect::<Vec<_>>());
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            }
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it never leads".to_owned()),
    };
    node.stop().await;
    result
}

/// Everything in a directory, as paths below it.
fn all(dir: &Path, below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir.join(below)).unwrap() {
        let path = below.join(entry.unwrap().file_name());
        if dir.join(&path).is_dir() {
            found.extend(all(dir, &path));
        }
        found.push(path);
    }
    found
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Lost,
    Cut,
    Flipped,
    Older,
}

fn damage(dir: &Path, path: &Path, older: &Path, fault: Fault) -> bool {
    let (target, is_dir) = (dir.join(path), dir.join(path).is_dir());
    match fault {
        Fault::Lost if is_dir => fs::remove_dir_all(&target).unwrap(),
        Fault::Lost => fs::remove_file(&target).unwrap(),
        Fault::Older => {
            if !older.join(path).exists() {
                return false;
            }
            if is_dir {
                fs::remove_dir_all(&target).unwrap();
            } else {
                fs::remove_file(&target).unwrap();
            }
            copy_all(&older.join(path), &target);
        }
        Fault::Cut | Fault::Flipped => {
            let Ok(mut bytes) = fs::read(&target) else { return false };
            if bytes.is_empty() {
                return false;
            }
            let middle = bytes.len() / 2;
            match fault {
                Fault::Cut => bytes.truncate(middle),
                _ => bytes[middle] ^= 4,
            }
            fs::write(&target, bytes).unwrap();
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_lost_cut_changed_or_older_on_a_nodes_disk_is_refused_by_name_or_makes_no_difference() {
    let root = tempfile::tempdir().unwrap();
    let (now, older, tried) = (root.path().join("now"), root.path().join("older"), root.path().join("tried"));
    for (numbers, copy) in [(0..3, Some(&older)), (3..6, None), (6..8, None)] {
        let node = start(&now).await.unwrap();
        publish(&node, numbers).await;
        eventually("the log is cut", async || {
            node.group().cut_log().await.unwrap();
            (node.group().log_entries() < 3).then_some(())
        })
        .await;
        node.stop().await;
        if let Some(copy) = copy {
            copy_all(&now, copy);
        }
    }
    copy_all(&now, &tried);
    outcome(&tried).await.unwrap();
    // Where nothing but a refusal will do.
    let identifies =
        |path: &Path| ["identity.json", "raft", "state", "state/CURRENT"].iter().any(|name| path == Path::new(name));
    let mut refused = 0;
    for path in all(&now, Path::new("")) {
        for fault in [Fault::Lost, Fault::Cut, Fault::Flipped, Fault::Older] {
            fs::remove_dir_all(&tried).unwrap();
            copy_all(&now, &tried);
            if !damage(&tried, &path, &older, fault) {
                continue;
            }
            let is_current = path.ends_with("CURRENT") && fault == Fault::Older; // it has not changed
            match outcome(&tried).await {
                Ok(()) if identifies(&path) && !is_current => panic!("{} {fault:?} was accepted", path.display()),
                Ok(()) => {}
                // The nodes of the tree are named by their hashes.
                Err(error) if path.starts_with("state") && path.components().count() > 3 => drop(error),
                Err(error) => {
                    let named = path.iter().any(|part| error.contains(part.to_str().unwrap()));
                    assert!(named, "{} {fault:?} is not named: {error}", path.display());
                    refused += 1;
                }
            }
        }
    }
    assert!(refused >= 12, "{refused}");
}

/// Some time after the directory was recorded, within the day for which its keys are remembered.
const RECORDED_MS: u64 = 1_795_896_000_000;

fn recorded(into: &Path) {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/recorded/before-checksums");
    copy_all(&recorded, into);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_the_build_before_checksums_is_read_and_has_them_from_then_on() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("n0");
    recorded(&dir);
    fs::write(
        dir.join("identity.json"),
        fs::read_to_string(dir.join("identity.json")).unwrap().replace("\"n0\"", "\"n1\""),
    )
    .unwrap();
    let node = start_in(&dir, env_of(RECORDED_MS)).await.unwrap();
    let again = node.broker().publish("orders", envelope("{\"id\":3}"), Some("k3")).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (3, true));
    node.stop().await;
    let identity = fs::read_to_string(dir.join("identity.json")).unwrap();
    assert!(identity.contains("\"format\": 2") && identity.contains("checksum"), "{identity}");
    let current = fs::read_to_string(dir.join("state/CURRENT")).unwrap();
    assert!(current.starts_with("CURRENT 2\nlive state-000001\nowner 5300743906042541\n"), "{current}");
    fs::write(dir.join("state/CURRENT"), current.replace("000001", "000003")).unwrap();
    let error = start(&dir).await.err().unwrap();
    assert!(error.contains("CURRENT") && error.contains("damaged"), "{error}");
    assert!(dir.join("state/state-000001").exists(), "nothing is removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_the_build_before_checksums_is_refused_without_its_log() {
    let root = tempfile::tempdir().unwrap();
    for (lost, shows) in
        [("raft", "raft is empty"), ("state/CURRENT", "CURRENT"), ("identity.json", "identity.json is missing")]
    {
        let dir = root.path().join(lost.replace('/', "-"));
        recorded(&dir);
        let path = dir.join(lost);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
        let identity = dir.join("identity.json");
        if let Ok(text) = fs::read_to_string(&identity) {
            fs::write(&identity, text.replace("\"n0\"", "\"n1\"")).unwrap();
        }
        let error = start(&dir).await.err().unwrap_or_else(|| panic!("{lost} was not missed"));
        assert!(error.contains(shows), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_states_differ_without_a_majority_nobody_serves_until_a_node_that_was_away_decides_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start_faulty(dir.path()).await;
    cluster.create("orders").await;
    cluster.broker(0).publish("orders", envelope("before"), None).await.unwrap();
    let leader = cluster.leader().await;
    let (wrong, away) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.stop_node(away).await;
    cluster.stores[wrong].cas("flipped", None, 1).await.unwrap();
    let group = |cluster: &Cluster, number: usize| cluster.nodes[number].as_ref().unwrap().group().clone();
    group(&cluster, leader).checkpoint().await.unwrap();
    for number in [leader, wrong] {
        let reason = eventually("it is in doubt", async || group(&cluster, number).doubt()).await;
        assert!(reason.contains("no majority of the 3 voters"), "{reason}");
        assert_eq!(group(&cluster, number).state().failure, reason, "what the status says");
        let refused = cluster.broker(number).publish("orders", envelope("doubtful"), None).await.unwrap_err();
        assert!(refused.to_string().contains("cluster remove") && !refused.outcome_unknown(), "{refused}");
        let read = cluster.broker(number).read("orders", Default::default(), 0, Reads::Local, None);
        assert!(read.await.is_err());
    }
    cluster.start_node(away).await;
    eventually("the third has caught up", async || {
        (cluster.broker(away).view().applied() >= cluster.broker(leader).view().applied()).then_some(())
    })
    .await;
    let now = cluster.leader().await;
    group(&cluster, now).checkpoint().await.unwrap();
    eventually("two are of one mind", async || group(&cluster, leader).doubt().is_none().then_some(())).await;
    eventually("the one that is wrong knows", async || group(&cluster, wrong).refused()).await;
    let served =
        eventually("two serve", async || cluster.broker(leader).publish("orders", envelope("after"), None).await.ok())
            .await;
    assert_eq!(served.seq, 1, "what was refused was not stored");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_three_states_differ_none_serves_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start_faulty(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    for (value, number) in [(1, (leader + 1) % 3), (2, (leader + 2) % 3)] {
        cluster.stores[number].cas("flipped", None, value).await.unwrap();
    }
    cluster.nodes[leader].as_ref().unwrap().group().checkpoint().await.unwrap();
    for number in 0..3 {
        let group = cluster.nodes[number].as_ref().unwrap().group();
        eventually("it is in doubt", async || group.doubt()).await;
        assert_eq!(group.refused(), None, "nobody knows that it is the wrong one");
        assert!(cluster.broker(number).publish("orders", envelope("x"), None).await.is_err());
    }
    cluster.stop_node(0).await;
    cluster.start_node(0).await;
    assert!(cluster.nodes[0].as_ref().unwrap().group().doubt().is_some());
    cluster.stop().await;
}
