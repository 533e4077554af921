//! A client's side: which CAs it trusts, what it shows for itself, and a connection whose errors explain themselves. With
//! TLS 1.3 a server judges a client's certificate after the client takes the handshake for done, so its refusal comes with
//! the first read: that is explained as well.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, Error, RootCertStore,
        pki_types::ServerName,
        version::{TLS12, TLS13},
    },
};

use crate::{
    files::{Fault, certificates, private_key, roots},
    provider,
    why::{self, Failure},
};

/// The files of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// Certificates of the CAs that it trusts; none: those that the machine trusts.
    pub ca: Option<PathBuf>,
    /// Its own certificate, with those between it and the CA, and the private key of it.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl ClientFiles {
    /// Reads them. Blocks.
    ///
    /// # Errors
    /// When one of them will not do.
    pub fn load(&self, protocol: &[u8]) -> Result<ClientConfig, Fault> {
        let roots = match &self.ca {
            Some(file) => roots(file)?,
            None => of_machine()?,
        };
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("the provider has both versions")
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => config.with_no_client_auth(),
            Some((cert, key)) => {
                let made = config.with_client_auth_cert(certificates(cert)?, private_key(key)?);
                made.map_err(|error| Fault::of(cert, format!("it does not go with {}: {error}", key.display())))?
            }
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(config)
    }
}

/// The CAs that the machine trusts.
fn of_machine() -> Result<Arc<RootCertStore>, Fault> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
        return Err(Fault {
            file: "the machine's CA certificates".into(),
            reason: format!("{reason}; name a CA with `--ca FILE` or LIMINAL_CA"),
        });
    }
    Ok(Arc::new(roots))
}

/// Begins TLS on a connection to `host`, a name or an address.
///
/// # Errors
/// With a [`crate::Failure`] inside, where TLS fails.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ClientConfig>,
    host: &str,
    stream: S,
) -> io::Result<ClientStream<S>> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| io::Error::other(format!("`{host}` is no name that a certificate can have")))?;
    connect_with(config, name, host, stream).await
}

/// The same where the certificate's name is another than that of the machine, `shown` in errors.
///
/// # Errors
/// As [`connect`].
pub async fn connect_with<S: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    shown: &str,
    stream: S,
) -> io::Result<ClientStream<S>> {
    let connected = TlsConnector::from(config).connect(name, stream).await;
    let stream = connected.map_err(|error| why::of_io(error, shown))?;
    Ok(ClientStream { stream, other: shown.to_owned(), refusal: Refusal::default() })
}

/// Why the other side has ended the connection, once it has said so. Protocols above keep of an error only its text.
pub type Refusal = Arc<OnceLock<Failure>>;

/// A connection over TLS.
pub struct ClientStream<S> {
    stream: TlsStream<S>,
    other: String,
    refusal: Refusal,
}

impl<S> ClientStream<S> {
    /// The connection as the library has it.
    pub fn tls(&self) -> &tokio_rustls::rustls::ClientConnection {
        self.stream.get_ref().1
    }

    /// What will be known of it when it has failed.
    pub fn refusal(&self) -> Refusal {
        self.refusal.clone()
    }

    fn explained(&self, error: io::Error) -> io::Error {
        let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        // What else can break a connection is no judgement of the other side's.
        if let Some(alert @ Error::AlertReceived(_)) = reason {
            let _ = self.refusal.set(why::explain(alert, &self.other)); // the first one is the cause of all others
        }
        why::of_io(error, &self.other)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        read.map_err(|error| self.explained(error))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
