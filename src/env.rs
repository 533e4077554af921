//! What a node takes from the world around it: time, randomness and the network. A simulation puts its own in
//! place, so that whole clusters run in one process from one seed. (The disk is behind `raft::log::LogStore` and
//! `store::DurableStore`.)

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
};
use tonic::transport::server::Connected;

use crate::{address, budget::Account};

/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Everything a node takes from outside. Cloning shares it.
#[derive(Clone)]
pub struct Env {
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The network.
    pub network: Arc<dyn Network>,
    /// Whether a node may have threads of its own; otherwise all its tasks run where it was started.
    pub threads: bool,
}

impl Env {
    /// The real world.
    pub fn real() -> Self {
        Self { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), network: Arc::new(Tcp), threads: true }
    }
}

/// Wall-clock time. Durations are measured with tokio's clock, which a simulation controls as well.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
}

/// Randomness for identities, and for what nobody should guess.
pub trait Random: Send + Sync + 'static {
    /// Any number.
    fn next_u64(&self) -> u64;

    /// 64 hexadecimal digits that nobody guesses.
    fn secret(&self) -> String {
        (0..4).map(|_| format!("{:016x}", self.next_u64())).collect()
    }

    /// What nobody sees twice.
    fn nonce(&self) -> [u8; 32] {
        let mut nonce = [0; 32];
        nonce.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&self.next_u64().to_be_bytes()));
        nonce
    }
}

/// Connections between nodes, and from clients.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Connects to `host:port`.
    async fn connect(&self, address: &str) -> io::Result<Connection>;
    /// Listens on `host:port`.
    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>>;
    /// All `IP:port`s that a `host:port` stands for; none when the name is not known (yet).
    async fn resolve(&self, address: &str) -> Vec<String> {
        vec![address.to_owned()]
    }
}

/// Accepts connections.
#[async_trait]
pub trait Listener: Send + 'static {
    /// The next connection and the address that it comes from.
    async fn accept(&mut self) -> io::Result<(Connection, String)>;
    /// Where it listens, with the real port when 0 was asked for.
    fn local_address(&self) -> String;
}

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// A connection of any network.
pub struct Connection {
    stream: Box<dyn Stream>,
    /// None where nobody counts what comes through it.
    account: Option<Arc<Account>>,
    /// The node that the other side's certificate names.
    certified: Option<Arc<str>>,
}

impl Connection {
    /// Wraps a byte stream.
    pub fn new(stream: impl Stream) -> Self {
        Self { stream: Box::new(stream), account: None, certified: None }
    }

    /// The certificate of the other side names this node.
    #[must_use]
    pub(crate) fn with_certified(self, node: Option<Arc<str>>) -> Self {
        Self { certified: node, ..self }
    }

    /// The node that the other side's certificate names; none without TLS between nodes.
    pub fn certified(&self) -> Option<&str> {
        self.certified.as_deref()
    }

    /// What comes through it counts on this account.
    #[must_use]
    pub(crate) fn with_account(self, account: Arc<Account>) -> Self {
        Self { account: Some(account), ..self }
    }

    /// What counts against it.
    pub fn account(&self) -> Arc<Account> {
        self.account.clone().unwrap_or_default()
    }

    /// The connection of a node that has proven who it is. `bond` stands for this very connection.
    #[must_use]
    pub fn of_node(self, id: u64, bond: [u8; 32]) -> Self {
        let account = self.account();
        if let Some(node) = &self.certified {
            account.certify(node.clone());
        }
        account.prove_node(id, bond);
        Self { account: Some(account), ..self }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
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

struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

struct SystemRandom;

impl Random for SystemRandom {
    fn next_u64(&self) -> u64 {
        // Ids, tickets and salts come from here: what can be guessed will not do in its place.
        getrandom::u64().expect("the system's generator of random numbers answers")
    }
}

/// A client in a node's world: commands, and clients in simulations.
impl liminal_client::Environment for Env {
    fn connect<'a>(&'a self, address: &'a str) -> liminal_client::Connecting<'a> {
        Box::pin(async move {
            let stream: Box<dyn liminal_client::Io> = Box::new(self.network.connect(address).await?);
            Ok(stream)
        })
    }

    fn random(&self) -> u64 {
        self.random.next_u64()
    }
}

struct Tcp;

#[async_trait]
impl Network for Tcp {
    async fn connect(&self, address: &str) -> io::Result<Connection> {
        let stream = address::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection::new(stream))
    }

    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(TcpListener::bind(address).await?))
    }

    async fn resolve(&self, address: &str) -> Vec<String> {
        if address.parse::<std::net::SocketAddr>().is_ok() {
            return vec![address.to_owned()];
        }
        match tokio::net::lookup_host(address).await {
            Ok(found) => found.map(|address| address.to_string()).collect(),
            Err(error) => {
                tracing::debug!(%error, address, "cannot resolve a name");
                Vec::new()
            }
        }
    }
}

#[async_trait]
impl Listener for TcpListener {
    async fn accept(&mut self) -> io::Result<(Connection, String)> {
        let (stream, from) = TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok((Connection::new(stream), from.to_string()))
    }

    fn local_address(&self) -> String {
        self.local_addr().map(|address| address.to_string()).unwrap_or_default()
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Account>;

    fn connect_info(&self) -> Arc<Account> {
        self.account()
    }
}

/// The next connection; a failed accept is logged and tried again.
pub async fn accept(listener: &mut Box<dyn Listener>) -> (Connection, String) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                // Out of file descriptors, most likely: some will be closed.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// All connections that a listener accepts.
pub fn incoming(listener: Box<dyn Listener>) -> impl futures::Stream<Item = io::Result<Connection>> {
    futures::stream::unfold(listener, |mut listener| async move {
        let (connection, _) = accept(&mut listener).await;
        Some((Ok(connection), listener))
    })
}

/// What this machine, or container, is called by others.
pub fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "n1".to_owned() } else { name.to_owned() }
}
