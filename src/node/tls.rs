//! TLS of a node: what its configuration says of it, and what monitoring is told.

use super::NodeError;
use crate::{
    config::{PeerTlsMode, ServerConfig},
    env::Env,
    http::{
        Metric,
        metrics::{self, Labels},
    },
    tls::{Tls, TlsSettings},
};

/// `node` is what the node is called.
pub(super) async fn open(config: &ServerConfig, node: String, env: &Env) -> Result<Tls, NodeError> {
    let settings = TlsSettings {
        clients: config.tls.files(),
        peers: config.peer_tls.files(),
        peers_may_be_plain: config.peer_tls.mode() == PeerTlsMode::Optional,
        node,
    };
    Tls::open(settings, env).await.map_err(NodeError::Tls)
}

/// None without TLS.
pub(super) fn metrics(tls: &Tls) -> Vec<Metric> {
    let tables = tls.figures();
    if tables.is_empty() {
        return Vec::new();
    }
    let label = |table: &str| -> Labels { vec![("table", table.to_owned())] };
    let certificates = tables.iter().flat_map(|figures| {
        figures.seconds_left.iter().map(move |(key, serial, left)| {
            let more = [("key", (*key).to_owned()), ("serial", serial.clone())];
            (label(figures.table).into_iter().chain(more).collect::<Labels>(), *left)
        })
    });
    vec![
        metrics::TLS_CERTIFICATE_SECONDS_LEFT.each(certificates.collect()),
        metrics::TLS_RELOAD_FAILURES
            .each(tables.iter().map(|figures| (label(figures.table), figures.reload_failures)).collect()),
        metrics::TLS_HANDSHAKES_FAILED
            .each(tables.iter().map(|figures| (label(figures.table), figures.refused)).collect()),
    ]
}
