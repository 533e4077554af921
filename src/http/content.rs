//! What JSON bodies say of messages: bytes, which are JSON or base64 of anything, and headers. Reasons are plain text; who
//! calls knows of which message it speaks.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use axum::body::Bytes;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{model::Limits, proto::v1::Header};

/// The bytes of a member, or of its twin for what is no JSON, whose name ends with `_base64`; none where neither is there.
pub(super) fn bytes(name: &str, json: Option<Box<RawValue>>, base64: Option<String>) -> Result<Option<Bytes>, String> {
    match (json, base64) {
        (Some(_), Some(_)) => Err(format!("give {name} or {name}_base64, not both")),
        (Some(json), None) => Ok(Some(String::from(Box::<str>::from(json)).into_bytes().into())),
        (None, Some(text)) => match BASE64_STANDARD.decode(&text) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) => Err(format!("{name}_base64 is no base64: {error}")),
        },
        (None, None) => Ok(None),
    }
}

/// The bytes of a message's payload, which has to be there.
pub(super) fn payload(json: Option<Box<RawValue>>, base64: Option<String>) -> Result<Bytes, String> {
    bytes("payload", json, base64)?.ok_or_else(|| "a message needs payload or payload_base64".to_owned())
}

/// As many of a list as a request may have, and one more, by which it is refused: what is behind that is read, and not
/// kept.
#[derive(Debug)]
pub(super) struct Few<T, const MOST: usize>(pub(super) Vec<T>);

impl<T, const MOST: usize> Default for Few<T, MOST> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Few<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T, const MOST: usize>(PhantomData<fn() -> T>);
        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
            type Value = Few<T, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut few = Vec::new();
                while few.len() <= MOST {
                    let Some(one) = list.next_element()? else { return Ok(Few(few)) };
                    few.push(one);
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Few(few))
            }
        }
        deserializer.deserialize_seq(List(PhantomData))
    }
}

/// The headers of a message by name: a text, or a list of texts where the name stands there several times. Anything else
/// is read and not kept, because a list of nothing takes far more memory than text.
#[derive(Debug, Default)]
pub(super) struct HeadersJson(BTreeMap<String, Texts>);

/// None for what is no text.
#[derive(Debug)]
struct Texts(Option<Vec<String>>);

/// One of them.
struct Text(Option<String>);

impl HeadersJson {
    pub(super) fn headers(self) -> Result<Vec<Header>, String> {
        let mut headers = Vec::new();
        for (name, Texts(values)) in self.0 {
            let values = values.ok_or_else(|| format!("header `{name}` is no text"))?;
            headers.extend(values.into_iter().map(|value| Header { name: name.clone(), value }));
        }
        Ok(headers)
    }
}

impl<'de> Deserialize<'de> for HeadersJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByName;
        impl<'de> Visitor<'de> for ByName {
            type Value = HeadersJson;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<HeadersJson, A::Error> {
                let mut headers = BTreeMap::new();
                while headers.len() <= Limits::HEADERS_OF_JSON {
                    let Some((name, texts)) = members.next_entry()? else { return Ok(HeadersJson(headers)) };
                    headers.insert(name, texts);
                }
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(HeadersJson(headers))
            }
        }
        deserializer.deserialize_map(ByName)
    }
}

/// What is no text, whatever it is. Numbers come as a map where they are kept exactly.
macro_rules! no_text {
    ($kind:ident) => {
        fn visit_unit<E>(self) -> Result<$kind, E> {
            Ok($kind(None))
        }

        fn visit_bool<E>(self, _: bool) -> Result<$kind, E> {
            Ok($kind(None))
        }

        fn visit_i64<E>(self, _: i64) -> Result<$kind, E> {
            Ok($kind(None))
        }

        fn visit_u64<E>(self, _: u64) -> Result<$kind, E> {
            Ok($kind(None))
        }

        fn visit_f64<E>(self, _: f64) -> Result<$kind, E> {
            Ok($kind(None))
        }

        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<$kind, A::Error> {
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok($kind(None))
        }
    };
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(Some(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Text, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }

            no_text!(Text);
        }
        deserializer.deserialize_any(One)
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a list of texts")
            }

            fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(Some(vec![text.to_owned()])))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
                let mut texts = Some(Vec::new());
                while let Some(Text(text)) = list.next_element()? {
                    match (&mut texts, text) {
                        (Some(texts), Some(text)) if texts.len() <= Limits::HEADERS_OF_JSON => texts.push(text),
                        (_, Some(_)) => {}
                        (_, None) => texts = None,
                    }
                }
                Ok(Texts(texts))
            }

            no_text!(Texts);
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(json: &str) -> Result<Vec<(String, String)>, String> {
        let headers: HeadersJson = serde_json::from_str(json).map_err(|error| error.to_string())?;
        Ok(headers.headers()?.into_iter().map(|header| (header.name, header.value)).collect())
    }

    #[test]
    fn headers_are_texts_or_lists_of_texts_and_what_else_is_there_is_not_kept() {
        let pairs = |pairs: &[(&str, &str)]| Ok(pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect());
        assert_eq!(headers(r#"{"b":"1","a":["x","y"],"c":[]}"#), pairs(&[("a", "x"), ("a", "y"), ("b", "1")]));
        for wrong in ["1", "1.5", "null", "true", "{}", "{\"x\":[[]]}", "[[]]", "[[\"x\"]]", "[\"x\",1]"] {
            assert_eq!(headers(&format!(r#"{{"a":{wrong}}}"#)), Err("header `a` is no text".into()), "{wrong}");
        }
        assert!(headers("null").is_err() && headers("[]").is_err());
    }

    #[test]
    fn of_a_long_list_no_more_is_kept_than_tells_that_it_is_too_long() {
        let texts = format!("[{}\"\"]", "\"\",".repeat(100_000));
        let few: Few<String, 10> = serde_json::from_str(&texts).unwrap();
        assert_eq!(few.0.len(), 11);
        assert_eq!(headers(&format!(r#"{{"a":{texts}}}"#)).unwrap().len(), Limits::HEADERS_OF_JSON + 1);
        let few: Few<u8, 10> = serde_json::from_str("[1,2]").unwrap();
        assert_eq!(few.0, [1, 2]);
    }
}
