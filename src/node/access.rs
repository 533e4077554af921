//! What was refused to callers, and what of that and of acts was recorded, for monitoring.

use crate::{
    broker::{Audited, Gate, Refused},
    http::{Metric, metrics},
};

pub(super) fn metrics(gate: &Gate) -> [Metric; 5] {
    let Refused { wrong_tokens, unauthenticated, denied, permitted } = gate.refused();
    let Audited { written, no_room, not_published, held_back, too_many } = gate.audited();
    let because = |reason: &str, count| (vec![("reason", reason.to_owned())], count);
    let lost = |why: &str, count| (vec![("why", why.to_owned())], count);
    let by_quota = gate.refused_by_quota().into_iter().map(|(token, what, count)| {
        // No token has this name.
        let token = token.map_or_else(|| "(others)".to_owned(), |token| token.to_string());
        (vec![("token", token), ("what", what.to_owned())], count)
    });
    [
        metrics::QUOTA_REFUSED.each(by_quota.collect()),
        metrics::ACCESS_REFUSED.each(vec![
            because("wrong_token", wrong_tokens),
            because("unauthenticated", unauthenticated),
            because("denied", denied),
        ]),
        metrics::ACCESS_WOULD_REFUSE.of(permitted),
        metrics::AUDIT_RECORDS.of(written),
        metrics::AUDIT_LOST.each(vec![
            lost("queue", no_room),
            lost("publish", not_published),
            lost("version", held_back),
            lost("rate", too_many),
        ]),
    ]
}
