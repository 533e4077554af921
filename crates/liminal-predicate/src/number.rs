//! The numbers of a predicate's text. They compare exactly, and on every machine alike.

use std::{cmp::Ordering, fmt};

use liminal_json::Decimal;

/// A JSON number within the range of doubles.
#[derive(Clone, Debug)]
pub(super) struct Number {
    /// The one way to write it.
    text: String,
    /// Apart, because an expression moves its numbers about while it is parsed.
    value: Box<Decimal<'static>>,
}

impl Number {
    /// Of a valid JSON number; none beyond the range of doubles.
    pub(super) fn of(text: &str) -> Option<Self> {
        let double = text.parse().ok().filter(|double: &f64| double.is_finite())?;
        let value = Box::new(Decimal::of(text).into_owned());
        let text = match text.parse::<i128>() {
            Ok(whole) => whole.to_string(),
            Err(_) => written(text, &value, double),
        };
        Some(Self { text, value })
    }

    pub(super) fn value(&self) -> &Decimal<'static> {
        &self.value
    }

    /// Whether a range from here up to there is a mistake.
    ///
    /// One whose ends are the same double is none, though nothing may lie in it: earlier builds compared a fraction as its
    /// double, so they took such ranges and stored them, and what is stored has to be read again.
    pub(super) fn is_above(&self, high: &Self) -> bool {
        let exact = self.is_whole() && high.is_whole();
        self.value.compare(&high.value).is_gt() && (exact || self.double() > high.double())
    }

    fn is_whole(&self) -> bool {
        !self.text.contains(['.', 'e', 'E'])
    }

    fn double(&self) -> f64 {
        // It was one when it was made.
        self.text.parse().unwrap_or(f64::NAN)
    }
}

/// As its nearest double is written, if that is the same number: always with a point or an exponent. Otherwise with all digits.
fn written(text: &str, value: &Decimal<'_>, double: f64) -> String {
    let short = format!("{double:?}");
    if Decimal::of(&short).compare(value) == Ordering::Equal {
        return short;
    }
    // An exponent beyond all use stays as somebody wrote it.
    value.shortest().unwrap_or_else(|| text.to_owned())
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        Number::of(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn what_a_double_says_too_is_written_as_ever() {
        for (text, written) in [
            ("7", "7"),
            ("-0", "0"),
            ("0.0", "0.0"),
            ("-0.0", "-0.0"),
            ("0e99999999999999999999", "0.0"),
            ("0.1", "0.1"),
            ("0.10", "0.1"),
            ("1E-1", "0.1"),
            ("1e3", "1000.0"),
            ("1e39", "1e39"),
            ("1.7014118346046923e38", "1.7014118346046923e38"),
            ("170141183460469231731687303715884105727", "170141183460469231731687303715884105727"),
            ("5e-324", "5e-324"),
        ] {
            assert_eq!(number(text).to_string(), written);
        }
    }

    #[test]
    fn what_no_double_says_keeps_its_digits() {
        for (text, written) in [
            ("0.1000000000000000000001", "1000000000000000000001e-22"),
            ("0.10000000000000000000010", "1000000000000000000001e-22"),
            ("9007199254740993.0", "9007199254740993"),
            ("-9007199254740993.5", "-90071992547409935e-1"),
            ("123456789012345678901234567890123456789012345", "123456789012345678901234567890123456789012345"),
            ("1e-400", "1e-400"),
            ("1.0e-99999999999999999999", "1.0e-99999999999999999999"),
        ] {
            let (first, again) = (number(text), number(written));
            assert_eq!((first.to_string(), &again), (written.to_owned(), &first));
            assert_eq!(first.value().compare(again.value()), Ordering::Equal);
        }
        assert_eq!(Number::of("1e400"), None);
    }

    #[test]
    fn a_range_is_refused_where_its_ends_are_in_the_wrong_order_for_earlier_builds_too() {
        for (low, high, refused) in [
            ("1", "2", false),
            ("2", "1", true),
            ("0.2", "0.1", true),
            ("9007199254740993", "9007199254740992", true),
            // The double is a little above what its shortest text says.
            ("170141183460469231731687303715884105727", "1.7014118346046923e38", false),
        ] {
            assert_eq!(number(low).is_above(&number(high)), refused, "{low} {high}");
        }
    }
}
