//! TLS of a client's connections: which files it is made of, and what a server said of them. The files are read again for each
//! connection, so a program that runs for long goes on with new certificates; where they will not do any more, what was
//! read last is used.

use std::{path::PathBuf, sync::Arc};

use liminal_tls::{ClientFiles, ClientStream, Failure, Fault, Refusal, rustls::ClientConfig};
use parking_lot::Mutex;

use crate::environment::Io;

/// What a gRPC server speaks.
const PROTOCOL: &[u8] = b"h2";

/// Whom a client trusts and what it shows for itself, for servers given as `https://`.
///
/// ```no_run
/// use liminal_client::{Client, Tls};
///
/// # async fn example() -> Result<(), liminal_client::ClientError> {
/// let tls = Tls::new().ca("certs/ca.crt").identity("certs/client.crt", "certs/client.key");
/// let client = Client::builder().servers(["https://n1.example.com:7101"]).tls(tls).connect().await?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Tls {
    files: ClientFiles,
}

impl Tls {
    /// Trusts the CAs that the machine trusts, and shows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the CAs of this PEM file, and no others.
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.files.ca = Some(file.into());
        self
    }

    /// Shows this certificate, whose private key is in another PEM file.
    pub fn identity(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.files.identity = Some((cert.into(), key.into()));
        self
    }
}

/// What a server last said of this client's certificate.
#[derive(Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Option<Refusal>>>);

impl Said {
    pub(crate) fn refusal(&self) -> Option<Failure> {
        self.0.lock().as_ref().and_then(|refusal| refusal.get().cloned())
    }
}

pub(crate) struct Encryption {
    files: ClientFiles,
    read: Mutex<Option<Arc<ClientConfig>>>,
}

impl Encryption {
    pub(crate) fn new(tls: Tls) -> Self {
        Self { files: tls.files, read: Mutex::default() }
    }

    /// Reads the files.
    pub(crate) async fn config(&self) -> Result<Arc<ClientConfig>, Fault> {
        let known = self.read.lock().clone();
        let of_machine = self.files == ClientFiles::default();
        if let Some(known) = known.clone().filter(|_| of_machine) {
            return Ok(known);
        }
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || files.load(PROTOCOL)).await;
        let read = read.unwrap_or_else(|error| {
            Err(Fault { file: "the files of TLS".into(), reason: format!("reading them failed: {error}") })
        });
        match (read, known) {
            (Ok(config), _) => Ok(self.read.lock().insert(Arc::new(config)).clone()),
            (Err(fault), Some(known)) => {
                tracing::warn!(%fault, "files of TLS will not do any more; going on with what was read before");
                Ok(known)
            }
            (Err(fault), None) => Err(fault),
        }
    }

    /// Begins TLS on a connection to `host`.
    pub(crate) async fn begin(
        &self,
        host: &str,
        stream: Box<dyn Io>,
        said: &Said,
    ) -> std::io::Result<ClientStream<Box<dyn Io>>> {
        let config = self.config().await.map_err(std::io::Error::other)?;
        let stream = liminal_tls::connect(config, host, stream).await?;
        *said.0.lock() = Some(stream.refusal());
        Ok(stream)
    }
}
