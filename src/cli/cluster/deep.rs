//! `liminal cluster verify --deep`: every node reads everything that it has on its disk.

use crate::{
    cli::{
        CliError, Global, OutputFormat,
        remote::{print_json, print_line, table},
    },
    client::{Client, ClientError},
    proto::v1::{NodeScrub, VerifyDeepResponse},
};

/// Shows how far the nodes are, and what they found.
pub(super) async fn verify(client: &Client, rate: u64, global: &Global) -> Result<(), CliError> {
    let mut answers = client.verify_cluster_deep(rate).await?;
    let broken = |error: ClientError| CliError::failed(format!("the nodes go on, but: {}", error.message()));
    let bar = indicatif::ProgressBar::new_spinner(); // hidden where standard error is no terminal
    let last = loop {
        let Some(answer) = answers.part().await.map_err(broken)?.map(VerifyDeepResponse::from) else {
            return Err(CliError::failed("the node that was asked has stopped; the others go on".into()));
        };
        bar.set_message(progress(&answer.nodes));
        bar.tick();
        if answer.done {
            break answer;
        }
    };
    bar.finish_and_clear();
    let good = last.nodes.iter().all(|node| node.done && node.left.is_empty());
    if global.output == OutputFormat::Json {
        let nodes: Vec<_> = last.nodes.iter().map(json).collect();
        print_json(&serde_json::json!({ "undamaged": good, "nodes": nodes }))?;
    } else {
        let rows = last.nodes.iter().map(|node| {
            let [state, log] = [node.state_bytes, node.log_bytes].map(size);
            let [found, healed, left] =
                [node.found, node.healed, node.left.len() as u64].map(|count| count.to_string());
            vec![node.name.clone(), result(node).to_owned(), state, log, found, healed, left]
        });
        let header = ["NODE", "DISK", "STATE READ", "LOG READ", "FOUND", "HEALED", "LEFT"];
        print_line(&table(&header, &[2, 3, 4, 5, 6], rows.collect()))?;
        for node in &last.nodes {
            for left in &node.left {
                print_line(&format!("{}: {left}", node.name))?;
            }
        }
    }
    if good { Ok(()) } else { Err(CliError::exit(10)) }
}

fn result(node: &NodeScrub) -> &'static str {
    match node {
        NodeScrub { done: false, .. } => "no answer",
        NodeScrub { left, .. } if !left.is_empty() => "DAMAGED",
        NodeScrub { found: 0, .. } => "good",
        _ => "healed",
    }
}

fn json(node: &NodeScrub) -> serde_json::Value {
    serde_json::json!({
        "name": node.name,
        "result": result(node).to_lowercase().replace(' ', "_"),
        "state_bytes": node.state_bytes,
        "log_bytes": node.log_bytes,
        "found": node.found,
        "healed": node.healed,
        "left": node.left,
    })
}

fn progress(nodes: &[NodeScrub]) -> String {
    let of = |node: &NodeScrub| match node {
        NodeScrub { answered: false, .. } => format!("{} no answer", node.name),
        NodeScrub { done: true, .. } => format!("{} done", node.name),
        NodeScrub { log_bytes: 0, .. } => {
            format!("{} {} of about {}", node.name, size(node.state_bytes), size(node.expected_state_bytes))
        }
        _ => format!("{} {} and {} of its log", node.name, size(node.state_bytes), size(node.log_bytes)),
    };
    nodes.iter().map(of).collect::<Vec<_>>().join(", ")
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_good_healed_damaged_or_silent() {
        let node = |found, left: &[&str], done| NodeScrub {
            found,
            done,
            left: left.iter().map(ToString::to_string).collect(),
            ..NodeScrub::default()
        };
        let results = [node(0, &[], true), node(2, &[], true), node(2, &["a: b"], true), node(0, &[], false)];
        assert_eq!(results.each_ref().map(result), ["good", "healed", "DAMAGED", "no answer"]);
        assert_eq!(json(&results[3])["result"], "no_answer");
    }
}
