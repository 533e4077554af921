//! Nodes in processes of their own, as they are deployed: they can be killed without a word.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use liminal::{client::Client, store::HaematiteConfig};
use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, eventually, free_addresses, wire};

/// Lines of each node's log that a failed test shows.
const LINES: usize = 200;

/// `liminal serve`, started a number of times in one temporary directory. Dropping it kills what still runs, and
/// prints what the nodes said when the test has failed.
pub struct Processes {
    dir: tempfile::TempDir,
    pub clients: Vec<String>,
    pub http: Vec<String>,
    pub peers: Vec<String>,
    seeds: Vec<String>,
    drain: Duration,
    /// More lines of `[cluster]`.
    more: String,
    children: Vec<Option<Child>>,
    nodes: Vec<Node>,
}

/// How one node differs from the others.
#[derive(Default)]
pub struct Node {
    /// What it is called, if not after its number.
    pub name: Option<String>,
    /// Where it looks for others, if not at the first nodes.
    pub seeds: Option<Vec<String>>,
    /// What it finds in its environment.
    pub environment: Vec<(String, String)>,
    /// What it expects, if not what the others do.
    pub expect: Option<usize>,
    /// File descriptors that it may have, if not as many as the tests.
    pub descriptors: Option<u32>,
    /// KiB of addresses that it may have, if not as many as the tests: memory, threads' stacks and mapped files.
    pub address_kib: Option<u32>,
}

impl Processes {
    /// Starts this many nodes and waits until all are ready and the channel `orders` exists.
    pub async fn start(count: usize, drain: Duration) -> Self {
        Self::configured(count, drain, "").await
    }

    /// The same with more lines in `[cluster]`.
    pub async fn configured(count: usize, drain: Duration, more: &str) -> Self {
        let mut processes = Self::prepared(count, drain, more);
        for number in 0..count {
            processes.run(number);
        }
        processes.ready().await;
        // A node may be ready before the leader has created the channels of the configuration.
        let client = processes.client().await;
        eventually("the channel is created", async || client.channel("orders").await.ok()).await;
        processes
    }

    /// The same, but none of them is started yet.
    pub fn prepared(count: usize, drain: Duration, more: &str) -> Self {
        let addresses = free_addresses(3 * count);
        let [clients, http, peers] = [0, 1, 2].map(|kind| addresses[kind * count..][..count].to_vec());
        let processes = Self {
            dir: tempfile::tempdir().unwrap(),
            clients,
            http,
            seeds: peers.clone(),
            peers,
            drain,
            more: more.to_owned(),
            children: (0..count).map(|_| None).collect(),
            nodes: (0..count).map(|_| Node::default()).collect(),
        };
        for number in 0..count {
            processes.configure(number);
        }
        processes
    }

    /// Has a node that does not run look for others only at these.
    pub fn seed(&mut self, number: usize, seeds: &[usize]) {
        self.nodes[number].seeds = Some(seeds.iter().map(|seed| self.peers[*seed].clone()).collect());
        self.configure(number);
    }

    /// Has a node that does not run differ from the others.
    pub fn differ(&mut self, number: usize, node: Node) {
        self.nodes[number] = node;
        self.configure(number);
    }

    /// Has a node that does not run expect another number than the others.
    pub fn expect(&mut self, number: usize, expect: usize) {
        self.nodes[number].expect = Some(expect);
        self.configure(number);
    }

    fn configure(&self, number: usize) {
        let Self { more, drain, .. } = self;
        let expect = self.nodes[number].expect.map(|expect| format!("expect = {expect}\n"));
        let more = expect.as_ref().unwrap_or(more);
        let seeds = self.nodes[number].seeds.as_ref().unwrap_or(&self.seeds);
        let name = self.nodes[number].name.clone().unwrap_or_else(|| format!("n{number}"));
        let config = format!(
            "listen_address = {:?}\nhealth_listen_address = {:?}\ndrain_timeout_ms = {}\npersistence_path = {:?}\n\
             [[channels]]\nname = \"orders\"\ndurable = true\n\
             [cluster]\nnode_name = {name:?}\nlisten_address = {:?}\nseed_nodes = {seeds:?}\ncookie = \"test\"\n{more}",
            self.clients[number],
            self.http[number],
            drain.as_millis(),
            self.data(number),
            self.peers[number],
        );
        std::fs::write(self.config(number), config).unwrap();
    }

