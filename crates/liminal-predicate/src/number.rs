//! Numbers that compare exactly and on every machine alike.

use std::{cmp::Ordering, fmt};

/// A JSON number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    /// Written as a whole number that fits.
    Whole(i128),
    /// Finite.
    Double(f64),
}

impl Number {
    /// Of a valid JSON number; none beyond the range of doubles.
    pub(super) fn of(text: &str) -> Option<Self> {
        if let Ok(whole) = text.parse() {
            return Some(Self::Whole(whole));
        }
        text.parse().ok().filter(|double: &f64| double.is_finite()).map(Self::Double)
    }

    pub(super) fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => one.cmp(&other),
            (Self::Whole(one), Self::Double(other)) => whole_with_double(one, other),
            (Self::Double(one), Self::Whole(other)) => whole_with_double(other, one).reverse(),
            // Both are finite.
            (Self::Double(one), Self::Double(other)) => one.partial_cmp(&other).unwrap_or(Ordering::Equal),
        }
    }
}

fn whole_with_double(whole: i128, double: f64) -> Ordering {
    // 2^127, one more than the largest whole number here; its negative is the smallest.
    let beyond = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;
    if double >= beyond {
        return Ordering::Less;
    }
    if double < -beyond {
        return Ordering::Greater;
    }
    let floor = double.floor();
    // Exact: a double's floor is a double, and within the range.
    match whole.cmp(&(floor as i128)) {
        Ordering::Equal if double > floor => Ordering::Less,
        other => other,
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(whole) => whole.fmt(f),
            // Always with a point or an exponent, and with the digits that give the same double back.
            Self::Double(double) => write!(f, "{double:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(one: &str, other: &str) -> Ordering {
        Number::of(one).unwrap().compare(Number::of(other).unwrap())
    }

    #[test]
    fn whole_numbers_compare_exactly_beyond_what_doubles_hold() {
        assert_eq!(compare("9007199254740993", "9007199254740992"), Ordering::Greater);
        assert_eq!(compare("9007199254740993", "9007199254740992.0"), Ordering::Greater);
        assert_eq!(compare("18446744073709551616", "18446744073709551615"), Ordering::Greater);
        assert_eq!(compare("170141183460469231731687303715884105727", "1.7014118346046923e38"), Ordering::Less);
        assert_eq!(compare("-170141183460469231731687303715884105728", "-1.7014118346046923e38"), Ordering::Equal);
        assert_eq!(compare("-170141183460469231731687303715884105728", "-1e39"), Ordering::Greater);
    }

    #[test]
    fn whole_numbers_and_doubles_share_one_line() {
        assert_eq!(compare("1", "1.0"), Ordering::Equal);
        assert_eq!(compare("-2", "-1.5"), Ordering::Less);
        assert_eq!(compare("-1", "-1.5"), Ordering::Greater);
        assert_eq!(compare("1e2", "100"), Ordering::Equal);
        assert_eq!(compare("-0.0", "0"), Ordering::Equal);
        assert_eq!(compare("0.1", "0.10"), Ordering::Equal);
        assert_eq!(Number::of("1e400"), None);
    }
}
