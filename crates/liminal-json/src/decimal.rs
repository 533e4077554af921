//! JSON numbers as they are written: all their digits, and exponents of any size. Whoever compares numbers goes by these:
//! predicates, the text by which payloads are compared, the schema check, the comparison of schemas.
//!
//! Nothing is expanded, so all of it takes time in proportion to what is written and no more.

use std::{borrow::Cow, cmp::Ordering};

/// So far apart that nothing else matters: further than two numbers of digits that fit into memory.
const FAR: u128 = 1 << 80;

/// A number: `0.digits` times ten to the power of `place` and of `exponent`.
#[derive(Clone, Debug)]
pub struct Decimal<'a> {
    negative: bool,
    /// From the first digit that is not zero to the last one, perhaps with a point among them; empty for zero.
    digits: Cow<'a, str>,
    /// How many digits stand before the point; less than zero for the zeros behind it.
    place: i64,
    exponent: Exponent<'a>,
}

/// A whole number of any size.
#[derive(Clone, Debug)]
struct Exponent<'a> {
    negative: bool,
    /// Without zeros at the beginning.
    digits: Cow<'a, str>,
}

impl<'a> Decimal<'a> {
    /// Of what is a number by the grammar of JSON.
    pub fn of(number: &'a str) -> Self {
        let (negative, number) = number.strip_prefix('-').map_or((false, number), |number| (true, number));
        let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, ""));
        let digits = mantissa.trim_start_matches(['0', '.']);
        let first = mantissa.len() - digits.len();
        let point = mantissa.find('.').unwrap_or(mantissa.len());
        // The point itself is no digit.
        let place = point as i64 - first as i64 + i64::from(first > point);
        let digits = digits.trim_end_matches(['0', '.']).into();
        Self { negative, digits, place, exponent: Exponent::of(exponent) }
    }

    /// The same number, independent of the text that it was read from.
    pub fn into_owned(self) -> Decimal<'static> {
        let Self { negative, digits, place, exponent: Exponent { negative: down, digits: power } } = self;
        let exponent = Exponent { negative: down, digits: power.into_owned().into() };
        Decimal { negative, digits: digits.into_owned().into(), place, exponent }
    }

    /// The order of two numbers, exactly, whatever their size.
    pub fn compare(&self, other: &Decimal<'_>) -> Ordering {
        match (self.sign(), other.sign()) {
            (1, 1) => self.compare_sizes(other),
            (-1, -1) => self.compare_sizes(other).reverse(),
            (one, other) => one.cmp(&other),
        }
    }

    /// All its digits as the shortest whole number, and the power of ten that makes up for that (`-12.50e3` is `-125e2`): one
    /// text for all ways to write a number. None where its exponent has more than 64 bits.
    pub fn shortest(&self) -> Option<String> {
        let (digits, power) = self.scaled()?;
        let sign = if self.negative { "-" } else { "" };
        Some(match (digits.as_str(), power) {
            ("", _) => "0".to_owned(),
            (digits, 0) => format!("{sign}{digits}"),
            (digits, power) => format!("{sign}{digits}e{power}"),
        })
    }

    /// Without point and exponent; none where it is not whole, or would have more zeros at its end than `zeros`.
    pub fn whole(&self, zeros: usize) -> Option<String> {
        let (digits, power) = self.scaled()?;
        let power = usize::try_from(power).ok().filter(|power| *power <= zeros)?;
        let sign = if self.negative { "-" } else { "" };
        Some(if digits.is_empty() { "0".to_owned() } else { format!("{sign}{digits}{}", "0".repeat(power)) })
    }

    /// For whoever counts with it: whether it is negative, its digits as numbers without zeros at either end, and the power of
    /// ten that goes with `0.digits`. An exponent beyond `most` counts as that.
    pub fn taken_apart(&self, most: i64) -> (bool, Vec<u8>, i64) {
        let far = if self.exponent.negative { -most } else { most };
        let exponent = self.exponent.value().unwrap_or(far).clamp(-most, most);
        (self.negative, self.each_digit().map(|digit| digit - b'0').collect(), self.place + exponent)
    }

    /// Its digits as a whole number without zeros at its end, and the power of ten that goes with it.
    fn scaled(&self) -> Option<(String, i64)> {
        let exponent = self.exponent.value()?;
        let digits = self.digits.replace('.', "");
        if digits.is_empty() {
            return Some((digits, 0));
        }
        let power = i128::from(exponent) + i128::from(self.place) - digits.len() as i128;
        Some((digits, i64::try_from(power).ok()?))
    }

    fn sign(&self) -> i8 {
        match (self.digits.is_empty(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }

    fn compare_sizes(&self, other: &Decimal<'_>) -> Ordering {
        // The first digit of either is not zero, so the higher place has the larger number; and neither is the last one, so
        // of two that begin alike the longer is larger.
        self.compare_places(other).then_with(|| self.each_digit().cmp(other.each_digit()))
    }

    fn each_digit(&self) -> impl Iterator<Item = u8> {
        self.digits.bytes().filter(|byte| *byte != b'.')
    }

    fn compare_places(&self, other: &Decimal<'_>) -> Ordering {
        let (one, two) = (&self.exponent, &other.exponent);
        let mut apart = 0_i128;
        for at in (0..one.digits.len().max(two.digits.len())).rev() {
            apart = apart * 10 + one.digit(at) - two.digit(at);
            // What is so far apart only moves further.
            if apart.unsigned_abs() > FAR {
                return apart.cmp(&0);
            }
        }
        (apart + i128::from(self.place) - i128::from(other.place)).cmp(&0)
    }
}

impl<'a> Exponent<'a> {
    fn of(text: &'a str) -> Self {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        Self { negative, digits: digits.trim_start_matches(['+', '0']).into() }
    }

    fn value(&self) -> Option<i64> {
        let size: i128 = if self.digits.is_empty() { 0 } else { self.digits.parse().ok()? };
        i64::try_from(if self.negative { -size } else { size }).ok()
    }

    /// The digit that counts tens to this power, with the sign; 0 before the first one.
    fn digit(&self, power: usize) -> i128 {
        let byte = self.digits.len().checked_sub(power + 1).map_or(b'0', |at| self.digits.as_bytes()[at]);
        let digit = i128::from(byte) - i128::from(b'0');
        if self.negative { -digit } else { digit }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compare(one: &str, other: &str) -> Ordering {
        let (one, other) = (Decimal::of(one), Decimal::of(other));
        let order = one.compare(&other);
        assert_eq!(other.compare(&one), order.reverse());
        assert_eq!(one.clone().into_owned().compare(&other.clone().into_owned()), order);
        order
    }

    #[test]
    fn numbers_are_in_order_whatever_their_size() {
        let ascending = [
            "-1e99999999999999999999999999999999999999999999",
            "-1e400",
            "-170141183460469231731687303715884105729",
            "-170141183460469231731687303715884105728",
            "-2",
            "-1.5",
            "-0.1",
            "-1e-400",
            "0",
            "1e-99999999999999999999999999999999999999999999",
            "1e-99999999999999999999999999999999999999999998",
            "0.001e-99999999999999999999999999999999999999999994",
            "1e-400",
            "0.0999999999999999999999999999999999999999999999",
            "0.1",
            "0.1000000000000000000001",
            "1",
            "1.00000000000000000000000000000000000000000001",
            "9",
            "10",
            "9007199254740992",
            "9007199254740992.5",
            "9007199254740993",
            "123456789012345678901234567890123456789012345",
            "123456789012345678901234567890123456789012346",
            "1e400",
            "1e1208925819614629174706177",
            "1e99999999999999999999999999999999999999999999",
        ];
        for (one, first) in ascending.iter().enumerate() {
            for (other, second) in ascending.iter().enumerate() {
                assert_eq!(compare(first, second), one.cmp(&other), "{first} {second}");
            }
        }
    }

    #[test]
    fn all_ways_to_write_a_number_are_the_same() {
        for (one, other) in [
            ("1", "1.0"),
            ("100", "1e2"),
            ("100", "0.0001E+6"),
            ("0.1", "0.100"),
            ("0.1", "1e-1"),
            ("-12.50e3", "-125e2"),
            ("9007199254740993.0", "9007199254740993"),
            ("9007199254740993", "0.9007199254740993e16"),
            ("-0", "0"),
            ("-0.0e5", "0e-7"),
            ("0e99999999999999999999999999999999999999", "0"),
            ("1e00000000000000000000000000000000000000000000000001", "10"),
            ("10e-100000000000000000000000000000000000000000000", "1e-99999999999999999999999999999999999999999999"),
        ] {
            assert_eq!(compare(one, other), Ordering::Equal, "{one} {other}");
        }
    }

    #[test]
    fn the_shortest_text_and_the_whole_number_keep_every_digit() {
        for (text, shortest, whole) in [
            ("-12.50e3", Some("-125e2"), Some("-12500")),
            ("0.010", Some("1e-2"), None),
            ("-0.0", Some("0"), Some("0")),
            ("9007199254740993.0", Some("9007199254740993"), Some("9007199254740993")),
            ("1e20", Some("1e20"), Some("100000000000000000000")),
            ("1e21", Some("1e21"), None),
            ("1e-99999999999999999999", None, None),
            ("0e99999999999999999999", None, None),
        ] {
            let number = Decimal::of(text);
            assert_eq!((number.shortest().as_deref(), number.whole(20).as_deref()), (shortest, whole), "{text}");
        }
    }

    #[test]
    fn a_megabyte_of_exponent_costs_a_look_at_it() {
        let long = "9".repeat(1 << 20);
        assert_eq!(compare(&format!("1e{long}"), &format!("2e-{long}")), Ordering::Greater);
        assert_eq!(compare(&format!("1e{long}"), &format!("10e{long}")), Ordering::Less);
    }

    /// A number of few digits as it may be written, and how many billionths it has.
    fn written() -> impl Strategy<Value = (String, i128)> {
        let parts =
            (any::<bool>(), 0_u64..2000, prop::option::of("[0-9]{1,4}"), prop::option::of(-5_i32..=9), 0..3_usize);
        parts.prop_map(|(negative, whole, fraction, power, spelling)| {
            let sign = if negative { "-" } else { "" };
            let point = fraction.as_ref().map(|digits| format!(".{digits}")).unwrap_or_default();
            let exponent = power.map_or_else(String::new, |power| match (spelling, power < 0) {
                (0, _) => format!("e{power}"),
                (_, true) => format!("E-00{}", -power),
                (1, false) => format!("E+{power}"),
                (_, false) => format!("e000{power}"),
            });
            let fraction = fraction.unwrap_or_default();
            let digits: i128 = format!("{whole}{fraction}").parse().unwrap();
            let power = 9 + power.unwrap_or_default() - fraction.len() as i32;
            let billionths = digits * 10_i128.pow(power.try_into().unwrap());
            (format!("{sign}{whole}{point}{exponent}"), if negative { -billionths } else { billionths })
        })
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_whole_numbers_of_billionths((one, first) in written(), (other, second) in written()) {
            prop_assert_eq!(compare(&one, &other), first.cmp(&second), "{} {}", one, other);
            let (one, other) = (Decimal::of(&one), Decimal::of(&other));
            prop_assert_eq!(one.shortest() == other.shortest(), first == second);
            prop_assert_eq!(Decimal::of(&one.shortest().unwrap()).compare(&one), Ordering::Equal);
            match one.whole(30) {
                Some(whole) => prop_assert_eq!(whole.parse::<i128>().unwrap() * 1_000_000_000, first),
                None => prop_assert!(first % 1_000_000_000 != 0),
            }
        }

        #[test]
        fn an_exponent_for_both_changes_no_order(
            (one, first) in written(),
            (other, second) in written(),
            negative: bool,
            long in "[1-9][0-9]{30,60}",
        ) {
            let sign = if negative { "-" } else { "" };
            let mantissa = |text: &str| text.split(['e', 'E']).next().unwrap().to_owned();
            let far = |text: &str| format!("{}e{sign}{long}", mantissa(text));
            let near = compare(&mantissa(&one), &mantissa(&other));
            prop_assert_eq!(compare(&far(&one), &far(&other)), near);
            prop_assert_eq!(compare(&far(&one), &one).is_gt(), if negative { first < 0 } else { first > 0 });
            prop_assert_eq!(compare(&far(&other), &other).is_eq(), second == 0);
        }
    }
}
