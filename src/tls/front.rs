//! A listener whose connections have done their TLS handshake. Each does it in a task of its own: one that says nothing holds up
//! nobody else, and is ended by the clock of its connection, as is one that says nothing without TLS. There are never more
//! handshakes than the budgets let connections in.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use liminal_tls::{Identity, node_of, of_io, rustls};
use liminal_wire::time::to_ms;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::reload::Reloading;
use crate::{
    budget::{self, FaceName, Origin},
    env::{Connection, Listener},
    raft::Complaints,
};

/// How a TLS connection begins: a record of the handshake.
const HANDSHAKE_RECORD: u8 = 0x16;

/// How long a connection that is refused may still be read, and how many bytes of it.
const PARTING: Duration = Duration::from_secs(1);
const LAST_WORDS: u64 = 64 << 10;

/// See the module.
pub(super) struct Front {
    listener: Box<dyn Listener>,
    port: Arc<Port>,
    handshakes: JoinSet<Option<(Connection, String)>>,
}

/// What all handshakes of a port need.
struct Port {
    face: FaceName,
    reloading: Arc<Reloading>,
    /// Whether connections without TLS are handed on as they are.
    takes_plain: bool,
    complaints: Complaints,
}

impl Front {
    pub(super) fn new(
        listener: Box<dyn Listener>,
        face: FaceName,
        reloading: Arc<Reloading>,
        takes_plain: bool,
    ) -> Self {
        let port = Port { face, reloading, takes_plain, complaints: Complaints::default() };
        Self { listener, port: Arc::new(port), handshakes: JoinSet::new() }
    }
}

#[async_trait]
impl Listener for Front {
    async fn accept(&mut self) -> io::Result<(Connection, String)> {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => {
                    let (connection, from) = accepted?;
                    self.handshakes.spawn(self.port.clone().begin(connection, from));
                }
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(ready)) = done {
                        return Ok(ready);
                    }
                }
            }
        }
    }

    fn local_address(&self) -> String {
        self.listener.local_address()
    }
}

/// Why there is no connection; and what is left of it, where the other side is still to hear why.
type Failed = (io::Error, Option<Connection>);

impl Port {
    /// The connection when its handshake is done; none when it has failed.
    async fn begin(self: Arc<Self>, connection: Connection, from: String) -> Option<(Connection, String)> {
        match self.shake(connection, &from).await {
            Ok(connection) => Some((connection, from)),
            Err((error, rest)) => {
                self.complain(&error, &from);
                if let Some(rest) = rest {
                    part(rest).await;
                }
                None
            }
        }
    }

    async fn shake(&self, mut connection: Connection, from: &str) -> Result<Connection, Failed> {
        let account = connection.account();
        if self.takes_plain {
            let mut first = [0];
            connection.read_exact(&mut first).await.map_err(|error| (error, None))?;
            connection = Connection::new(Unread { first: Some(first[0]), connection }).with_account(account.clone());
            if first != [HANDSHAKE_RECORD] {
                return Ok(connection);
            }
        }
        let acceptor = TlsAcceptor::from(self.reloading.server(self.face));
        let shaken = acceptor.accept(connection).into_fallible().await;
        let stream = shaken.map_err(|(error, rest)| (of_io(error, from), Some(rest)))?;
        let tls = stream.get_ref().1;
        // Who asks for another protocol was refused; who asks for none is taken where people write requests by hand.
        if tls.alpn_protocol().is_none() && self.face != FaceName::Http {
            return Err((of_io(io::Error::other(rustls::Error::NoApplicationProtocol), from), None));
        }
        let shown = tls.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
        let mut node = None;
        if let Some(leaf) = shown.first() {
            if self.face == FaceName::Peers {
                let named = node_of(leaf).map_err(|reason| {
                    (io::Error::other(format!("its certificate will not do for a node: {reason}")), None)
                })?;
                node = Some(Arc::from(named));
            } else if let Some(Identity { names, not_after }) = Identity::of(leaf) {
                account.identify(budget::Identity { names, until_ms: to_ms(not_after) });
            }
            self.reloading.remember(&account, shown);
        }
        Ok(Connection::new(stream).with_account(account).with_certified(node))
    }

    /// Tells of a refusal; not of connections that break, or that the budgets end.
    fn complain(&self, error: &io::Error, from: &str) {
        let broken = [io::ErrorKind::ConnectionAborted, io::ErrorKind::UnexpectedEof].contains(&error.kind());
        if broken || error.get_ref().is_none() {
            tracing::debug!(from, %error, "a connection ended before its handshake was done");
            return;
        }
        self.reloading.refused();
        if self.complaints.is_due(&Origin::of(from).to_string()) {
            tracing::warn!(from, face = self.face.name(), reason = %error, "a connection over TLS is refused");
        }
    }
}

/// Ends a connection so that the other side hears why. With TLS 1.3 a client takes the handshake for done and has sent its
/// first request; closed with that unread, the connection would be reset, and the reason lost with it.
async fn part(mut rest: Connection) {
    let told = async {
        rest.shutdown().await?;
        tokio::io::copy(&mut rest.take(LAST_WORDS), &mut tokio::io::sink()).await
    };
    let _ = timeout(PARTING, told).await; // or it goes on talking
}

/// A connection of which one byte was looked at.
struct Unread {
    first: Option<u8>,
    connection: Connection,
}

impl AsyncRead for Unread {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buf.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.connection).poll_read(cx, buf)
    }
}

impl AsyncWrite for Unread {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}
