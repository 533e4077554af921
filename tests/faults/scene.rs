//! The cluster of a row while it is hit: who is who in it, what was done to whom, and how it comes to rest again.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use liminal::client::Client;
use rustix::process::Signal;

use super::{
    check::{Evidence, Stored},
    history::{History, Record},
    load::{self, CHANNELS, CONSUMER, IDLE, LEASE, Load},
    preload::Lies,
    raw::Node,
    support::{processes::Processes, wire},
};

/// How long the nodes may take to be one healthy cluster again.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long publishing may stand still once the fault is over, and while a majority is well.
pub const STILL: Duration = Duration::from_secs(10);
/// How long subscribers and consumers may take to come to the end.
const CATCH_UP: Duration = Duration::from_secs(30);
/// A node with a damaged disk that is not ready after so long refuses it, where its log names the damage, and where it
/// does not.
const DECIDED: Duration = Duration::from_secs(10);
const SILENT: Duration = Duration::from_secs(30);
/// How long a node that is ready may fail to read what it holds.
const READABLE: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(100);

/// Asks until there is an answer.
pub async fn patiently<T>(
    what: &str,
    patience: Duration,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> Result<T, String> {
    let until = Instant::now() + patience;
    loop {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        if Instant::now() >= until {
            return Err(format!("not within {patience:?}: {what}"));
        }
        tokio::time::sleep(STEP).await;
    }
}

/// A cluster under load, and what is known of it.
pub struct Scene {
    pub nodes: Processes,
    pub size: usize,
    pub lies: Vec<Lies>,
    pub history: History,
    pub load: Option<Load>,
    /// Nodes whose disk was damaged, and of what a refusal has to name one.
    pub damaged: BTreeMap<usize, Vec<String>>,
    /// What was seen of the fault itself.
    pub proofs: Vec<String>,
    /// What became of the nodes that were hit.
    pub outcomes: Vec<String>,
    pub violations: Vec<String>,
    /// How much each node had said when it was started.
    said: Vec<usize>,
    dir: tempfile::TempDir,
}

impl Scene {
    /// Starts the nodes in an order, each when the one before is up, and the load.
    pub async fn start(order: &[usize], config: &str) -> Result<Self, String> {
        let size = order.len();
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let more = format!("expect = {size}\n{config}");
        let mut nodes = Processes::prepared(size, Duration::from_secs(2), &more);
        let mut lies = Vec::new();
        for number in 0..size {
            let one = Lies::new(&dir.path().join(format!("n{number}.control"))).map_err(|error| error.to_string())?;
            nodes.environment(number, one.environment()?);
            lies.push(one);
        }
        let (damaged, said) = (BTreeMap::new(), vec![0; size]);
        let (proofs, outcomes, violations) = Default::default();
        let history = History::new();
        let mut scene =
            Self { nodes, size, lies, history, load: None, damaged, proofs, outcomes, violations, said, dir };
        for number in order {
            scene.run(*number);
            scene.up(*number).await?;
        }
        scene.wait_until_ready().await?;
        let client = scene.client().await?;
        load::prepare(&client).await?;
        scene.load = Some(Load::start(scene.nodes.clients.clone(), scene.history.clone()));
        scene.acknowledged(100).await?;
        Ok(scene)
    }

    pub fn run(&mut self, number: usize) {
        self.said[number] = self.nodes.log(number).len();
        self.nodes.run(number);
    }

    /// What a node has said since it was started last.
    pub fn says(&self, number: usize) -> String {
        let log = self.nodes.log(number);
        log[self.said[number]..].to_owned()
    }

    fn last_words(&self, number: usize) -> String {
        let said = self.says(number);
        let telling = said.lines().rev().find(|line| line.contains("ERROR") || line.starts_with("error"));
        telling.or(said.lines().last()).unwrap_or_default().to_owned()
    }

    /// Waits until a node answers anything at all, or has ended.
    pub async fn up(&mut self, number: usize) -> Result<(), String> {
        let address = self.nodes.http[number].clone();
        patiently(&format!("n{number} is up"), PATIENCE, async || {
            let answers = wire::http_status(&address, "/health").await.is_some();
            (answers || self.nodes.ended(number).is_some()).then_some(())
        })
        .await
    }

    async fn is_ready(&self, number: usize) -> bool {
        wire::http_status(&self.nodes.http[number], "/ready").await == Some(200)
    }

    pub async fn wait_until_ready(&self) -> Result<(), String> {
        for number in (0..self.size).filter(|number| self.nodes.pid(*number).is_some()) {
            patiently(&format!("n{number} is ready"), PATIENCE, async || self.is_ready(number).await.then_some(()))
                .await?;
        }
        Ok(())
    }

    /// A client that asks any node.
    pub async fn client(&self) -> Result<Client, String> {
        patiently("a node answers", PATIENCE, async || load::client(&self.nodes.clients, STILL).await.ok()).await
    }

    /// The node that says itself that it leads.
    pub async fn leader(&self) -> Result<usize, String> {
        patiently("a node leads", PATIENCE, async || {
            for number in (0..self.size).filter(|number| self.nodes.pid(*number).is_some()) {
                let status = wire::status(&self.nodes.clients[number]).await;
                if status.is_some_and(|status| status.leader == format!("n{number}")) {
                    return Some(number);
                }
            }
            None
        })
        .await
    }

    /// All but the leader, the next one first.
    pub async fn followers(&self) -> Result<Vec<usize>, String> {
        let leader = self.leader().await?;
        Ok((1..self.size).map(|step| (leader + step) % self.size).collect())
    }

    /// Waits for so many more acknowledgements.
    pub async fn acknowledged(&self, count: usize) -> Result<(), String> {
        let since = self.history.now();
        let what = format!("{count} publishes are acknowledged");
        patiently(&what, PATIENCE, async || (self.history.acknowledged_since(since) >= count).then_some(())).await
    }

    /// `kill -9` of a node that runs.
    pub fn kill(&mut self, number: usize) -> Result<(), String> {
        if let Some(status) = self.nodes.ended(number) {
            return Err(format!("n{number} had ended before it could be killed: {status}"));
        }
        self.nodes.kill(number);
        self.proofs.push(format!("n{number} was killed"));
        Ok(())
    }

    /// The kernel's letter for what a process is doing.
    pub fn state(&self, number: usize) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.nodes.pid(number)?)).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    pub async fn stop(&mut self, number: usize) -> Result<(), String> {
        self.nodes.signal(number, Signal::TERM);
        let nodes = &mut self.nodes;
        patiently(&format!("n{number} stops"), PATIENCE, async || nodes.ended(number)).await?;
        self.nodes.wait(number).await;
        Ok(())
    }

    /// Makes a node's state durable, so that its files are there.
    pub async fn flush(&self, number: usize) -> Result<(), String> {
        let client = load::client(&self.nodes.clients[number..=number], STILL).await?;
        client.snapshot_node().await.map(drop).map_err(|error| format!("n{number} cannot flush: {error}"))
    }

    /// Where the older copy of a node's data is kept.
    pub fn older(&self) -> PathBuf {
        self.dir.path().join("older")
    }

    /// What happens beside the load while a fault lasts: messages come to a channel that was idle, and somebody takes a
    /// claim, for longer than most faults last, and forgets it.
    pub fn meanwhile(&self) {
        let (addresses, history) = (self.nodes.clients.clone(), self.history.clone());
        tokio::spawn(async move {
            let nodes: Vec<Node> = addresses.iter().map(|address| Node::new(address)).collect();
            for number in 0..100 {
                if load::take(&history, &nodes[number % nodes.len()], "probe", "forgetful", 2 * LEASE).await.is_some() {
                    break;
                }
                tokio::time::sleep(STEP).await;
            }
            let Ok(client) = load::client(&addresses, PATIENCE).await else { return };
            for number in 0..3 {
                load::publish_repeating(&client, &history, IDLE, format!("idle-{number}")).await;
            }
        });
    }

    /// Waits until every node is well. One whose damaged disk is refused is replaced, as an operator would do it.
    pub async fn settle(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        let mut until = begun + PATIENCE;
        loop {
            let mut unwell = Vec::new();
            for number in 0..self.size {
                let ended = self.nodes.ended(number);
                if ended.is_none() && self.is_ready(number).await {
                    continue;
                }
                let decided = if self.names_damage(number) { DECIDED } else { SILENT };
                let refused = self.damaged.contains_key(&number) && begun.elapsed() > decided;
                if ended.is_some() || refused {
                    self.replace(number).await?;
                    until = Instant::now() + PATIENCE;
                }
                unwell.push(format!("n{number}: {}", self.last_words(number)));
            }
            if unwell.is_empty() {
                break;
            }
            if Instant::now() >= until {
                return Err(format!("not ready within {PATIENCE:?}: {}", unwell.join("; ")));
            }
            tokio::time::sleep(STEP).await;
        }
        for number in std::mem::take(&mut self.damaged).into_keys() {
            self.outcomes.push(format!("n{number} went on with what was left, or healed"));
        }
        Ok(())
    }

    fn names_damage(&self, number: usize) -> bool {
        self.damaged.get(&number).is_none_or(|names| self.named(number, names).is_some())
    }

    /// What a node's log names of what was damaged.
    fn named(&self, number: usize, names: &[String]) -> Option<String> {
        let said = self.says(number);
        names.iter().find(|name| said.contains(name.as_str())).cloned()
    }

    /// Gives a node that has ended, or refuses to serve, an empty directory and lets it join anew. One whose disk was not
    /// touched had no reason to end.
    async fn replace(&mut self, number: usize) -> Result<(), String> {
        let words = self.last_words(number);
        if self.nodes.ended(number).is_some() {
            self.nodes.wait(number).await;
        } else {
            self.nodes.kill(number);
        }
        match self.damaged.remove(&number) {
            None => {
                self.violations.push(format!("n{number} ended by itself: {words}"));
                self.run(number);
                return self.up(number).await;
            }
            Some(names) => match self.named(number, &names) {
                Some(name) => self.outcomes.push(format!("refused, naming `{name}`")),
                None => {
                    self.violations
                        .push(format!("n{number} refuses its disk without naming one of {names:?}: {words}"));
                }
            },
        }
        let client = self.client().await?;
        let name = format!("n{number}");
        let (mut last, what) = (String::new(), format!("{name} is removed"));
        let removed = patiently(&what, PATIENCE, async || match client.remove_node(&name).await {
            Ok(_) => Some(()),
            Err(error) => {
                last = error.to_string();
                None
            }
        });
        removed.await.map_err(|error| format!("{error}: {last}"))?;
        let _ = fs::remove_dir_all(self.nodes.data(number)); // or it has none
        self.run(number);
        self.up(number).await
    }

    /// Comes to rest: nothing more is written, everybody gets to the end, and what all nodes hold is read.
    pub async fn finish(&mut self) -> Evidence {
        if let Some(load) = &self.load {
            load.stop_writing();
        }
        let rest = [self.old_keys().await, self.free_claim().await, self.consumed().await, self.caught_up().await];
        self.violations.extend(rest.into_iter().filter_map(Result::err));
        let mut stored = Vec::new();
        for number in 0..self.size {
            if !self.is_ready(number).await {
                self.violations.push(format!("n{number} is not ready in the end"));
                continue;
            }
            let node = Node::new(&self.nodes.clients[number]);
            for channel in CHANNELS.into_iter().chain([IDLE]) {
                let mut last = String::new();
                let read =
                    patiently("", READABLE, async || node.all(channel).await.map_err(|error| last = error).ok()).await;
                match read {
                    Ok(messages) => stored.push(Stored { node: format!("n{number}"), channel, messages }),
                    Err(_) => self.violations.push(format!("n{number} cannot be read: {last}")),
                }
            }
        }
        if let Err(problem) = self.subscribers(&stored).await {
            self.violations.push(problem);
        }
        let hashes = match self.hashes().await {
            Ok(hashes) => hashes,
            Err(problem) => {
                self.violations.push(problem);
                Vec::new()
            }
        };
        if let Some(load) = self.load.take() {
            load.stop().await;
        }
        Evidence { records: self.history.records(), stored, hashes }
    }

    /// The oldest messages are published once more: their keys are still known.
    async fn old_keys(&self) -> Result<(), String> {
        let client = self.client().await?;
        for number in 0..5 {
            load::publish_repeating(&client, &self.history, "keyed", format!("keyed-0-{number}")).await;
        }
        Ok(())
    }

    /// A claim that was forgotten during the fault is free again.
    async fn free_claim(&self) -> Result<(), String> {
        let node = Node::new(&self.nodes.clients[self.leader().await?]);
        let taken = async || load::take(&self.history, &node, "probe", "heir", LEASE).await;
        patiently("the lease of a forgotten claim ends", 2 * LEASE + STILL, taken).await.map(drop)
    }

    /// All that was published to the consumer's channel is settled.
    async fn consumed(&self) -> Result<(), String> {
        let client = self.client().await?;
        let mut last = String::new();
        let done = patiently("the consumer is done", CATCH_UP, async || {
            match client.consumer_status("jobs", CONSUMER).await {
                Ok(state) if state.lag == 0 && state.in_flight == 0 => Some(()),
                Ok(state) => {
                    last = format!("{} behind, {} in flight", state.lag, state.in_flight);
                    None
                }
                Err(error) => {
                    last = error.to_string();
                    None
                }
            }
        });
        done.await.map_err(|error| format!("{error}: {last}"))
    }

    async fn caught_up(&self) -> Result<(), String> {
        let mut last = String::new();
        let same = patiently("all nodes have applied the same", PATIENCE, async || {
            let mut indexes = Vec::new();
            for address in &self.nodes.clients {
                let status = wire::status(address).await?;
                last = status
                    .nodes
                    .iter()
                    .map(|node| format!("{} {}/{}", node.name, node.applied, node.commit))
                    .collect::<Vec<_>>()
                    .join(", ");
                indexes.extend(status.nodes.iter().flat_map(|node| [node.applied, node.commit]));
            }
            (indexes.len() == 2 * self.size * self.size && indexes.iter().all(|index| *index == indexes[0]))
                .then_some(())
        });
        same.await.map_err(|error| format!("{error}: {last}"))
    }

    /// Everybody who follows has seen what is there.
    async fn subscribers(&self, stored: &[Stored]) -> Result<(), String> {
        let ends: BTreeMap<&str, u64> =
            stored.iter().map(|stored| (stored.channel, stored.messages.len() as u64)).collect();
        let expected = 1 + 2 * self.size; // one that roams, and two that stay at each node
        let mut behind = Vec::new();
        let seen = patiently("all subscriptions come to the end", CATCH_UP, async || {
            let mut next: BTreeMap<(String, &str), u64> = BTreeMap::new();
            for record in self.history.records() {
                if let Record::Seen { reader, channel, seq, .. } = record {
                    next.insert((reader, channel), seq + 1);
                }
            }
            let late = next.iter().filter(|((_, channel), next)| ends.get(channel).is_some_and(|end| *next < end));
            behind = late
                .map(|((reader, channel), next)| format!("{reader} saw {channel} to {next} of {:?}", ends.get(channel)))
                .collect();
            (next.len() >= expected && behind.is_empty()).then_some(())
        });
        seen.await.map_err(|error| format!("{error}: {}", behind.join(", ")))
    }

    async fn hashes(&self) -> Result<Vec<(String, String)>, String> {
        let client = self.client().await?;
        let verified =
            client.verify_cluster().await.map_err(|error| format!("the states cannot be compared: {error}"))?;
        if verified.nodes.len() != self.size {
            return Err(format!("{} states were compared instead of {}", verified.nodes.len(), self.size));
        }
        Ok(verified.nodes.into_iter().map(|node| (node.name, node.state_hash.unwrap_or_default())).collect())
    }
}
