//! When to try again. Pure decisions, so that the rules which keep a message from being stored twice can be read
//! and tested without a network.

use std::time::Duration;

use liminal_wire::Code;

use super::error::{Admission, ClientError};

/// Whether doing it twice is the same as doing it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Reads, publishes with a key, creating a channel.
    Safe,
    /// Publishes without a key, changes that another client may have overwritten since.
    OnlyIfNothingHappened,
}

impl Repeat {
    /// Of a publish.
    pub(crate) fn of_publish(keyed: bool) -> Self {
        if keyed { Self::Safe } else { Self::OnlyIfNothingHappened }
    }
}

/// Whether another attempt can succeed and can do no harm.
pub(crate) fn may_retry(error: &ClientError, repeat: Repeat) -> bool {
    if error.outcome_unknown() {
        return repeat == Repeat::Safe && transient(error);
    }
    transient(error)
}

/// Whether the error says something about the moment and not about the request.
fn transient(error: &ClientError) -> bool {
    if let Some(admission) = error.admission() {
        return admission == Admission::Defer;
    }
    error.code().meaning().retry
}

/// Whether the same node is as good as any other for the next attempt: it answered, it is only busy.
pub(crate) fn stay(error: &ClientError) -> bool {
    *error.code() == Code::Overloaded || error.admission() == Some(Admission::Defer)
}

/// How long to wait before an attempt: doubling from 20 ms to 1 s, spread by up to a half so that clients that lost
/// the same node do not come back in step; never sooner than the server asked.
pub(crate) fn backoff(failures: u32, retry_after: Option<Duration>, random: u64) -> Duration {
    let base = Duration::from_millis(20 << failures.saturating_sub(1).min(6)).min(Duration::from_secs(1));
    let spread = base.mul_f64((random % 1024) as f64 / 2048.0);
    (base - spread).max(retry_after.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str) -> ClientError {
        ClientError::new(code, "")
    }

    #[test]
    fn a_publish_with_a_key_is_tried_again_when_its_outcome_is_unknown() {
        for code in ["OUTCOME_UNKNOWN", "STORE_FAILED", "CONNECTION_LOST", "TIMEOUT"] {
            assert!(may_retry(&error(code).unknown(), Repeat::of_publish(true)), "{code}");
        }
    }

    #[test]
    fn a_publish_without_a_key_is_tried_again_only_when_nothing_happened() {
        for code in ["NO_LEADER", "STOPPING", "OVERLOADED", "UNREACHABLE"] {
            assert!(may_retry(&error(code), Repeat::of_publish(false)), "{code}");
        }
        for code in ["OUTCOME_UNKNOWN", "STORE_FAILED", "CONNECTION_LOST", "TIMEOUT", "STOPPING"] {
            assert!(!may_retry(&error(code).unknown(), Repeat::of_publish(false)), "{code}");
        }
    }

    #[test]
    fn a_refusal_is_never_tried_again() {
        for code in ["CHANNEL_NOT_FOUND", "SCHEMA_VIOLATION", "KEY_CONFLICT", "LIMIT_EXCEEDED", "UNAUTHENTICATED"] {
            assert!(!may_retry(&error(code), Repeat::Safe), "{code}");
        }
    }

    #[test]
    fn what_is_deferred_is_tried_again_with_the_same_node_and_what_is_rejected_is_not() {
        let deferred = error("QUOTA_EXCEEDED").with_admission(Admission::Defer);
        assert!(may_retry(&deferred, Repeat::of_publish(false)) && stay(&deferred));
        let rejected = error("OVERLOADED").with_admission(Admission::Reject);
        assert!(!may_retry(&rejected, Repeat::Safe));
    }

    #[test]
    fn waiting_grows_to_a_second_and_respects_the_server() {
        assert_eq!(backoff(1, None, 0), Duration::from_millis(20));
        assert_eq!(backoff(3, None, 0), Duration::from_millis(80));
        assert_eq!(backoff(60, None, 0), Duration::from_secs(1));
        assert!(backoff(60, None, 1023) > Duration::from_millis(500));
        assert_eq!(backoff(1, Some(Duration::from_secs(3)), 7), Duration::from_secs(3));
    }
}
