//! Three servers of one kind as processes on loopback, with fresh data.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::{Work, report::Figures};

/// How long servers may take to be ready.
const START: Duration = Duration::from_secs(30);

/// What is measured.
#[derive(Clone)]
pub(crate) enum System {
    Liminal(PathBuf),
    Nats { binary: PathBuf, sync: bool },
}

impl System {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Liminal(_) => "liminal",
            Self::Nats { sync: false, .. } => "nats",
            Self::Nats { sync: true, .. } => "nats, sync always",
        }
    }
}

/// Gives the space of all files in a directory back, without deleting any: ext4 without a journal makes new files
/// slowly, at the price of CPU, for minutes after many were deleted, and the next servers would pay for it.
fn empty(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            empty(&entry.path())?;
        } else {
            fs::File::create(entry.path())?;
        }
    }
    Ok(())
}

/// Running servers.
pub(crate) struct Cluster {
    system: System,
    dir: PathBuf,
    servers: Vec<Child>,
}

impl Cluster {
    /// In a directory of its own, which it leaves behind, without what was in the files.
    pub(crate) async fn start(system: System, dir: &Path) -> Result<Self, Box<dyn Error>> {
        let dir = tempfile::Builder::new().tempdir_in(dir)?.keep();
        let mut cluster = Self { system, dir, servers: Vec::new() };
        for node in 1..=3 {
            fs::write(cluster.dir.join(format!("n{node}.conf")), cluster.configuration(node))?;
        }
        cluster.launch().await?;
        Ok(cluster)
    }

    pub(crate) fn system(&self) -> &System {
        &self.system
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.servers.iter().filter_map(Child::id).collect()
    }

    /// Where clients connect.
    pub(crate) fn addresses(&self) -> [String; 3] {
        [1, 2, 3].map(|node| format!("127.0.0.1:{}", 17100 + node))
    }

    /// Stops all servers in order and starts them on the same data.
    pub(crate) async fn restart(&mut self) -> Result<(), Box<dyn Error>> {
        self.end().await;
        self.launch().await
    }

    pub(crate) async fn stop(mut self) -> std::io::Result<()> {
        self.end().await;
        empty(&self.dir)
    }

