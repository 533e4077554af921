//! What was refused to callers, and what of that and of acts was recorded, for monitoring.

use crate::{
    broker::{Audited, Refused},
    http::{Metric, metrics},
};

pub(super) fn metrics(refused: Refused, audited: Audited) -> [Metric; 4] {
    let Refused { wrong_tokens, unauthenticated, denied, permitted } = refused;
    let Audited { written, no_room, not_published, held_back, too_many } = audited;
    let because = |reason: &str, count| (vec![("reason", reason.to_owned())], count);
    let lost = |why: &str, count| (vec![("why", why.to_owned())], count);
    [
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
