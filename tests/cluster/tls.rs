//! Three nodes that speak TLS to each other, and the change of their CA while they run.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use liminal::client::{Client, Consistency, Message, Start};

use super::support::{
    certificates::Ca,
    eventually,
    processes::{Node, Processes},
    wire,
};

const NODES: usize = 3;
const DRAIN: Duration = Duration::from_secs(2);

fn place(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("n{number}"))
}

/// Gives a node a certificate.
fn certify(dir: &Path, number: usize, ca: &Ca, serial: u64) {
    ca.sign_numbered(&[&format!("n{number}.liminal")], serial).write(&place(dir, number), "node");
}

/// Has a node trust these CAs.
fn trust(dir: &Path, number: usize, authorities: &[&Ca]) {
    let bundle: String = authorities.iter().map(|ca| ca.pem()).collect();
    std::fs::write(place(dir, number).join("ca.crt"), bundle).unwrap();
}

fn environment(dir: &Path, number: usize) -> Vec<(String, String)> {
    let file = |name: &str| place(dir, number).join(name).to_str().unwrap().to_owned();
    [("CERT", "node.crt"), ("KEY", "node.key"), ("CA", "ca.crt")]
        .map(|(key, name)| (format!("LIMINAL_PEER_TLS__{key}"), file(name)))
        .into()
}

/// Three nodes with certificates of one CA, none of which runs yet.
fn prepared(dir: &Path, ca: &Ca) -> Processes {
    let mut processes = Processes::prepared(NODES, DRAIN, "");
    for number in 0..NODES {
        std::fs::create_dir_all(place(dir, number)).unwrap();
        certify(dir, number, ca, 1);
        trust(dir, number, &[ca]);
        processes.differ(number, Node { environment: environment(dir, number), ..Node::default() });
    }
    processes
}

async fn start(processes: &mut Processes) -> Client {
    for number in 0..NODES {
        processes.run(number);
    }
    processes.ready().await;
    let client = processes.client().await;
    eventually("the channel is created", async || client.channel("orders").await.ok()).await;
    client
}

/// Waits until all nodes use so many CAs, and certificates of this serial number.
async fn reloaded(processes: &Processes, authorities: usize, serial: u64) {
    for address in &processes.http {
        eventually("a node uses its new files", async || {
            let metrics = wire::http_body(address, "/metrics").await?;
            let of = |key: &str| {
                let begin = format!("liminal_tls_certificate_seconds_left{{table=\"peer_tls\",key=\"{key}\"");
                metrics.lines().filter(|line| line.starts_with(&begin)).collect::<Vec<_>>()
            };
            let own = of("cert").iter().any(|line| line.contains(&format!("serial=\"{serial:02X}\"")));
            (own && of("ca").len() == authorities).then_some(())
        })
        .await;
    }
}

async fn publish(client: &Client, number: u64) {
    let message = Message::new(format!(r#"{{"id":{number}}}"#)).with_key(format!("key-{number}"));
    client.publish("orders", message).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ca_of_nodes_is_changed_while_they_run_and_nothing_is_lost() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let dir = tempfile::tempdir().unwrap();
    let mut processes = prepared(dir.path(), &old);
    let client = start(&mut processes).await;
    publish(&client, 0).await;
    // Both CAs everywhere, then certificates of the new one, then the new one alone.
    (0..NODES).for_each(|number| trust(dir.path(), number, &[&old, &new]));
    reloaded(&processes, 2, 1).await;
    publish(&client, 1).await;
    (0..NODES).for_each(|number| certify(dir.path(), number, &new, 2));
    reloaded(&processes, 2, 2).await;
    publish(&client, 2).await;
    (0..NODES).for_each(|number| trust(dir.path(), number, &[&new]));
    reloaded(&processes, 1, 2).await;
    publish(&client, 3).await;
    // Each of them has to be let in again by the others, with new connections.
    for number in 0..NODES {
        processes.kill(number);
        processes.run(number);
        processes.ready().await;
        publish(&client, 4 + number as u64).await;
    }
    let page = client.read("orders", Start::Earliest, 0, Consistency::Linearizable).await.unwrap();
    assert_eq!(page.messages.len(), 4 + NODES);
    processes.caught_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_certificate_of_another_ca_or_of_another_node_stays_outside() {
    let (ca, other) = (Ca::new("ours"), Ca::new("another"));
    let dir = tempfile::tempdir().unwrap();
    let mut processes = prepared(dir.path(), &ca);
    let client = start(&mut processes).await;
    publish(&client, 0).await;
    processes.kill(2);
    certify(dir.path(), 2, &other, 1);
    processes.run(2);
    eventually("somebody refuses it", async || {
        let refused = |number: usize| {
            let log = processes.log(number);
            log.contains("a connection over TLS is refused") || log.contains("unknown issuer")
        };
        (0..NODES).any(refused).then_some(())
    })
    .await;
    assert_ne!(wire::http_status(&processes.http[2], "/ready").await, Some(200));
    publish(&client, 1).await;
    processes.kill(2);
    ca.sign(&["n1.liminal"]).write(&place(dir.path(), 2), "node");
    processes.run(2);
    assert!(!processes.wait(2).await.success());
    let log = processes.log(2);
    assert!(log.contains("certificate of node `n1`, and this node is `n2`"), "{log}");
    certify(dir.path(), 2, &ca, 3);
    processes.run(2);
    processes.ready().await;
    publish(&client, 2).await;
}
