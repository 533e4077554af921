//! A running cluster: its nodes, their lag, clocks and versions, and what they themselves say is wrong.

use serde_json::Value;

use super::Finding;
use crate::{
    cli::{
        Global, health,
        remote::{connect, thousands},
    },
    client::Client,
    proto::v1::{ClusterStatusResponse, NodeHealth, NodeRole, NodeStatus},
    raft::ClockDifference,
};

/// The question that was answered; what came of a node over HTTP.
struct Said {
    node: String,
    health: Result<Value, String>,
    version: Option<String>,
}

/// What is wrong with the cluster.
pub(super) async fn look(global: &Global) -> Vec<Finding> {
    let client = match connect(global).await {
        Ok(client) => client,
        Err(error) => {
            let todo = "start a node, name others with --server, or look at the certificates and the token";
            return vec![Finding::problem("cluster", error.to_string(), todo)];
        }
    };
    match client.cluster_status().await {
        Ok(status) => {
            let status = ClusterStatusResponse::from(status);
            let mut findings = of_status(&status);
            let said: Vec<Said> = futures::future::join_all(status.nodes.iter().map(|node| ask(node, global))).await;
            findings.extend(of_nodes(&said));
            findings.extend(consumers(&client).await);
            findings
        }
        Err(error) => {
            let help = error.help().unwrap_or("look at the nodes' logs").to_owned();
            vec![Finding::problem("cluster", format!("{}: {}", error.code(), error.message()), help)]
        }
    }
}

/// What one answer says of all nodes.
fn of_status(status: &ClusterStatusResponse) -> Vec<Finding> {
    let mut findings = Vec::new();
    let voters = status.nodes.iter().filter(|node| node.role() != NodeRole::Learner).count();
    if status.leader.is_empty() {
        let todo = "bring back enough nodes: more than half of the voters have to reach each other";
        findings.push(Finding::problem("cluster", "there is no leader: nothing can be published", todo));
    } else {
        findings.push(Finding::ok("cluster", format!("{} leads {voters} voter(s)", status.leader)));
    }
    if voters % 2 == 0 {
        let found = format!("{voters} voters tolerate no more failures than {} do", voters.saturating_sub(1));
        findings.push(Finding::warning("cluster", found, "add a node or take one out, so that their number is odd"));
    }
    for node in &status.nodes {
        findings.extend(of_node(node));
        let clock =
            node.clock_ahead_ms.map(|ahead_ms| ClockDifference { id: node.id, name: node.name.clone(), ahead_ms });
        if let Some(clock) = clock.filter(ClockDifference::is_wrong) {
            let todo = "have a time service (chrony, systemd-timesyncd) keep that machine's clock";
            findings.push(Finding::warning("clocks", clock.to_string(), todo));
        }
    }
    findings
}

fn of_node(node: &NodeStatus) -> Option<Finding> {
    let (name, failure) = (&node.name, &node.failure);
    match node.health() {
        NodeHealth::Ok => None,
        NodeHealth::Behind => Some(Finding::warning(
            "nodes",
            format!("{name} is {} log entries behind", thousands(node.lag)),
            "wait while it catches up; if the number grows, look at its disk and its network",
        )),
        NodeHealth::Unwell => Some(Finding::problem(
            "nodes",
            format!("{name}: {failure}"),
            "see 'When a node cannot do its work' in docs/OPERATIONS.md",
        )),
        NodeHealth::Unreachable => Some(Finding::problem(
            "nodes",
            format!("{name} does not answer {}", node.peer_address),
            "start it, or repair the network; if it never comes back, `liminal cluster remove` takes it out",
        )),
        NodeHealth::Failed | NodeHealth::Unspecified => {
            Some(Finding::problem("nodes", format!("{name} has failed: {failure}"), "read its log, and start it again"))
        }
    }
}

/// Asks a node over HTTP what its operator should look at, and which version it is.
async fn ask(node: &NodeStatus, global: &Global) -> Said {
    let over_tls = global.over_tls().then(|| global.tls_files());
    let name = node.name.clone();
    let parsed = |(_, body): (bool, String)| serde_json::from_str::<Value>(&body).map_err(|error| error.to_string());
    let health = health::ask(&node.http_address, over_tls.clone(), "/health").await.and_then(parsed);
    let described = health::ask(&node.http_address, over_tls, "/v1/openapi.json").await.and_then(parsed);
    let version = described.ok().and_then(|document| Some(document["info"]["version"].as_str()?.to_owned()));
    Said { node: name, health, version }
}

