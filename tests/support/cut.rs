//! A node's network, of which the part that leads to other nodes can be cut and mended, while its clients stay connected.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use liminal::env::{Connection, Env, Listener, Network};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Cloning shares it.
#[derive(Clone)]
pub struct CutNetwork {
    real: Arc<dyn Network>,
    /// Where the node listens for others.
    peers: String,
    /// Cancelled while the network is cut.
    cut: Arc<Mutex<CancellationToken>>,
}

impl CutNetwork {
    pub fn new(peers: &str) -> Self {
        Self { real: Env::real().network, peers: peers.to_owned(), cut: Arc::default() }
    }

    pub fn env(&self) -> Env {
        Env { network: Arc::new(self.clone()), ..Env::real() }
    }

    pub fn cut(&self) {
        self.cut.lock().cancel();
    }

    pub fn mend(&self) {
        *self.cut.lock() = CancellationToken::new();
    }

    fn guard(&self, connection: Connection) -> Connection {
        Connection::new(Guarded { connection, cut: Box::pin(self.cut.lock().clone().cancelled_owned()) })
    }
}

#[async_trait]
impl Network for CutNetwork {
    async fn connect(&self, address: &str) -> io::Result<Connection> {
        if self.cut.lock().is_cancelled() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.real.connect(address).await.map(|connection| self.guard(connection))
    }

    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let listener = self.real.bind(address).await?;
        if address != self.peers {
            return Ok(listener);
        }
        Ok(Box::new(GuardedListener { listener, network: self.clone() }))
    }
}

struct GuardedListener {
    listener: Box<dyn Listener>,
    network: CutNetwork,
}

#[async_trait]
impl Listener for GuardedListener {
    async fn accept(&mut self) -> io::Result<(Connection, String)> {
        let (connection, from) = self.listener.accept().await?;
        Ok((self.network.guard(connection), from))
    }

    fn local_address(&self) -> String {
        self.listener.local_address()
    }
}

struct Guarded {
    connection: Connection,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Guarded {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().poll(cx).is_ready() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.connection).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.connection).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}
