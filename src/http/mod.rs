//! The HTTP face: publishing, reading, following and managing channels for whoever has no gRPC, `curl` for one; and
//! health, readiness and metrics. Errors are problem details (RFC 9457) with the codes of the gRPC face.

mod channels;
mod claims;
mod consumers;
mod events;
mod exchanges;
mod lag;
mod messages;
mod monitoring;
mod problem;
mod rules;
mod websocket;

use std::{future::Future, io, sync::Arc};

use axum::{
    Router,
    extract::{DefaultBodyLimit, connect_info::Connected},
    middleware,
    response::Html,
    routing::{get, post, put},
    serve::IncomingStream,
};
use tokio_util::sync::CancellationToken;

pub use self::lag::consumer_metrics;
pub use self::monitoring::{Labels, Metric, MetricKind, NodeView};
use crate::{
    broker::Broker,
    env::{Connection, ConnectionInfo, Listener},
};

/// Serves until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    broker: Broker,
    view: Arc<dyn NodeView>,
    listener: Box<dyn Listener>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let limits = broker.view().limits();
    let body = limits.batch_bytes.max(limits.message_bytes).saturating_add(1);
    let api = Router::new()
        .route("/v1/channels", get(channels::list))
        .route(
            "/v1/channels/{channel}",
            get(channels::show).put(channels::create).patch(channels::update).delete(channels::delete),
        )
        .route("/v1/channels/{channel}/schemas", get(channels::schemas))
        .route("/v1/channels/{channel}/schema/validate", post(channels::validate))
        .route("/v1/channels/{channel}/trim", post(channels::trim))
        .route("/v1/channels/{channel}/messages", post(messages::publish).get(messages::read))
        .route("/v1/channels/{channel}/events", get(events::follow))
        .route("/v1/channels/{channel}/request", post(exchanges::request))
        .route("/v1/replies/{inbox}", post(exchanges::reply))
        .route("/v1/transactions", post(exchanges::transaction))
        .route("/v1/ws", get(websocket::upgrade))
        .route("/v1/rules", get(rules::list))
        .route("/v1/rules/{source}/{target}", put(rules::put).delete(rules::delete))
        .route("/v1/claims", get(claims::namespaces))
        .route(
            "/v1/claims/{namespace}",
            get(claims::namespace).put(claims::put_namespace).delete(claims::delete_namespace),
        )
        .route("/v1/claims/{namespace}/{key}", get(claims::show).post(claims::take))
        .route("/v1/claims/{namespace}/{key}/complete", post(claims::complete))
        .route("/v1/claims/{namespace}/{key}/release", post(claims::release))
        .route("/v1/claims/{namespace}/{key}/renew", post(claims::renew))
        .route("/v1/channels/{channel}/consumers", get(consumers::list).post(consumers::create))
        .route(
            "/v1/channels/{channel}/consumers/{consumer}",
            get(consumers::show).patch(consumers::update).delete(consumers::delete),
        )
        .route("/v1/channels/{channel}/consumers/{consumer}/pull", post(consumers::pull))
        .route("/v1/channels/{channel}/consumers/{consumer}/settle", post(consumers::settle))
        .route("/v1/channels/{channel}/consumers/{consumer}/reset", post(consumers::reset))
        .layer(DefaultBodyLimit::max(body))
        .with_state(broker);
    let monitoring = Router::new()
        .route("/health", get(monitoring::health))
        .route("/ready", get(monitoring::ready))
        .route("/metrics", get(monitoring::metrics))
        .with_state(view);
    let router = Router::new().route("/", get(index)).merge(monitoring).merge(api);
    let router = router.layer(middleware::map_response(problem::of_library));
    let router = router.into_make_service_with_connect_info::<ConnectionInfo>();
    axum::serve(Accepting(listener), router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

struct Accepting(Box<dyn Listener>);

impl Connected<IncomingStream<'_, Accepting>> for ConnectionInfo {
    fn connect_info(stream: IncomingStream<'_, Accepting>) -> Self {
        tonic::transport::server::Connected::connect_info(stream.io())
    }
}

impl axum::serve::Listener for Accepting {
    type Io = Connection;
    type Addr = String;

    fn accept(&mut self) -> impl Future<Output = (Connection, String)> + Send {
        crate::env::accept(&mut self.0)
    }

    fn local_addr(&self) -> io::Result<String> {
        Ok(self.0.local_address())
    }
}

async fn index() -> Html<&'static str> {
    Html(
        "<!doctype html><title>liminal</title><h1>liminal</h1><ul><li><a href=health>health</a>\
         <li><a href=ready>ready</a><li><a href=metrics>metrics</a><li><a href=v1/channels>v1/channels</a></ul>",
    )
}
