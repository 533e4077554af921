//! TLS of a node: what its configuration says of it, and what monitoring is told.

use crate::{
    config::{PeerTlsMode, ServerConfig},
    http::{Labels, Metric, metrics},
    tls::{Tls, TlsSettings},
};

pub(super) fn settings(config: &ServerConfig, node: String) -> TlsSettings {
    TlsSettings {
        clients: config.tls.files(),
        peers: config.peer_tls.files(),
        peers_may_be_plain: config.peer_tls.mode() == PeerTlsMode::Optional,
        node,
    }
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
