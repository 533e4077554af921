//! Three nodes, a well-behaved client, and what an attack did to them.

use std::{fmt, time::Duration};

use liminal::client::{Client, Consistency, Start};
use tokio::time::Instant;

use crate::{
    MORE_MEMORY, NOISE, SLOWER,
    attacks::{Attack, Target},
    cage::{self, Cage},
    citizen::{self, CHANNEL, Seen},
    support::{processes::Processes, wire},
};

const NODES: usize = 3;
/// How long memory may take to come back.
const MEMORY_BACK: Duration = Duration::from_secs(60);
/// How long an attack may go on.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Scene {
    processes: Processes,
    client: Client,
    _cages: Vec<Cage>,
}

/// One row of the table.
pub struct Line {
    name: &'static str,
    outcome: String,
    quiet: Seen,
    attacked: Seen,
    /// Of the node with most, in MiB: before, the most, and afterwards.
    memory: [u64; 3],
    problems: Vec<String>,
}

impl Scene {
    /// With a limit of memory for each node, in bytes.
    pub async fn start(memory: Option<u64>) -> Self {
        let processes = Processes::start(NODES, Duration::from_secs(2)).await;
        let cage = |bytes: u64| {
            let pids = (0..NODES).filter_map(|node| processes.pid(node));
            pids.map(|pid| Cage::close(pid, bytes).expect("a control group for the node's memory")).collect()
        };
        let cages = memory.map(cage).unwrap_or_default();
        let client = processes.client().await;
        Self { processes, client, _cages: cages }
    }

    /// Lets an attack happen, and looks at what it did.
    pub async fn line(&self, attack: &Attack, time: Duration) -> Line {
        let (leader, term) = self.leader().await.expect("a leader before the attack");
        let mut target = Target {
            grpc: self.processes.clients.clone(),
            http: self.processes.http.clone(),
            peers: self.processes.peers.clone(),
            leader: self.processes.leader().await,
            time,
        };
        (attack.prepare)(target.clone()).await;
        target.leader = self.processes.leader().await;
        let quiet = citizen::publish_for(&self.client, time).await;
        let before = self.resident();
        let stored = self.stored().await;
        self.pids().for_each(cage::forget_peak);
        let attacking = async {
            tokio::time::timeout(PATIENCE, (attack.attack)(target)).await.unwrap_or_else(|_| "it never ended".into())
        };
        let (outcome, attacked) = tokio::join!(attacking, citizen::publish_for(&self.client, 2 * time));
        let peak = self.pids().filter_map(cage::resident).map(|(_, peak)| peak).max().unwrap_or_default();
        let after = self.memory_back(before).await;
        let mut problems = Vec::new();
        if self.pids().filter_map(cage::resident).count() < NODES {
            problems.push("a node has ended".to_owned());
        }
        match self.leader().await {
            Some(now) if now == (leader.clone(), term) => {}
            now => problems.push(format!("{leader} led in term {term}, and then {now:?}")),
        }
        if attacked.errors > 0 {
            problems.push(format!("{} publishes of others failed", attacked.errors));
        }
        let stored = self.stored().await - stored;
        if stored != attacked.published as u64 {
            problems.push(format!("{} publishes of others were acknowledged and {stored} stored", attacked.published));
        }
        Line { name: attack.name, outcome, quiet, attacked, memory: [before, peak, after], problems }
    }

    fn pids(&self) -> impl Iterator<Item = u32> {
        (0..NODES).filter_map(|node| self.processes.pid(node))
    }

    fn resident(&self) -> u64 {
        self.pids().filter_map(cage::resident).map(|(now, _)| now).max().unwrap_or_default()
    }

    async fn memory_back(&self, before: u64) -> u64 {
        let since = Instant::now();
        loop {
            let now = self.resident();
            if now <= allowed(before) || since.elapsed() > MEMORY_BACK {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn leader(&self) -> Option<(String, u64)> {
        let status = wire::status(&self.processes.clients[0]).await?;
        let term = status.nodes.iter().find(|node| node.name == status.leader)?.term;
        Some((status.leader, term))
    }

    async fn stored(&self) -> u64 {
        let page = self.client.read(CHANNEL, Start::Latest, 1, Consistency::Linearizable).await;
        page.expect("the channel can be read").end_seq
    }
}

fn allowed(before: u64) -> u64 {
    let (percent, mib) = MORE_MEMORY;
    before + (before * percent / 100).max(mib)
}

impl Line {
    pub const HEAD: &'static str = "| Attack | What it got | p99 quiet, ms | p99 under attack, ms | Errors of others | \
                                    Most memory, MiB | Memory before, after, MiB |\n|---|---|---|---|---|---|---|";

    /// What no machine excuses.
    pub fn broken(&self) -> Option<String> {
        (!self.problems.is_empty()).then(|| self.problems.join("; "))
    }

    /// What a busy machine may excuse.
    pub fn slow(&self) -> Option<String> {
        let [before, _, after] = self.memory;
        if self.attacked.p99 > (self.quiet.p99 * SLOWER).max(NOISE) {
            return Some(format!("p99 {:?} instead of {:?}", self.attacked.p99, self.quiet.p99));
        }
        (after > allowed(before)).then(|| format!("{after} MiB a minute later, {before} MiB before"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let [before, peak, after] = self.memory;
        let problems = self.broken().map(|problems| format!(" **{problems}**")).unwrap_or_default();
        write!(
            f,
            "| {} | {}{problems} | {:.1} | {:.1} | {} | {peak} | {before}, {after} |",
            self.name,
            self.outcome,
            ms(self.quiet.p99),
            ms(self.attacked.p99),
            self.attacked.errors,
        )
    }
}
