//! Tokens on three nodes: what is made or ended on one of them holds on all.

use futures::StreamExt as _;
use liminal::client::{Code, Grant, Role, Start};

use super::support::{PATIENCE, eventually, in_process::Cluster};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_on_one_node_ends_what_is_open_on_another_one_and_stays_refused_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut cluster, admin) = Cluster::start_closed(dir.path()).await;
    let grant = Grant::new().scope("channel:orders").actions(vec!["read".into()]);
    admin.create_role(Role::new().name("reader").grants(vec![grant])).await.unwrap();
    let reader = admin.create_token("reader", vec!["reader".into()], None).await.unwrap();

    // Each node learns of it by the log.
    let holder = eventually("the other node knows the token", async || {
        let holder = cluster.holder(2, &reader.text).connect().await.unwrap();
        holder.channel("orders").await.is_ok().then_some(holder)
    });
    let mut messages = holder.await.subscribe("orders", Start::Latest).await.unwrap();
    admin.revoke_token(&reader.token.id).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, messages.next()).await.expect("the subscription ends");
    assert_eq!(ended.unwrap().unwrap_err().code(), "UNAUTHENTICATED");

    cluster.stop_node(2).await;
    cluster.start_node(2).await;
    let refused = eventually("the node answers again", async || {
        let answer = cluster.holder(2, &reader.text).connect().await.unwrap().channel("orders").await;
        answer.err().filter(|error| *error.code() == Code::Unauthenticated)
    });
    refused.await;
    let leader = cluster.leader().await;
    cluster.assert_equal(leader).await;
    cluster.stop().await;
}
