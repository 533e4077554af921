//! The port for other nodes: requests over HTTP/2, and lanes for log entries.

use std::{sync::Arc, time::Duration};

use tokio::{io::AsyncReadExt as _, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tower::util::MapResponseLayer;

use super::{
    lane::PREFACE,
    peer_service::PeerService,
    transport::{CONNECTION_WINDOW, MAX_FRAME, MAX_MESSAGE, STREAM_WINDOW, sign},
};
use crate::{
    env::{Connection, Listener, accept},
    proto::raft::peer_server::PeerServer,
};

/// How long a connection may take to show what it is.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections that wait to be served.
const BACKLOG: usize = 64;

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
        .layer(MapResponseLayer::new(sign(service.local.id)))
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
