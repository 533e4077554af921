//! Reads a table of the merged tree into a configuration, field by field, and collects everything that is wrong:
//! wrong types, values out of range, keys that nobody knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    ConfigErrors,
    tree::{Node, Origin, Value},
};
use crate::address;

/// Walks over the fields of a table, to read or to show them. The fields are listed once: see `fields.rs`.
pub(super) trait Visitor {
    /// A table inside; `optional` ones may be missing.
    fn table(&mut self, key: &'static str, fields: &mut dyn FnMut(&mut dyn Visitor));
    /// A text, not empty unless it was before.
    fn text(&mut self, key: &'static str, field: &mut String);
    /// A text that may be missing.
    fn optional(&mut self, key: &'static str, field: &mut Option<String>);
    /// `HOST:PORT`.
    fn address(&mut self, key: &'static str, field: &mut String);
    /// `HOST:PORT` that may be missing.
    fn optional_address(&mut self, key: &'static str, field: &mut Option<String>);
    /// A number from 1 up.
    fn count(&mut self, key: &'static str, field: &mut u64);
    /// A whole number of at least 1, or `"off"`.
    fn optional_count(&mut self, key: &'static str, field: &mut Option<u64>);
    /// Bytes: a number, or `"64MiB"`.
    fn size(&mut self, key: &'static str, field: &mut usize);
    /// A time span with its unit, for example `"250ms"` or `"24h"`.
    fn duration(&mut self, key: &'static str, field: &mut Duration);
    /// The same, or `"off"`.
    fn optional_duration(&mut self, key: &'static str, field: &mut Option<Duration>);
    /// `true` or `false`.
    fn boolean(&mut self, key: &'static str, field: &mut bool);
    /// A time span in whole milliseconds.
    fn milliseconds(&mut self, key: &'static str, field: &mut Duration);
    /// Several texts.
    fn texts(&mut self, key: &'static str, field: &mut Vec<String>);
}

/// Reads one table.
pub(super) struct Reader<'a> {
    path: String,
    origin: Origin,
    entries: BTreeMap<&'a str, &'a Node>,
    known: BTreeSet<&'static str>,
    pub(super) errors: &'a mut ConfigErrors,
}

impl<'a> Reader<'a> {
    /// Of a node that should be a table; anything else is a mistake and reads as an empty one.
    pub(super) fn new(path: &str, node: &'a Node, errors: &'a mut ConfigErrors) -> Self {
        let entries = match &node.value {
            Value::Table(entries) => entries.iter().map(|(key, node)| (key.as_str(), node)).collect(),
            _ => {
                errors.push(node.origin.clone(), format!("{path}: a table is wanted here, `{{ ... }}`"));
                BTreeMap::new()
            }
        };
        Self { path: path.into(), origin: node.origin.clone(), entries, known: BTreeSet::new(), errors }
    }

    /// The node under a key, which is known from now on.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.insert(key);
        self.entries.get(key).copied()
    }

    /// The whole key, from the top.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn wrong(&mut self, key: &str, origin: &Origin, what: impl std::fmt::Display) {
        let key = self.key(key);
        self.errors.push(origin.clone(), format!("{key}: {what}"));
    }

    /// A key that has to be there is not.
    pub(super) fn missing(&mut self, key: &str, what: &str) {
        let origin = self.origin.clone();
        self.wrong(key, &origin, format!("it is missing; {what}"));
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        for (key, node) in &self.entries {
            if self.known.contains(key) {
                continue;
            }
            let likeness = |known: &&&str| strsim::damerau_levenshtein(key, known);
            let similar = self.known.iter().min_by_key(likeness).filter(|known| likeness(known) <= 2);
            let help = match similar {
                Some(similar) => format!("did you mean `{}`?", self.key(similar)),
                None => {
                    let known: Vec<&str> = self.known.iter().copied().collect();
                    format!("there are {}", known.join(", "))
                }
            };
            let key = self.key(key);
            self.errors.push(node.origin.clone(), format!("{key}: there is no such key; {help}"));
        }
    }

    /// The text of a node, or the mistake.
    pub(super) fn text_of(&mut self, key: &str, node: &Node) -> Option<String> {
        match (&node.value, &node.origin) {
            (Value::Text(text), _) => Some(text.clone()),
            (Value::Table(_) | Value::Array(_), _) | (_, Origin::File { .. } | Origin::Environment) => {
                self.wrong(key, &node.origin, "a text in quotes is wanted here");
                None
            }
            // `LIMINAL_CLUSTER__COOKIE=12345`: nobody quotes a variable.
            (_, Origin::Variable { text, .. } | Origin::Flag { text }) => Some(text.clone()),
        }
    }

    fn parsed<T>(&mut self, key: &'static str, field: &mut T, parse: impl FnOnce(&Value) -> Result<T, String>) {
        if let Some(node) = self.get(key) {
            match parse(&node.value) {
                Ok(value) => *field = value,
                Err(what) => self.wrong(key, &node.origin, what),
            }
        }
    }

    /// Checks `HOST:PORT`.
    pub(super) fn check_address(&mut self, key: &str, origin: &Origin, address: &str) {
        if let Err(what) = address::split(address) {
            self.wrong(key, origin, what);
        }
    }
}

impl Visitor for Reader<'_> {
    fn table(&mut self, key: &'static str, fields: &mut dyn FnMut(&mut dyn Visitor)) {
        let path = self.key(key);
        if let Some(node) = self.get(key) {
            let mut reader = Reader::new(&path, node, self.errors);
            fields(&mut reader);
            reader.finish();
        }
    }

    fn text(&mut self, key: &'static str, field: &mut String) {
        if let Some(node) = self.get(key)
            && let Some(text) = self.text_of(key, node)
        {
            if text.is_empty() {
                self.wrong(key, &node.origin, "it is empty");
            }
            *field = text;
        }
    }

    fn optional(&mut self, key: &'static str, field: &mut Option<String>) {
        let mut text = field.clone().unwrap_or_default();
        self.text(key, &mut text);
        *field = Some(text).filter(|text| !text.is_empty());
    }

    fn address(&mut self, key: &'static str, field: &mut String) {
        if let Some(node) = self.get(key)
            && let Some(address) = self.text_of(key, node)
        {
            self.check_address(key, &node.origin, &address);
            *field = address;
        }
    }

    fn optional_address(&mut self, key: &'static str, field: &mut Option<String>) {
        self.optional(key, field);
        if let (Some(address), Some(node)) = (field, self.get(key)) {
            self.check_address(key, &node.origin, address);
        }
    }

    fn count(&mut self, key: &'static str, field: &mut u64) {
        self.parsed(key, field, |value| match value {
            Value::Integer(number @ 1..) => Ok(number.unsigned_abs()),
            Value::Integer(number) => Err(format!("{number} is too small; at least 1")),
            _ => Err("a whole number is wanted here".into()),
        });
    }

    fn optional_count(&mut self, key: &'static str, field: &mut Option<u64>) {
        self.parsed(key, field, |value| match value {
            Value::Integer(number @ 1..) => Ok(Some(number.unsigned_abs())),
            Value::Text(text) if text == "off" => Ok(None),
            _ => Err("a whole number of at least 1 is wanted here, or \"off\"".into()),
        });
    }

    fn size(&mut self, key: &'static str, field: &mut usize) {
        self.parsed(key, field, |value| {
            let bytes = match value {
                Value::Integer(bytes) => u64::try_from(*bytes).unwrap_or(0),
                Value::Text(text) => match text.parse::<bytesize::ByteSize>() {
                    Ok(size) => size.as_u64(),
                    Err(_) => return Err(format!("`{text}` is no size; write it like \"64MiB\" or as bytes")),
                },
                _ => return Err("a size is wanted here, like \"64MiB\" or as bytes".into()),
            };
            match usize::try_from(bytes) {
                Ok(bytes @ 1..) => Ok(bytes),
                _ => Err(format!("{bytes} bytes is out of range; at least 1")),
            }
        });
    }

    fn duration(&mut self, key: &'static str, field: &mut Duration) {
        self.parsed(key, field, span);
    }

    fn optional_duration(&mut self, key: &'static str, field: &mut Option<Duration>) {
        self.parsed(key, field, |value| match value {
            Value::Text(text) if text == "off" => Ok(None),
            value => span(value).map(Some),
        });
    }

    fn boolean(&mut self, key: &'static str, field: &mut bool) {
        self.parsed(key, field, |value| match value {
            Value::Boolean(value) => Ok(*value),
            _ => Err("`true` or `false` is wanted here".into()),
        });
    }

    fn milliseconds(&mut self, key: &'static str, field: &mut Duration) {
        self.parsed(key, field, |value| match value {
            Value::Integer(ms @ 0..) => Ok(Duration::from_millis(ms.unsigned_abs())),
            _ => Err("a whole number of milliseconds is wanted here".into()),
        });
    }

    fn texts(&mut self, key: &'static str, field: &mut Vec<String>) {
        let Some(node) = self.get(key) else { return };
        *field = match (&node.value, &node.origin) {
            (Value::Array(items), _) => items.iter().filter_map(|item| self.text_of(key, item)).collect(),
            (_, Origin::Variable { text, .. } | Origin::Flag { text }) => {
                text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
            }
            _ => {
                self.wrong(key, &node.origin, "a list of texts is wanted here, `[\"...\"]`");
                return;
            }
        };
    }
}

fn span(value: &Value) -> Result<Duration, String> {
    match value {
        Value::Text(text) => match humantime::parse_duration(text) {
            Ok(Duration::ZERO) => Err("it must be longer than nothing".into()),
            Ok(duration) => Ok(duration),
            Err(error) => Err(format!("`{text}` is no time span ({error}); write it like \"250ms\" or \"24h\"")),
        },
        _ => Err("a time span with its unit is wanted here, like \"250ms\" or \"24h\"".into()),
    }
}