    /// One more node, which is not started yet; its seeds are the first nodes.
    pub fn add(&mut self, node: Node) -> usize {
        let [client, http, peer] = free_addresses(3).try_into().unwrap();
        self.clients.push(client);
        self.http.push(http);
        self.peers.push(peer);
        self.children.push(None);
        self.nodes.push(node);
        let number = self.nodes.len() - 1;
        self.configure(number);
        number
    }

    /// Gives a node that does not run other addresses.
    pub fn readdress(&mut self, number: usize) {
        let [client, http, peer] = free_addresses(3).try_into().unwrap();
        (self.clients[number], self.http[number], self.peers[number]) = (client, http, peer);
        self.configure(number);
    }

    /// What a node finds in its environment when it is started next.
    pub fn environment(&mut self, number: usize, variables: Vec<(String, String)>) {
        self.nodes[number].environment = variables;
    }

    /// Two nodes that do not run get each other's addresses.
    pub fn exchange(&mut self, one: usize, other: usize) {
        for addresses in [&mut self.clients, &mut self.http, &mut self.peers] {
            addresses.swap(one, other);
        }
        self.configure(one);
        self.configure(other);
    }

    /// Replaces the data of a node that does not run by another's.
    pub fn copy_data(&self, from: usize, to: usize) {
        let _ = std::fs::remove_dir_all(self.data(to)); // or it has none yet
        let copied = Command::new("cp").arg("-a").arg(self.data(from)).arg(self.data(to)).status().unwrap();
        assert!(copied.success());
    }

