//! What clients and other nodes hold, in the metrics.

use crate::{
    budget::Budgets,
    http::{Metric, metrics},
};

pub(super) fn metrics(budgets: &Budgets) -> [Metric; 3] {
    let named =
        |names: &[(&'static str, &str)]| names.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let held = budgets.held().into_iter();
    let refused = budgets.refused().into_iter();
    let evicted = budgets.evicted().into_iter();
    [
        metrics::BUDGET_HELD
            .each(held.map(|(face, what, amount)| (named(&[("face", face), ("what", what)]), amount)).collect()),
        metrics::BUDGET_REFUSED.each(
            refused
                .map(|(face, what, why, count)| (named(&[("face", face), ("what", what), ("why", why)]), count))
                .collect(),
        ),
        metrics::CONNECTIONS_EVICTED
            .each(evicted.map(|(face, why, count)| (named(&[("face", face), ("why", why)]), count)).collect()),
    ]
}
