//! Clients that are known by their certificates, over real TLS: what the roles of a name allow, that a token in the call counts
//! alone, and that all ends with the binding.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::StreamExt as _;
use liminal::{
    broker::TokenText,
    client::{Client, ClientError, Grant, Message, Role, RoleQuota, Start, Tls},
    config::{SecurityConfig, ServerConfig, TlsConfig},
    env::Env,
    model::SecurityMode,
    node::Node,
    store::MemoryStore,
};
use liminal_tls::{ClientFiles, connect};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    PATIENCE, start,
    tls::certificates::{Ca, Pair},
};

/// A node that asks for tokens and takes certificates of a CA.
struct Shop {
    node: Node,
    ca: Ca,
    dir: tempfile::TempDir,
    admin: Client,
}

impl Shop {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new("ours");
        let (cert, key) = ca.sign(&["localhost", "127.0.0.1"]).write(dir.path(), "server");
        std::fs::write(dir.path().join("ca.crt"), ca.pem()).unwrap();
        let text = |path: PathBuf| Some(path.to_str().unwrap().to_owned());
        let tls = TlsConfig {
            cert: text(cert),
            key: text(key),
            client_ca: text(dir.path().join("ca.crt")),
            ..TlsConfig::default()
        };
        let bootstrap = TokenText::random(&*Env::real().random);
        let security = SecurityConfig {
            mode: SecurityMode::Enforce,
            bootstrap_token_hash: Some(bootstrap.hash()),
            ..SecurityConfig::default()
        };
        let node = start(ServerConfig { tls, security, ..ServerConfig::default() }, Arc::new(MemoryStore::new())).await;
        let mut shop = Self { admin: client(&node, &dir, None, Some(bootstrap.reveal())).await, node, ca, dir };
        let admin = shop.admin.create_token("first", vec!["admin".into()], None).await.unwrap();
        shop.admin = client(&shop.node, &shop.dir, None, Some(&admin.text)).await;
        for (name, actions) in [("writer", "publish"), ("reader", "read")] {
            let grant = Grant::new().scope("channel:orders").actions(vec![actions.into()]);
            shop.admin.create_role(Role::new().name(name).grants(vec![grant])).await.unwrap();
        }
        shop.admin.create_channel("orders", Default::default()).await.unwrap();
        shop
    }

    /// Whoever shows this certificate, and a token or none.
    async fn holder(&self, pair: &Pair, token: Option<&str>) -> Client {
        client(&self.node, &self.dir, Some(pair), token).await
    }

    async fn bind(&self, name: &str, role: &str) -> String {
        self.admin.bind_certificate(name, "", vec![role.into()], None).await.unwrap().id
    }
}

async fn client(node: &Node, dir: &tempfile::TempDir, pair: Option<&Pair>, token: Option<&str>) -> Client {
    let mut tls = Tls::new().ca(dir.path().join("ca.crt"));
    if let Some(pair) = pair {
        let (cert, key) = pair.write(dir.path(), "holder");
        tls = tls.identity(cert, key);
    }
    let builder = Client::builder().servers([format!("https://{}", node.client_address())]).tls(tls);
    let builder = token.into_iter().fold(builder, liminal::client::Builder::token);
    builder.retry_for(Duration::from_millis(100)).connect().await.unwrap()
}

async fn publishes(client: &Client) -> Result<(), ClientError> {
    client.publish("orders", Message::new("1")).await.map(drop)
}

async fn reads(client: &Client) -> Result<(), ClientError> {
    client.subscribe("orders", Start::Latest).await.map(drop)
}

#[tokio::test]
async fn whoever_shows_a_certificate_of_a_bound_name_has_its_roles_and_the_first_name_that_is_bound_counts() {
    let shop = Shop::start().await;
    for (name, role) in [
        ("uri:spiffe://shop/eu", "writer"),
        ("dns:shop.example.com", "reader"),
        ("cn:old shop", "writer"),
        ("cn:other", "writer"),
    ] {
        shop.bind(name, role).await;
    }
    let ca = &shop.ca;
    for (what, pair, may_publish, may_read) in [
        ("a URI", ca.sign_uris(&[], &["spiffe://shop/eu"]), true, false),
        ("a host", ca.sign(&["Shop.example.com"]), false, true),
        ("a URI before a host", ca.sign_uris(&["shop.example.com"], &["spiffe://shop/eu"]), true, false),
        (
            "a URI that nobody knows, and a host",
            ca.sign_uris(&["shop.example.com"], &["spiffe://shop/us"]),
            false,
            true,
        ),
        ("a common name", ca.sign_common(&[], "old shop"), true, false),
        ("a common name beside a host", ca.sign_common(&["unknown.example.com"], "other"), false, false),
        ("another host", ca.sign(&["eshop.example.com"]), false, false),
        ("a name for many hosts", ca.sign(&["*.example.com"]), false, false),
    ] {
        let holder = shop.holder(&pair, None).await;
        for (result, may) in [(publishes(&holder).await, may_publish), (reads(&holder).await, may_read)] {
            let refusals = ["PERMISSION_DENIED", "UNAUTHENTICATED"];
            match result {
                Ok(()) => assert!(may, "{what}"),
                Err(error) => assert!(!may && refusals.contains(&error.code().as_str()), "{what}: {error:?}"),
            }
        }
    }
    shop.node.stop().await;
}

