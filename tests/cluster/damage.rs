//! Disks that damage what was written, under nodes that run, start, or are sent a snapshot.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use liminal::{
    broker::{Broker, Consistency, Start},
    client::{Client, Message},
    health::Part,
    store::{DurableStore as _, HaematiteConfig, HaematiteStore},
};

use super::support::{
    damage::{Fault, files, live_state},
    eventually,
    in_process::{Cluster, envelope},
    processes::Processes,
    wire,
};

/// Large enough that each has a node of its own, and none looks like another.
fn text(number: u64) -> String {
    let blocks = (0..400u64).map(|block| blake3::hash(&[number, block].map(u64::to_le_bytes).concat()).to_hex());
    blocks.map(|hex| hex.to_string()).collect()
}

async fn publish(broker: &Broker, numbers: std::ops::Range<u64>) {
    for number in numbers {
        broker.publish("orders", envelope(&text(number)), None).await.unwrap();
    }
}

async fn local(broker: &Broker) -> Result<Vec<String>, String> {
    let page = broker.read("orders", Start::Earliest, 0, Consistency::Local, None).await;
    let page = page.map_err(|error| error.to_string())?;
    let messages = page.batches.iter().flat_map(|batch| batch.frame.messages());
    Ok(messages.map(|message| String::from_utf8(message.unwrap().payload.to_vec()).unwrap()).collect())
}

