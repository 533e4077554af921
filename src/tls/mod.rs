//! TLS around the one place where connections are made: for clients over gRPC and HTTP, and between nodes.
//!
//! A port is a listener around a listener (`front`): what the budgets let in begins with a TLS handshake, in a task of
//! its own and under the clocks and limits of its connection, and only then is it handed on. Nothing above knows of TLS.
//! Connections to other nodes are made by a network around the network (`network`), so that both sides show a
//! certificate before the proofs of the cookie begin, and each learns which node the other's names.
//!
//! Certificates are renewed while nodes run. So the files are looked at again and again (`reload`); new ones hold from
//! the next handshake on, and files that will not do change nothing but the log.

mod expiry;
mod front;
mod material;
mod network;
mod reload;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc, time::Duration};

use self::{front::Front, material::Material, network::PeerNetwork, reload::Reloading};
use crate::{
    budget::FaceName,
    env::{Clock, Env, Listener},
};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Where the certificates of one table are, and what is required of the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The node's certificate, and those between it and its CA.
    pub cert: PathBuf,
    /// The private key of it.
    pub key: PathBuf,
    /// CAs whose certificates the other side may show.
    pub ca: Option<PathBuf>,
    /// Their revocation lists.
    pub crl: Option<PathBuf>,
    /// Whether the other side has to show one.
    pub requires_certificate: bool,
    /// Whether TLS 1.2 is taken beside 1.3.
    pub takes_tls12: bool,
    /// Whether the other sides are nodes.
    pub between_nodes: bool,
}

impl TlsFiles {
    /// The name of their table.
    fn table(&self) -> &'static str {
        if self.between_nodes { "peer_tls" } else { "tls" }
    }

    /// The key of their table that names the CAs.
    fn ca_key(&self) -> &'static str {
        if self.between_nodes { "ca" } else { "client_ca" }
    }
}

/// What is wrong with the files: the key of the table that names each, and the fault.
pub fn check(files: &TlsFiles) -> Vec<(&'static str, String)> {
    Material::load(files).err().unwrap_or_default()
}

/// The TLS of one node. Cloning shares it.
#[derive(Clone)]
pub struct Tls {
    clients: Option<Arc<Reloading>>,
    peers: Option<Arc<Reloading>>,
    peers_may_be_plain: bool,
    clock: Arc<dyn Clock>,
}

/// What one node's TLS is made of.
pub struct TlsSettings {
    /// For clients; none: without TLS.
    pub clients: Option<TlsFiles>,
    /// Between nodes; none: without TLS.
    pub peers: Option<TlsFiles>,
    /// Whether nodes without TLS are spoken to all the same.
    pub peers_may_be_plain: bool,
    /// What the node is called.
    pub node: String,
}

/// What monitoring is told of the files of one table.
pub struct TlsFigures {
    /// Its name.
    pub table: &'static str,
    /// Of each certificate in use the key that names its file, its serial number, and the seconds until it expires.
    pub seconds_left: Vec<(&'static str, String, u64)>,
    /// Changes of the files that would not do.
    pub reload_failures: u64,
    /// Connections that were refused.
    pub refused: u64,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them will not do, or the certificate for nodes names another node. The text names the key and the file.
    pub async fn open(settings: TlsSettings, env: &Env) -> Result<Self, String> {
        let TlsSettings { clients, peers, peers_may_be_plain, node } = settings;
        let clock = env.clock.clone();
        if clients.is_none() && peers.is_none() {
            return Ok(Self { clients: None, peers: None, peers_may_be_plain, clock });
        }
        let opened = tokio::task::spawn_blocking(move || {
            let clients = clients.map(|files| Reloading::open(files, None)).transpose()?;
            let peers = peers.map(|files| Reloading::open(files, Some(node))).transpose()?;
            Ok::<_, String>((clients.map(Arc::new), peers.map(Arc::new)))
        });
        let (clients, peers) = opened.await.map_err(|error| error.to_string())??;
        let tls = Self { clients, peers, peers_may_be_plain, clock };
        tls.warn();
        Ok(tls)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Reloading>> {
        self.clients.iter().chain(&self.peers)
    }

    /// A listener that hands on connections whose handshake is done; without TLS on this face, the same one.
    pub fn guard(&self, face: FaceName, listener: Box<dyn Listener>) -> Box<dyn Listener> {
        let (reloading, takes_plain) = match face {
            FaceName::Peers => (&self.peers, self.peers_may_be_plain),
            FaceName::Grpc | FaceName::Http => (&self.clients, false),
        };
        match reloading {
            Some(reloading) => Box::new(Front::new(listener, face, reloading.clone(), takes_plain)),
            None => listener,
        }
    }

    /// The same world with a network that speaks TLS to other nodes, where that is on.
    #[must_use]
    pub fn between_nodes(&self, env: &Env) -> Env {
        let mut env = env.clone();
        if let Some(peers) = &self.peers {
            env.network = Arc::new(PeerNetwork::new(env.network, peers.clone(), self.peers_may_be_plain));
        }
        env
    }

    /// Looks at the files for ever, and warns of certificates that are about to expire.
    pub async fn watch(self) {
        if self.all().next().is_none() {
            return;
        }
        loop {
            tokio::time::sleep(LOOK).await;
            let tls = self.clone();
            let looked = tokio::task::spawn_blocking(move || {
                tls.all().for_each(|reloading| reloading.look());
                tls.warn();
            });
            if let Err(error) = looked.await {
                tracing::error!(%error, "cannot look at the files of TLS");
            }
        }
    }

    fn warn(&self) {
        self.all().for_each(|reloading| reloading.warn_of_expiry(self.clock.now_ms()));
    }

    /// For monitoring; empty without TLS.
    pub fn figures(&self) -> Vec<TlsFigures> {
        self.all().map(|reloading| reloading.figures(self.clock.now_ms())).collect()
    }
}
