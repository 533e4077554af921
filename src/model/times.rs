//! Times as people and programs write them: RFC 3339, the same on the command line, over HTTP and over WebSockets.

use std::time::{Duration, UNIX_EPOCH};

/// RFC 3339 in UTC with milliseconds.
pub fn timestamp(time_ms: u64) -> String {
    // Beyond the year 9999 there is no such text.
    let latest = 253_402_300_799_999;
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(time_ms.min(latest))).to_string()
}

/// Milliseconds since the Unix epoch of a time in RFC 3339, such as `2026-11-24T17:00:00Z`. A time without a zone is UTC.
///
/// # Errors
/// Says what would be one.
pub fn time_ms(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "`{text}` is no time: write it like 2026-11-24T17:00:00Z or 2026-11-24T18:00:00+01:00; without a zone it is UTC"
        )
    };
    let (local, ahead_ms) = zone(text).ok_or_else(wrong)?;
    let time = humantime::parse_rfc3339_weak(local).map_err(|_| wrong())?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| wrong())?;
    let local_ms = i64::try_from(since.as_millis()).map_err(|_| wrong())?;
    u64::try_from(local_ms - ahead_ms).map_err(|_| wrong())
}

/// A time without its zone, and how many milliseconds the zone is ahead of UTC; none where the zone is no zone.
fn zone(text: &str) -> Option<(&str, i64)> {
    if let Some(local) = text.strip_suffix(['Z', 'z']) {
        // It has nothing of a zone before that.
        return local.ends_with(|last: char| last.is_ascii_digit()).then_some((local, 0));
    }
    // Before the time of day a `-` stands between year, month and day.
    let Some(at) = text.rfind(['+', '-']).filter(|at| text[..*at].contains([':'])) else { return Some((text, 0)) };
    let (hours, minutes) = text[at + 1..].split_once(':')?;
    let two = |digits: &str| digits.parse::<i64>().ok().filter(|_| digits.len() == 2);
    let (hours, minutes) = (two(hours).filter(|hours| *hours < 24)?, two(minutes).filter(|minutes| *minutes < 60)?);
    let ahead_ms = (hours * 60 + minutes) * 60_000;
    Some((&text[..at], if text.as_bytes()[at] == b'+' { ahead_ms } else { -ahead_ms }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_milliseconds() {
        assert_eq!(timestamp(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(timestamp(u64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_time_is_read_as_it_is_written() {
        assert_eq!(time_ms("2023-11-14T22:13:20.123Z"), Ok(1_700_000_000_123));
        assert_eq!(time_ms("2023-11-14 22:13:20"), Ok(1_700_000_000_000));
        assert_eq!(time_ms("2023-11-14T23:13:20+01:00"), Ok(1_700_000_000_000));
        assert_eq!(time_ms("2023-11-14T14:43:20-07:30"), Ok(1_700_000_000_000));
        for wrong in ["tomorrow", "2023-11-14T22:13:20ZZ", "2023-11-14T22:13:20+1", "2023-11-14T22:13:20+01:00Z"] {
            assert!(time_ms(wrong).unwrap_err().contains(&format!("`{wrong}`")), "{wrong}");
        }
    }
}
