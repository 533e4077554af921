//! Which bytes are JSON: one judgement for every face, so that what one of them embeds as it stands the readers of all of
//! them can take in, and get back byte for byte. What is not travels as base64, and no odd message spoils the page, the
//! pull or the stream that it is in.

use serde_json::value::RawValue;

/// Levels of nesting in a payload that is embedded. Widespread readers stop at 64 in all, and our own envelopes take
/// up to four.
const MAX_DEPTH: usize = 60;

/// What the characters stand for at which common readers of lines break them, beside the line feed, and how JSON writes
/// them inside a string. The first three may stand there as they are.
const BREAKS: [(char, &str); 4] =
    [('\u{85}', "\\u0085"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029"), ('\r', " ")];

/// What a JSON text is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A body, a frame or an event: line feeds between the parts of the text stay.
    Document,
    /// A line, which holds no line feed.
    Line,
}

/// The bytes as a JSON text that can stand inside another one and is found there byte for byte; none when they are not.
///
/// Beside what [`json_text`] asks for, there is nothing around the value, because nobody could tell it from what is around
/// the text; and no line break but line feeds, which events and lines would give back as something else.
pub(super) fn embedded(payload: &[u8], form: Form) -> Option<&str> {
    let text = json_text(payload).filter(|text| text.len() == payload.len())?;
    let broken = BREAKS.iter().any(|(character, _)| text.contains(*character));
    let several = form == Form::Line && text.contains('\n');
    (!broken && !several).then_some(text)
}

/// A JSON text that says the same, in which no reader finds a line break that its form does not have. What is
/// `embedded` in it for that form stays as it is.
pub fn unbroken(json: String, form: Form) -> String {
    let line_feed = (form == Form::Line).then_some(('\n', " "));
    let breaks = BREAKS.into_iter().chain(line_feed);
    breaks.fold(json, |text, (from, to)| if text.contains(from) { text.replace(from, to) } else { text })
}

/// The bytes as JSON; none when they are not.
///
/// The text is that of RFC 8259, and every reader understands it: it nests at most [`MAX_DEPTH`] levels, its escapes name
/// whole characters (no half of a surrogate pair), and its numbers lie within the range of a double. Names that stand twice
/// in an object are the publisher's business. White space around the value is not part of it.
pub(super) fn json_text(payload: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(payload).ok()?;
    let raw: &RawValue = serde_json::from_str(text).ok()?;
    is_understood(raw.get().as_bytes()).then(|| raw.get())
}

/// Of a text that is JSON by its grammar.
fn is_understood(json: &[u8]) -> bool {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return false;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => match end_of_string(json, at) {
                Some(end) => at = end,
                None => return false,
            },
            b'-' | b'0'..=b'9' => {
                let rest = &json[at..];
                let in_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                let end = at + rest.iter().position(|byte| !in_number(byte)).unwrap_or(rest.len());
                if !is_finite(&json[at - 1..end]) {
                    return false;
                }
                at = end;
            }
            _ => {}
        }
    }
    true
}

/// Where a string ends whose first byte after the quotation mark is at `at`; none when an escape is half a character.
fn end_of_string(json: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match json.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' if json.get(at + 1) == Some(&b'u') => {
                let high = unit(json, at + 2)?;
                at += 6;
                if (0xdc00..0xe000).contains(&high) {
                    return None;
                }
                if (0xd800..0xdc00).contains(&high) {
                    let escaped = json.get(at..at + 2) == Some(b"\\u");
                    let low = unit(json, at + 2).filter(|low| escaped && (0xdc00..0xe000).contains(low));
                    low?;
                    at += 6;
                }
            }
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The four hexadecimal digits of an escape.
fn unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = std::str::from_utf8(json.get(at..at + 4)?).ok()?;
    u16::from_str_radix(digits, 16).ok()
}

/// Whether a number is one for readers that have doubles. Short ones without an exponent need not be looked at.
fn is_finite(number: &[u8]) -> bool {
    if number.len() < 300 && !number.iter().any(|byte| matches!(byte, b'e' | b'E')) {
        return true;
    }
    std::str::from_utf8(number).ok().and_then(|text| text.parse::<f64>().ok()).is_some_and(f64::is_finite)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_that_every_reader_understands_stays_as_it_is() {
        for text in [
            "123456789012345678901234567890",
            "1.00000000000000000001",
            "1e2",
            "-0",
            "1e-400",
            r#"{"a":1,"a":2}"#,
            "{\r\n\t\"a\" :\n[ ]}",
            r#""\ud83d\ude00 \u00e9 \\ud800 \" ü""#,
            r#"["[[[[", -1.5E+10, true, null]"#,
        ] {
            assert_eq!(json_text(text.as_bytes()), Some(text));
        }
        assert_eq!(json_text(b" \n 1 \n"), Some("1"));
        let nested = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat();
        assert!(json_text(nested(MAX_DEPTH).as_bytes()).is_some());
        assert!(json_text(nested(MAX_DEPTH + 1).as_bytes()).is_none());
    }

    #[test]
    fn what_some_reader_would_choke_on_is_no_json() {
        let deep = ["[".repeat(200), "]".repeat(200)].concat();
        let long = "9".repeat(400);
        for text in [
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\ud800""#,
            r#"{"\uDBFF":1}"#,
            r#""\ud800x\udc00""#,
            "1e400",
            "[-1E+999]",
            &long,
            &deep,
            "",
            "plain",
            "01",
            "NaN",
            "{} {}",
            "\u{feff}{}",
        ] {
            assert_eq!(json_text(text.as_bytes()), None, "{text}");
        }
        assert_eq!(json_text(b"\"\xff\""), None);
    }

    #[test]
    fn only_what_comes_back_byte_for_byte_is_embedded() {
        for text in ["1", "{\n \"a\":\n1}", r#""a\r\n\u2028""#] {
            assert_eq!(embedded(text.as_bytes(), Form::Document), Some(text));
        }
        for text in ["1\n", " 1", "{\r\n}", "[1,\r2]", "\"a\u{85}b\"", "\"a\u{2028}b\"", "\"a\u{2029}b\"", "plain"] {
            assert_eq!(embedded(text.as_bytes(), Form::Document), None, "{text:?}");
        }
        assert_eq!(embedded(b"{\n}", Form::Line), None);
        assert_eq!(embedded(b"{ }", Form::Line), Some("{ }"));
    }

    #[test]
    fn a_text_without_line_breaks_says_the_same() {
        let value = serde_json::json!({ "a\u{2028}": ["b\u{85}c", "\u{2029}\r\n"] });
        for form in [Form::Line, Form::Document] {
            let text = unbroken(serde_json::to_string_pretty(&value).unwrap(), form);
            assert!(!text.contains(['\r', '\u{85}', '\u{2028}', '\u{2029}']), "{text}");
            assert_eq!(text.contains('\n'), form == Form::Document, "{text}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_embedded_can_be_read(text in r#"[\[\]{}"\\u0-9a-fde+.,: \n-]{0,24}"#) {
            if let Some(json) = json_text(text.as_bytes()) {
                let read: Result<serde_json::Value, _> = serde_json::from_str(json);
                prop_assert!(read.is_ok(), "{}", json);
            }
        }
    }
}
