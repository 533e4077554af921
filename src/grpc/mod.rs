//! The gRPC face: the public API over the broker, with reflection and the standard health service.

mod admin;
mod arriving;
mod channels;
mod claims;
mod consumers;
mod exchanges;
mod guarding;
mod publishing;
mod rights;
mod security;
mod status;
mod subscribing;

use std::{sync::Arc, time::Duration};

use liminal_wire::headers as names;
use tokio_util::sync::CancellationToken;
use tonic::{Code, codegen::http, server::NamedService, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::util::MapResponseLayer;

use self::admin::AdminService;
pub(crate) use self::arriving::Counting;
use self::guarding::Guarding;
pub use self::{
    admin::ClusterAdmin,
    status::{stream_error, to_status},
};
use crate::{
    broker::{Broker, Gate, Leader},
    env::{Listener, incoming},
    proto::v1::{
        self, admin_server::AdminServer, broker_server::BrokerServer, channels_server::ChannelsServer,
        claims_server::ClaimsServer, consumers_server::ConsumersServer, security_server::SecurityServer,
    },
};

/// HTTP/2 flow-control windows: a publisher must not wait for window updates, and what is in them is memory that a stream
/// can fill which nobody reads.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// The largest HTTP/2 frame to take: each one is read and written by a system call of its own.
const MAX_FRAME: u32 = 256 << 10;
/// Bytes of a request's headers: messages carry theirs in their bodies.
const HEADER_LIST: u32 = 16 << 10;
/// Streams that a client has reset before they were taken up, and resets for what it did wrong, before its connection is
/// ended: both are work that costs it nothing.
const PENDING_RESETS: usize = 20;
const ERROR_RESETS: usize = 1024;
/// Room in a message beyond the payloads of the largest batch.
const SLACK: usize = 1 << 20;

/// How often the standard health service looks at the node's readiness.
const HEALTH_INTERVAL: Duration = Duration::from_millis(200);

/// The services of one node.
#[derive(Clone)]
struct Service {
    stopping: CancellationToken,
}

/// Names the leader on every response, and gives errors of the gRPC library itself a stable code too.
fn annotate<B>(broker: &Broker, mut response: http::Response<B>) -> http::Response<B> {
    let leader = match broker.leader() {
        Leader::Local { .. } => Some(broker.local().clone()),
        Leader::Remote(node) => Some(node),
        Leader::Unknown => None,
    };
    let headers = response.headers_mut();
    if let Some(leader) = leader
        && let Ok(value) = format!("{};{}", leader.name, leader.client).parse()
    {
        headers.insert(names::LEADER, value);
    }
    let failed = headers.get("grpc-status").map(|status| Code::from_bytes(status.as_bytes()));
    if let Some(code) = failed.filter(|code| *code != Code::Ok)
        && !headers.contains_key(names::CODE)
    {
        headers.insert(names::CODE, http::HeaderValue::from_static(status::library_code(code).as_str()));
    }
    response
}

/// Keeps the standard health service in step with the node's readiness.
async fn follow_readiness(admin: Arc<dyn ClusterAdmin>, reporter: HealthReporter, stopping: CancellationToken) {
    let mut told = None;
    loop {
        let ready = admin.ready() && !stopping.is_cancelled();
        if told.replace(ready) != Some(ready) {
            let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            // The empty name stands for the whole server.
            for service in [
                "",
                BrokerServer::<Service>::NAME,
                ChannelsServer::<Service>::NAME,
                ClaimsServer::<Service>::NAME,
                ConsumersServer::<Service>::NAME,
                SecurityServer::<Service>::NAME,
                AdminServer::<AdminService>::NAME,
            ] {
                reporter.set_service_status(service, status).await;
            }
        }
        if stopping.is_cancelled() {
            return;
        }
        let _ = tokio::time::timeout(HEALTH_INTERVAL, stopping.cancelled()).await;
    }
}

/// Serves until `shutdown`; then calls under way may end.
///
/// # Errors
/// When the services cannot be set up or the listener fails.
pub async fn serve(
    broker: Broker,
    gate: Arc<Gate>,
    admin: Arc<dyn ClusterAdmin>,
    listener: Box<dyn Listener>,
    shutdown: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let limits = broker.view().limits().clone();
    let message = limits.batch_bytes.max(limits.message_bytes) + SLACK;
    let annotated = broker;
    let service = Service { stopping: shutdown.clone() };
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(follow_readiness(admin.clone(), reporter, shutdown.clone()));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
        .build_v1()?;
    let stopping = shutdown.clone();
    let (ping, pong): (Duration, Duration) = limits.keepalive;
    Server::builder()
        .http2_keepalive_interval(Some(ping))
        .http2_keepalive_timeout(Some(pong))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        // What is not said here is not limited: tonic passes that on and so takes away the limits of the library below.
        .max_concurrent_streams(u32::try_from(limits.streams_per_connection).unwrap_or(u32::MAX))
        .http2_max_header_list_size(HEADER_LIST)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(ERROR_RESETS))
        .layer(MapResponseLayer::new(move |response| annotate(&annotated, response)))
        .layer(Counting { most: message })
        .layer(Guarding { gate })
        .add_service(health)
        .add_service(reflection)
        .add_service(
            BrokerServer::new(service.clone()).max_decoding_message_size(message).max_encoding_message_size(usize::MAX),
        )
        .add_service(ClaimsServer::new(service.clone()).max_decoding_message_size(message))
        .add_service(ChannelsServer::new(service.clone()).max_decoding_message_size(message))
        .add_service(
            ConsumersServer::new(service.clone())
                .max_decoding_message_size(message)
                .max_encoding_message_size(usize::MAX),
        )
        .add_service(SecurityServer::new(service))
        .add_service(AdminServer::new(AdminService { admin }))
        .serve_with_incoming_shutdown(incoming(listener), async move { stopping.cancelled().await })
        .await?;
    Ok(())
}
