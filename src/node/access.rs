//! What was refused to callers, for monitoring.

use crate::{
    broker::Refused,
    http::{Metric, MetricKind},
};

pub(super) fn metrics(refused: Refused) -> [Metric; 2] {
    let Refused { wrong_tokens, unauthenticated, denied, permitted } = refused;
    let because = |reason: &str, count| (vec![("reason", reason.to_owned())], count);
    [
        Metric {
            name: "access_refused",
            help: "Requests refused because of who asks: a rise of wrong tokens is somebody who tries them",
            kind: MetricKind::Counter,
            values: vec![
                because("wrong_token", wrong_tokens),
                because("unauthenticated", unauthenticated),
                because("denied", denied),
            ],
        },
        Metric::counter(
            "access_would_refuse",
            "Requests let through that security.mode = \"enforce\" would refuse",
            permitted,
        ),
    ]
}
