//! What JSON bodies say of messages: bytes, which are JSON or base64 of anything, and headers. Reasons are plain text; who
//! calls knows of which message it speaks.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use axum::body::Bytes;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::proto::v1::Header;

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

/// Bytes that the items of one list may take, beside their texts.
const LIST_BYTES: usize = 16 << 20;

/// A list. One of very many items is refused while it is read: each takes many times its text.
#[derive(Debug)]
pub(super) struct Few<T>(pub(super) Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
            type Value = Few<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Few<T>, A::Error> {
                let most = LIST_BYTES / size_of::<T>().max(1);
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    if list.len() == most {
                        return Err(A::Error::custom(format!("a list has more than {most} items")));
                    }
                    list.push(item);
                }
                Ok(Few(list))
            }
        }
        deserializer.deserialize_seq(List(PhantomData))
    }
}

/// The headers of a message by name: a text, or a list of texts where the name stands there several times.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct HeadersJson(BTreeMap<String, HeaderJson>);

/// What stands under a name.
#[derive(Debug)]
enum HeaderJson {
    Text(String),
    Texts(Vec<String>),
    /// Of no header; it is not kept.
    Other,
}

impl<'de> Deserialize<'de> for HeaderJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = HeaderJson;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<HeaderJson, E> {
                Ok(HeaderJson::Text(text.to_owned()))
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<HeaderJson, E> {
                Ok(HeaderJson::Other)
            }

            fn visit_unit<E: Error>(self) -> Result<HeaderJson, E> {
                Ok(HeaderJson::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<HeaderJson, A::Error> {
                let (mut texts, mut others) = (Vec::new(), false);
                while let Some(item) = items.next_element()? {
                    match item {
                        HeaderJson::Text(text) if !others => texts.push(text),
                        _ => (texts, others) = (Vec::new(), true),
                    }
                }
                Ok(if others { HeaderJson::Other } else { HeaderJson::Texts(texts) })
            }

            // A number as well: see serde_json's `arbitrary_precision`.
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<HeaderJson, A::Error> {
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(HeaderJson::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl HeadersJson {
    pub(super) fn headers(self) -> Result<Vec<Header>, String> {
        let mut headers = Vec::new();
        for (name, values) in self.0 {
            let values = match values {
                HeaderJson::Text(value) => vec![value],
                HeaderJson::Texts(values) => values,
                HeaderJson::Other => return Err(format!("header `{name}` is no text")),
            };
            headers.extend(values.into_iter().map(|value| Header { name: name.clone(), value }));
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(json: &str) -> Result<Vec<(String, String)>, String> {
        let headers = serde_json::from_str::<HeadersJson>(json).unwrap().headers()?;
        Ok(headers.into_iter().map(|header| (header.name, header.value)).collect())
    }

    #[test]
    fn a_header_is_a_text_or_a_list_of_texts() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            headers(r#"{"b":"1","a":["2","3"],"c":[]}"#),
            Ok(vec![pair("a", "2"), pair("a", "3"), pair("b", "1")])
        );
        for other in ["1", "1.5e400", "null", "true", "{}", r#"{"x":[1]}"#, r#"["a",1,"b"]"#, "[[]]"] {
            assert_eq!(headers(&format!(r#"{{"h":{other}}}"#)), Err("header `h` is no text".to_owned()), "{other}");
        }
    }

    #[test]
    fn a_list_of_very_many_items_is_refused_while_it_is_read() {
        assert_eq!(serde_json::from_str::<Few<String>>(r#"["a","b"]"#).unwrap().0, ["a", "b"]);
        let many = format!("[{}\"\"]", "\"\",".repeat(LIST_BYTES / size_of::<String>()));
        let error = serde_json::from_str::<Few<String>>(&many).unwrap_err().to_string();
        assert!(error.contains("more than 699050 items"), "{error}");
    }
}