fn of_nodes(said: &[Said]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Said { node, health, .. } in said {
        match health {
            Ok(health) => {
                let texts = |value: &Value| match value {
                    Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                    Value::Object(parts) => parts
                        .iter()
                        .map(|(part, why)| format!("{part}: {}", why.as_str().unwrap_or_default()))
                        .collect(),
                    _ => Vec::<String>::new(),
                };
                let see = "see 'When a node cannot do its work' in docs/OPERATIONS.md";
                findings.extend(
                    texts(&health["unwell"])
                        .into_iter()
                        .map(|why| Finding::problem("alarms", format!("{node}: {why}"), see)),
                );
                findings.extend(
                    texts(&health["warnings"])
                        .into_iter()
                        .map(|why| Finding::warning("alarms", format!("{node}: {why}"), "do what it says")),
                );
            }
            Err(why) => findings.push(Finding::warning(
                "alarms",
                format!("{node} cannot be asked over HTTP: {why}"),
                "let this machine reach its HTTP port to see its alarms",
            )),
        }
    }
    findings.extend(versions(said));
    findings
}

fn versions(said: &[Said]) -> Option<Finding> {
    let mut found: Vec<&str> = said.iter().filter_map(|said| said.version.as_deref()).collect();
    found.sort_unstable();
    found.dedup();
    let each = said.iter().filter_map(|said| Some(format!("{} {}", said.node, said.version.as_deref()?)));
    let each = each.collect::<Vec<_>>().join(", ");
    match found[..] {
        [] => None,
        [version] if version == env!("CARGO_PKG_VERSION") => {
            Some(Finding::ok("versions", format!("all are {version}")))
        }
        [version] => Some(Finding::warning(
            "versions",
            format!("the nodes are {version}, and this command is {}", env!("CARGO_PKG_VERSION")),
            "use the command of the nodes' version",
        )),
        _ => Some(Finding::warning("versions", each, "finish the upgrade: all nodes are to run one version")),
    }
}

/// Consumers whose dead letters are refused, or who have lost messages.
async fn consumers(client: &Client) -> Vec<Finding> {
    let Ok(channels) = client.list_channels().await else { return Vec::new() };
    let mut findings = Vec::new();
    for channel in channels {
        for consumer in client.list_consumers(&channel.name).await.unwrap_or_default() {
            let of = format!("{}/{}", consumer.channel, consumer.name);
            if consumer.dying > 0 {
                let found =
                    format!("{of}: {} dead message(s) wait for their dead-letter channel", thousands(consumer.dying));
                let todo = "look whether that channel is there, full, or has a schema; the leader's log says why";
                findings.push(Finding::warning("consumers", found, todo));
            }
            if consumer.lost > 0 {
                let found =
                    format!("{of}: {} message(s) were removed before they were settled", thousands(consumer.lost));
                let todo = "add members, or have the channel keep more";
                findings.push(Finding::warning("consumers", found, todo));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{super::Level, *};

    fn node(name: &str, health: NodeHealth) -> NodeStatus {
        NodeStatus {
            name: name.into(),
            health: health.into(),
            role: NodeRole::Follower.into(),
            ..NodeStatus::default()
        }
    }

    fn levels(findings: &[Finding]) -> Vec<Level> {
        findings.iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn a_cluster_without_a_leader_and_a_node_that_is_gone_are_problems() {
        let nodes = ["a", "b", "c"].map(|name| node(name, NodeHealth::Ok)).to_vec();
        let good = ClusterStatusResponse { leader: "a".into(), nodes, ..Default::default() };
        assert_eq!(levels(&of_status(&good)), [Level::Ok]);
        let mut bad = ClusterStatusResponse { leader: String::new(), ..good.clone() };
        bad.nodes[2].health = NodeHealth::Unreachable.into();
        assert_eq!(levels(&of_status(&bad)), [Level::Problem, Level::Problem]);
        let mut late = good;
        late.nodes.pop();
        late.nodes[1].clock_ahead_ms = Some(-3_600_000);
        assert_eq!(
            levels(&of_status(&late)),
            [Level::Ok, Level::Warning, Level::Warning],
            "an even number, and a clock"
        );
    }

    #[test]
    fn different_versions_and_alarms_of_nodes_are_told() {
        let said = |node: &str, health: &str, version: &str| Said {
            node: node.into(),
            health: Ok(serde_json::from_str(health).unwrap()),
            version: Some(version.into()),
        };
        let same = env!("CARGO_PKG_VERSION");
        let good = [said("a", r#"{"status":"ok"}"#, same), said("b", r#"{"status":"ok"}"#, same)];
        assert_eq!(levels(&of_nodes(&good)), [Level::Ok]);
        let mixed = [
            said("a", r#"{"status":"unwell","unwell":{"log":"slow"},"warnings":["late"]}"#, same),
            said("b", r#"{"status":"ok"}"#, "0.0.1"),
        ];
        let found = of_nodes(&mixed);
        assert_eq!(levels(&found), [Level::Problem, Level::Warning, Level::Warning]);
        assert!(found[0].found.contains("a: log: slow") && found[2].found.contains("b 0.0.1"), "{found:?}");
    }
}
