//! Real `liminal serve` processes, as operators run them: what survives `kill -9`, how they stop, and what they refuse.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use liminal::{
    client::{ChannelConfig, Client, ClusterStatusResponse, Message},
    store::{DurableStore, HaematiteConfig, HaematiteStore},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Mutex;

use super::{PATIENCE, free_addresses};

const CHANNEL: &str = "orders";

/// Three processes over one directory; killed when dropped.
struct Processes {
    dir: PathBuf,
    clients: Vec<String>,
    children: Vec<Option<Child>>,
}

impl Processes {
    fn start(dir: &Path) -> Self {
        let addresses = free_addresses(9);
        let (clients, rest) = addresses.split_at(3);
        let (web, peers) = rest.split_at(3);
        for number in 0..3 {
            let config = format!(
                "listen_address = {:?}\nhealth_listen_address = {:?}\ndrain_timeout_ms = 2000\npersistence_path = {:?}\n\
                 [cluster]\nnode_name = \"n{number}\"\nlisten_address = {:?}\nseed_nodes = {peers:?}\ncookie = \"test\"\n",
                clients[number],
                web[number],
                dir.join(format!("n{number}")),
                peers[number],
            );
            std::fs::write(dir.join(format!("n{number}.toml")), config).unwrap();
        }
        let clients = clients.iter().map(|address| format!("http://{address}")).collect();
        let mut processes = Self { dir: dir.to_owned(), clients, children: vec![None, None, None] };
        (0..3).for_each(|number| processes.restart(number));
        processes
    }

