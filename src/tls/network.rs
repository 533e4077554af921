//! Connections to other nodes over TLS: a network around the network. What is connected has shown a certificate of a node, and
//! says which one it names; who compares that with the node that was meant is `raft::transport`, because an address may be
//! another node's by now.

use std::{io, sync::Arc};

use async_trait::async_trait;
use liminal_tls::{connect_with, node_of, rustls::pki_types::ServerName};

use super::reload::Reloading;
use crate::env::{Connection, Listener, Network};

/// See the module.
pub(super) struct PeerNetwork {
    inner: Arc<dyn Network>,
    reloading: Arc<Reloading>,
    /// Whether a node that does not speak TLS is spoken to without it.
    falls_back: bool,
}

impl PeerNetwork {
    pub(super) fn new(inner: Arc<dyn Network>, reloading: Arc<Reloading>, falls_back: bool) -> Self {
        Self { inner, reloading, falls_back }
    }

    async fn begin(&self, connection: Connection, address: &str) -> io::Result<Connection> {
        let config = self.reloading.client().ok_or_else(|| io::Error::other("there is no CA for nodes"))?;
        // The certificate's own name is judged: see `AnyNode`.
        let name = ServerName::try_from("any.liminal").expect("it is a name");
        let stream = connect_with(config, name, address, connection).await?;
        let leaf = stream.tls().peer_certificates().and_then(<[_]>::first);
        let node = leaf.map(node_of).transpose().map_err(io::Error::other)?;
        Ok(Connection::new(stream).with_certified(node.map(Arc::from)))
    }
}

#[async_trait]
impl Network for PeerNetwork {
    async fn connect(&self, address: &str) -> io::Result<Connection> {
        let connection = self.inner.connect(address).await?;
        match self.begin(connection, address).await {
            // Without TLS it is a broken request to the other side, which closes. A certificate that will not do is none.
            Err(error) if self.falls_back && is_plain(&error) => {
                tracing::debug!(address, %error, "a node does not speak TLS yet");
                self.inner.connect(address).await
            }
            connected => connected,
        }
    }

    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        self.inner.bind(address).await
    }

    async fn resolve(&self, address: &str) -> Vec<String> {
        self.inner.resolve(address).await
    }
}

fn is_plain(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}
