//! Clusters that take new nodes by invitation only.

use std::time::Duration;

use liminal::{
    client::{Client, NodeHealth},
    config::JoinMode,
    model::JoinToken,
};

use super::support::{eventually, in_process::Cluster};

async fn invite(client: &Client) -> JoinToken {
    client.invite_node("a node", Some(Duration::from_secs(600))).await.unwrap().text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_with_a_token_that_no_other_node_has_used() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::prepare(dir.path());
    let first = cluster.configs[0].cluster.as_ref().unwrap().listen_address.clone();
    for (number, config) in cluster.configs.iter_mut().enumerate() {
        let config = config.cluster.as_mut().unwrap();
        config.join = JoinMode::Token;
        config.seed_nodes = vec![first.clone()];
        config.expect = if number == 0 { 1 } else { 3 };
    }
    cluster.start_node(0).await;
    let client = Client::connect([cluster.nodes[0].as_ref().unwrap().client_address()]).await.unwrap();
    let token = eventually("the first node leads", async || {
        client.invite_node("", None).await.ok().map(|made| made.text.parse::<JoinToken>().unwrap())
    })
    .await;
    let names = async || {
        let nodes = client.cluster_status().await.map(|status| status.nodes).unwrap_or_default();
        nodes.into_iter().map(|node| node.name).collect::<Vec<_>>()
    };
    let joins = |cluster: &mut Cluster, number: usize, token: Option<JoinToken>| {
        cluster.configs[number].cluster.as_mut().unwrap().join_token = token;
    };

    joins(&mut cluster, 1, Some(token.clone()));
    cluster.start_node(1).await;
    eventually("the node is let in", async || (names().await == ["n0", "n1"]).then_some(())).await;

    for (token, why) in [(None, "has no join token"), (Some(token), "another node has joined")] {
        joins(&mut cluster, 2, token);
        cluster.start_node(2).await;
        let group = cluster.nodes[2].as_ref().unwrap().group().clone();
        let refused = eventually("it is refused", async || group.refused()).await;
        assert!(refused.contains(why) && refused.contains("liminal cluster invite"), "{refused}");
        assert_eq!(names().await, ["n0", "n1"]);
        cluster.stop_node(2).await;
    }

    let another = invite(&client).await;
    joins(&mut cluster, 2, Some(another));
    cluster.start_node(2).await;
    eventually("the node is let in", async || (names().await == ["n0", "n1", "n2"]).then_some(())).await;

    // Who was let in needs no token any more.
    cluster.stop_node(1).await;
    joins(&mut cluster, 1, None);
    cluster.start_node(1).await;
    eventually("it takes part again", async || {
        let status = client.cluster_status().await.ok()?;
        status.nodes.iter().any(|node| node.name == "n1" && node.health == NodeHealth::Ok).then_some(())
    })
    .await;
    cluster.create("orders").await;
    cluster.stop().await;
}
