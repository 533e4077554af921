use std::{io, path::Path, sync::Arc, time::Duration};

use liminal_tls::{
    ClientFiles, connect,
    rustls::{ClientConfig, version::TLS12},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use self::certificates::Ca;
use super::{TlsFiles, check, front::Front, network::PeerNetwork, reload::Reloading};
use crate::{
    budget::{Budgets, FaceName},
    env::{Connection, Env, Listener, Network as _, accept},
    model::Limits,
};

#[path = "../../tests/support/certificates.rs"]
mod certificates;

const PATIENCE: Duration = Duration::from_secs(30);

/// A port that sends back every byte, with its files in a directory.
struct Port {
    dir: tempfile::TempDir,
    reloading: Arc<Reloading>,
    address: String,
    /// The node that the certificate of each connection named, of those that were accepted.
    accepted: mpsc::Receiver<Option<String>>,
    _serving: AbortOnDropHandle<()>,
}

fn files(dir: &Path) -> TlsFiles {
    TlsFiles {
        cert: dir.join("server.crt"),
        key: dir.join("server.key"),
        ca: None,
        crl: None,
        requires_certificate: false,
        takes_tls12: false,
        between_nodes: false,
    }
}

impl Port {
    /// With a certificate for `localhost` by this CA, which clients' certificates are judged by as well.
    async fn open(ca: &Ca, face: FaceName, change: impl FnOnce(&mut TlsFiles)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        ca.sign(&["localhost", "n1.liminal"]).write(dir.path(), "server");
        std::fs::write(dir.path().join("ca.crt"), ca.pem()).unwrap();
        let mut files = files(dir.path());
        change(&mut files);
        Self::of(dir, files, face, false).await
    }

    /// That requires certificates, and refuses those on a list.
    async fn strict(ca: &Ca, revoked: &[u64]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        ca.sign(&["localhost"]).write(dir.path(), "server");
        let (authority, list) = (dir.path().join("ca.crt"), dir.path().join("crl.pem"));
        std::fs::write(&authority, ca.pem()).unwrap();
        std::fs::write(&list, ca.revocation_list(revoked)).unwrap();
        let files = TlsFiles { ca: Some(authority), crl: Some(list), requires_certificate: true, ..files(dir.path()) };
        Self::of(dir, files, FaceName::Grpc, false).await
    }

    async fn of(dir: tempfile::TempDir, files: TlsFiles, face: FaceName, takes_plain: bool) -> Self {
        let listener = Env::real().network.bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_address();
        let listener = Budgets::new(&Limits::default()).guard(face, listener);
        let reloading = Arc::new(Reloading::open(files, None).unwrap());
        let mut front: Box<dyn Listener> = Box::new(Front::new(listener, face, reloading.clone(), takes_plain));
        let (sender, accepted) = mpsc::channel(16);
        let serving = tokio::spawn(async move {
            loop {
                let (connection, _) = accept(&mut front).await;
                sender.try_send(connection.certified().map(str::to_owned)).ok();
                tokio::spawn(echo(connection));
            }
        });
        Self { dir, reloading, address, accepted, _serving: AbortOnDropHandle::new(serving) }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Talks to it as a client that trusts this CA, and shows what is in these files.
    async fn ask(&self, ca: &Ca, identity: Option<&certificates::Pair>) -> io::Result<()> {
        let config = self.config(ca, identity, b"h2");
        self.ask_as(config, "localhost").await
    }

    fn config(&self, ca: &Ca, identity: Option<&certificates::Pair>, protocol: &[u8]) -> ClientConfig {
        let trusted = self.path("trusted.crt");
        std::fs::write(&trusted, ca.pem()).unwrap();
        let identity = identity.map(|pair| pair.write(self.dir.path(), "client"));
        ClientFiles { ca: Some(trusted), identity }.load(protocol).unwrap()
    }

    async fn ask_as(&self, config: ClientConfig, name: &str) -> io::Result<()> {
        let stream = Env::real().network.connect(&self.address).await?;
        talk(connect(Arc::new(config), name, stream).await?).await
    }
}

async fn echo(mut connection: Connection) -> io::Result<()> {
    loop {
        let byte = connection.read_u8().await?;
        connection.write_u8(byte).await?;
        connection.flush().await?;
    }
}

async fn talk(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> io::Result<()> {
    stream.write_u8(7).await?;
    stream.flush().await?;
    let answer = timeout(PATIENCE, stream.read_u8()).await.expect("an answer, or a refusal")?;
    assert_eq!(answer, 7);
    Ok(())
}

#[tokio::test]
async fn a_client_that_trusts_the_ca_gets_through_and_one_that_does_not_says_why() {
    let (ca, other) = (Ca::new("ours"), Ca::new("another"));
    let port = Port::open(&ca, FaceName::Grpc, |_| ()).await;
    port.ask(&ca, None).await.unwrap();
    let error = port.ask(&other, None).await.unwrap_err().to_string();
    assert!(error.contains("localhost") && error.contains("unknown issuer"), "{error}");
    let error = port.ask_as(port.config(&ca, None, b"h2"), "n9.example.com").await.unwrap_err().to_string();
    assert!(error.contains("another name: it is for localhost, n1.liminal"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_refused_on_both_sides() {
    let ca = Ca::new("ours");
    let port = Port::strict(&ca, &[]).await;
    let error = port.ask(&ca, Some(&ca.sign_expired(&["app"]))).await.unwrap_err().to_string();
    assert!(error.contains("refuses this side's certificate: it has expired"), "{error}");
    ca.sign_expired(&["localhost"]).write(port.dir.path(), "server");
    port.reloading.look();
    let error = port.ask(&ca, Some(&ca.sign(&["app"]))).await.unwrap_err().to_string();
    assert!(error.contains("the certificate of localhost has expired"), "{error}");
}

#[tokio::test]
async fn a_client_certificate_is_required_known_and_not_revoked() {
    let (ca, other) = (Ca::new("ours"), Ca::new("another"));
    let port = Port::strict(&ca, &[7]).await;
    port.ask(&ca, Some(&ca.sign_numbered(&["app"], 8))).await.unwrap();
    let refusals = [
        (None, "requires a client certificate"),
        (Some(other.sign(&["app"])), "its CA is unknown there"),
        (Some(ca.sign_numbered(&["app"], 7)), "it is revoked"),
    ];
    for (shown, reason) in refusals {
        let error = port.ask(&ca, shown.as_ref()).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(port.reloading.figures(0).refused, 3);
}

#[tokio::test]
async fn where_a_client_certificate_is_not_required_a_wrong_one_is_refused_all_the_same() {
    let (ca, other) = (Ca::new("ours"), Ca::new("another"));
    let port = Port::open(&ca, FaceName::Grpc, |files| files.ca = Some(files.cert.with_file_name("ca.crt"))).await;
    port.ask(&ca, None).await.unwrap();
    port.ask(&ca, Some(&ca.sign(&["app"]))).await.unwrap();
    assert!(port.ask(&ca, Some(&other.sign(&["app"]))).await.is_err());
}

#[tokio::test]
async fn tls_1_2_is_refused_unless_it_is_allowed() {
    let ca = Ca::new("ours");
    let old = |port: &Port| {
        let roots = liminal_tls::roots(&port.path("ca.crt")).unwrap();
        let config = ClientConfig::builder_with_provider(liminal_tls::provider());
        let config = config.with_protocol_versions(&[&TLS12]).unwrap().with_root_certificates(roots);
        let mut config = config.with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    };
    let port = Port::open(&ca, FaceName::Grpc, |_| ()).await;
    let error = port.ask_as(old(&port), "localhost").await.unwrap_err().to_string();
    assert!(error.contains("other versions of TLS"), "{error}");
    let port = Port::open(&ca, FaceName::Grpc, |files| files.takes_tls12 = true).await;
    port.ask_as(old(&port), "localhost").await.unwrap();
}

#[tokio::test]
async fn the_port_for_grpc_wants_http_2_to_be_agreed_and_the_one_for_http_takes_who_asks_for_nothing() {
    let ca = Ca::new("ours");
    let asks_for_nothing = |port: &Port| {
        let mut config = port.config(&ca, None, b"");
        config.alpn_protocols.clear();
        config
    };
    let grpc = Port::open(&ca, FaceName::Grpc, |_| ()).await;
    assert!(grpc.ask_as(asks_for_nothing(&grpc), "localhost").await.is_err());
    let error = grpc.ask_as(grpc.config(&ca, None, b"http/1.1"), "localhost").await.unwrap_err().to_string();
    assert!(error.contains("another protocol"), "{error}");
    let http = Port::open(&ca, FaceName::Http, |_| ()).await;
    http.ask_as(asks_for_nothing(&http), "localhost").await.unwrap();
    http.ask_as(http.config(&ca, None, b"http/1.1"), "localhost").await.unwrap();
}

#[tokio::test]
async fn one_that_says_nothing_and_one_without_tls_hold_up_nobody() {
    let ca = Ca::new("ours");
    let port = Port::open(&ca, FaceName::Grpc, |_| ()).await;
    let env = Env::real();
    let _silent = env.network.connect(&port.address).await.unwrap();
    let mut plain = env.network.connect(&port.address).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    port.ask(&ca, None).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, plain.read_to_end(&mut answer)).await.expect("it is closed").ok();
    assert!(answer.len() < 16, "an alert at most: {answer:?}");
}

#[tokio::test]
async fn new_files_hold_from_the_next_handshake_on_and_broken_ones_change_nothing() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let port = Port::open(&old, FaceName::Grpc, |_| ()).await;
    let before = std::fs::read_to_string(port.path("server.key")).unwrap();
    // The first of two steps: the certificate is there, its key is not yet.
    let pair = new.sign(&["localhost"]);
    std::fs::write(port.path("server.crt"), &pair.cert).unwrap();
    port.reloading.look();
    assert_eq!(port.reloading.figures(0).reload_failures, 0, "it may be about to be completed");
    port.ask(&old, None).await.unwrap();
    // Nothing follows.
    port.reloading.look();
    port.reloading.look();
    assert_eq!(port.reloading.figures(0).reload_failures, 1, "it is told of once");
    let [(key, fault)]: [(&str, String); 1] = check(port.reloading.files()).try_into().unwrap();
    assert_eq!(key, "key");
    assert!(fault.contains("server.key: it is not the key of the certificate in"), "{fault}");
    assert!(!fault.contains(before.lines().nth(1).unwrap()), "no key is ever shown");
    port.ask(&old, None).await.unwrap();
    // The second step.
    std::fs::write(port.path("server.key"), &pair.key).unwrap();
    port.reloading.look();
    port.ask(&new, None).await.unwrap();
    assert!(port.ask(&old, None).await.is_err());
}

#[tokio::test]
async fn a_connection_whose_certificate_is_revoked_is_ended_by_the_new_list() {
    let ca = Ca::new("ours");
    let port = Port::strict(&ca, &[]).await;
    let mut open = Vec::new();
    for serial in [7, 8] {
        let config = port.config(&ca, Some(&ca.sign_numbered(&["app"], serial)), b"h2");
        let stream = Env::real().network.connect(&port.address).await.unwrap();
        let mut stream = connect(Arc::new(config), "localhost", stream).await.unwrap();
        talk(&mut stream).await.unwrap();
        open.push(stream);
    }
    std::fs::write(port.path("crl.pem"), ca.revocation_list(&[7])).unwrap();
    port.reloading.look();
    let ended = timeout(PATIENCE, open[0].read_u8()).await.expect("it is ended");
    assert!(ended.is_err());
    talk(&mut open[1]).await.unwrap();
}

/// A port for nodes, of the node `n1`.
async fn peers(ca: &Ca, takes_plain: bool) -> Port {
    let dir = tempfile::tempdir().unwrap();
    ca.sign(&["n1.liminal"]).write(dir.path(), "server");
    let files = of_node(ca, dir.path());
    Port::of(dir, files, FaceName::Peers, takes_plain).await
}

fn of_node(ca: &Ca, dir: &Path) -> TlsFiles {
    let authority = dir.join("ca.crt");
    std::fs::write(&authority, ca.pem()).unwrap();
    TlsFiles { ca: Some(authority), requires_certificate: true, between_nodes: true, ..files(dir) }
}

/// Calls a port as the node that a certificate names.
async fn call(port: &Port, ca: &Ca, names: &[&str], falls_back: bool) -> io::Result<Connection> {
    let dir = tempfile::tempdir().unwrap();
    ca.sign(names).write(dir.path(), "server");
    let reloading = Arc::new(Reloading::open(of_node(ca, dir.path()), None).unwrap());
    PeerNetwork::new(Env::real().network, reloading, falls_back).connect(&port.address).await
}

#[tokio::test]
async fn two_nodes_learn_which_node_the_others_certificate_names() {
    let ca = Ca::new("nodes");
    let mut port = peers(&ca, false).await;
    let connection = call(&port, &ca, &["n2.liminal"], false).await.unwrap();
    assert_eq!(connection.certified(), Some("n1"));
    talk(connection).await.unwrap();
    assert_eq!(port.accepted.recv().await.unwrap().as_deref(), Some("n2"));
    let stranger = Ca::new("another");
    let error = call(&port, &stranger, &["n2.liminal"], false).await.err().unwrap().to_string();
    assert!(error.contains("unknown issuer"), "{error}");
}

#[test]
fn a_certificate_that_names_no_node_or_another_one_is_refused_at_the_start() {
    let (ca, dir) = (Ca::new("nodes"), tempfile::tempdir().unwrap());
    ca.sign(&["n1.example.com"]).write(dir.path(), "server");
    let error = Reloading::open(of_node(&ca, dir.path()), Some("n1".into())).err().unwrap();
    assert!(error.contains("peer_tls.cert: ") && error.contains("NODE.liminal"), "{error}");
    ca.sign(&["n2.liminal"]).write(dir.path(), "server");
    let error = Reloading::open(of_node(&ca, dir.path()), Some("n1".into())).err().unwrap();
    assert!(error.contains("certificate of node `n2`, and this node is `n1`"), "{error}");
}

#[tokio::test]
async fn while_tls_is_optional_nodes_with_and_without_it_speak_to_each_other() {
    let ca = Ca::new("nodes");
    let mut port = peers(&ca, true).await;
    talk(Env::real().network.connect(&port.address).await.unwrap()).await.unwrap();
    assert_eq!(port.accepted.recv().await.unwrap(), None);
    talk(call(&port, &ca, &["n2.liminal"], true).await.unwrap()).await.unwrap();
    assert_eq!(port.accepted.recv().await.unwrap().as_deref(), Some("n2"));
    // A certificate that will not do is no reason to go on without one.
    assert!(call(&port, &Ca::new("another"), &["n2.liminal"], true).await.is_err());
}