/// Every node has applied the same, has it on its disk, and has looked at all of it by itself.
async fn settled(cluster: &Cluster) {
    eventually("all have applied the same", async || {
        let index = cluster.broker(0).view().applied();
        (0..3).all(|number| cluster.broker(number).view().applied() == index).then_some(())
    })
    .await;
    for number in 0..3 {
        cluster.broker(number).view().store().flush().await.unwrap();
        let group = cluster.nodes[number].as_ref().unwrap().group();
        eventually("the first pass is complete", async || (group.scrubbed().completed_ms > 0).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_files_are_damaged_gets_them_from_the_others_when_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    publish(cluster.broker(leader), 0..30).await;
    settled(&cluster).await;
    let damaged = (leader + 1) % 3;
    let (broker, group) = (cluster.broker(damaged), cluster.nodes[damaged].as_ref().unwrap().group());
    let all = files(&**broker.view().store(), &dir.path().join(format!("n{damaged}/state"))).await;
    for (number, (_, file)) in all.iter().enumerate() {
        Fault::ALL[number % 3].strike(file);
    }
    let expected: Vec<String> = (0..30).map(text).collect();
    let read = eventually("the reads recover by themselves", async || local(broker).await.ok()).await;
    assert_eq!(read, expected);
    let report = group.scrubbed();
    assert!(report.total_healed > 5, "{report:?}");
    cluster.assert_equal(leader).await;
    // What no read has met is met by looking for it.
    let pass = group.scrub(&group.state().address, 1 << 30).await.unwrap();
    eventually("the pass is complete", async || {
        let report = group.scrubbed();
        (report.pass >= pass && !report.running).then_some(())
    })
    .await;
    eventually("nothing is damaged any more", async || group.scrubbed().left.is_empty().then_some(())).await;
    assert_eq!(broker.view().health().of(Part::Damage), None);
    publish(cluster.broker(leader), 30..35).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_everywhere_is_reported_and_never_invented() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    let leader = cluster.leader().await;
    publish(cluster.broker(leader), 0..20).await;
    settled(&cluster).await;
    // Nobody has any of it in memory after a restart.
    for number in 0..3 {
        cluster.stop_node(number).await;
    }
    let mut struck = Vec::new();
    for number in 0..3 {
        let state = dir.path().join(format!("n{number}/state"));
        struck.push(strike_message(&state, 7).await);
    }
    for number in 0..3 {
        cluster.start_node(number).await;
    }
    cluster.leader().await;
    for (number, file) in struck.iter().enumerate() {
        let error = eventually("the read ends", async || local(cluster.broker(number)).await.err()).await;
        assert!(!error.is_empty());
        let group = cluster.nodes[number].as_ref().unwrap().group();
        let left = eventually("it is reported", async || group.scrubbed().left.first().cloned()).await;
        assert!(left.file.ends_with(file.as_str()), "{left} is not {file}");
        let reason =
            eventually("the node is not well", async || cluster.broker(number).view().health().of(Part::Damage));
        assert!(reason.await.contains(file.as_str()));
        assert_eq!(group.scrubbed().total_healed, 0);
    }
    cluster.stop().await;
}

/// Damages the leaf that holds one message of a store that is not open; gives the end of its path.
async fn strike_message(state: &Path, number: u64) -> String {
    let store = HaematiteStore::open(state, HaematiteConfig::default()).unwrap();
    let needle = text(number);
    let mut found = None;
    for (part, file) in files(&store, state).await {
        let plain = zstd_plain(&store, part).await;
        if plain.windows(needle.len()).any(|window| window == needle.as_bytes()) {
            found = Some(file);
        }
    }
    store.close().await.unwrap();
    let file = found.expect("the message is stored");
    Fault::Flip.strike(&file);
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    format!("{}/{}", name(file.parent().unwrap()), name(&file))
}

async fn zstd_plain(store: &HaematiteStore, part: [u8; 32]) -> Vec<u8> {
    let bytes = store.parts().unwrap().part(part).await.unwrap();
    zstd::stream::decode_all(&bytes[..]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_damaged_disk_starts_and_a_snapshot_makes_it_whole() {
    let mut processes = Processes::configured(3, Duration::from_secs(2), "[raft]\nlog_keep_entries = 5\n").await;
    let client = processes.client().await;
    for number in 0..30 {
        client.publish("orders", Message::new(text(number))).await.unwrap();
    }
    let leader = processes.leader().await;
    let away = (leader + 1) % 3;
    processes.caught_up().await;
    processes.signal(away, rustix::process::Signal::TERM);
    processes.wait(away).await;
    for number in 30..60 {
        client.publish("orders", Message::new(text(number))).await.unwrap();
    }
    let to_leader = Client::connect([processes.clients[leader].clone()]).await.unwrap();
    eventually("the leader's log is cut", async || {
        let done = to_leader.snapshot_node().await.ok()?;
        (done.log_entries < 20).then_some(())
    })
    .await;
    let state = processes.data(away).join("state");
    let before = live_state(&state);
    let store = state.join(&before).join("shard-0/store");
    let of_leader = processes.data(leader).join("state");
    let of_leader = of_leader.join(live_state(&of_leader)).join("shard-0/store");
    // What only this node ever had, nobody could give to it, and it would not start.
    let mut struck = large_files(&store);
    struck.retain(|file| of_leader.join(file.strip_prefix(&store).unwrap()).exists());
    struck.iter().for_each(|file| Fault::Flip.strike(file));
    assert!(struck.len() > 3, "{struck:?}");
    processes.run(away);
    processes.ready().await;
    processes.caught_up().await;
    assert!(processes.log(leader).contains("sending a snapshot"), "{}", processes.log(leader));
    assert_ne!(live_state(&state), before);
    assert!(processes.ended(away).is_none(), "it goes on");
    let read = wire::read_all(&processes.clients[away], "orders", liminal::client::Consistency::Local).await;
    let read: Vec<String> =
        read.into_iter().map(|(_, _, message)| String::from_utf8(message.payload.to_vec()).unwrap()).collect();
    assert!(read == (0..60).map(text).collect::<Vec<_>>(), "{} messages", read.len());
    let (code, told) = verify_deep(&format!("http://{}", processes.clients[away]));
    assert_eq!(code, 0, "{told}");
}

/// Files of nodes that hold messages.
fn large_files(store: &Path) -> Vec<PathBuf> {
    let prefixes = fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let files = prefixes.flat_map(|prefix| fs::read_dir(prefix).unwrap().map(|entry| entry.unwrap().path()));
    files.filter(|file| fs::metadata(file).unwrap().len() > 10_000).collect()
}

fn verify_deep(server: &str) -> (i32, String) {
    let arguments = ["--server", server, "cluster", "verify", "--deep"];
    let output = Command::new(env!("CARGO_BIN_EXE_liminal")).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code().unwrap(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_deep_finds_and_heals_state_and_log_of_every_node_and_tells_what_is_left() {
    let mut processes = Processes::start(3, Duration::from_secs(2)).await;
    let client = processes.client().await;
    for number in 0..40 {
        client.publish("orders", Message::new(text(number))).await.unwrap();
    }
    processes.caught_up().await;
    let server = format!("http://{}", processes.clients[0]);
    let (code, told) = verify_deep(&server); // which has folded everything, too
    assert!(code == 0 && told.matches("good").count() == 3, "{code} {told}");

    let store =
        processes.data(1).join("state").join(live_state(&processes.data(1).join("state"))).join("shard-0/store");
    let leaves = || large_files(&store);
    let struck = leaves();
    struck.iter().for_each(|file| Fault::Flip.strike(file));
    let log = fs::read_dir(processes.data(2).join("raft")).unwrap().map(|entry| entry.unwrap().path());
    let log = log.filter(|path| path.extension().is_some_and(|end| end == "log")).min().unwrap();
    let mut bytes = fs::read(&log).unwrap();
    bytes[5000] ^= 1;
    fs::write(&log, bytes).unwrap();
    let (code, told) = verify_deep(&server);
    assert!(code == 0 && told.matches("healed").count() == 2, "{code} {told}");
    assert!(!log.exists(), "{}", processes.log(2));
    // Not all of them are of the live state.
    let named = |file: &PathBuf| processes.log(1).contains(file.to_str().unwrap());
    assert!(struck.iter().any(named), "none of {struck:?} is named: {}", processes.log(1));
    // Both start again, and are equal.
    for number in [1, 2] {
        processes.signal(number, rustix::process::Signal::TERM);
        assert_eq!(processes.wait(number).await.code(), Some(0));
        processes.run(number);
        processes.ready().await;
    }
    let (code, told) = verify_deep(&server);
    assert!(code == 0 && told.matches("good").count() == 3, "{code} {told}");

    // One leaf, everywhere; one of the live state.
    let mut told = (0, String::new());
    for leaf in leaves() {
        let name = leaf.strip_prefix(&store).unwrap().to_owned();
        let of_node = |number: usize| {
            let state = processes.data(number).join("state");
            state.join(live_state(&state)).join("shard-0/store").join(&name)
        };
        let everywhere = [0, 1, 2].map(of_node);
        if everywhere.iter().all(|file| file.exists()) {
            everywhere.iter().for_each(|file| Fault::Cut.strike(file));
            told = verify_deep(&server);
        }
        if told.0 != 0 {
            assert_eq!(told.1.matches(name.to_str().unwrap()).count(), 3, "{}", told.1);
            break;
        }
    }
    let (code, told) = told;
    assert!(code == 10 && told.matches("DAMAGED").count() == 3, "{code} {told}");
    assert!(wire::http_status(&processes.http[1], "/health").await.is_some(), "it goes on running");
}