    fn command(&self, number: usize) -> Command {
        let log = File::options().create(true).append(true).open(self.dir.join(format!("n{number}.log"))).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_liminal"));
        command.arg("serve").arg("--config").arg(self.dir.join(format!("n{number}.toml")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
    }

    fn restart(&mut self, number: usize) {
        self.children[number] = Some(self.command(number).spawn().unwrap());
    }

    fn kill(&mut self, number: usize) {
        let mut child = self.children[number].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn signal(&self, number: usize, signal: Signal) {
        let child = self.children[number].as_ref().unwrap();
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Waits for the end of a process that was told to stop.
    async fn ended(&mut self, number: usize) -> ExitStatus {
        let mut child = self.children[number].take().unwrap();
        let ended = async {
            loop {
                if let Some(status) = child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("the process ends")
    }

    async fn client(&self) -> Client {
        let connected = async {
            loop {
                match Client::builder().servers(self.clients.clone()).retry_for(PATIENCE).connect().await {
                    Ok(client) => return client,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, connected).await.expect("a node takes connections")
    }

    /// The cluster's status, once it is as wanted.
    async fn status(&self, client: &Client, wanted: impl Fn(&ClusterStatusResponse) -> bool) -> ClusterStatusResponse {
        let reached = async {
            loop {
                if let Ok(status) = client.cluster_status().await
                    && wanted(&status)
                {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("the cluster is as wanted")
    }

    async fn leader(&self, client: &Client) -> usize {
        let status = self.status(client, |status| !status.leader.is_empty()).await;
        status.leader.trim_start_matches('n').parse().unwrap()
    }

    /// Stops all processes in order when every node has applied the same.
    async fn stop_all_equal(&mut self, client: &Client) {
        let equal = |status: &ClusterStatusResponse| {
            let applied: Vec<u64> = status.nodes.iter().map(|node| node.applied).collect();
            applied.len() == 3 && applied.iter().all(|index| *index == applied[0] && *index > 0)
        };
        self.status(client, equal).await;
        (0..3).for_each(|number| self.signal(number, Signal::TERM));
        for number in 0..3 {
            assert_eq!(self.ended(number).await.code(), Some(0), "node {number}");
        }
    }

    /// Opens the stopped nodes' stores: every acknowledged message is there once, in the same order, and the states
    /// are equal.
    async fn check(&self, acknowledged: &BTreeMap<String, u64>) {
        let mut all = Vec::new();
        for number in 0..3 {
            let dir = self.dir.join(format!("n{number}")).join("state");
            let store = HaematiteStore::open(&dir, HaematiteConfig::default()).unwrap();
            let mut keys = Vec::new();
            loop {
                let page = store.read_batches(&format!("{CHANNEL}:0"), keys.len() as u64, 1 << 20).await.unwrap();
                if page.is_empty() {
                    break;
                }
                for batch in page {
                    assert_eq!(batch.first_seq, keys.len() as u64, "no gap on node {number}");
                    for message in batch.frame.messages() {
                        let message = message.unwrap();
                        assert_eq!(message.payload, format!("payload of {}", message.key));
                        keys.push(message.key);
                    }
                }
            }
            let distinct: BTreeMap<&String, u64> = keys.iter().zip(0..).collect();
            assert_eq!(distinct.len(), keys.len(), "no message is twice on node {number}");
            for (key, seq) in acknowledged {
                assert_eq!(distinct.get(key), Some(seq), "{key} on node {number}");
            }
            all.push((keys, store.root_hash().await.unwrap().0));
            store.close().await.unwrap();
        }
        assert!(all.iter().all(|state| *state == all[0]), "the nodes' states are equal");
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill(); // it may have ended
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for number in 0..3 {
                let log = std::fs::read_to_string(self.dir.join(format!("n{number}.log"))).unwrap_or_default();
                eprintln!("--- n{number}\n{log}");
            }
        }
    }
}

fn message(key: &str) -> Message {
    Message { payload: format!("payload of {key}").into(), key: key.into(), ..Message::default() }
}

/// Publishers that retry until everything is acknowledged.
struct Publishing {
    acknowledged: Arc<Mutex<BTreeMap<String, u64>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Publishing {
    fn start(client: &Client, publishers: usize, each: usize) -> Self {
        let acknowledged: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
        let publish = |publisher: usize| {
            let (client, acknowledged) = (client.clone(), acknowledged.clone());
            tokio::spawn(async move {
                for number in 0..each {
                    let key = format!("p{publisher}-{number}");
                    let ack = client.publish(CHANNEL, message(&key)).await.unwrap();
                    acknowledged.lock().await.insert(key, ack.seq);
                }
            })
        };
        let tasks = (0..publishers).map(publish).collect();
        Self { acknowledged, tasks }
    }

    async fn wait_for(&self, count: usize) {
        let reached = async {
            while self.acknowledged.lock().await.len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("publishing goes on");
    }

    async fn finish(self) -> BTreeMap<String, u64> {
        for task in self.tasks {
            task.await.unwrap();
        }
        std::mem::take(&mut *self.acknowledged.lock().await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_leader_during_keyed_publishing_loses_and_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut processes = Processes::start(dir.path());
    let client = processes.client().await;
    client.create_channel(CHANNEL, ChannelConfig::default()).await.unwrap();
    let leader = processes.leader(&client).await;
    let publishing = Publishing::start(&client, 8, 60);
    publishing.wait_for(100).await;
    processes.kill(leader);
    publishing.wait_for(300).await;
    processes.restart(leader);
    let acknowledged = publishing.finish().await;
    assert_eq!(acknowledged.len(), 480);
    processes.stop_all_equal(&client).await;
    processes.check(&acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_all_nodes_at_once_loses_and_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut processes = Processes::start(dir.path());
    let client = processes.client().await;
    client.create_channel(CHANNEL, ChannelConfig::default()).await.unwrap();
    let publishing = Publishing::start(&client, 8, 60);
    publishing.wait_for(100).await;
    (0..3).for_each(|number| processes.kill(number));
    (0..3).for_each(|number| processes.restart(number));
    let acknowledged = publishing.finish().await;
    for (key, seq) in acknowledged.iter().take(20) {
        let again = client.publish(CHANNEL, message(key)).await.unwrap();
        assert!(again.duplicate && again.seq == *seq, "{key} was at {seq}: {again:?}");
    }
    processes.stop_all_equal(&client).await;
    processes.check(&acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_is_locked_and_a_second_signal_stops_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut processes = Processes::start(dir.path());
    let client = processes.client().await;
    client.create_channel(CHANNEL, ChannelConfig::default()).await.unwrap();
    let second = processes.command(0).stderr(Stdio::piped()).output().unwrap();
    let error = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(error.contains("error: ") && error.contains(&dir.path().join("n0").display().to_string()), "{error}");
    // Two nodes are gone, so nobody takes the leadership over: the first signal alone would take its time.
    let leader = processes.leader(&client).await;
    (0..3).filter(|number| *number != leader).collect::<Vec<_>>().into_iter().for_each(|other| processes.kill(other));
    processes.signal(leader, Signal::TERM);
    processes.log_of(leader, "a second signal stops at once").await;
    processes.signal(leader, Signal::TERM);
    assert_eq!(processes.ended(leader).await.code(), Some(1));
}

impl Processes {
    /// Waits until a node has logged something.
    async fn log_of(&self, number: usize, text: &str) {
        let path = self.dir.join(format!("n{number}.log"));
        let logged = async {
            while !std::fs::read_to_string(&path).unwrap_or_default().contains(text) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, logged).await.expect("it is logged");
    }
}
