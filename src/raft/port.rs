//! The port for other nodes: requests over HTTP/2, and lanes for log entries.
//!
//! Until a connection has shown the cluster's secret, or a ticket that a node was given, it is a stranger's: little of it
//! is read, no message is decoded, and there are few of them.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{Either, Ready, ready};
use tokio::{io::AsyncReadExt as _, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, codegen::http};
use tower::{Layer, Service, util::MapResponseLayer};

use super::{
    lane::PREFACE,
    peer_service::PeerService,
    transport::{CONNECTION_WINDOW, Gate, MAX_FRAME, MAX_MESSAGE, STREAM_WINDOW, sign},
};
use crate::{
    budget::Account,
    env::{Connection, Listener, accept},
    proto::raft::peer_server::PeerServer,
};

/// How long a connection may take to show what it is.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections that wait to be served.
const BACKLOG: usize = 64;
/// Bytes of a request's headers.
const HEADER_LIST: u32 = 16 << 10;
/// Requests that are open on one connection at once.
const STREAMS: u32 = 1024;
/// Streams that may be reset for what the other side did wrong, before its connection is ended.
const ERROR_RESETS: usize = 1024;

/// Serves until the node stops.
pub(super) async fn serve(service: PeerService, mut listener: Box<dyn Listener>, stop: CancellationToken) {
    let service = Arc::new(service);
    let requests = PeerServer::from_arc(service.clone())
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let (http2, incoming) = mpsc::channel(BACKLOG);
    let served = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(1)))
        .http2_keepalive_timeout(Some(Duration::from_secs(2)))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(HEADER_LIST)
        .http2_max_local_error_reset_streams(Some(ERROR_RESETS))
        .layer(MapResponseLayer::new(sign(service.local.id)))
        .layer(Proving { gate: service.gate.clone() })
        .add_service(requests)
        .serve_with_incoming(ReceiverStream::new(incoming));
    let accepting = async {
        loop {
            let (connection, _) = accept(&mut listener).await;
            let begun = begin(service.clone(), connection, http2.clone());
            tokio::spawn(stop.clone().run_until_cancelled_owned(begun));
        }
    };
    // Peers' streams never end by themselves, so there is nothing to wait for.
    tokio::select! {
        () = stop.cancelled() => {}
        () = accepting => {}
        served = served => if let Err(error) = served {
            tracing::error!(%error, "the service for other nodes failed");
        },
    }
}

/// Looks at how a connection begins.
async fn begin(
    service: Arc<PeerService>,
    mut connection: Connection,
    http2: mpsc::Sender<std::io::Result<Connection>>,
) {
    let mut first = [0; PREFACE.len()];
    if !matches!(timeout(HANDSHAKE, connection.read_exact(&mut first)).await, Ok(Ok(_))) {
        return; // it says nothing, or has gone
    }
    if first != PREFACE {
        let _ = http2.send(Ok(connection.unread(first.to_vec()))).await; // or the node is stopping
        return;
    }
    if let Err(error) = service.serve_lane(connection).await {
        tracing::debug!(%error, "a lane for log entries ended");
    }
}

/// Lets only requests with the cluster's secret reach the services behind it, before anything of their bodies is read.
#[derive(Clone)]
struct Proving {
    gate: Gate,
}

impl<S> Layer<S> for Proving {
    type Service = Proved<S>;

    fn layer(&self, service: S) -> Proved<S> {
        Proved { service, gate: self.gate.clone() }
    }
}

#[derive(Clone)]
struct Proved<S> {
    service: S,
    gate: Gate,
}

impl<S> Service<http::Request<Body>> for Proved<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Self::Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if let Err(status) = self.gate.check_secret(request.headers()) {
            return Either::Right(ready(Ok(status.into_http())));
        }
        if let Some(account) = request.extensions().get::<Arc<Account>>() {
            account.prove();
        }
        Either::Left(self.service.call(request))
    }
}
