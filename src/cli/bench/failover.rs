//! How long publishers wait when the leader is lost, in each of the ways in which it can be: a cluster of three
//! processes of this very program, a client attached to a follower, and an open loop of publishes with keys. The gap is
//! the longest time without an ack.

use std::{
    collections::HashSet,
    fs::File,
    net::TcpListener,
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::load;
use crate::{
    cli::{
        CliError, Global, OutputFormat,
        remote::{millis, print_json, print_line, table},
    },
    client::{Client, Message, NodeHealth, NodeRole, PublisherOptions},
};

const CHANNEL: &str = "failover";
/// Where the nodes listen: below the ports that the system gives to outgoing connections, so that none of these takes a
/// node's port while it is down.
const PORTS: Range<u16> = 17_400..17_600;
/// Publishing before the fault.
const BEFORE: Duration = Duration::from_secs(1);
/// Publishes that may wait for their acks: more than the longest gap holds.
const IN_FLIGHT: u32 = 200_000;
/// How long the cluster may take to be whole again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often to look.
const POLL: Duration = Duration::from_millis(50);

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct FailoverArgs {
    /// How the leader is lost
    #[arg(long, value_enum, default_value_t = Fault::Kill)]
    fault: Fault,
    /// How often
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Publishes a second
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    /// Where the nodes keep their data; a temporary directory if absent
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

/// How the leader is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// kill -9
    Kill,
    /// SIGTERM: an orderly stop
    Term,
    /// `liminal cluster transfer`
    Transfer,
    /// SIGSTOP: it keeps its connections and says nothing
    Freeze,
}

impl Fault {
    /// How long it lasts, or publishing goes on after it.
    fn lasts(self) -> Duration {
        match self {
            Self::Term | Self::Transfer => Duration::from_millis(1_500),
            Self::Kill => Duration::from_millis(2_500),
            Self::Freeze => Duration::from_secs(4),
        }
    }
}

#[derive(Debug, Serialize)]
struct Figures {
    fault: String,
    rounds: usize,
    median_gap_ms: f64,
    p90_gap_ms: f64,
    max_gap_ms: f64,
    acked: u64,
    /// Acknowledged messages that were not stored exactly once.
    lost_or_repeated: u64,
    errors: u64,
}

/// Measures, and prints.
pub async fn run(args: &FailoverArgs, global: &Global) -> Result<(), CliError> {
    let temporary;
    let dir = match &args.data_dir {
        Some(dir) => dir.clone(),
        None => {
            temporary = tempdir()?;
            temporary.0.clone()
        }
    };
    let mut nodes = Nodes::start(&dir)?;
    let mut gaps = Vec::new();
    let (mut acked, mut lost_or_repeated, mut errors) = (0, 0, 0);
    for round in 0..args.rounds {
        let leader = nodes.whole().await?;
        let survivor = (0..3).find(|number| *number != leader).unwrap_or(0);
        let client = Client::builder().servers([nodes.server(survivor)]).retry_for(PATIENCE).connect().await?;
        load::prepare(&client, CHANNEL).await?;
        let before = client.channel(CHANNEL).await?.next_seq;
        let stop = tokio_util::sync::CancellationToken::new();
        let publishing = tokio::spawn(publish(client.clone(), args.rate, round, stop.clone()));
        sleep(BEFORE).await;
        let struck = Instant::now();
        nodes.strike(args.fault, leader, &client).await?;
        sleep(args.fault.lasts()).await;
        stop.cancel();
        let seen = publishing.await.map_err(|error| CliError::failed(error.to_string()))?;
        nodes.mend(leader)?;
        let gap = seen.gap(struck).unwrap_or(args.fault.lasts());
        if global.output != OutputFormat::Json {
            eprintln!("round {}: {} without an ack, {} acked", round + 1, millis(gap), seen.seqs.len());
        }
        gaps.push(gap);
        let distinct: HashSet<u64> = seen.seqs.iter().copied().collect();
        let stored = client.channel(CHANNEL).await?.next_seq - before;
        acked += seen.seqs.len() as u64;
        errors += seen.errors;
        lost_or_repeated += (seen.seqs.len() - distinct.len()) as u64 + (distinct.len() as u64).abs_diff(stored);
    }
    gaps.sort();
    let at = |quantile: f64| {
        let index = ((gaps.len() - 1) as f64 * quantile).round() as usize;
        (gaps[index].as_secs_f64() * 10_000.0).round() / 10.0
    };
    let figures = Figures {
        fault: format!("{:?}", args.fault).to_lowercase(),
        rounds: gaps.len(),
        median_gap_ms: at(0.5),
        p90_gap_ms: at(0.9),
        max_gap_ms: at(1.0),
        acked,
        lost_or_repeated,
        errors,
    };
    match global.output {
        OutputFormat::Json => print_json(&figures)?,
        OutputFormat::Raw => print_line(&figures.median_gap_ms.to_string())?,
        OutputFormat::Table => {
            let cells = [
                figures.fault.clone(),
                figures.rounds.to_string(),
                format!("{:.1} ms", figures.median_gap_ms),
                format!("{:.1} ms", figures.p90_gap_ms),
                format!("{:.1} ms", figures.max_gap_ms),
                figures.lost_or_repeated.to_string(),
                figures.errors.to_string(),
            ];
            let header = ["FAULT", "ROUNDS", "MEDIAN GAP", "P90", "MAX", "LOST OR REPEATED", "ERRORS"];
            print_line(&table(&header, &[1, 2, 3, 4, 5, 6], vec![cells.into()]))?;
        }
    }
    match (figures.lost_or_repeated, figures.errors) {
        (0, 0) => Ok(()),
        (wrong, errors) => Err(CliError::failed(format!("{wrong} messages lost or repeated, {errors} errors"))),
    }
}

/// What one round's publisher saw.
struct Seen {
    /// When each ack came.
    acks: Vec<Instant>,
    seqs: Vec<u64>,
    errors: u64,
}

impl Seen {
    /// The longest time without an ack that ended after the fault.
    fn gap(&self, struck: Instant) -> Option<Duration> {
        let pairs = self.acks.iter().zip(self.acks.iter().skip(1));
        pairs.filter(|(_, next)| **next >= struck).map(|(one, next)| *next - *one).max()
    }
}

/// Publishes on schedule until it is told to stop, and waits for all acks.
async fn publish(client: Client, rate: u64, round: u32, stop: tokio_util::sync::CancellationToken) -> Seen {
    let options = PublisherOptions { in_flight: IN_FLIGHT, ..PublisherOptions::default() };
    let publisher = client.publisher(CHANNEL, options);
    let (sender, mut acks) = mpsc::channel(IN_FLIGHT as usize);
    let schedule = async move {
        let run = ulid::Ulid::generate();
        let payload = Bytes::from(vec![b'x'; 256]);
        let begun = Instant::now();
        let mut tick = interval(Duration::from_millis(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sent = 0u64;
        while !stop.is_cancelled() {
            tick.tick().await;
            let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
            while sent < due {
                let message = Message::new(payload.clone()).with_key(format!("{run}-{round}-{sent}"));
                let _ = sender.send(publisher.enqueue(message).await).await; // the collector outlives this
                sent += 1;
            }
        }
        publisher.flush().await;
    };
    let collect = async {
        let mut seen = Seen { acks: Vec::new(), seqs: Vec::new(), errors: 0 };
        while let Some(ack) = acks.recv().await {
            let outcome = match ack {
                Ok(ack) => ack.await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(published) => {
                    seen.acks.push(Instant::now());
                    seen.seqs.push(published.seq);
                }
                Err(error) => {
                    tracing::warn!(%error, "a publish was not acknowledged");
                    seen.errors += 1;
                }
            }
        }
        seen
    };
    tokio::join!(schedule, collect).1
}

/// Three `liminal serve` on this machine. Dropping them kills what still runs.
struct Nodes {
    dir: PathBuf,
    clients: Vec<String>,
    children: Vec<Option<Child>>,
}

impl Nodes {
    fn start(dir: &Path) -> Result<Self, CliError> {
        let failed = |error: std::io::Error| CliError::failed(format!("cannot start the nodes: {error}"));
        std::fs::create_dir_all(dir).map_err(failed)?;
        let free = PORTS.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
        let addresses: Vec<String> = free.take(9).map(|port| format!("127.0.0.1:{port}")).collect();
        if addresses.len() < 9 {
            return Err(CliError::failed(format!("nine free ports are needed within {PORTS:?}")));
        }
        let peers = &addresses[6..];
        for number in 0..3 {
            let (client, http, peer) = (&addresses[number], &addresses[3 + number], &addresses[6 + number]);
            let text = format!(
                "listen_address = {client:?}\nhealth_listen_address = {http:?}\ndrain_timeout_ms = 2000\n\
                 persistence_path = {:?}\n[cluster]\nnode_name = \"n{number}\"\nlisten_address = {peer:?}\n\
                 seed_nodes = {peers:?}\ncookie = \"bench\"\n",
                dir.join(format!("n{number}")),
            );
            std::fs::write(dir.join(format!("n{number}.toml")), text).map_err(failed)?;
        }
        let mut nodes =
            Self { dir: dir.to_owned(), clients: addresses[..3].to_vec(), children: vec![None, None, None] };
        for number in 0..3 {
            nodes.run(number)?;
        }
        Ok(nodes)
    }

    fn run(&mut self, number: usize) -> Result<(), CliError> {
        let start = || -> std::io::Result<Child> {
            let log = File::options().create(true).append(true).open(self.dir.join(format!("n{number}.log")))?;
            Command::new(std::env::current_exe()?)
                .arg("serve")
                .arg("--config")
                .arg(self.dir.join(format!("n{number}.toml")))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
        };
        let child = start().map_err(|error| CliError::failed(format!("cannot start a node: {error}")))?;
        self.children[number] = Some(child);
        Ok(())
    }

    fn server(&self, number: usize) -> String {
        format!("http://{}", self.clients[number])
    }

    /// Waits until all nodes are well and have applied the same; gives the leader.
    async fn whole(&self) -> Result<usize, CliError> {
        let look = async {
            loop {
                sleep(POLL).await;
                let servers = (0..3).map(|number| self.server(number));
                let Ok(client) = Client::builder().servers(servers).connect().await else { continue };
                let Ok(status) = client.cluster_status().await else { continue };
                let well = |node: &crate::client::NodeStatus| node.health == NodeHealth::Ok && node.lag == 0;
                let leader = status.nodes.iter().find(|node| node.role == NodeRole::Leader);
                let number = leader.and_then(|leader| leader.name.strip_prefix('n')?.parse().ok());
                if let Some(number) = number
                    && status.nodes.len() == 3
                    && status.nodes.iter().all(well)
                {
                    return number;
                }
            }
        };
        let found = timeout(PATIENCE, look).await;
        let logs = self.dir.display();
        found.map_err(|_| CliError::failed(format!("the cluster is not whole after {PATIENCE:?}; look at {logs}")))
    }

    async fn strike(&mut self, fault: Fault, leader: usize, client: &Client) -> Result<(), CliError> {
        let signal = match fault {
            Fault::Transfer => {
                client.transfer_leadership("").await?;
                return Ok(());
            }
            Fault::Kill => Signal::KILL,
            Fault::Term => Signal::TERM,
            Fault::Freeze => Signal::STOP,
        };
        self.signal(leader, signal)
    }

    fn signal(&self, number: usize, signal: Signal) -> Result<(), CliError> {
        let Some(child) = &self.children[number] else { return Ok(()) };
        let sent = kill_process(Pid::from_child(child), signal);
        sent.map_err(|error| CliError::failed(format!("cannot signal n{number}: {error}")))
    }

    /// Brings a node back that ended or was frozen.
    fn mend(&mut self, number: usize) -> Result<(), CliError> {
        self.signal(number, Signal::CONT)?;
        let ended = match &mut self.children[number] {
            Some(child) => child.try_wait().map_err(|error| CliError::failed(error.to_string()))?.is_some(),
            None => true,
        };
        if ended { self.run(number) } else { Ok(()) }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A directory that goes with the value.
struct TemporaryDir(PathBuf);

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // what is left there does no harm
    }
}

fn tempdir() -> Result<TemporaryDir, CliError> {
    let dir = std::env::temp_dir().join(format!("liminal-failover-{}", ulid::Ulid::generate()));
    std::fs::create_dir(&dir).map_err(|error| CliError::failed(format!("{}: {error}", dir.display())))?;
    Ok(TemporaryDir(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_the_longest_silence_that_ends_after_the_fault() {
        let epoch = Instant::now();
        let at = |ms: u64| epoch + Duration::from_millis(ms);
        let seen = Seen { acks: [0, 900, 910, 1_200, 1_210].map(at).to_vec(), seqs: Vec::new(), errors: 0 };
        assert_eq!(seen.gap(at(905)), Some(Duration::from_millis(290)));
        assert_eq!(Seen { acks: vec![at(0)], seqs: Vec::new(), errors: 0 }.gap(at(1)), None);
    }
}
