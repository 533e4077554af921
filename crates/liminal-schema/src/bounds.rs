//! Exact comparison of JSON numbers and the ranges that schemas give them: digit by digit, as they are written. Rounding
//! would make a bound look looser than it is.

use std::{cmp::Ordering, fmt};

use serde_json::{Number, Value};

use liminal_json::Decimal;

/// Ends of so many digits before the point are not rounded to whole numbers: nothing more would be proved by it.
const WHOLE_DIGITS: i64 = 40;
/// Exponents beyond it mean nothing to anybody, and are bounded so that ends can be rounded and shown.
const MOST_EXPONENT: i64 = 1 << 40;

/// A decimal number, exactly: 0.`digits` times ten to the power of `exponent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Num {
    negative: bool,
    /// Without zeros at either end; none for zero.
    digits: Vec<u8>,
    exponent: i64,
}

impl Num {
    pub(super) fn of(number: &Number) -> Self {
        let (negative, digits, exponent) = Decimal::of(number.as_str()).taken_apart(MOST_EXPONENT);
        Self { negative, digits, exponent }.trimmed()
    }

    fn trimmed(mut self) -> Self {
        let zeros = self.digits.iter().take_while(|digit| **digit == 0).count();
        self.digits.drain(..zeros);
        self.exponent -= zeros as i64;
        while self.digits.last() == Some(&0) {
            self.digits.pop();
        }
        if self.digits.is_empty() { Self { negative: false, exponent: 0, ..self } } else { self }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.digits.len() as i64 <= self.exponent
    }

    pub(super) fn cmp(&self, other: &Self) -> Ordering {
        let sign = |num: &Self| if num.digits.is_empty() { 0 } else { 1 - 2 * i8::from(num.negative) };
        let size = || self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits));
        sign(self).cmp(&sign(other)).then_with(|| match sign(self) {
            0 => Ordering::Equal,
            1 => size(),
            _ => size().reverse(),
        })
    }

    /// The nearest whole number that is not below it (`up`) or not above it, or with `past` the one after that if it is
    /// whole itself. Has at most [`WHOLE_DIGITS`].
    fn rounded(self, up: bool, past: bool) -> Self {
        let moves = past || !self.is_whole();
        let places = usize::try_from(self.exponent).unwrap_or(0);
        let mut digits: Vec<u8> = self.digits.iter().copied().chain(std::iter::repeat(0)).take(places).collect();
        let mut exponent = self.exponent.max(0);
        let mut negative = self.negative;
        if moves && up != negative {
            // Away from zero.
            match digits.iter().rposition(|digit| *digit < 9) {
                Some(at) => {
                    digits[at] += 1;
                    digits[at + 1..].fill(0);
                }
                None => {
                    digits.fill(0);
                    digits.insert(0, 1);
                    exponent += 1;
                }
            }
        } else if moves && self.is_whole() {
            match digits.iter().rposition(|digit| *digit > 0) {
                Some(at) => {
                    digits[at] -= 1;
                    digits[at + 1..].fill(9);
                }
                // Zero itself: one step to the other side.
                None => (negative, digits, exponent) = (!up, vec![1], 1),
            }
        }
        Self { negative, digits, exponent }.trimmed()
    }
}

impl fmt::Display for Num {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.negative {
            f.write_str("-")?;
        }
        let digits: String = self.digits.iter().map(|digit| char::from(b'0' + digit)).collect();
        let (count, places) = (digits.len(), usize::try_from(self.exponent).unwrap_or(0));
        match self.exponent {
            _ if digits.is_empty() => f.write_str("0"),
            1..=WHOLE_DIGITS if places >= count => write!(f, "{digits}{}", "0".repeat(places - count)),
            1..=WHOLE_DIGITS => write!(f, "{}.{}", &digits[..places], &digits[places..]),
            -5..=0 => write!(f, "0.{}{digits}", "0".repeat(usize::try_from(-self.exponent).unwrap_or(0))),
            exponent => {
                let point = if count > 1 { "." } else { "" };
                write!(f, "{}{point}{}e{}", &digits[..1], &digits[1..], exponent - 1)
            }
        }
    }
}

