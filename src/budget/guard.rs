//! A listener around a listener, and a connection around a connection: what is accepted gets an account, and all that is
//! read and written is counted on it. What has to end answers with an error, whatever protocol runs over it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Account, Budgets, face::Face};
use crate::env::{Connection, Listener};

pub(super) struct Guarded {
    listener: Box<dyn Listener>,
    budgets: Budgets,
    face: Arc<Face>,
}

impl Guarded {
    pub(super) fn new(listener: Box<dyn Listener>, budgets: Budgets, face: Arc<Face>) -> Self {
        Self { listener, budgets, face }
    }
}

#[async_trait]
impl Listener for Guarded {
    async fn accept(&mut self) -> io::Result<(Connection, String)> {
        loop {
            let accepted = self.listener.accept().await;
            let (connection, from) = accepted.inspect_err(|error| {
                if is_out_of_descriptors(error) {
                    self.budgets.free_descriptor();
                }
            })?;
            let Some(account) = self.face.admit(&from) else {
                tracing::debug!(from, "a connection was refused: there are as many as the limits allow");
                continue;
            };
            let counted = Counted { connection, face: self.face.clone(), account: account.clone() };
            return Ok((Connection::new(counted).with_account(account), from));
        }
    }

    fn local_address(&self) -> String {
        self.listener.local_address()
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let exhausted = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].map(rustix::io::Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| exhausted.contains(&code))
}

/// A connection that is counted.
struct Counted {
    connection: Connection,
    face: Arc<Face>,
    account: Arc<Account>,
}

impl Counted {
    fn check(&self) -> io::Result<()> {
        match self.account.ended() {
            Some(why) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, why.name())),
            None => Ok(()),
        }
    }

    fn sent<T>(&self, sent: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.account.sent(sent.is_pending());
        sent
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.face.closed(&self.account);
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.account.reader.register(cx.waker());
        self.check()?;
        if self.account.is_stalled() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.connection).poll_read(cx, buf);
        self.account.came(buf.filled().len() - before);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.account.writer.register(cx.waker());
        self.check()?;
        let written = Pin::new(&mut self.connection).poll_write(cx, bytes);
        self.sent(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.account.writer.register(cx.waker());
        self.check()?;
        let written = Pin::new(&mut self.connection).poll_write_vectored(cx, slices);
        self.sent(written)
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
    use std::time::Duration;

    use futures::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use crate::{
        budget::{Budgets, FaceName, account::UNPROVEN_BYTES},
        env::{Connection, Env, Listener, accept},
        model::Limits,
    };

    const PIECE: usize = 4096;

    struct Guarded {
        env: Env,
        budgets: Budgets,
        listener: Box<dyn Listener>,
    }

    impl Guarded {
        async fn new(limits: &Limits) -> Self {
            let env = Env::real();
            let listener = env.network.bind("127.0.0.1:0").await.unwrap();
            let budgets = Budgets::new(limits);
            Self { listener: budgets.guard(FaceName::Http, listener), budgets, env }
        }

        /// Both ends of a new connection.
        async fn connect(&mut self) -> (Connection, Connection) {
            let client = self.env.network.connect(&self.listener.local_address()).await.unwrap();
            (client, accept(&mut self.listener).await.0)
        }

        fn held(&self, what: &str) -> u64 {
            self.budgets.held().into_iter().find(|held| (held.0, held.1) == ("http", what)).unwrap().2
        }
    }

    #[tokio::test]
    async fn what_was_read_counts_until_it_is_taken_and_nothing_counts_of_a_closed_connection() {
        let mut guarded = Guarded::new(&Limits::default()).await;
        let (mut client, mut server) = guarded.connect().await;
        client.write_all(b"GET /").await.unwrap();
        server.read_exact(&mut [0; 5]).await.unwrap();
        assert_eq!((guarded.held("connections"), guarded.held("unread_bytes")), (1, 5));
        server.account().took_all();
        assert_eq!(guarded.held("unread_bytes"), 0);
        client.write_all(b"GET /").await.unwrap();
        server.read_exact(&mut [0; 5]).await.unwrap();
        drop(server);
        assert_eq!((guarded.held("connections"), guarded.held("unread_bytes")), (0, 0));
    }

    #[tokio::test]
    async fn a_connection_that_has_to_end_does_so_in_the_midst_of_reading() {
        let limits = Limits { handshake_timeout: Duration::from_millis(50), ..Limits::default() };
        let mut guarded = Guarded::new(&limits).await;
        let (_silent, mut server) = guarded.connect().await;
        let watch = tokio::spawn(guarded.budgets.clone().watch());
        let error = server.read(&mut [0]).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (std::io::ErrorKind::ConnectionAborted, "first_request")
        );
        watch.abort();
    }

    /// Reads in small pieces until so many bytes are there, or a piece more.
    async fn read(server: &mut Connection, bytes: usize) -> usize {
        let mut read = 0;
        while read < bytes {
            read += server.read(&mut [0; PIECE]).await.unwrap();
        }
        read
    }

    #[tokio::test]
    async fn what_is_crowded_is_not_read_until_there_is_room() {
        let mut guarded = Guarded::new(&Limits { unread_bytes: 40_000, ..Limits::default() }).await;
        let (mut client, mut server) = guarded.connect().await;
        server.account().prove();
        client.write_all(&[7; 60_000]).await.unwrap();
        let half = 20_000; // of an address
        let first = read(&mut server, half + 1).await;
        assert!(server.read(&mut [0; PIECE]).now_or_never().is_none(), "more is there, but no room for it");
        assert_eq!(guarded.held("unread_bytes"), first as u64);
        server.account().took_all();
        read(&mut server, half).await;
    }

    #[tokio::test]
    async fn without_a_request_no_more_is_read_than_the_head_of_one_takes() {
        let mut guarded = Guarded::new(&Limits::default()).await;
        let (mut client, mut server) = guarded.connect().await;
        let writing = tokio::spawn(async move { client.write_all(&vec![7; 1 << 20]).await.map(|()| client) });
        let first = read(&mut server, UNPROVEN_BYTES as usize).await;
        assert!(first < UNPROVEN_BYTES as usize + PIECE);
        assert!(server.read(&mut [0; PIECE]).now_or_never().is_none());
        server.account().prove();
        server.read_exact(&mut [0; PIECE]).await.unwrap();
        writing.abort();
    }
}
