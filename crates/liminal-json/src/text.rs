//! Which bytes are JSON: one judgement for every face, so that what one of them embeds as it stands the readers of all of
//! them can take in, and get back byte for byte. What is not travels as base64, and no odd message spoils the page, the
//! pull or the stream that it is in. Predicates and the comparison of payloads go by the same judgement: what is no JSON to
//! a reader has no fields either, and no other text that says the same. The schema check reads values with a parser of its
//! own, which a test holds to this judgement; where it differs is said in docs/PREDICATES.md.

use std::ops::Range;

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
pub fn embedded(payload: &[u8], form: Form) -> Option<&str> {
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
/// The text is that of RFC 8259, and every reader understands it: it nests at most 60 levels, its escapes name
/// whole characters (no half of a surrogate pair), and its numbers lie within the range of a double. Names that stand twice
/// in an object are the publisher's business. White space around the value is not part of it.
pub fn json_text(payload: &[u8]) -> Option<&str> {
    json_parts(std::str::from_utf8(payload).ok()?, |_, _| {})
}

/// The value of a text that [`json_text`] takes; its members or items are told on the way, so that whoever wants them need
/// not go over the text again: the name as it stands there (none in an array), and the value.
pub fn json_parts<'a>(text: &'a str, mut part: impl FnMut(Option<&'a str>, &'a str)) -> Option<&'a str> {
    let mut reader = Reader { json: text.as_bytes(), at: 0 };
    // Of each level that is open whether it is an object; the lowest bit is the innermost one.
    let (mut objects, mut depth) = (0_u64, 0);
    // Of the part that is being read.
    let (mut name, mut from) = (None, 0);
    reader.pass_space();
    let begin = reader.at;
    loop {
        if depth == 1 {
            from = reader.at;
        }
        match reader.peek()? {
            open @ (b'{' | b'[') => {
                if depth == MAX_DEPTH {
                    return None;
                }
                reader.at += 1;
                reader.pass_space();
                let (object, close) = if open == b'{' { (true, b'}') } else { (false, b']') };
                if reader.peek()? == close {
                    reader.at += 1;
                } else {
                    depth += 1;
                    objects = objects << 1 | u64::from(object);
                    if object {
                        let found = reader.pass_name()?;
                        if depth == 1 {
                            name = Some(&text[found]);
                        }
                    }
                    continue;
                }
            }
            b'"' => reader.pass_string()?,
            b'-' | b'0'..=b'9' => reader.pass_number()?,
            b't' => reader.pass_word(b"true")?,
            b'f' => reader.pass_word(b"false")?,
            b'n' => reader.pass_word(b"null")?,
            _ => return None,
        }
        // A value has ended, and with it perhaps those that it is the last part of.
        loop {
            if depth == 0 {
                let end = reader.at;
                reader.pass_space();
                return reader.peek().is_none().then(|| &text[begin..end]);
            }
            if depth == 1 {
                part(name.take(), &text[from..reader.at]);
            }
            reader.pass_space();
            let object = objects & 1 == 1;
            match reader.peek()? {
                b'}' if object => {}
                b']' if !object => {}
                b',' => {
                    reader.at += 1;
                    reader.pass_space();
                    if object {
                        let found = reader.pass_name()?;
                        if depth == 1 {
                            name = Some(&text[found]);
                        }
                    }
                    break;
                }
                _ => return None,
            }
            reader.at += 1;
            depth -= 1;
            objects >>= 1;
        }
    }
}

