//! Where configuration comes from, before anybody asks what it means: the TOML of a file, `LIMINAL_*` variables and
//! `--set` flags, merged into one tree in which every value knows its origin.

use std::{collections::BTreeMap, fmt};

use toml::de::{DeTable, DeValue};

use super::{ConfigErrors, variables};

/// A value and where it is from.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Table(BTreeMap<String, Node>),
    Array(Vec<Node>),
    Text(String),
    Integer(i64),
    Boolean(bool),
    /// A float or a date: nothing here takes them.
    Other(String),
}

impl fmt::Display for Value {
    /// As TOML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{}", toml::Value::from(text.as_str())),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Other(text) => f.write_str(text),
            Self::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| item.value.to_string()).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::Table(entries) => {
                let entries: Vec<String> =
                    entries.iter().map(|(key, node)| format!("{key} = {}", node.value)).collect();
                write!(f, "{{ {} }}", entries.join(", "))
            }
        }
    }
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    File {
        name: String,
        line: usize,
        column: usize,
    },
    /// A variable of the environment, with its text: where a text is wanted it is taken as it is.
    Variable {
        name: String,
        text: String,
    },
    Flag {
        text: String,
    },
    /// Several variables together.
    Environment,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Self::Variable { name, .. } => f.write_str(name),
            Self::Flag { .. } => f.write_str("--set"),
            Self::Environment => f.write_str("environment"),
        }
    }
}

/// Values that win over a file's: first those of the environment, then those of the command line.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Names and values of variables; those that do not concern a node's configuration are passed over.
    pub variables: BTreeMap<String, String>,
    /// `KEY=VALUE`, with dots between the names of a key.
    pub flags: Vec<String>,
}

/// The tree of a TOML text. A text with mistakes gives what can be read of it, and the mistakes.
pub(super) fn parse(text: &str, name: &str, errors: &mut ConfigErrors) -> Node {
    let at = |offset: usize| {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Origin::File { name: name.into(), line, column }
    };
    let (table, mistakes) = DeTable::parse_recoverable(text);
    for mistake in mistakes {
        errors.push(at(mistake.span().map_or(0, |span| span.start)), mistake.message());
    }
    table_node(table.get_ref(), at(0), &at)
}

fn table_node(table: &DeTable<'_>, origin: Origin, at: &impl Fn(usize) -> Origin) -> Node {
    let entries = table.iter().map(|(key, value)| {
        // The key's place, not the value's: that is where a reader looks.
        (key.get_ref().to_string(), node(value.get_ref(), at(key.span().start), at))
    });
    Node { value: Value::Table(entries.collect()), origin }
}

fn node(value: &DeValue<'_>, origin: Origin, at: &impl Fn(usize) -> Origin) -> Node {
    let value = match value {
        DeValue::Table(table) => return table_node(table, origin, at),
        DeValue::Array(array) => {
            Value::Array(array.iter().map(|item| node(item.get_ref(), at(item.span().start), at)).collect())
        }
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => Value::Integer(integer),
            Err(_) => Value::Other(integer.to_string()),
        },
        DeValue::Float(float) => Value::Other(float.to_string()),
        DeValue::Datetime(date) => Value::Other(date.to_string()),
    };
    Node { value, origin }
}

impl Node {
    /// Lays the overrides over a file's tree. Returns warnings about variables that are none.
    pub(super) fn overlay(&mut self, overrides: &Overrides, errors: &mut ConfigErrors) -> Vec<String> {
        let (meant, warnings) = variables::meant(&overrides.variables);
        for (path, name, text) in meant {
            self.set(&path, text, Origin::Variable { name: name.to_owned(), text: text.to_owned() }, errors);
        }
        for flag in &overrides.flags {
            let origin = |text: &str| Origin::Flag { text: text.into() };
            match flag.split_once('=') {
                Some((key, text)) => {
                    let path: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
                    self.set(&path, text, origin(text), errors);
                }
                None => errors.push(origin(""), format!("`{flag}` is no KEY=VALUE")),
            }
        }
        warnings
    }

    fn set(&mut self, path: &[String], text: &str, origin: Origin, errors: &mut ConfigErrors) {
        let Some((key, rest)) = path.split_first() else { return };
        let Value::Table(entries) = &mut self.value else {
            errors.push(origin, format!("`{key}` is below something that is no table"));
            return;
        };
        if !rest.is_empty() {
            let empty = || Node { value: Value::Table(BTreeMap::new()), origin: origin.clone() };
            entries.entry(key.clone()).or_insert_with(empty).set(rest, text, origin, errors);
            return;
        }
        let value = match DeValue::parse(text) {
            Ok(value) => node(value.get_ref(), origin.clone(), &|_| origin.clone()),
            // Not TOML: a plain text, as people write them in variables.
            Err(_) => Node { value: Value::Text(text.into()), origin },
        };
        entries.insert(key.clone(), value);
    }
}
