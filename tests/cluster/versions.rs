//! Clusters whose nodes are of builds that speak different versions, as while one is upgraded node by node. The older build is
//! this one, made to say of itself what that one says, and to fail over every entry that that one could not read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use liminal::{
    broker::Leader,
    client::Client,
    config::{AuditMode, ServerConfig},
    model::{AUDIT_CHANNEL, PeerVersion},
};

use super::support::{
    eventually,
    in_process::{Cluster, envelope, payloads},
};

const OLD: PeerVersion = PeerVersion(3);
const NEW: PeerVersion = PeerVersion(4);

async fn client(cluster: &Cluster, number: usize) -> Client {
    Client::connect([cluster.nodes[number].as_ref().unwrap().client_address()]).await.unwrap()
}

/// Node 2 speaks the earlier version, and acts are to be recorded.
async fn mixed(dir: &std::path::Path) -> Cluster {
    let mut cluster = Cluster::prepare(dir);
    let record = |config: &mut ServerConfig| config.security.audit = AuditMode::On;
    cluster.configs.iter_mut().for_each(record);
    cluster.speaks[2] = OLD;
    cluster.start_nodes().await;
    cluster.create("orders").await;
    cluster
}

fn versions(cluster: &Cluster) -> Vec<PeerVersion> {
    cluster.running().map(|number| cluster.broker(number).view().version()).collect()
}

async fn all_have(cluster: &Cluster, version: PeerVersion) {
    eventually("all nodes have the version", async || {
        versions(cluster).iter().all(|found| *found == version).then_some(())
    })
    .await;
}

/// Is refused by name, whoever leads.
async fn invitation_is_held_back(client: &Client) {
    let refused = eventually("an answer from the leader", async || {
        let error = client.invite_node("", None).await.unwrap_err();
        (error.code() != "NO_LEADER" && error.code() != "UNREACHABLE").then_some(error)
    })
    .await;
    let said = refused.to_string();
    assert_eq!(refused.code(), "NOT_UPGRADED", "{said}");
    assert!(said.contains("needs version 4") && said.contains("node `n2` speaks version 3"), "{said}");
}

async fn lead(cluster: &Cluster, client: &Client, number: usize) {
    let name = format!("n{number}");
    eventually("it leads", async || {
        let _ = client.transfer_leadership(&name).await; // it may lead already, or lack entries yet
        cluster.leads(number).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_cluster_has_the_newest_version_and_everything_that_needs_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    client(&cluster, 0).await.invite_node("", None).await.unwrap();
    all_have(&cluster, NEW).await;
    let status = client(&cluster, 1).await.cluster_status().await.unwrap();
    assert_eq!(status.cluster_version, 4);
    assert_eq!(status.nodes.iter().map(|node| node.version).collect::<Vec<_>>(), [4, 4, 4]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_is_held_back_by_the_last_old_node_and_works_as_soon_as_it_is_upgraded() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = mixed(dir.path()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let publishing = {
        let (broker, stop) = (cluster.broker(0).clone(), stop.clone());
        tokio::spawn(async move {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let key = format!("k{count}");
                while broker.publish("orders", envelope(&count.to_string()), Some(&key)).await.is_err() {}
                count += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            count
        })
    };

    let asked = client(&cluster, 0).await;
    // The new nodes lead, and the old one.
    for number in [0, 2, 1] {
        lead(&cluster, &asked, number).await;
        invitation_is_held_back(&asked).await;
    }
    let status = asked.cluster_status().await.unwrap();
    assert_eq!(status.cluster_version, 3);
    assert_eq!(status.nodes.iter().map(|node| node.version).collect::<Vec<_>>(), [4, 4, 3]);
    // Each refusal was to be recorded.
    assert!(cluster.broker(0).view().catalog().get(AUDIT_CHANNEL).is_none());
    assert_eq!(versions(&cluster), [OLD; 3]);
    cluster.assert_equal(1).await;

    cluster.stop_node(2).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(versions(&cluster), [OLD; 2], "nobody knows what it will come back as");
    cluster.speaks[2] = NEW;
    cluster.start_node(2).await;
    all_have(&cluster, NEW).await;
    asked.invite_node("", None).await.unwrap();
    eventually("acts are recorded", async || {
        let all = cluster.running().all(|number| cluster.broker(number).view().catalog().get(AUDIT_CHANNEL).is_some());
        all.then_some(())
    })
    .await;

    stop.store(true, Ordering::Relaxed);
    let count = publishing.await.unwrap();
    let expected: Vec<String> = (0..count).map(|number: u32| number.to_string()).collect();
    let mut found = payloads(cluster.broker(2), "orders").await;
    while found.len() < expected.len() {
        let page = cluster.broker(2);
        let from = liminal::broker::Start::Seq(found.len() as u64);
        let consistency = liminal::broker::Consistency::Linearizable;
        let page = page.read("orders", from, 0, consistency, None).await.unwrap();
        let messages = page.batches.iter().flat_map(|batch| batch.frame.messages());
        found.extend(messages.map(|message| String::from_utf8(message.unwrap().payload.to_vec()).unwrap()));
    }
    assert_eq!(found, expected, "each message once, in order");
    let leader = cluster.leader().await;
    cluster.assert_equal(leader).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_node_cannot_come_back_once_the_version_has_risen() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path()).await;
    cluster.create("orders").await;
    all_have(&cluster, NEW).await;

    // With its disk it reads what it must not go on with.
    cluster.stop_node(2).await;
    cluster.speaks[2] = OLD;
    let refused = cluster.try_start_node(2).await.unwrap_err().to_string();
    assert!(refused.contains("cluster of version 4") && refused.contains("versions up to 3"), "{refused}");

    // Without it no node talks to it.
    std::fs::remove_dir_all(dir.path().join("n2")).unwrap();
    cluster.start_node(2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.broker(2).leader(), Leader::Unknown);
    assert_eq!(cluster.nodes[2].as_ref().unwrap().group().cluster_id(), None);
    let status = client(&cluster, 0).await.cluster_status().await.unwrap();
    let there = status.nodes.iter().filter(|node| node.term > 0).count();
    assert_eq!((status.nodes.len(), there), (3, 2), "{status:?}");

    // With the build of the others it finds them.
    cluster.stop_node(2).await;
    cluster.speaks[2] = NEW;
    client(&cluster, 0).await.remove_node("n2").await.unwrap();
    cluster.start_node(2).await;
    all_have(&cluster, NEW).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_gone_holds_the_version_back_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = mixed(dir.path()).await;
    cluster.stop_node(2).await;
    let asked = client(&cluster, 0).await;
    invitation_is_held_back(&asked).await;
    eventually("it is removed", async || asked.remove_node("n2").await.ok()).await;
    all_have(&cluster, NEW).await;
    asked.invite_node("", None).await.unwrap();
    cluster.stop().await;
}