/// One end of a range.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) at: Num,
    /// The value itself is outside.
    pub(super) open: bool,
}

impl Bound {
    /// Whether, as a lower end, this one leaves less than the other.
    pub(super) fn above(&self, other: &Self) -> bool {
        match self.at.cmp(&other.at) {
            Ordering::Greater => true,
            Ordering::Equal => self.open && !other.open,
            Ordering::Less => false,
        }
    }

    /// Whether, as an upper end, this one leaves less than the other.
    pub(super) fn below(&self, other: &Self) -> bool {
        match self.at.cmp(&other.at) {
            Ordering::Less => true,
            Ordering::Equal => self.open && !other.open,
            Ordering::Greater => false,
        }
    }

    /// The same end for whole numbers only, as a closed one.
    pub(super) fn whole(self, lower: bool) -> Self {
        if self.at.exponent > WHOLE_DIGITS {
            return self;
        }
        let past = self.open && self.at.is_whole();
        Self { at: self.at.rounded(lower, past), open: false }
    }

    pub(super) fn describe(bound: Option<Self>, lower: bool) -> String {
        match (bound, lower) {
            (None, _) => "any number".into(),
            (Some(Self { at, open: false }), true) => format!("numbers from {at}"),
            (Some(Self { at, open: true }), true) => format!("numbers above {at}"),
            (Some(Self { at, open: false }), false) => format!("numbers up to {at}"),
            (Some(Self { at, open: true }), false) => format!("numbers below {at}"),
        }
    }
}

/// Equality of JSON: 1 is 1.0.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => Num::of(a) == Num::of(b),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

/// A count in a schema, which may be written `2.0`.
pub(super) fn count(value: &Value) -> Option<u64> {
    let Value::Number(number) = value else { return None };
    let num = Num::of(number);
    // A `u64` has at most twenty digits.
    let counts = num.is_whole() && !num.negative && num.exponent <= 20;
    counts.then(|| num.to_string().parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn num(text: &str) -> Num {
        Num::of(&text.parse().unwrap())
    }

    #[test]
    fn numbers_compare_digit_by_digit() {
        let rising = [
            "-1e400",
            "-18446744073709551617",
            "-18446744073709551616",
            "-0.1",
            "0",
            "1e-400",
            "0.1",
            "0.10000000000000000000000000000000000000001",
            "1",
            "9007199254740992",
            "9007199254740993.0",
            "18446744073709551616",
            "18446744073709551617",
            "1e400",
        ];
        for (at, one) in rising.iter().enumerate() {
            for (place, other) in rising.iter().enumerate() {
                assert_eq!(num(one).cmp(&num(other)), at.cmp(&place), "{one} {other}");
            }
        }
        for (one, other) in [("1", "1.0"), ("100", "1e2"), ("-0", "0"), ("0.10", "1e-1"), ("120", "1.2E+2")] {
            assert_eq!(num(one), num(other), "{one} {other}");
        }
    }

    #[test]
    fn ends_are_rounded_to_the_whole_numbers_inside() {
        let whole = |text: &str, open, lower| Bound { at: num(text), open }.whole(lower).at.to_string();
        for (text, open, from, to) in [
            ("2", false, "2", "2"),
            ("2", true, "3", "1"),
            ("1.5", false, "2", "1"),
            ("1.5", true, "2", "1"),
            ("-1.5", false, "-1", "-2"),
            ("-2", true, "-1", "-3"),
            ("0", true, "1", "-1"),
            ("0.001", false, "1", "0"),
            ("-0.001", false, "0", "-1"),
            ("99", true, "100", "98"),
            ("-1", true, "0", "-2"),
            ("9007199254740992", true, "9007199254740993", "9007199254740991"),
            ("100", true, "101", "99"),
        ] {
            assert_eq!((whole(text, open, true).as_str(), whole(text, open, false).as_str()), (from, to), "{text}");
        }
    }

    #[test]
    fn numbers_are_shown_as_people_write_them() {
        for text in ["0", "7", "-12.5", "0.001", "18446744073709551616", "1.5e300", "-2e-300"] {
            assert_eq!(num(text).to_string(), text);
        }
    }
}