    pub fn data(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("n{number}"))
    }

    pub fn config(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("n{number}.toml"))
    }

    pub fn log_path(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("n{number}.log"))
    }

    /// What a node has said so far, over all its lives.
    pub fn log(&self, number: usize) -> String {
        std::fs::read_to_string(self.log_path(number)).unwrap_or_default()
    }

    /// Starts a node that does not run.
    pub fn run(&mut self, number: usize) {
        assert!(self.children[number].is_none(), "n{number} runs already");
        let log = File::options().create(true).append(true).open(self.log_path(number)).unwrap();
        let environment = self.nodes[number].environment.iter().cloned();
        let mut command = serve(&self.config(number));
        if let Some(descriptors) = self.nodes[number].descriptors {
            command = limited(&command, &format!("-n {descriptors}"));
        }
        if let Some(kib) = self.nodes[number].address_kib {
            command = limited(&command, &format!("-v {kib}"));
        }
        self.children[number] = Some(command.envs(environment).stderr(log).spawn().unwrap());
    }

    /// The process of a node, while it has one.
    pub fn pid(&self, number: usize) -> Option<u32> {
        self.children[number].as_ref().map(Child::id)
    }

    /// Waits until every node that runs is ready.
    pub async fn ready(&mut self) {
        for number in 0..self.children.len() {
            if self.children[number].is_none() {
                continue;
            }
            eventually(&format!("n{number} is ready"), async || {
                if let Some(status) = self.ended(number) {
                    panic!("n{number} ended instead of being ready: {status}\n{}", self.log(number));
                }
                (wire::http_status(&self.http[number], "/ready").await == Some(200)).then_some(())
            })
            .await;
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self, number: usize) {
        let mut child = self.children[number].take().expect("the node runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn signal(&self, number: usize, signal: Signal) {
        let child = self.children[number].as_ref().expect("the node runs");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// How a node ended, if it did.
    pub fn ended(&mut self, number: usize) -> Option<ExitStatus> {
        self.children[number].as_mut().and_then(|child| child.try_wait().unwrap())
    }

    /// Waits until a node ends by itself.
    pub async fn wait(&mut self, number: usize) -> ExitStatus {
        let status = eventually(&format!("n{number} ends"), async || self.ended(number)).await;
        self.children[number] = None;
        status
    }

    /// The node that all running nodes agree to be the leader.
    pub async fn leader(&self) -> usize {
        let running: Vec<usize> = (0..self.children.len()).filter(|number| self.children[*number].is_some()).collect();
        let name = eventually("all agree on a leader", async || {
            let mut names = Vec::new();
            for number in &running {
                names.push(wire::status(&self.clients[*number]).await?.leader);
            }
            let leads = running.iter().any(|number| names[0] == format!("n{number}"));
            (leads && names.iter().all(|name| *name == names[0])).then(|| names[0].clone())
        })
        .await;
        name[1..].parse().unwrap()
    }

    /// Waits until all nodes have applied all that is committed; gives that index.
    pub async fn caught_up(&self) -> u64 {
        self.caught_up_nodes(self.children.len()).await
    }

    /// The same where the cluster has this many nodes.
    pub async fn caught_up_nodes(&self, count: usize) -> u64 {
        eventually("all nodes have applied the same", async || {
            let status = wire::status(&self.clients[0]).await?;
            let index = status.nodes.first()?.applied;
            let same = |node: &liminal::proto::v1::NodeStatus| (node.applied, node.commit) == (index, index);
            (index > 0 && status.nodes.len() == count && status.nodes.iter().all(same)).then_some(index)
        })
        .await
    }

    /// A client that knows all nodes.
    pub async fn client(&self) -> Client {
        Client::builder().servers(self.clients.clone()).retry_for(PATIENCE).connect().await.unwrap()
    }

    /// Stops all nodes with SIGTERM, which must end them with exit code 0; then opens their stores and gives the
    /// log position that each holds and the hash of its whole state.
    pub async fn stop_and_hash(&mut self) -> Vec<(bytes::Bytes, String)> {
        // The leader last: handed over, its leadership would begin with an entry that not every node gets to apply.
        let (leader, mut order) = (self.leader().await, (0..self.children.len()).collect::<Vec<_>>());
        order.sort_by_key(|number| *number == leader);
        for number in order {
            self.signal(number, Signal::TERM);
            let status = self.wait(number).await;
            assert_eq!(status.code(), Some(0), "n{number}");
        }
        let mut states = Vec::new();
        for number in 0..self.children.len() {
            states.push(hash(&self.data(number)).await);
        }
        states
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for number in 0..self.children.len() {
                let log = self.log(number);
                let lines: Vec<&str> = log.lines().collect();
                // A node that looks for a dead peer says so often: the rest would drown in it.
                let told: Vec<&str> = lines.iter().copied().filter(|line| !line.contains("Unreachable node")).collect();
                let shown = &told[told.len().saturating_sub(LINES)..];
                eprintln!("---- n{number}: {} of {} lines ----\n{}", shown.len(), lines.len(), shown.join("\n"));
            }
        }
    }
}

/// A `liminal serve` that is yet to be started, free of the settings of whoever runs the tests. `LIMINAL_TEST_BINARY`
/// names another one than that which was built with the tests.
pub fn serve(config: &Path) -> Command {
    let binary = std::env::var_os("LIMINAL_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_liminal").into());
    let mut command = Command::new(binary);
    command.arg("serve").arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LIMINAL_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

/// The same command in a process with a limit that it cannot raise.
fn limited(command: &Command, limit: &str) -> Command {
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(format!("ulimit {limit}; exec \"$0\" \"$@\""));
    limited.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null()).stdout(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

async fn hash(data: &Path) -> (bytes::Bytes, String) {
    use liminal::store::{DurableStore as _, HaematiteStore};
    let store = HaematiteStore::open(&data.join("state"), HaematiteConfig::default()).unwrap();
    let (hash, mark) = store.root_hash().await.unwrap();
    store.close().await.unwrap();
    (mark.expect("something was applied"), hash.to_string())
}
