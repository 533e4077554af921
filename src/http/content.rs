//! What JSON bodies say of messages: bytes, which are JSON or base64 of anything, and headers. Reasons are plain text; who
//! calls knows of which message it speaks.

use axum::body::Bytes;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

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

/// The headers of a message by name: a text, or a list of texts where the name stands there several times.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct HeadersJson(Map<String, Value>);

impl HeadersJson {
    pub(super) fn headers(self) -> Result<Vec<Header>, String> {
        let mut headers = Vec::new();
        for (name, value) in self.0 {
            let values = match value {
                Value::Array(values) => values,
                one => vec![one],
            };
            for value in values {
                let Value::String(value) = value else { return Err(format!("header `{name}` is no text")) };
                headers.push(Header { name: name.clone(), value });
            }
        }
        Ok(headers)
    }
}
