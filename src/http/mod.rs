//! The HTTP face: publishing, reading, following and managing channels for whoever has no gRPC, `curl` for one; and
//! health, readiness, metrics and the console. Errors are problem details (RFC 9457) with the codes of the gRPC face.

mod browsers;
mod channel_metrics;
mod channels;
mod claims;
mod cluster;
mod console;
mod consumers;
mod content;
mod delayed;
mod events;
mod exchanges;
mod exposition;
mod guarding;
mod hardening;
mod lag;
mod letters;
mod live;
mod messages;
pub mod metrics;
mod monitoring;
mod openapi;
mod pages;
mod problem;
mod rights;
mod roles;
mod rules;
mod serving;
mod shown;
mod tokens;
mod websocket;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{MethodRouter, delete, get, post, put},
};
use tokio_util::sync::CancellationToken;

pub use self::browsers::Browsers;
pub use self::channel_metrics::{ChannelMetrics, RejectedMetrics};
pub use self::cluster::{ClusterView, MemberChange};
pub use self::lag::ConsumerMetrics;
pub use self::live::Figures;
pub use self::metrics::Metric;
pub use self::monitoring::NodeView;
use self::{live::Feed, serving::Serving};
use crate::{broker::Gate, env::Listener, model::Limits};

/// Paths, each with what is done there. Not one call after the other, so that a test can compare them with the document
/// that describes them.
type Routes<S> = &'static [(&'static str, fn() -> MethodRouter<S>)];

const ROUTES: Routes<()> = &[
    ("/", || get(console::page)),
    ("/console/{asset}", || get(console::asset)),
    ("/v1/openapi.json", || get(openapi::show)),
    ("/v1/channels", || get(channels::list)),
    ("/v1/channels/{channel}", || {
        get(channels::show).put(channels::create).patch(channels::update).delete(channels::delete)
    }),
    ("/v1/channels/{channel}/schemas", || get(channels::schemas)),
    ("/v1/channels/{channel}/schema/validate", || post(channels::validate)),
    ("/v1/channels/{channel}/trim", || post(channels::trim)),
    ("/v1/channels/{channel}/delayed", || get(delayed::list)),
    ("/v1/channels/{channel}/delayed/{id}", || delete(delayed::withdraw)),
    ("/v1/channels/{channel}/messages", || post(messages::publish).get(messages::read)),
    ("/v1/channels/{channel}/events", || get(events::follow)),
    ("/v1/channels/{channel}/request", || post(exchanges::request)),
    ("/v1/replies/{inbox}", || post(exchanges::reply)),
    ("/v1/ws", || get(websocket::upgrade)),
    ("/v1/rules", || get(rules::list)),
    ("/v1/rules/{source}/{target}", || put(rules::put).delete(rules::delete)),
    ("/v1/claims", || get(claims::namespaces)),
    ("/v1/claims/{namespace}", || get(claims::namespace).put(claims::put_namespace).delete(claims::delete_namespace)),
    ("/v1/claims/{namespace}/{key}", || get(claims::show).post(claims::take)),
    ("/v1/claims/{namespace}/{key}/complete", || post(claims::complete)),
    ("/v1/claims/{namespace}/{key}/release", || post(claims::release)),
    ("/v1/claims/{namespace}/{key}/renew", || post(claims::renew)),
    ("/v1/consumers", || get(consumers::list_all)),
    ("/v1/channels/{channel}/consumers", || get(consumers::list).post(consumers::create)),
    ("/v1/channels/{channel}/consumers/{consumer}", || {
        get(consumers::show).patch(consumers::update).delete(consumers::delete)
    }),
    ("/v1/channels/{channel}/consumers/{consumer}/members", || get(consumers::members)),
    ("/v1/channels/{channel}/consumers/{consumer}/pull", || post(consumers::pull)),
    ("/v1/channels/{channel}/consumers/{consumer}/settle", || post(consumers::settle)),
    ("/v1/channels/{channel}/consumers/{consumer}/reset", || post(consumers::reset)),
    ("/v1/channels/{channel}/consumers/{consumer}/dead-letters", || get(letters::list)),
    ("/v1/channels/{channel}/consumers/{consumer}/redrive", || post(letters::redrive)),
    ("/v1/tokens", || get(tokens::list).post(tokens::create)),
    ("/v1/tokens/{id}", || get(tokens::show).delete(tokens::revoke)),
    ("/v1/tokens/{id}/rotate", || post(tokens::rotate)),
    ("/v1/roles", || get(roles::list)),
    ("/v1/roles/{role}", || get(roles::show).put(roles::create).patch(roles::update).delete(roles::delete)),
    ("/v1/roles/{role}/quota", || put(roles::set_quota).delete(roles::clear_quota)),
    ("/v1/can-i", || get(tokens::can_i)),
];

