//! What clients and other nodes hold, in the metrics.

use crate::{
    budget::Budgets,
    http::{Metric, MetricKind},
};

pub(super) fn metrics(budgets: &Budgets) -> [Metric; 3] {
    let named =
        |names: &[(&'static str, &str)]| names.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let held = budgets.held().into_iter();
    let refused = budgets.refused().into_iter();
    let evicted = budgets.evicted().into_iter();
    [
        Metric {
            name: "budget_held",
            help: "What clients and other nodes hold: connections, open streams, bytes that are no whole request yet",
            kind: MetricKind::Gauge,
            values: held.map(|(face, what, amount)| (named(&[("face", face), ("what", what)]), amount)).collect(),
        },
        Metric {
            name: "budget_refused",
            help: "What was refused, and which level was full, or that it came too slowly",
            kind: MetricKind::Counter,
            values: refused
                .map(|(face, what, why, count)| (named(&[("face", face), ("what", what), ("why", why)]), count))
                .collect(),
        },
        Metric {
            name: "connections_evicted",
            help: "Connections that were ended because their time was up or their room was needed",
            kind: MetricKind::Counter,
            values: evicted.map(|(face, why, count)| (named(&[("face", face), ("why", why)]), count)).collect(),
        },
    ]
}
