//! Every face over TLS, with a client certificate that is required.

use std::{path::Path, sync::Arc};

use futures::{SinkExt as _, StreamExt as _};
use liminal::{
    client::{Client, Message, Start, Tls},
    config::{ServerConfig, TlsConfig},
    node::Node,
    store::MemoryStore,
};
use liminal_tls::{ClientFiles, ClientStream, connect};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::{client_async, tungstenite::Message as Said};

use self::certificates::Ca;
use super::{PATIENCE, start};

#[path = "../support/certificates.rs"]
pub mod certificates;

fn text(path: &Path) -> Option<String> {
    Some(path.to_str().unwrap().to_owned())
}

/// A node with certificates in a directory, where there are also those of a client: `client.crt` and `client.key`.
async fn node(dir: &Path) -> Node {
    let ca = Ca::new("ours");
    let (cert, key) = ca.sign(&["localhost", "127.0.0.1"]).write(dir, "server");
    ca.sign(&["app"]).write(dir, "client");
    std::fs::write(dir.join("ca.crt"), ca.pem()).unwrap();
    let tls = TlsConfig {
        cert: text(&cert),
        key: text(&key),
        client_ca: text(&dir.join("ca.crt")),
        require_client_cert: true,
        ..TlsConfig::default()
    };
    start(ServerConfig { tls, ..ServerConfig::default() }, Arc::new(MemoryStore::new())).await
}

/// A connection to the HTTP port.
async fn http(node: &Node, dir: &Path) -> ClientStream<TcpStream> {
    let identity = Some((dir.join("client.crt"), dir.join("client.key")));
    let files = ClientFiles { ca: Some(dir.join("ca.crt")), identity };
    let stream = TcpStream::connect(node.http_address()).await.unwrap();
    connect(Arc::new(files.load(b"http/1.1").unwrap()), "127.0.0.1", stream).await.unwrap()
}

async fn get(node: &Node, dir: &Path, path: &str) -> String {
    let mut stream = http(node, dir).await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", node.http_address());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn all_faces_are_served_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let tls = Tls::new().ca(dir.path().join("ca.crt"));
    let tls = tls.identity(dir.path().join("client.crt"), dir.path().join("client.key"));
    let client = Client::builder().servers([format!("https://{}", node.client_address())]).tls(tls);
    let client = client.connect().await.unwrap();
    let published = client.publish("orders", Message::new(r#"{"id":7}"#).with_key("k")).await.unwrap();
    let mut messages = client.subscribe("orders", Start::Earliest).await.unwrap();
    let received = tokio::time::timeout(PATIENCE, messages.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((published.seq, received.seq), (0, 0));

    assert!(get(&node, dir.path(), "/ready").await.starts_with("HTTP/1.1 200"));
    let page = get(&node, dir.path(), "/v1/channels/orders/messages?from=earliest").await;
    assert!(page.contains(r#"{"id":7}"#), "{page}");
    let metrics = get(&node, dir.path(), "/metrics").await;
    for key in ["cert", "client_ca"] {
        let line = format!("liminal_tls_certificate_seconds_left{{table=\"tls\",key=\"{key}\",serial=");
        assert!(metrics.contains(&line), "{metrics}");
    }

    let (mut socket, _) =
        client_async(format!("ws://{}/v1/ws", node.http_address()), http(&node, dir.path()).await).await.unwrap();
    let publish = json!({"id": 1, "publish": {"channel": "orders", "payload": {"id": 8}}});
    socket.send(Said::text(publish.to_string())).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    let answer: Value = serde_json::from_str(answer.to_text().unwrap()).unwrap();
    assert_eq!(answer["ok"]["seq"], 1, "{answer}");
    drop((socket, messages, client));
    node.stop().await;
}

#[tokio::test]
async fn a_client_without_a_certificate_is_told_at_once_that_it_needs_one() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let client = Client::builder()
        .servers([format!("https://{}", node.client_address())])
        .tls(Tls::new().ca(dir.path().join("ca.crt")));
    // With TLS 1.3 it may be told when it connects, or with the first answer.
    let error = match client.connect().await {
        Ok(client) => client.channel("orders").await.unwrap_err(),
        Err(error) => error,
    };
    assert!(error.message().contains("requires a client certificate"), "{error:?}");
    assert!(error.help().unwrap().contains("--client-cert"), "{error:?}");
    assert!(!error.outcome_unknown());
    node.stop().await;
}

#[tokio::test]
async fn a_ca_that_is_no_certificate_is_named_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.crt");
    std::fs::write(&file, "nothing").unwrap();
    let error = Client::builder().servers(["https://127.0.0.1:1"]).tls(Tls::new().ca(&file)).connect().await;
    let error = error.err().unwrap();
    assert_eq!(error.code(), "INVALID_ARGUMENT");
    assert!(error.message().contains("ca.crt: there is no certificate"), "{error}");
}
