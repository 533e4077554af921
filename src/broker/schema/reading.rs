//! JSON into values for the schema check, with every number as it is written.
//!
//! serde_json can keep numbers exactly, but then it hands a number over as an object with one member of a name of its own,
//! and it takes a member of such a name in a text for the same. So a payload could pass for a number that is none. Here
//! every member is a member: a number that serde_json hands over brings its text along as a `String` of its own, which
//! no text in the payload does.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use liminal_json::Decimal;

use crate::model::Limits;

/// From here on (2^53) doubles are further apart than whole numbers.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// The name of that member.
const NUMBER: &str = "$serde_json::private::Number";

/// The value of a JSON text.
///
/// # Errors
/// When it is no JSON, nests too deep for the parser, or has a number that is too long or beyond the range of doubles.
pub(crate) fn read(text: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<Read>(text).map(|read| read.value)
}

struct Read {
    value: Value,
    /// It was a `String` of serde_json's own.
    own: bool,
}

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

fn plain<E>(value: impl Into<Value>) -> Result<Read, E> {
    Ok(Read { value: value.into(), own: false })
}

impl<'de> Visitor<'de> for Reading {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Read, E> {
        plain(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Read, E> {
        plain(value)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Read, E> {
        plain(value)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Read, E> {
        plain(value)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Read, E> {
        plain(value)
    }

    fn visit_str<E>(self, value: &str) -> Result<Read, E> {
        plain(value)
    }

    fn visit_string<E>(self, value: String) -> Result<Read, E> {
        Ok(Read { value: value.into(), own: true })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Read, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element::<Read>()? {
            array.push(item.value);
        }
        plain(array)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Read, A::Error> {
        let mut object = Map::new();
        while let Some((name, read)) = members.next_entry::<String, Read>()? {
            if let Value::String(text) = &read.value
                && read.own
                && name == NUMBER
            {
                return plain(Value::Number(number(text)?));
            }
            object.insert(name, read.value);
        }
        plain(object)
    }
}

/// What is beyond the range of doubles, most readers could not take: to them it is no JSON.
fn number<E: Error>(text: &str) -> Result<Number, E> {
    if text.len() > Limits::MOST_NUMBER_BYTES {
        let (long, most) = (text.len(), Limits::MOST_NUMBER_BYTES);
        return Err(E::custom(format!("a number has {long} characters; at most {most}")));
    }
    let number: Number = text.parse().map_err(E::custom)?;
    match number.as_f64().filter(|double| double.is_finite()) {
        None => Err(E::custom("number out of range")),
        Some(double) if double.abs() >= EXACT => match whole(text) {
            Some(whole) => whole.parse().map_err(E::custom),
            None => Ok(number),
        },
        Some(_) => Ok(number),
    }
}

/// A whole number without point and exponent; none where it is not whole, or is written so already. The library compares
/// one that is written as a fraction with a bound by its nearest double first, which tells too little from here on.
fn whole(text: &str) -> Option<String> {
    // Within the range of doubles there are no more zeros than that.
    text.contains(['.', 'e', 'E']).then(|| Decimal::of(text).whole(Limits::MOST_NUMBER_BYTES)).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::json_text;

    #[test]
    fn values_are_read_as_serde_json_reads_them() {
        let text = r#"{"a":[1,-2,3.50,1e3,true,null,"x\u0041",{}],"b":{"c":"d","c":"e"},"":0}"#;
        let (ours, theirs): (_, Value) = (read(text.as_bytes()).unwrap(), serde_json::from_str(text).unwrap());
        assert_eq!(ours, theirs);
        for wrong in ["", "{", "[1,]", "01", "1 2", "\u{1}", "nul", "{\"a\" 1}"] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_keep_every_digit() {
        for (text, kept) in [
            ("18446744073709551617", "18446744073709551617"),
            ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
            ("1.0", "1.0"),
            ("12345678901234567.89", "12345678901234567.89"),
            ("9007199254740993.0", "9007199254740993"),
            ("-9.007199254740993E15", "-9007199254740993"),
            ("1e20", "100000000000000000000"),
        ] {
            assert_eq!(read(text.as_bytes()).unwrap().to_string(), kept);
        }
        assert!(read(b"1e400").unwrap_err().to_string().contains("number out of range"));
        let long = "1".repeat(300) + "." + &"1".repeat(800);
        assert!(read(long.as_bytes()).unwrap_err().to_string().contains("has 1101 characters; at most 1024"));
    }

    #[test]
    fn no_member_passes_for_something_else() {
        for text in [
            r#"{"$serde_json::private::Number":"7"}"#,
            r#"{"\u0024serde_json::private::Number":"\u0037"}"#,
            r#"{"$serde_json::private::RawValue":"7"}"#,
        ] {
            let value = read(text.as_bytes()).unwrap();
            assert!(value.as_object().is_some_and(|object| object.len() == 1), "{text}: {value}");
        }
    }

    #[test]
    fn only_nesting_and_long_numbers_are_judged_otherwise_than_for_readers() {
        let nested = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat();
        let long = format!("0.{}", "1".repeat(1100));
        for (text, check, readers) in [
            (nested(60).as_str(), true, true),
            (nested(61).as_str(), true, false),
            (nested(127).as_str(), true, false),
            (nested(128).as_str(), false, false),
            (long.as_str(), false, true),
        ] {
            let seen = (read(text.as_bytes()).is_ok(), json_text(text.as_bytes()).is_some());
            assert_eq!(seen, (check, readers), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_json_to_the_check_is_json_to_readers(
            text in prop::sample::select(vec![
                r#"{"a":[1,-2.5e3,{"b":"\ud83d\ude00"}],"a":null}"#,
                r#"[true,false,[],{},"\\\"",0.1]"#,
                r#" {"\u0061" : 1e308} "#,
                "12",
                "",
            ]),
            at: prop::sample::Index,
            cut in 0..3_usize,
            put in r#"[\[\]{}"\\u0-9eE+.,: \n-]{0,3}|\\u[dD][8-9c-d]00|e999|null"#,
        ) {
            let at = at.index(text.len() + 1);
            let end = (at + cut).min(text.len());
            let text = [&text[..at], &put, &text[end..]].concat();
            prop_assert_eq!(read(text.as_bytes()).is_ok(), json_text(text.as_bytes()).is_some(), "{}", text);
        }
    }
}
