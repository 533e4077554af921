//! How long certificates are still valid, and from when on somebody has to be told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 24 * 3600;
/// Days before a certificate expires from which on it is warned of, once a day.
const WARN: u64 = 14;

/// Until a certificate expires; 0 when it has.
pub(super) fn seconds_left(not_after: SystemTime, now_ms: u64) -> u64 {
    let now = UNIX_EPOCH + Duration::from_millis(now_ms);
    not_after.duration_since(now).map_or(0, |left| left.as_secs())
}

/// The whole days that are left of a certificate that is to be warned of.
pub(super) fn warns_at(not_after: SystemTime, now_ms: u64) -> Option<u64> {
    let days = seconds_left(not_after, now_ms) / DAY;
    (days < WARN).then_some(days)
}

/// What people are told.
pub(super) fn warning(not_after: SystemTime, now_ms: u64) -> String {
    match seconds_left(not_after, now_ms) {
        0 => "a certificate has expired: new connections fail until it is replaced".to_owned(),
        left if left < DAY => format!("a certificate expires in {} hours: replace its file", left / 3600),
        left => format!("a certificate expires in {} days: replace its file", left / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_from_two_weeks_before_it_expires() {
        let not_after = UNIX_EPOCH + Duration::from_secs(100 * DAY);
        let on = |day: u64| day * DAY * 1000 + 1;
        assert_eq!((warns_at(not_after, on(85)), warns_at(not_after, on(86))), (None, Some(13)));
        assert_eq!((seconds_left(not_after, on(99)), seconds_left(not_after, on(101))), (DAY - 1, 0));
        assert!(warning(not_after, on(90)).contains("in 9 days"));
        assert!(warning(not_after, on(99)).contains("in 23 hours"));
        assert!(warning(not_after, on(101)).contains("has expired"));
    }
}
