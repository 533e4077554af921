//! What was refused to callers, for monitoring.

use crate::{
    broker::Refused,
    http::{Metric, metrics},
};

pub(super) fn metrics(refused: Refused) -> [Metric; 2] {
    let Refused { wrong_tokens, unauthenticated, denied, permitted } = refused;
    let because = |reason: &str, count| (vec![("reason", reason.to_owned())], count);
    [
        metrics::ACCESS_REFUSED.each(vec![
            because("wrong_token", wrong_tokens),
            because("unauthenticated", unauthenticated),
            because("denied", denied),
        ]),
        metrics::ACCESS_WOULD_REFUSE.of(permitted),
    ]
}
