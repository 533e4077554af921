//! How much may be published in a time: token buckets, for channels on the leader and for connections on their node.
//!
//! A bucket holds what one second allows and starts full. What is larger than a whole bucket goes when the bucket is
//! full, and the time that it takes is owed: the rate holds in the long run, and nothing waits for ever. Time is
//! passed in.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Quota;

/// In which an empty bucket fills.
const WINDOW: Duration = Duration::from_secs(1);
/// What a single request may owe.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Clone, Debug, Default)]
struct Bucket {
    /// When it will be full again; none while it is.
    full_at: Option<Instant>,
}

impl Bucket {
    /// How long to wait for what costs so much of the rate's time.
    fn wait(&self, cost: Duration, now: Instant) -> Duration {
        let owed = self.full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        (owed + cost.min(WINDOW)).saturating_sub(WINDOW)
    }

    fn take(&mut self, cost: Duration, now: Instant) {
        self.full_at = Some(self.full_at.map_or(now, |at| at.max(now)) + cost);
    }

    fn give_back(&mut self, cost: Duration) {
        self.full_at = self.full_at.and_then(|at| at.checked_sub(cost));
    }
}

/// The time that a rate takes for an amount.
fn cost(amount: u64, per_second: u64) -> Duration {
    let nanos = u128::from(amount) * WINDOW.as_nanos() / u128::from(per_second.max(1));
    u64::try_from(nanos).map_or(LONGEST, |nanos| Duration::from_nanos(nanos).min(LONGEST))
}

/// Counts messages and bytes against a quota.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    messages: Bucket,
    bytes: Bucket,
}

/// More than a quota allows now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// `messages` or `bytes`.
    pub what: &'static str,
    /// So many a second are allowed.
    pub limit: u64,
    /// When it is allowed.
    pub wait: Duration,
}

impl Meter {
    /// Takes a publish, or says when it may come again; then it counts as if it had not come.
    ///
    /// # Errors
    /// When the quota does not allow it now.
    pub fn take(&mut self, quota: Quota, messages: u64, bytes: u64, now: Instant) -> Result<(), Exceeded> {
        let parts = [
            ("messages", &mut self.messages, quota.messages_per_second, messages),
            ("bytes", &mut self.bytes, quota.bytes_per_second, bytes),
        ];
        let parts =
            parts.map(|(what, bucket, limit, amount)| (what, bucket, limit.map(|limit| (limit, cost(amount, limit)))));
        for (what, bucket, limited) in &parts {
            let Some((limit, cost)) = *limited else { continue };
            let wait = bucket.wait(cost, now);
            if !wait.is_zero() {
                return Err(Exceeded { what, limit, wait });
            }
        }
        for (_, bucket, limited) in parts {
            if let Some((_, cost)) = limited {
                bucket.take(cost, now);
            }
        }
        Ok(())
    }

    /// What was taken by the same quota did not happen.
    pub fn give_back(&mut self, quota: Quota, messages: u64, bytes: u64) {
        let parts = [
            (&mut self.messages, quota.messages_per_second, messages),
            (&mut self.bytes, quota.bytes_per_second, bytes),
        ];
        for (bucket, limit, amount) in parts {
            if let Some(limit) = limit {
                bucket.give_back(cost(amount, limit));
            }
        }
    }
}

/// Counts time that is known only once it is spent, against so many milliseconds in a second.
#[derive(Clone, Debug, Default)]
pub struct Spent(Bucket);

impl Spent {
    /// So much was spent.
    pub fn spend(&mut self, time: Duration, ms_per_second: u64, now: Instant) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.take(cost(nanos, ms_per_second.saturating_mul(1_000_000)), now);
    }

    /// How long nothing more may be spent.
    pub fn wait(&self, now: Instant) -> Duration {
        self.0.wait(Duration::ZERO, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(messages: Option<u64>, bytes: Option<u64>) -> Quota {
        Quota { messages_per_second: messages, bytes_per_second: bytes }
    }

    #[test]
    fn a_second_of_the_rate_goes_at_once_and_the_rest_as_time_passes() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let rate = quota(Some(10), None);
        assert_eq!(meter.take(rate, 10, 0, start), Ok(()));
        let refused = meter.take(rate, 1, 0, start).unwrap_err();
        assert_eq!(refused, Exceeded { what: "messages", limit: 10, wait: Duration::from_millis(100) });
        assert_eq!(meter.take(rate, 1, 0, start + refused.wait), Ok(()));
        assert!(meter.take(rate, 1, 0, start + refused.wait).is_err());
    }

    #[test]
    fn what_is_refused_costs_nothing_of_either_rate() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let rate = quota(Some(10), Some(100));
        assert_eq!(meter.take(rate, 1, 100, start), Ok(()));
        for _ in 0..20 {
            assert_eq!(meter.take(rate, 1, 50, start).unwrap_err().what, "bytes");
        }
        assert_eq!(meter.take(rate, 9, 0, start), Ok(()));
    }

    #[test]
    fn a_batch_larger_than_a_second_of_the_rate_goes_when_nothing_is_owed_and_is_paid_for() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let rate = quota(Some(10), None);
        assert_eq!(meter.take(rate, 50, 0, start), Ok(()));
        let wait = meter.take(rate, 50, 0, start).unwrap_err().wait;
        assert_eq!(wait, Duration::from_secs(5));
        assert_eq!(meter.take(rate, 50, 0, start + wait), Ok(()));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let rate = quota(Some(10), Some(100));
        assert_eq!(meter.take(rate, 10, 100, start), Ok(()));
        assert!(meter.take(rate, 1, 1, start).is_err());
        meter.give_back(rate, 10, 100);
        assert_eq!(meter.take(rate, 10, 100, start), Ok(()));
        assert!(meter.take(rate, 1, 1, start).is_err());
    }

    #[test]
    fn time_is_spent_up_to_a_second_of_the_rate_and_then_waited_for() {
        let (mut spent, start) = (Spent::default(), Instant::now());
        spent.spend(Duration::from_millis(100), 100, start);
        assert_eq!(spent.wait(start), Duration::ZERO);
        spent.spend(Duration::from_millis(50), 100, start);
        assert_eq!(spent.wait(start), Duration::from_millis(500));
        assert_eq!(spent.wait(start + Duration::from_millis(500)), Duration::ZERO);
    }

    #[test]
    fn without_a_quota_nothing_is_refused() {
        let mut meter = Meter::default();
        for _ in 0..3 {
            assert_eq!(meter.take(Quota::default(), u64::MAX, u64::MAX, Instant::now()), Ok(()));
        }
    }

    #[test]
    fn a_rate_that_was_raised_counts_from_then_on() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        assert_eq!(meter.take(quota(Some(1), None), 1, 0, start), Ok(()));
        assert!(meter.take(quota(Some(1), None), 1, 0, start).is_err());
        assert_eq!(meter.take(quota(Some(1000), None), 1, 0, start + WINDOW), Ok(()));
    }
}