    async fn end(&mut self) {
        for server in &self.servers {
            if let Some(pid) = server.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM); // it may have ended
            }
        }
        for mut server in self.servers.drain(..) {
            if tokio::time::timeout(Duration::from_secs(20), server.wait()).await.is_err() {
                let _ = server.kill().await;
            }
        }
    }

    async fn launch(&mut self) -> Result<(), Box<dyn Error>> {
        for node in 1..=3 {
            let config = self.dir.join(format!("n{node}.conf"));
            let log = fs::File::create(self.dir.join(format!("n{node}.log")))?;
            let mut command = match &self.system {
                System::Liminal(binary) => {
                    let mut command = Command::new(binary);
                    command.arg("serve").arg("--config");
                    command
                }
                System::Nats { binary, .. } => {
                    let mut command = Command::new(binary);
                    command.arg("-c");
                    command
                }
            };
            command.arg(config).stdout(log.try_clone()?).stderr(log).stdin(Stdio::null()).kill_on_drop(true);
            self.servers.push(command.spawn()?);
        }
        let deadline = Instant::now() + START;
        for (node, address) in (1..=3).zip(self.addresses()) {
            while !self.ready(node, &address).await {
                if Instant::now() > deadline {
                    let log = fs::read_to_string(self.dir.join(format!("n{node}.log")))?;
                    return Err(format!("{} {node} is not ready:\n{log}", self.system.name()).into());
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    async fn ready(&self, node: u16, address: &str) -> bool {
        match &self.system {
            System::Liminal(binary) => {
                // A linearizable question: answered only when there is a leader.
                let mut command = Command::new(binary);
                command.args(["--server", address, "channel", "list"]).stdout(Stdio::null()).stderr(Stdio::null());
                command.status().await.is_ok_and(|status| status.success())
            }
            System::Nats { .. } => {
                let log = fs::read_to_string(self.dir.join(format!("n{node}.log"))).unwrap_or_default();
                TcpStream::connect(address).await.is_ok() && log.contains("Server is ready")
            }
        }
    }

    fn configuration(&self, node: u16) -> String {
        let data = self.dir.join(format!("data-{node}"));
        let (client, http, peer) = (17100 + node, 17200 + node, 17300 + node);
        let peers = |scheme: &str| {
            let peers: Vec<String> = (1..=3).map(|peer| format!("\"{scheme}127.0.0.1:{}\"", 17300 + peer)).collect();
            peers.join(", ")
        };
        match &self.system {
            System::Liminal(_) => format!(
                "listen_address = \"127.0.0.1:{client}\"\nhealth_listen_address = \"127.0.0.1:{http}\"\n\
                 persistence_path = {data:?}\n[cluster]\nnode_name = \"n{node}\"\nlisten_address = \"127.0.0.1:{peer}\"\n\
                 seed_nodes = [{}]\ncookie = \"compare\"\n",
                peers("")
            ),
            System::Nats { sync, .. } => format!(
                "server_name: n{node}\nlisten: 127.0.0.1:{client}\njetstream {{ store_dir: {data:?}, max_file: 16G\n{} }}\n\
                 cluster {{ name: compare, listen: 127.0.0.1:{peer}, routes: [{}] }}\n",
                if *sync { "sync_interval: always" } else { "" },
                peers("nats://")
            ),
        }
    }

    /// Runs `liminal bench` and takes its figures.
    pub(crate) async fn liminal_bench(&mut self, work: Work, time: Duration) -> Result<Figures, Box<dyn Error>> {
        if let Work::Replay { size, messages } = work {
            let fill = Work::Publish { size, in_flight: 4096, connections: 1 };
            let mut stored = 0;
            while stored < messages {
                Box::pin(self.liminal_bench(fill, Duration::from_secs(1))).await?;
                let listed = self.liminal(&["channel", "show", "bench", "-o", "json"]).await?;
                stored = serde_json::from_slice::<serde_json::Value>(&listed)?["next_seq"].as_u64().unwrap_or(0);
            }
            self.restart().await?;
        }
        let seconds = format!("{}s", time.as_secs());
        let mut args: Vec<String> = ["bench"].map(String::from).into();
        let mut add = |words: &[&dyn ToString]| args.extend(words.iter().map(|word| word.to_string()));
        match work {
            Work::Publish { size, in_flight, connections } => {
                add(&[&"publish", &"--size", &size, &"--in-flight", &in_flight, &"--connections", &connections]);
            }
            Work::OpenLoop { size, rate } => {
                add(&[&"publish", &"--size", &size, &"--in-flight", &10_000, &"--rate", &rate]);
            }
            Work::Fanout { size, in_flight, subscribers, rate } => {
                add(&[&"fanout", &"--size", &size, &"--subscribers", &subscribers]);
                match rate {
                    Some(rate) => add(&[&"--in-flight", &10_000, &"--rate", &rate]),
                    None => add(&[&"--in-flight", &in_flight]),
                }
            }
            Work::Replay { messages, .. } => add(&[&"replay", &"--count", &messages]),
        }
        if !matches!(work, Work::Replay { .. }) {
            add(&[&"--warmup", &"1s", &"--duration", &seconds]);
        }
        let pids: Vec<String> = self.pids().iter().map(ToString::to_string).collect();
        add(&[&"--server-pids", &pids.join(","), &"-o", &"json"]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Ok(serde_json::from_slice(&self.liminal(&args).await?)?)
    }

    async fn liminal(&self, args: &[&str]) -> Result<Vec<u8>, Box<dyn Error>> {
        let System::Liminal(binary) = &self.system else { return Err("not liminal".into()) };
        let output = Command::new(binary).args(args).env("LIMINAL_SERVER", self.addresses().join(",")).output().await?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        Ok(output.stdout)
    }
}
