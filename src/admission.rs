//! How many connections a node takes, and how long a new one may stay silent: a listener around a listener. What is
//! refused is closed at once, so that those who are served do not notice.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use crate::{
    env::{Connection, Listener},
    model::Limits,
};

/// Counts the connections of a node's faces. Cloning shares the counts.
#[derive(Clone)]
pub struct Admission {
    inner: Arc<Inner>,
}

struct Inner {
    total: usize,
    per_address: usize,
    handshake: Duration,
    open: Mutex<Open>,
    refused: AtomicU64,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_host: HashMap<String, usize>,
}

impl Admission {
    /// With the limits of a node.
    pub fn new(limits: &Limits) -> Self {
        let inner = Inner {
            total: limits.connections,
            per_address: limits.connections_per_address,
            handshake: limits.handshake_timeout,
            open: Mutex::default(),
            refused: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A listener that hands on only what the limits allow.
    pub fn guard(&self, listener: Box<dyn Listener>) -> Box<dyn Listener> {
        Box::new(Guarded { listener, admission: self.clone() })
    }

    /// Connections that are open now.
    pub fn open(&self) -> u64 {
        self.inner.open.lock().total as u64
    }

    /// Connections that were refused since the start.
    pub fn refused(&self) -> u64 {
        self.inner.refused.load(Ordering::Relaxed)
    }

    /// A place for a connection from `address`, while there is one.
    fn admit(&self, address: &str) -> Option<Place> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).to_owned();
        let mut open = self.inner.open.lock();
        let from_there = open.by_host.get(&host).copied().unwrap_or(0);
        if open.total >= self.inner.total || from_there >= self.inner.per_address {
            drop(open);
            self.inner.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        open.total += 1;
        open.by_host.insert(host.clone(), from_there + 1);
        Some(Place { admission: self.clone(), host })
    }
}

/// Taken by one connection until it is dropped.
struct Place {
    admission: Admission,
    host: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.admission.inner.open.lock();
        open.total -= 1;
        if let Some(count) = open.by_host.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                open.by_host.remove(&self.host);
            }
        }
    }
}

struct Guarded {
    listener: Box<dyn Listener>,
    admission: Admission,
}

#[async_trait]
impl Listener for Guarded {
    async fn accept(&mut self) -> io::Result<(Connection, String)> {
        loop {
            let (connection, from) = self.listener.accept().await?;
            let Some(place) = self.admission.admit(&from) else {
                tracing::debug!(from, "a connection was refused: there are as many as the limits allow");
                continue;
            };
            let patience = Box::pin(tokio::time::sleep(self.admission.inner.handshake));
            return Ok((Connection::new(Admitted { connection, patience: Some(patience), _place: place }), from));
        }
    }

    fn local_address(&self) -> String {
        self.listener.local_address()
    }
}

/// A connection that has to say something before its patience ends.
struct Admitted {
    connection: Connection,
    /// None once something was heard.
    patience: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl AsyncRead for Admitted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.connection).poll_read(cx, buf);
        if read.is_ready() {
            self.patience = None;
        } else if let Some(patience) = &mut self.patience
            && patience.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the connection stayed silent")));
        }
        read
    }
}

impl AsyncWrite for Admitted {
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::env::{Env, accept};

    async fn guarded(limits: &Limits) -> (Env, Admission, Box<dyn Listener>, String) {
        let env = Env::real();
        let listener = env.network.bind("127.0.0.1:0").await.unwrap();
        let (address, admission) = (listener.local_address(), Admission::new(limits));
        let listener = admission.guard(listener);
        (env, admission, listener, address)
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_of_an_address_are_closed_and_counted() {
        let limits = Limits { connections_per_address: 1, ..Limits::default() };
        let (env, admission, mut listener, address) = guarded(&limits).await;
        let _first = env.network.connect(&address).await.unwrap();
        let (held, _) = accept(&mut listener).await;
        let mut second = env.network.connect(&address).await.unwrap();
        let more = tokio::spawn(async move { accept(&mut listener).await });
        assert_eq!(second.read(&mut [0]).await.unwrap_or(0), 0, "it is closed");
        assert_eq!((admission.open(), admission.refused()), (1, 1));
        drop(held);
        let _third = env.network.connect(&address).await.unwrap();
        more.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_stays_silent_is_given_up() {
        let (env, _, mut listener, address) = guarded(&Limits::default()).await;
        let _silent = env.network.connect(&address).await.unwrap();
        let (mut connection, _) = accept(&mut listener).await;
        let error = connection.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
