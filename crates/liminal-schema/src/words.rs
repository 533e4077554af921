//! How values and places are shown to people.

use serde_json::Value;

/// Characters of a value that a message shows.
const SHOWN: usize = 80;

/// A value as a message shows it.
pub fn short(value: &Value) -> String {
    match value {
        Value::Object(members) => format!("an object of {} properties", members.len()),
        Value::Array(items) => format!("an array of {} items", items.len()),
        Value::String(text) if text.len() > SHOWN => format!("\"{}\"", clip(text)),
        scalar => clip(&scalar.to_string()),
    }
}

/// At most `SHOWN` characters of a text.
pub fn clip(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The pointer of a member (RFC 6901).
pub fn child(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}