#[tokio::test]
async fn a_token_in_the_call_counts_alone_and_a_wrong_one_is_refused_whatever_the_certificate() {
    let shop = Shop::start().await;
    shop.bind("dns:shop.example.com", "writer").await;
    let pair = shop.ca.sign(&["shop.example.com"]);
    let reader = shop.admin.create_token("reader", vec!["reader".into()], None).await.unwrap();
    let holder = shop.holder(&pair, Some(&reader.text)).await;
    reads(&holder).await.unwrap();
    let denied = publishes(&holder).await.unwrap_err();
    assert_eq!(denied.code(), "PERMISSION_DENIED", "{denied:?}");
    let wrong = TokenText::random(&*Env::real().random);
    let error = publishes(&shop.holder(&pair, Some(wrong.reveal())).await).await.unwrap_err();
    assert_eq!(error.code(), "UNAUTHENTICATED", "{error:?}");
    publishes(&shop.holder(&pair, None).await).await.unwrap();
    shop.node.stop().await;
}

#[tokio::test]
async fn a_certificate_that_nobody_knows_is_told_its_names_and_another_ca_is_not_heard() {
    let shop = Shop::start().await;
    let pair = shop.ca.sign_uris(&["a.example.com"], &["spiffe://a"]);
    let error = publishes(&shop.holder(&pair, None).await).await.unwrap_err();
    assert_eq!(error.code(), "UNAUTHENTICATED");
    assert!(error.message().contains("uri:spiffe://a, dns:a.example.com"), "{error:?}");
    assert!(error.message().contains("token create --certificate"), "{error:?}");
    shop.bind("dns:a.example.com", "writer").await;
    let forged = Ca::new("theirs").sign(&["a.example.com"]);
    let (cert, key) = forged.write(shop.dir.path(), "forged");
    let tls = Tls::new().ca(shop.dir.path().join("ca.crt")).identity(cert, key);
    let builder = Client::builder().servers([format!("https://{}", shop.node.client_address())]).tls(tls);
    let refused = match builder.retry_for(Duration::from_millis(100)).connect().await {
        Ok(client) => publishes(&client).await.unwrap_err(),
        Err(error) => error,
    };
    assert_ne!(refused.code(), "PERMISSION_DENIED", "{refused:?}");
    shop.node.stop().await;
}

#[tokio::test]
async fn what_is_open_by_a_certificate_ends_with_its_binding_and_with_its_lifetime() {
    let shop = Shop::start().await;
    let id = shop.bind("dns:reader.example.com", "reader").await;
    let holder = shop.holder(&shop.ca.sign(&["reader.example.com"]), None).await;
    let mut messages = holder.subscribe("orders", Start::Latest).await.unwrap();
    shop.admin.revoke_token(&id).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(1), messages.next()).await.expect("it ends within a second");
    assert_eq!(ended.unwrap().unwrap_err().code(), "UNAUTHENTICATED");
    // The name is free again, for a while.
    let lifetime = Some(Duration::from_secs(2));
    let roles = vec!["reader".to_owned()];
    shop.admin.bind_certificate("dns:reader.example.com", "", roles, lifetime).await.unwrap();
    let mut messages = holder.subscribe("orders", Start::Latest).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, messages.next()).await.expect("it ends");
    assert_eq!(ended.unwrap().unwrap_err().code(), "UNAUTHENTICATED");
    shop.node.stop().await;
}

#[tokio::test]
async fn a_binding_is_listed_limited_and_recorded_as_a_token_and_cannot_be_given_another_text() {
    let shop = Shop::start().await;
    let id = shop.bind("DNS:shop.example.com".to_lowercase().as_str(), "writer").await;
    let shown = shop.admin.token(&id).await.unwrap();
    assert_eq!(shown.certificate.as_deref(), Some("dns:shop.example.com"));
    let taken = shop.admin.bind_certificate("dns:shop.example.com", "", vec!["reader".into()], None).await.unwrap_err();
    assert!(taken.message().contains(&id), "{taken:?}");
    for wrong in ["shop.example.com", "dns:*.example.com"] {
        let error = shop.admin.bind_certificate(wrong, "", vec!["reader".into()], None).await.unwrap_err();
        assert_eq!(error.code(), "INVALID_ARGUMENT", "{wrong}");
    }
    let rotated = shop.admin.rotate_token(&id).await.unwrap_err();
    assert!(rotated.message().contains("shows a certificate"), "{rotated:?}");
    shop.admin.set_role_quota("writer", RoleQuota::new().messages_per_second(1)).await.unwrap();
    let pair = shop.ca.sign(&["shop.example.com"]);
    let holder = shop.holder(&pair, None).await;
    let mut refused = None;
    for _ in 0..20 {
        refused = refused.or(publishes(&holder).await.err());
    }
    assert!(refused.unwrap().message().contains("role `writer` allows 1"));
    // Over HTTP it is the same caller.
    let (cert, key) = pair.write(shop.dir.path(), "holder");
    let files = ClientFiles { ca: Some(shop.dir.path().join("ca.crt")), identity: Some((cert, key)) };
    let stream = TcpStream::connect(shop.node.http_address()).await.unwrap();
    let mut stream = connect(Arc::new(files.load(b"http/1.1").unwrap()), "127.0.0.1", stream).await.unwrap();
    let target = "/v1/can-i?action=publish&scope=channel:orders";
    let request = format!("GET {target} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", shop.node.http_address());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(
        answer.contains(r#""allowed":true"#) && answer.contains(&format!("the certificate of token {id}")),
        "{answer}"
    );
    let mut audit = shop.admin.subscribe("$audit", Start::Earliest).await.unwrap();
    let recorded = async {
        loop {
            let said = String::from_utf8_lossy(&audit.next().await.unwrap().unwrap().message.payload).into_owned();
            if said.contains(&format!("token:{id}")) && said.contains("certificate dns:shop.example.com roles writer") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, recorded).await.expect("who bound it is recorded");
    shop.node.stop().await;
}
