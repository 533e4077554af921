//! The gRPC face: the public API over the broker, with reflection and the standard health service.

mod admin;
mod channels;
mod publishing;
mod status;
mod subscribing;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tonic::{Response, transport::Server};

use self::admin::AdminService;
pub use self::{
    admin::ClusterAdmin,
    status::{stream_error, to_status},
};
use crate::{
    broker::{Broker, Leader},
    env::{Listener, incoming},
    proto::v1::{self, admin_server::AdminServer, broker_server::BrokerServer, channels_server::ChannelsServer},
};

/// HTTP/2 flow-control windows: a publisher must not wait for window updates.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Room in a message beyond the payloads of the largest batch.
const SLACK: usize = 1 << 20;
/// Where every response names the leader: `<node name>;<client address>`.
const LEADER: &str = "liminal-leader";

/// The services of one node.
#[derive(Clone)]
struct Service {
    broker: Broker,
}

impl Service {
    /// A response that names the leader.
    fn respond<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        let leader = match self.broker.leader() {
            Leader::Local { .. } => self.broker.local(),
            Leader::Remote(node) => node,
            Leader::Unknown => return response,
        };
        if let Ok(value) = format!("{};{}", leader.name, leader.client).parse() {
            response.metadata_mut().insert(LEADER, value);
        }
        response
    }
}

/// Serves until `shutdown`; then calls under way may end.
///
/// # Errors
/// When the services cannot be set up or the listener fails.
pub async fn serve(
    broker: Broker,
    admin: Arc<dyn ClusterAdmin>,
    listener: Box<dyn Listener>,
    shutdown: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let limits = broker.view().limits().clone();
    let message = limits.batch_bytes.max(limits.message_bytes) + SLACK;
    let service = Service { broker };
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<BrokerServer<Service>>().await;
    reporter.set_serving::<ChannelsServer<Service>>().await;
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
        .add_service(health)
        .add_service(reflection)
        .add_service(
            BrokerServer::new(service.clone()).max_decoding_message_size(message).max_encoding_message_size(usize::MAX),
        )
        .add_service(ChannelsServer::new(service.clone()).max_decoding_message_size(message))
        .add_service(AdminServer::new(AdminService { admin, service }))
        .serve_with_incoming_shutdown(incoming(listener), async move { stopping.cancelled().await })
        .await?;
    Ok(())
}
