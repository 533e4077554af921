//! Whether a predicate holds for a message.
//!
//! The payload is looked at when a path asks for it, and then at most once however many predicates look: it is judged and
//! cut into its members in one pass without decoding them, and only the members on a path are looked into. So the
//! answer cannot depend on which other predicates look at the same message, and nothing but the values that are
//! compared is decoded. What is JSON is judged where it is for every reader, so no predicate sees fields in a payload that
//! a reader gets as bytes.

use std::{borrow::Cow, cell::OnceCell, cmp::Ordering};

use liminal_json::{Decimal, json_parts};
use liminal_wire::{
    header,
    v1::{Header, Message},
};

use super::{Expr, Literal, Name, Op, Path, Test};

/// A message as predicates look at it; make one for each message and show it to all of them.
pub struct MessageView<'a> {
    payload: &'a [u8],
    headers: &'a [Header],
    key: &'a str,
    document: OnceCell<Option<Node<'a>>>,
}

/// A part of the document, and its own parts once somebody asked for them.
struct Node<'a> {
    /// Valid JSON without space around it.
    raw: &'a str,
    parts: OnceCell<Box<Parts<'a>>>,
}

/// Of an object its members, of an array its items, and of anything else none.
#[derive(Default)]
struct Parts<'a> {
    /// With their names as they stand there: in quotes.
    members: Vec<(&'a str, Node<'a>)>,
    items: Vec<Node<'a>>,
}

/// What a path leads to.
enum Field<'v> {
    Null,
    Bool(bool),
    Number(Decimal<'v>),
    Text(Cow<'v, str>),
    /// An object or an array.
    Other,
}

impl<'a> MessageView<'a> {
    /// Of a decoded message.
    pub fn of(message: &'a Message) -> Self {
        Self::new(&message.payload, &message.headers, message.key())
    }

    /// Of a message's parts; an empty key is none.
    pub fn new(payload: &'a [u8], headers: &'a [Header], key: &'a str) -> Self {
        Self { payload, headers, key, document: OnceCell::new() }
    }

    fn node(&self, names: &[Name]) -> Option<&Node<'a>> {
        let document = self.document.get_or_init(|| Node::document(self.payload)).as_ref()?;
        names.iter().try_fold(document, Node::part)
    }

    fn header(&self, name: &str) -> Option<&'a str> {
        header(self.headers, name)
    }

    fn has(&self, path: &Path) -> bool {
        match path {
            Path::Key => !self.key.is_empty(),
            Path::Header(name) => self.header(name).is_some(),
            Path::Payload(names) => self.node(names).is_some(),
        }
    }

    fn field(&self, path: &Path) -> Option<Field<'_>> {
        match path {
            Path::Key => Some(self.key).filter(|key| !key.is_empty()).map(|key| Field::Text(key.into())),
            Path::Header(name) => self.header(name).map(|value| Field::Text(value.into())),
            Path::Payload(names) => self.node(names).map(|node| Field::of(node.raw)),
        }
    }
}

impl<'a> Node<'a> {
    fn document(payload: &'a [u8]) -> Option<Self> {
        let (raw, parts) = Parts::of(std::str::from_utf8(payload).ok()?)?;
        Some(Self { raw, parts: OnceCell::from(Box::new(parts)) })
    }

    fn new(raw: &'a str) -> Self {
        Self { raw, parts: OnceCell::new() }
    }

    fn part(&self, name: &Name) -> Option<&Self> {
        if !self.raw.starts_with(['{', '[']) {
            return None;
        }
        let cut = || Parts::of(self.raw).map(|(_, parts)| parts).unwrap_or_default();
        let Parts { members, items } = &**self.parts.get_or_init(|| Box::new(cut()));
        if self.raw.starts_with('[') {
            return items.get(name.index?);
        }
        members.iter().rev().find(|(raw, _)| is_named(raw, &name.text)).map(|(_, node)| node)
    }
}

impl<'a> Parts<'a> {
    /// Those of a text, and the text without space around it; none where it is no JSON.
    fn of(text: &'a str) -> Option<(&'a str, Self)> {
        let mut parts = Self::default();
        let raw = json_parts(text, |name, value| match name {
            Some(name) => parts.members.push((name, Node::new(value))),
            None => parts.items.push(Node::new(value)),
        })?;
        Some((raw, parts))
    }
}

fn is_named(raw: &str, name: &str) -> bool {
    if raw.contains('\\') {
        return serde_json::from_str::<String>(raw).is_ok_and(|text| text == name);
    }
    raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) == Some(name)
}

impl<'v> Field<'v> {
    /// Of valid JSON.
    fn of(raw: &'v str) -> Self {
        match raw.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'"') if raw.contains('\\') => serde_json::from_str(raw).map_or(Self::Other, Self::Text),
            Some(b'"') => Self::Text(raw[1..raw.len() - 1].into()),
            Some(b'-' | b'0'..=b'9') => Self::Number(Decimal::of(raw)),
            _ => Self::Other,
        }
    }

    fn is(&self, value: &Literal) -> bool {
        self.compare(value) == Some(Ordering::Equal)
    }

    /// None where the types differ. Whether something is true or null has no order: there only equality counts.
    fn compare(&self, value: &Literal) -> Option<Ordering> {
        match (self, value) {
            (Self::Null, Literal::Null) => Some(Ordering::Equal),
            (Self::Bool(field), Literal::Bool(value)) => Some(field.cmp(value)),
            (Self::Number(field), Literal::Number(value)) => Some(field.compare(value.value())),
            (Self::Text(field), Literal::Text(value)) => Some(field.as_ref().cmp(value)),
            _ => None,
        }
    }
}

impl Literal {
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Null, other) => Field::Null.compare(other),
            (Self::Bool(value), other) => Field::Bool(*value).compare(other),
            (Self::Text(text), other) => Field::Text(text.into()).compare(other),
            (Self::Number(one), Self::Number(other)) => Some(one.value().compare(other.value())),
            (Self::Number(_), _) => None,
        }
    }

    pub(super) fn has_order(&self) -> bool {
        matches!(self, Self::Number(_) | Self::Text(_))
    }
}

impl Op {
    fn accepts(self, order: Ordering) -> bool {
        match self {
            Self::Eq => order.is_eq(),
            Self::Ne => order.is_ne(),
            Self::Lt => order.is_lt(),
            Self::Le => order.is_le(),
            Self::Gt => order.is_gt(),
            Self::Ge => order.is_ge(),
        }
    }
}

impl Test {
    fn holds(&self, field: &Field<'_>) -> bool {
        match self {
            Self::Exists => true,
            // Everything that is there can be told from null.
            Self::Compare(Op::Ne, Literal::Null) => !matches!(field, Field::Null),
            Self::Compare(op, value) => field.compare(value).is_some_and(|order| op.accepts(order)),
            Self::In(values) => values.iter().any(|value| field.is(value)),
            Self::Between(low, high) => {
                field.compare(low).is_some_and(Ordering::is_ge) && field.compare(high).is_some_and(Ordering::is_le)
            }
            Self::StartsWith(prefix) => matches!(field, Field::Text(text) if text.starts_with(prefix.as_str())),
        }
    }
}

impl Expr {
    pub(super) fn holds(&self, message: &MessageView<'_>) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.holds(message)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(message)),
            Self::Not(inner) => !inner.holds(message),
            Self::Test(path, Test::Exists) => message.has(path),
            Self::Test(path, test) => message.field(path).is_some_and(|field| test.holds(&field)),
        }
    }
}
