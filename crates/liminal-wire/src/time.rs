//! Times as the protocol writes them: milliseconds since the Unix epoch.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// As the protocol writes it. What is before 1970 becomes that.
pub fn to_ms(time: SystemTime) -> u64 {
    duration_to_ms(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// As programs have it.
pub fn from_ms(ms: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(ms)).unwrap_or(UNIX_EPOCH)
}

/// A duration as the protocol writes it.
pub fn duration_to_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_comes_back_to_the_millisecond() {
        for ms in [0, 1, 1_764_000_000_123, u64::MAX] {
            assert_eq!(to_ms(from_ms(ms)), ms);
        }
        assert_eq!(to_ms(UNIX_EPOCH - Duration::from_secs(1)), 0);
    }
}
