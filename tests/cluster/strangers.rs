//! Who is no node of the cluster learns nothing at the port for nodes, and changes nothing.

use std::time::Duration;

use liminal::client::Message;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::support::{
    eventually,
    processes::{Node, Processes},
};

const DRAIN: Duration = Duration::from_secs(2);

/// All that a node says to somebody who says this, until it hangs up.
async fn answer_to(peer: &str, said: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(peer).await.unwrap();
    stream.write_all(said).await.unwrap();
    let mut answer = Vec::new();
    // A node that hangs up on unread bytes resets the connection.
    let _ = timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.expect("it hangs up");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn who_proves_nothing_is_told_nothing() {
    let processes = Processes::start(3, DRAIN).await;
    let client = processes.client().await;
    let leader = processes.leader().await;
    let peer = &processes.peers[leader];
    let hello_of_http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for said in [&hello_of_http2[..], b"LIM1 and a ticket of sixteen bytes", b"GET / HTTP/1.1\r\n\r\n"] {
        assert_eq!(answer_to(peer, said).await, b"", "after {:?}", said.escape_ascii().to_string());
    }
    // One that speaks the right protocol with some other cookie.
    let mut call = [7; 75];
    call[..7].copy_from_slice(b"LIM2\x03\x04\x01");
    let answer = answer_to(peer, &call).await;
    assert_eq!((&answer[..6], answer[6..].iter().max()), (&b"LIM2\x04\x01"[..], Some(&0)));
    client.publish("orders", Message::new("{}")).await.unwrap();
    assert_eq!(processes.leader().await, leader);
    let log = processes.log(leader);
    assert!(log.contains("somebody on the port for nodes is refused") && log.contains("earlier build"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_cookie_is_told_so_and_let_in_nowhere() {
    let mut processes = Processes::start(3, DRAIN).await;
    let fourth = processes.add(Node::default());
    let other = ("LIMINAL_CLUSTER__COOKIE".to_owned(), "not the cookie of the others".to_owned());
    processes.environment(fourth, vec![other]);
    processes.run(fourth);
    eventually("it is told", async || {
        processes.log(fourth).contains("the cluster cookie is wrong: all nodes need the same").then_some(())
    })
    .await;
    eventually("they are told", async || {
        (0..3).any(|node| processes.log(node).contains("the cluster cookie is wrong")).then_some(())
    })
    .await;
    let client = processes.client().await;
    let status = client.cluster_status().await.unwrap();
    assert_eq!(status.nodes.len(), 3, "{status:?}");
}
