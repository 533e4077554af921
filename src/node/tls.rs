//! TLS of a node: what its configuration says of it, and what monitoring is told.

use crate::{
    config::{PeerTlsMode, ServerConfig},
    http::{Labels, Metric, MetricKind},
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
        Metric {
            name: "tls_certificate_seconds_left",
            help: "Until a certificate of the node's files expires; 0 when it has: raise an alarm below a week",
            kind: MetricKind::Gauge,
            values: certificates.collect(),
        },
        Metric {
            name: "tls_reload_failures",
            help: "Changes of the files that would not do, which the log explains: the old ones are still in use",
            kind: MetricKind::Counter,
            values: tables.iter().map(|figures| (label(figures.table), figures.reload_failures)).collect(),
        },
        Metric {
            name: "tls_handshakes_failed",
            help: "Connections that were refused for how they speak TLS, or for their certificate",
            kind: MetricKind::Counter,
            values: tables.iter().map(|figures| (label(figures.table), figures.refused)).collect(),
        },
    ]
}
