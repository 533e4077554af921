//! One text for all JSON payloads that say the same, so that a retry which another library wrote anew is known for the
//! retry that it is. Whoever compares payloads compares these texts; nobody ever sees them.
//!
//! As in RFC 8785, white space is gone, members are in the order of their names and escapes are those that have to be.
//! Numbers are another matter: there they are doubles, of which two that differ may be one. Here they keep all their digits,
//! as the shortest whole number and a power of ten.

use std::borrow::Cow;

use liminal_json::{Decimal, json_text};

/// The text; none where the payload is no JSON that every reader understands (see [`json_text`]), or where it is not
/// certain what it says: an object has a member of the same name twice, or an exponent is beyond any use.
pub(super) fn canonical_json(payload: &[u8]) -> Option<Vec<u8>> {
    let json = json_text(payload)?.as_bytes();
    let mut out = Vec::with_capacity(json.len());
    Reader { json, at: 0 }.value(&mut out)?;
    Some(out)
}

/// Reads what is JSON by its grammar, and nested as deep as [`json_text`] allows at most.
struct Reader<'a> {
    json: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, out: &mut Vec<u8>) -> Option<()> {
        match self.peek()? {
            b'{' => self.object(out),
            b'[' => self.array(out),
            b'"' => write_string(&self.string()?, out),
            b'-' | b'0'..=b'9' => write_number(self.while_any(b"+-.0123456789Ee"), out),
            _ => {
                // true, false or null
                out.extend_from_slice(self.while_any(b"aeflnrstu"));
                Some(())
            }
        }
    }

    fn object(&mut self, out: &mut Vec<u8>) -> Option<()> {
        self.at += 1;
        let mut members: Vec<(Cow<'a, str>, Vec<u8>)> = Vec::new();
        while self.peek()? != b'}' {
            let name = self.string()?;
            self.pass(b':')?;
            let mut value = Vec::new();
            self.value(&mut value)?;
            members.push((name, value));
            self.pass_comma();
        }
        self.at += 1;
        members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        if members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return None;
        }
        out.push(b'{');
        for (at, (name, value)) in members.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_string(name, out)?;
            out.push(b':');
            out.extend_from_slice(value);
        }
        out.push(b'}');
        Some(())
    }

    fn array(&mut self, out: &mut Vec<u8>) -> Option<()> {
        self.at += 1;
        out.push(b'[');
        let mut first = true;
        while self.peek()? != b']' {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            self.value(out)?;
            self.pass_comma();
        }
        self.at += 1;
        out.push(b']');
        Some(())
    }

    /// What a string says.
    fn string(&mut self) -> Option<Cow<'a, str>> {
        self.peek()?;
        let (begin, mut escaped) = (self.at, false);
        self.at += 1;
        loop {
            match self.json.get(self.at)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        self.at += 1;
        let quoted = std::str::from_utf8(self.json.get(begin..self.at)?).ok()?;
        if escaped {
            serde_json::from_str(quoted).ok().map(Cow::Owned)
        } else {
            quoted.get(1..quoted.len() - 1).map(Cow::Borrowed)
        }
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        self.while_any(b" \t\r\n");
        self.json.get(self.at).copied()
    }

    fn pass(&mut self, expected: u8) -> Option<()> {
        (self.peek()? == expected).then(|| self.at += 1)
    }

    fn pass_comma(&mut self) {
        let _ = self.pass(b','); // behind the last one there is none
    }

    fn while_any(&mut self, bytes: &[u8]) -> &'a [u8] {
        let begin = self.at;
        while self.json.get(self.at).is_some_and(|byte| bytes.contains(byte)) {
            self.at += 1;
        }
        &self.json[begin..self.at]
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) -> Option<()> {
    serde_json::to_writer(out, text).ok()
}

fn write_number(number: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let number = std::str::from_utf8(number).ok()?;
    out.extend_from_slice(Decimal::of(number).shortest()?.as_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn canonical(text: &str) -> String {
        String::from_utf8(canonical_json(text.as_bytes()).unwrap_or_else(|| panic!("{text}"))).unwrap()
    }

    #[test]
    fn what_says_the_same_has_one_text() {
        for (one, other) in [
            (r#"{"id": 1}"#, r#"{"id":1}"#),
            ("{\"b\" : [ 1 , {} ,\n[ ] ],\"a\":null}", r#"{"a":null,"b":[1,{},[]]}"#),
            (r#"{"a":{"d":1,"c":2},"b":3}"#, r#"{"b":3,"a":{"c":2,"d":1}}"#),
            (r#""\u00fc\/\u0041\n""#, "\"ü/A\\u000a\""),
            (r#"{"\u0061":1}"#, r#"{"a":1}"#),
            ("[1, 1.0, 10e-1, 0.1E+1]", "[1,1,1,1]"),
            ("[100, 1e2, 1.00e2]", "[1e2,1e2,1e2]"),
            ("[0, -0, 0.0, 0e7]", "[0,0,0,0]"),
            ("[-12.50e3]", "[-12500]"),
        ] {
            assert_eq!(canonical(one), canonical(other));
        }
        assert_eq!(canonical(" \t[ -12.50e3 , 0.010 ] "), "[-125e2,1e-2]");
    }

    #[test]
    fn what_differs_by_one_digit_beyond_all_doubles_differs() {
        for (one, other) in [
            ("9007199254740993", "9007199254740992"),
            ("1.00000000000000000001", "1"),
            ("1e-400", "0"),
            ("1", "\"1\""),
            ("-1", "1"),
            ("[1,2]", "[2,1]"),
            (r#"{"a":1}"#, r#"{"a":1,"b":null}"#),
            ("[[],[]]", "[[[]]]"),
            (r#"["a,b"]"#, r#"["a","b"]"#),
        ] {
            assert_ne!(canonical(one), canonical(other));
        }
    }

    #[test]
    fn what_is_not_certain_has_no_text() {
        for text in
            ["", "x", "{", r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#""\ud800""#, "1e-99999999999999999999"]
        {
            assert_eq!(canonical_json(text.as_bytes()), None, "{text}");
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            "[\"\\\\a-c/\u{0}-\u{1f}üß😀]{0,4}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let members = prop::collection::vec(("[a-c\n\"]{0,2}", inner.clone()), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::Array),
                members.prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn spelling_makes_no_difference_and_the_text_says_what_the_payload_says(value in any_value()) {
            let (tight, wide) = (value.to_string(), serde_json::to_string_pretty(&value).unwrap());
            let text = canonical(&tight);
            prop_assert_eq!(&text, &canonical(&wide));
            prop_assert_eq!(&text, &canonical(&text));
            // Whole numbers come back as doubles where they have zeros at their end.
            let read: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read.is_object(), value.is_object());
        }
    }
}
