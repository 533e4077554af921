//! A view of a payload for the pass that collects errors.
//!
//! The library puts a copy of the offending value into every error under `oneOf` and `anyOf`. For an object that
//! lacks ten properties in each of twenty branches this is two hundred copies of the whole payload: one bad message
//! of 1 MiB could take gigabytes. This view hands out `null` instead; messages look the value up by its pointer.

use std::borrow::Cow;

use jsonschema::{
    JsonType,
    json::{Array, Json, Node, NodeIdentity, Object, cmp, unique},
};
use serde_json::{Map, Number, Value};

static NOTHING: Value = Value::Null;

/// The representation of [`Sparse`] nodes.
pub(super) struct SparseJson;

/// A value that is never copied into an error.
#[derive(Clone)]
pub(super) struct Sparse<'a>(pub(super) &'a Value);

impl Json for SparseJson {
    type Node<'a> = Sparse<'a>;
    type PreparedKey = String;
    type StringBuffer = Value;

    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(buffer: &mut Value, string: &str, f: impl FnOnce(Sparse<'_>) -> T) -> T {
        *buffer = Value::String(string.to_owned());
        f(Sparse(buffer))
    }
}

impl<'a> Node<'a, SparseJson> for Sparse<'a> {
    type Object = Members<'a>;
    type Array = Items<'a>;
    type Number = &'a Number;

    fn as_object(&self) -> Option<Members<'a>> {
        self.0.as_object().map(Members)
    }

    fn as_array(&self) -> Option<Items<'a>> {
        self.0.as_array().map(|items| Items(items))
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        self.0.as_str().map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<&'a Number> {
        self.0.as_number()
    }

    fn as_boolean(&self) -> Option<bool> {
        self.0.as_bool()
    }

    fn is_null(&self) -> bool {
        self.0.is_null()
    }

    fn json_type(&self) -> JsonType {
        match self.0 {
            Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Boolean,
            Value::Number(_) => JsonType::Number,
            Value::String(_) => JsonType::String,
            Value::Array(_) => JsonType::Array,
            Value::Object(_) => JsonType::Object,
        }
    }

    fn equals_value(&self, expected: &Value) -> bool {
        cmp::equal(self.0, expected)
    }

    fn to_value(&self) -> Cow<'a, Value> {
        Cow::Borrowed(&NOTHING)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(std::ptr::from_ref(self.0).addr()))
    }
}

/// An object's members.
pub(super) struct Members<'a>(&'a Map<String, Value>);

impl<'a> Object<'a, SparseJson> for Members<'a> {
    type Node = Sparse<'a>;
    type MemberName = &'a str;
    type MembersIter = Box<dyn Iterator<Item = (&'a str, Sparse<'a>)> + 'a>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, key: &String) -> Option<Sparse<'a>> {
        self.0.get(key).map(Sparse)
    }

    fn members(&self) -> Self::MembersIter {
        Box::new(self.0.iter().map(|(name, value)| (name.as_str(), Sparse(value))))
    }
}

/// An array's items.
pub(super) struct Items<'a>(&'a [Value]);

impl<'a> Array<'a, SparseJson> for Items<'a> {
    type Node = Sparse<'a>;
    type ElementsIter = std::iter::Map<std::slice::Iter<'a, Value>, fn(&'a Value) -> Sparse<'a>>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn elements(&self) -> Self::ElementsIter {
        self.0.iter().map(Sparse)
    }

    fn is_unique(&self) -> bool {
        unique::is_unique(self.0)
    }
}
