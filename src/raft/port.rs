//! The port for other nodes: requests over HTTP/2, and lanes for log entries, each after a proof of the cluster's cookie.
//!
//! Until a connection has proven that it is a node's, it is a stranger's: only a few bytes of it are read, and there are few
//! of them. A node has a few connections, and what has not come whole of its messages counts against what all nodes have.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tower::util::MapResponseLayer;

use super::{
    complaints::Complaints,
    handshake::{Caller, Purpose, Refused},
    peer_service::PeerService,
    sizes::{CONNECTION_WINDOW, MAX_FRAME, MAX_MESSAGE, STREAM_WINDOW},
    transport::sign,
};
use crate::{
    budget::Origin,
    env::{Connection, Listener, accept},
    grpc::Counting,
    proto::raft::peer_server::PeerServer,
};

/// How long a connection may take to prove what it is.
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
        .layer(Counting { most: MAX_MESSAGE })
        .add_service(requests)
        .serve_with_incoming(ReceiverStream::new(incoming));
    let complaints = Arc::new(Complaints::default());
    let accepting = async {
        loop {
            let (connection, from) = accept(&mut listener).await;
            let begun = begin(service.clone(), connection, from, http2.clone(), complaints.clone());
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

/// Lets a caller prove who it is, and serves it.
async fn begin(
    service: Arc<PeerService>,
    mut connection: Connection,
    from: String,
    http2: mpsc::Sender<std::io::Result<Connection>>,
    complaints: Arc<Complaints>,
) {
    let caller = match timeout(HANDSHAKE, service.transport.welcome(&mut connection)).await {
        Ok(Ok(caller)) => caller,
        // It says nothing, or has gone.
        Err(_) | Ok(Err(Refused::Broken(_))) => return,
        Ok(Err(refused)) => {
            if complaints.is_due(&Origin::of(&from).to_string()) {
                tracing::warn!(from, reason = %refused, "somebody on the port for nodes is refused");
            }
            return;
        }
    };
    let Caller { call: caller, bond } = caller;
    let connection = connection.of_node(caller.from, bond);
    match caller.purpose {
        Purpose::Requests => {
            let _ = http2.send(Ok(connection)).await; // or the node is stopping
        }
        Purpose::Entries => {
            if let Err(error) = service.serve_lane(connection, &caller).await {
                tracing::debug!(%error, "a lane for log entries ended");
            }
        }
    }
}