/// Their bodies may be larger.
const TRANSACTIONS: Routes<()> = &[("/v1/transactions", || post(exchanges::transaction))];

/// What a message in a body of JSON takes beside what is in it: names, quotes and commas.
const AROUND_A_MESSAGE: usize = 256;

/// Bytes of a request's body, at most.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    body: usize,
    /// All payloads of a batch in base64, and what is around each of them.
    transaction: usize,
}

impl Sizes {
    fn of(limits: &Limits) -> Self {
        let batch = limits.batch_bytes.max(limits.message_bytes);
        let around = limits.batch_messages.saturating_mul(AROUND_A_MESSAGE);
        Self {
            body: batch,
            transaction: batch.div_ceil(3).saturating_mul(4).saturating_add(around).saturating_add(AROUND_A_MESSAGE),
        }
    }

    fn most(&self, path: &str) -> usize {
        if TRANSACTIONS.iter().any(|(known, _)| *known == path) { self.transaction } else { self.body }
    }
}

const MONITORING: Routes<Arc<dyn NodeView>> = &[
    ("/health", || get(monitoring::health)),
    ("/ready", || get(monitoring::ready)),
    ("/metrics", || get(monitoring::metrics)),
];

/// What operators ask of the node and of its cluster.
const OPERATING: Routes<Operating> = &[
    ("/v1/cluster", || get(cluster::status)),
    ("/v1/cluster/events", || get(cluster::events)),
    ("/v1/cluster/nodes/{node}", || delete(cluster::remove)),
    ("/v1/cluster/nodes/{node}/lead", || post(cluster::lead)),
    ("/v1/cluster/nodes/{node}/promote", || post(cluster::promote)),
    ("/v1/node", || get(cluster::node)),
    ("/v1/history", || get(live::history)),
    ("/v1/live", || get(live::follow)),
];

/// What the calls of operators answer from.
#[derive(Clone)]
struct Operating {
    view: Arc<dyn NodeView>,
    feed: Arc<Feed>,
}

fn routed<S: Clone + Send + Sync + 'static>(routes: Routes<S>) -> Router<S> {
    routes.iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods()))
}

/// Serves until `shutdown`; then requests under way may end.
pub async fn serve(
    limits: Limits,
    gate: Arc<Gate>,
    view: Arc<dyn NodeView>,
    browsers: Browsers,
    listener: Box<dyn Listener>,
    shutdown: CancellationToken,
) {
    let (sizes, header_bytes) = (Sizes::of(&limits), limits.header_bytes);
    let api = routed(ROUTES)
        .layer(DefaultBodyLimit::max(sizes.body.saturating_add(1)))
        .merge(routed(TRANSACTIONS).layer(DefaultBodyLimit::max(sizes.transaction)));
    let operating = Operating { view: view.clone(), feed: Arc::default() };
    let feeding = shutdown.run_until_cancelled(operating.feed.clone().keep(view.clone()));
    let api = api.merge(routed(OPERATING).with_state(operating));
    let router = routed(MONITORING).with_state(view).merge(api);
    let router = router.layer(middleware::from_fn_with_state(gate, guarding::guard));
    let router = router.layer(middleware::from_fn_with_state(sizes, problem::explain));
    let router = router.layer(middleware::from_fn_with_state(browsers, browsers::guard));
    let serving = Serving { router, sizes, header_bytes }.run(listener, shutdown.clone());
    tokio::join!(feeding, serving);
}
