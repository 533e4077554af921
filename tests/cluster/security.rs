//! Tokens on three nodes: what is made or ended on one of them holds on all.

use futures::StreamExt as _;
use liminal::{
    broker::TokenText,
    client::{Client, Code, Grant, Role, Start},
    config::SecurityConfig,
    env::Env,
    model::SecurityMode,
};

use super::support::{PATIENCE, eventually, in_process::Cluster};

async fn client(cluster: &Cluster, number: usize, token: &str) -> Client {
    let address = cluster.nodes[number].as_ref().unwrap().client_address();
    Client::builder().servers([address]).token(token).connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_on_one_node_ends_what_is_open_on_another_one_and_stays_refused_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let bootstrap = TokenText::random(&*Env::real().random);
    let mut cluster = Cluster::prepare(dir.path());
    for config in &mut cluster.configs {
        let (mode, hash) = (SecurityMode::Enforce, Some(bootstrap.hash()));
        config.security =
            SecurityConfig { mode, insecure: false, bootstrap_token_hash: hash, ..SecurityConfig::default() };
    }
    cluster.start_nodes().await;
    cluster.create("orders").await;
    let first = client(&cluster, 0, bootstrap.reveal()).await;
    let admin = first.create_token("admin", vec!["admin".into()], None).await.unwrap().text;
    let admin = client(&cluster, 0, &admin).await;
    let grant = Grant::new().scope("channel:orders").actions(vec!["read".into()]);
    admin.create_role(Role::new().name("reader").grants(vec![grant])).await.unwrap();
    let reader = admin.create_token("reader", vec!["reader".into()], None).await.unwrap();

    // Each node learns of it by the log.
    let holder = eventually("the other node knows the token", async || {
        let holder = client(&cluster, 2, &reader.text).await;
        holder.channel("orders").await.is_ok().then_some(holder)
    });
    let mut messages = holder.await.subscribe("orders", Start::Latest).await.unwrap();
    admin.revoke_token(&reader.token.id).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, messages.next()).await.expect("the subscription ends");
    assert_eq!(ended.unwrap().unwrap_err().code(), "UNAUTHENTICATED");

    cluster.stop_node(2).await;
    cluster.start_node(2).await;
    let refused = eventually("the node answers again", async || {
        let answer = client(&cluster, 2, &reader.text).await.channel("orders").await;
        answer.err().filter(|error| *error.code() == Code::Unauthenticated)
    });
    refused.await;
    let leader = cluster.leader().await;
    cluster.assert_equal(leader).await;
    cluster.stop().await;
}