/// Passes what is as the grammar has it, and is none at what is not.
struct Reader<'a> {
    json: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn pass_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn pass_word(&mut self, word: &[u8]) -> Option<()> {
        self.json[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    /// A member's name, which is what it gives, up to its value.
    fn pass_name(&mut self) -> Option<Range<usize>> {
        let begin = self.at;
        if self.peek()? != b'"' {
            return None;
        }
        self.pass_string()?;
        let name = begin..self.at;
        self.pass_space();
        self.pass_word(b":")?;
        self.pass_space();
        Some(name)
    }

    fn pass_string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => self.pass_escape()?,
                ..0x20 => return None,
                _ => self.at += 1,
            }
        }
    }

    fn pass_escape(&mut self) -> Option<()> {
        match self.json.get(self.at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
            b'u' => match self.pass_unit()? {
                // The first half of a character, which needs the second one.
                0xd800..0xdc00 => {
                    self.pass_unit().filter(|low| (0xdc00..0xe000).contains(low))?;
                }
                0xdc00..0xe000 => return None,
                _ => {}
            },
            _ => return None,
        }
        Some(())
    }

    /// An escape of four hexadecimal digits, and what they say.
    fn pass_unit(&mut self) -> Option<u32> {
        let digits = self.json.get(self.at..self.at + 6)?.strip_prefix(b"\\u")?;
        self.at += 6;
        digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
    }

    fn pass_number(&mut self) -> Option<()> {
        let begin = self.at;
        if self.peek()? == b'-' {
            self.at += 1;
        }
        // No zero stands before other digits.
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.pass_digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.pass_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.pass_digits()?;
        }
        is_finite(&self.json[begin..self.at]).then_some(())
    }

    fn pass_digits(&mut self) -> Option<()> {
        let begin = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        (self.at > begin).then_some(())
    }
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
    use serde_json::{Value, value::RawValue};

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
            "[1,]",
            "[1 2]",
            "[1}",
            "{\"a\":1]",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{a:1}",
            "{,}",
            "[",
            "{\"a\":",
            "\"a",
            "\"a\nb\"",
            r#""\x""#,
            r#""\u+123""#,
            r#""\u12"#,
            "-",
            "1.",
            ".5",
            "+1",
            "1e",
            "1e+",
            "0x1",
            "truth",
            "nul",
            "'a'",
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

    #[test]
    fn the_parts_of_the_outermost_value_are_told_as_they_stand_there() {
        let parts = |text: &'static str| {
            let mut parts = Vec::new();
            let value = json_parts(text, |name, value| parts.push((name.unwrap_or_default(), value)));
            value.map(|value| (value, parts))
        };
        assert_eq!(parts(" 1 "), Some(("1", vec![])));
        assert_eq!(parts("{ }"), Some(("{ }", vec![])));
        let items = r#"[ 1 , [ 2 , {"a":3} ] ,"x,]" , { } ]"#;
        let expected = vec![("", "1"), ("", r#"[ 2 , {"a":3} ]"#), ("", r#""x,]""#), ("", "{ }")];
        assert_eq!(parts(items), Some((items, expected)));
        let members = r#"{"a" : {"b":{"c":1}, "d":[]}, "\u0061":-1.5e3 ,"":null}"#;
        let expected = vec![(r#""a""#, r#"{"b":{"c":1}, "d":[]}"#), (r#""\u0061""#, "-1.5e3"), (r#""""#, "null")];
        assert_eq!(parts(members), Some((members, expected)));
    }

    /// What serde_json says, with the three rules of ours.
    fn expected(text: &str) -> Option<&str> {
        fn is_understood(value: &Value, levels: usize) -> bool {
            match value {
                Value::Number(number) => number.as_f64().is_some_and(f64::is_finite),
                Value::Array(items) => levels > 0 && items.iter().all(|item| is_understood(item, levels - 1)),
                Value::Object(members) => {
                    levels > 0 && members.values().all(|member| is_understood(member, levels - 1))
                }
                _ => true,
            }
        }
        let value: Value = serde_json::from_str(text).ok()?;
        let raw: &RawValue = serde_json::from_str(text).ok()?;
        is_understood(&value, MAX_DEPTH).then(|| raw.get())
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[\"\\\\a-c/\u{0}-\u{1f}üß😀]{0,4}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let members = prop::collection::vec(("[a-c\n\"]{0,2}", inner.clone()), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::Array),
                members.prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_taken_for_json_is_json_to_a_reader(text in r#"[\[\]{}"\\u0-9a-fde+.,: \n-]{0,24}"#) {
            prop_assert_eq!(json_text(text.as_bytes()), expected(&text));
        }

        #[test]
        fn so_it_is_when_a_part_of_the_text_is_another(
            value in any_value(),
            pretty: bool,
            at: prop::sample::Index,
            cut in 0..3_usize,
            put in r#"[\[\]{}"\\u0-9eE+.,: \n-]{0,2}|\\u[dD][8-9c-d]00|e999|null"#,
        ) {
            let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
            prop_assert_eq!(json_text(text.as_bytes()), Some(text.as_str()));
            let mut characters: Vec<char> = text.chars().collect();
            let at = at.index(characters.len());
            let end = (at + cut).min(characters.len());
            characters.splice(at..end, put.chars());
            let text: String = characters.into_iter().collect();
            prop_assert_eq!(json_text(text.as_bytes()), expected(&text), "{}", text);
        }
    }
}
