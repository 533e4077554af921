//! `liminal cluster`: look at the nodes, and change which there are.

mod backup;
mod deep;
mod invite;

use std::{
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use serde::Serialize;

use super::style::{Style, with_words};
use super::{
    CliError, Global, OutputFormat,
    remote::{confirm, connect, on_the_wire, parse_duration, print_json, print_line, table, thousands},
};
use crate::{
    client::Client,
    proto::v1::{ClusterEvent, ClusterStatusResponse, NodeHash, NodeHealth, NodeRole, NodeStatus, VerifyResponse},
    raft::ClockDifference,
};

/// What stands out in tables.
pub(super) const HEALTH: [(&str, Style); 5] = [
    ("ok", Style::Green),
    ("behind", Style::Yellow),
    ("unwell", Style::Red),
    ("unreachable", Style::Red),
    ("failed", Style::Red),
];

/// Look at the cluster and change it
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Show every node; exits with 10 when there is no leader or a node is not well
    Status,
    /// Show what happened to the nodes: starts, joins, promotions, removals, transfers
    Events,
    /// Let a node in that was removed, runs, and asks to come back
    Join {
        /// Its name, its id, or its address for other nodes (HOST:PORT)
        node: String,
    },
    /// Make a token by which one new node may join, and print it: nobody can tell it again
    Invite {
        /// Which node it is for
        #[arg(long, default_value = "")]
        description: String,
        /// For how long a node may join with it, for example 30m; at most 7 days, an hour unless given
        #[arg(long, value_parser = parse_duration)]
        lifetime: Option<Duration>,
    },
    /// Make a learner a voter, where that does not happen by itself
    Promote {
        /// The node's name
        node: String,
    },
    /// Take a node out; if it leads, it hands leadership over first
    Remove {
        /// The node's name
        node: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Hand leadership over
    Transfer {
        /// To which voter; the one with the newest log if absent
        node: Option<String>,
    },
    /// Make the state of the node asked durable and cut its log
    Snapshot,
    /// Compare the hash of all nodes' states at one log index; exits with 10 when one differs or is missing
    Verify {
        /// Then have all nodes read their whole state and log from the disk, and heal what is damaged where they can;
        /// exits with 10 when damage is left
        #[arg(long)]
        deep: bool,
        /// What each node reads in a second, at most
        #[arg(long, value_name = "SIZE", default_value = "64MiB", requires = "deep")]
        rate: bytesize::ByteSize,
    },
    /// Write the whole state at one log index to a file, while the cluster goes on
    Backup {
        /// Written beside it and renamed when it is complete
        file: PathBuf,
    },
    /// Begin a new cluster with the state of a backup: run it once, before the first start of its first node
    Restore {
        /// What `backup` wrote
        file: PathBuf,
        /// The configuration of that node; its data directory must not exist yet
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// Runs the command.
pub async fn run(command: Command, global: &Global) -> Result<(), CliError> {
    if let Command::Restore { file, config } = command {
        return backup::restore(&file, &config, global).await;
    }
    let client = connect(global).await?;
    let done = match command {
        Command::Status => return status(&client, global).await,
        Command::Events => return events(&client, global).await,
        Command::Verify { deep: false, .. } => return verify(&client, global).await,
        Command::Verify { deep: true, rate } => {
            let compared = verify(&client, global).await;
            return deep::verify(&client, rate.as_u64(), global).await.and(compared);
        }
        Command::Invite { description, lifetime } => {
            return invite::invite(&client, &description, lifetime, global).await;
        }
        Command::Backup { file } => return backup::backup(&client, &file, global).await,
        Command::Restore { .. } => return Ok(()), // done above, without a server
        Command::Join { node } => client.join_node(&node).await?,
        Command::Promote { node } => client.promote_node(&node).await?,
        Command::Remove { node, yes } => {
            let what =
                format!("take node `{node}` out of the cluster for good; its copy of all messages counts no longer");
            confirm(yes, &what, "nothing was changed")?;
            client.remove_node(&node).await?
        }
        Command::Transfer { node } => client.transfer_leadership(&node.unwrap_or_default()).await?,
        Command::Snapshot => {
            let done = client.snapshot_node().await?;
            let (applied, left) = (done.applied, done.log_entries);
            if global.output == OutputFormat::Json {
                return print_json(&serde_json::json!({ "applied": applied, "log_entries": left }));
            }
            format!("durable up to index {}; {} log entries are left", thousands(applied), thousands(left))
        }
    };
    match global.output {
        OutputFormat::Json => print_json(&serde_json::json!({ "done": done })),
        OutputFormat::Raw | OutputFormat::Table => print_line(&done),
    }
}

async fn verify(client: &Client, global: &Global) -> Result<(), CliError> {
    let verified = VerifyResponse::from(client.verify_cluster().await?);
    let hash = |node: &NodeHash| Some(node.state_hash.clone()).filter(|hash| !hash.is_empty());
    let count = |hash: &String| verified.nodes.iter().filter(|node| node.state_hash == *hash).count();
    let right = verified.nodes.iter().filter_map(hash).max_by_key(|hash| (count(hash), hash.clone()));
    let judge = |node: &NodeHash| match hash(node) {
        None => "no answer",
        found if found == right => "equal",
        Some(_) => "DIFFERS",
    };
    let good = verified.nodes.iter().all(|node| judge(node) == "equal");
    if global.output == OutputFormat::Json {
        let nodes = verified.nodes.iter().map(|node| {
            let result = judge(node).to_lowercase().replace(' ', "_");
            serde_json::json!({ "name": node.name, "state_hash": hash(node), "result": result })
        });
        let nodes: Vec<_> = nodes.collect();
        print_json(&serde_json::json!({ "index": verified.index, "equal": good, "nodes": nodes }))?;
    } else {
        let rows = verified
            .nodes
            .iter()
            .map(|node| vec![node.name.clone(), judge(node).to_owned(), hash(node).unwrap_or_default()]);
        print_line(&table(&["NODE", "STATE", "HASH"], &[], rows.collect()))?;
        print_line(&format!("compared at log index {}", thousands(verified.index)))?;
    }
    if good { Ok(()) } else { Err(CliError::exit(10)) }
}

async fn events(client: &Client, global: &Global) -> Result<(), CliError> {
    let events: Vec<ClusterEvent> = on_the_wire(client.cluster_events().await?);
    let time = |ms: u64| humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string();
    if global.output == OutputFormat::Json {
        return events.iter().try_for_each(|event| {
            let (time, node, id) = (time(event.time_ms), &event.node, event.node_id);
            let (what, detail) = (&event.event, &event.detail);
            print_json(&serde_json::json!({ "time": time, "node": node, "id": id, "event": what, "detail": detail }))
        });
    }
    let rows = events
        .iter()
        .map(|event| vec![time(event.time_ms), event.node.clone(), event.event.clone(), event.detail.clone()]);
    print_line(&table(&["TIME", "NODE", "EVENT", "DETAIL"], &[], rows.collect()))
}

async fn status(client: &Client, global: &Global) -> Result<(), CliError> {
    let response = ClusterStatusResponse::from(client.cluster_status().await?);
    let status = Status::of(&response);
    match global.output {
        OutputFormat::Json => print_json(&status)?,
        OutputFormat::Raw => print_line(status.leader.unwrap_or_default())?,
        OutputFormat::Table => print_line(&with_words(&status.table(), &HEALTH))?,
    }
    if status.healthy() { Ok(()) } else { Err(CliError::exit(10)) }
}

/// The cluster as `-o json` says it.
#[derive(Debug, Serialize)]
struct Status<'a> {
    cluster_id: &'a str,
    leader: Option<&'a str>,
    nodes: Vec<Node<'a>>,
    epoch: u64,
    /// None where the node that was asked does not know of it.
    cluster_version: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Node<'a> {
    name: &'a str,
    id: u64,
    role: &'static str,
    health: &'static str,
    /// This and the next three: none where the node cannot be asked.
    term: Option<u64>,
    commit: Option<u64>,
    applied: Option<u64>,
    lag: Option<u64>,
    /// None where nobody has heard of the node.
    version: Option<u32>,
    state_hash: &'a str,
    state_hash_at: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    failure: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_ahead_ms: Option<i64>,
}

impl<'a> Status<'a> {
    fn of(response: &'a ClusterStatusResponse) -> Self {
        Self {
            cluster_id: &response.cluster_id,
            leader: Some(response.leader.as_str()).filter(|leader| !leader.is_empty()),
            nodes: response.nodes.iter().map(Node::of).collect(),
            epoch: response.epoch,
            cluster_version: Some(response.cluster_version).filter(|version| *version > 0),
        }
    }

    fn healthy(&self) -> bool {
        self.leader.is_some() && self.nodes.iter().all(|node| node.health == "ok") && self.differing().is_none()
    }

    /// Two nodes whose states at the same log index are not the same.
    fn differing(&self) -> Option<(&str, &str, u64)> {
        let hashed = || self.nodes.iter().filter(|node| !node.state_hash.is_empty());
        hashed().find_map(|one| {
            let other = hashed().find(|o| o.state_hash_at == one.state_hash_at && o.state_hash != one.state_hash)?;
            Some((one.name, other.name, one.state_hash_at))
        })
    }

    fn table(&self) -> String {
        let header = ["NODE", "ROLE", "HEALTH", "TERM", "COMMIT", "APPLIED", "LAG", "VERSION"];
        let rows = self.nodes.iter().map(|node| {
            let figures = [node.term, node.commit, node.applied, node.lag];
            let [term, commit, applied, lag] = figures.map(|figure| figure.map_or_else(|| "?".into(), thousands));
            let version = node.version.map_or_else(|| "?".into(), |version| version.to_string());
            let (name, role, health) = (node.name.to_owned(), node.role.to_owned(), node.health.to_owned());
            vec![name, role, health, term, commit, applied, lag, version]
        });
        let mut text = table(&header, &[3, 4, 5, 6, 7], rows.collect());
        text.push('\n');
        text.push_str(&self.quorum());
        if let Some(version) = self.cluster_version {
            text.push_str(&format!(", cluster version {version}"));
        }
        text.push_str(&self.held_back().unwrap_or_default());
        if self.leader.is_none() {
            text.push_str("\nno leader: publishes wait until a majority of the voters is up");
        }
        for node in self.nodes.iter().filter(|node| !node.failure.is_empty()) {
            text.push_str(&format!("\n{}: {}", node.name, node.failure));
        }
        for node in &self.nodes {
            let clock = node.clock_ahead_ms.map(|ahead_ms| ClockDifference {
                id: node.id,
                name: node.name.to_owned(),
                ahead_ms,
            });
            if let Some(clock) = clock.filter(ClockDifference::is_wrong) {
                text.push_str(&format!("\nwarning: {clock}"));
            }
        }
        if let Some((one, other, index)) = self.differing() {
            text.push_str(&format!("\nthe states of {one} and {other} differ at log index {index}"));
        }
        text
    }

    /// Which node keeps the others from a later version.
    fn held_back(&self) -> Option<String> {
        let cluster = self.cluster_version?;
        let newest = self.nodes.iter().filter_map(|node| node.version).max().filter(|newest| *newest > cluster)?;
        let older = self.nodes.iter().filter(|node| node.version.is_none_or(|version| version < newest));
        let names: Vec<&str> = older.map(|node| node.name).collect();
        (!names.is_empty()).then(|| format!("\nversion {newest} waits for {}", names.join(", ")))
    }

    fn quorum(&self) -> String {
        let voters: Vec<&Node<'_>> = self.nodes.iter().filter(|node| node.role != "learner").collect();
        let up = voters.iter().filter(|node| matches!(node.health, "ok" | "behind" | "unwell")).count();
        let quorum = voters.len() / 2 + 1;
        let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let rest = match up.checked_sub(quorum) {
            Some(spare) => format!("tolerates {}", plural(spare, "failure")),
            None => format!("only {up} up"),
        };
        format!("{}, quorum {quorum}, {rest}", plural(voters.len(), "voter"))
    }
}

impl<'a> Node<'a> {
    fn of(node: &'a NodeStatus) -> Self {
        let known = |figure: u64| Some(figure).filter(|_| node.health() != NodeHealth::Unreachable);
        Self {
            name: &node.name,
            id: node.id,
            role: match node.role() {
                NodeRole::Leader => "leader",
                NodeRole::Learner => "learner",
                NodeRole::Follower | NodeRole::Unspecified => "follower",
            },
            health: match node.health() {
                NodeHealth::Ok => "ok",
                NodeHealth::Behind => "behind",
                NodeHealth::Unwell => "unwell",
                NodeHealth::Unreachable => "unreachable",
                NodeHealth::Failed | NodeHealth::Unspecified => "failed",
            },
            term: known(node.term),
            commit: known(node.commit),
            applied: known(node.applied),
            lag: known(node.lag),
            version: Some(node.version).filter(|version| *version > 0),
            state_hash: &node.state_hash,
            state_hash_at: node.state_hash_at,
            failure: &node.failure,
            clock_ahead_ms: node.clock_ahead_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64, role: NodeRole, health: NodeHealth, applied: u64) -> NodeStatus {
        NodeStatus {
            name: id.to_string(),
            id,
            role: role.into(),
            health: health.into(),
            term: 4,
            commit: 1204,
            applied,
            lag: 1204 - applied,
            version: 4,
            ..NodeStatus::default()
        }
    }

    fn cluster(nodes: Vec<NodeStatus>) -> ClusterStatusResponse {
        ClusterStatusResponse { cluster_id: "c".into(), leader: "1".into(), nodes, epoch: 1, cluster_version: 4 }
    }

    #[test]
    fn the_table_shows_each_node_and_what_the_cluster_can_lose() {
        let response = cluster(vec![
            node(1, NodeRole::Leader, NodeHealth::Ok, 1204),
            node(2, NodeRole::Follower, NodeHealth::Ok, 1204),
            node(3, NodeRole::Learner, NodeHealth::Behind, 890),
        ]);
        let status = Status::of(&response);
        assert_eq!(
            status.table(),
            "NODE  ROLE      HEALTH  TERM  COMMIT  APPLIED  LAG  VERSION\n\
             1     leader    ok         4   1,204    1,204    0        4\n\
             2     follower  ok         4   1,204    1,204    0        4\n\
             3     learner   behind     4   1,204      890  314        4\n\
             2 voters, quorum 2, tolerates 0 failures, cluster version 4"
        );
        assert!(!status.healthy());
    }

    #[test]
    fn the_table_says_which_nodes_are_to_be_upgraded() {
        let mut nodes = [1, 2, 3].map(|id| node(id, NodeRole::Follower, NodeHealth::Ok, 1204));
        (nodes[1].version, nodes[2].version) = (3, 0);
        let mut response = cluster(nodes.into());
        response.cluster_version = 3;
        let text = Status::of(&response).table();
        assert!(text.ends_with(", cluster version 3\nversion 4 waits for 2, 3"), "{text}");
        response.nodes.iter_mut().for_each(|node| node.version = 3);
        assert!(!Status::of(&response).table().contains("waits for"), "there is nothing to wait for");
    }

    #[test]
    fn a_cluster_is_healthy_with_a_leader_and_only_good_nodes() {
        let mut response = cluster(vec![node(1, NodeRole::Leader, NodeHealth::Ok, 1204)]);
        assert!(Status::of(&response).healthy());
        response.leader.clear();
        assert!(!Status::of(&response).healthy());
        assert!(Status::of(&response).table().contains("no leader"));
    }

    #[test]
    fn a_clock_that_is_wrong_is_named_and_costs_no_health() {
        let mut response = cluster(vec![
            node(1, NodeRole::Leader, NodeHealth::Ok, 1204),
            node(2, NodeRole::Follower, NodeHealth::Ok, 1204),
        ]);
        response.nodes[0].clock_ahead_ms = Some(900);
        response.nodes[1].clock_ahead_ms = Some(-3_600_450);
        let (status, warning) = (Status::of(&response), "the clock of node 2 is 1h behind the cluster's time");
        assert!(status.table().contains(warning) && !status.table().contains("of node 1"), "{}", status.table());
        assert!(status.healthy());
    }

    #[test]
    fn nodes_whose_states_differ_at_one_index_are_named() {
        let mut response = cluster(vec![
            node(1, NodeRole::Leader, NodeHealth::Ok, 1204),
            node(2, NodeRole::Follower, NodeHealth::Ok, 1204),
        ]);
        for (node, hash) in response.nodes.iter_mut().zip(["aa", "bb"]) {
            node.state_hash = hash.into();
            node.state_hash_at = 1000;
        }
        assert_eq!(Status::of(&response).differing(), Some(("1", "2", 1000)));
        assert!(!Status::of(&response).healthy());
        response.nodes[1].state_hash_at = 1100;
        assert!(Status::of(&response).healthy());
    }
}
