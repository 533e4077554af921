//! A schema document: which draft it is, what its references mean, and when two of its parts are the same.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Draft {
    D4,
    D6,
    D7,
    D2019,
    D2020,
}

pub(super) struct Document<'a> {
    root: &'a Value,
    pub(super) draft: Draft,
    id: Option<&'a str>,
    /// Parts have base addresses or drafts of their own: what a reference means there is not looked into.
    parts: bool,
    /// A part is of a draft of its own: its keywords would be read as what they do not mean.
    pub(super) mixed: bool,
}

/// A schema in its document. Compared by where it is.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) value: &'a Value,
    pub(super) document: &'a Document<'a>,
}

/// How deep two schemas are compared for being the same: it runs on a thread's stack.
const SAME_DEPTH: usize = 128;

/// Says nothing about payloads.
pub(super) const ANNOTATIONS: [&str; 19] = [
    "$schema",
    "$id",
    "id",
    "$anchor",
    "$defs",
    "definitions",
    "$comment",
    "$vocabulary",
    "title",
    "description",
    "default",
    "examples",
    "format",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentSchema",
    "$dynamicAnchor",
    "$recursiveAnchor",
];

/// A key that the draft gives a meaning about payloads.
pub(super) fn has_meaning(draft: Draft, keyword: &str) -> bool {
    match keyword {
        "const" | "contains" | "propertyNames" => draft >= Draft::D6,
        // Assertions in these two drafts only.
        "contentEncoding" | "contentMediaType" => matches!(draft, Draft::D6 | Draft::D7),
        "if" | "then" | "else" => draft >= Draft::D7,
        "dependentRequired"
        | "dependentSchemas"
        | "minContains"
        | "maxContains"
        | "unevaluatedItems"
        | "unevaluatedProperties" => draft >= Draft::D2019,
        "$recursiveRef" => draft == Draft::D2019,
        "prefixItems" | "$dynamicRef" => draft >= Draft::D2020,
        "additionalItems" => draft < Draft::D2020,
        _ => !ANNOTATIONS.contains(&keyword),
    }
}

impl<'a> Document<'a> {
    pub(super) fn new(root: &'a Value) -> Self {
        let text = |key: &str| root.get(key).and_then(Value::as_str);
        let draft = draft_of(text("$schema").unwrap_or_default());
        let id = text(if draft == Draft::D4 { "id" } else { "$id" }).map(|id| id.trim_end_matches('#'));
        let parts = root.as_object().is_some_and(|root| root.values().any(has_parts));
        let mixed = root.as_object().is_some_and(|root| root.values().any(|part| has_other_draft(part, draft)));
        Self { root, draft, id, parts, mixed }
    }

    /// Whether some part refers to itself without going down into the value. What it means then is not defined, and
    /// validators differ. Too many are found, never too few.
    pub(super) fn is_circular(&'a self) -> bool {
        // Parts that were begun, and whether all that they stand for has been seen.
        let mut seen: HashMap<usize, bool> = HashMap::new();
        let mut parts = Vec::new();
        collect(self.root, &mut parts);
        let mut open: Vec<(&Value, bool)> = parts.into_iter().map(|part| (part, false)).collect();
        while let Some((value, done)) = open.pop() {
            let address = std::ptr::from_ref(value) as usize;
            if done {
                seen.insert(address, true);
                continue;
            }
            match seen.get(&address) {
                Some(true) => continue,
                Some(false) => return true,
                None => {}
            }
            seen.insert(address, false);
            open.push((value, true));
            open.extend(self.in_place(value).into_iter().map(|part| (part, false)));
        }
        false
    }

    /// The schemas that a schema applies to the same value.
    fn in_place(&'a self, value: &'a Value) -> Vec<&'a Value> {
        let Value::Object(members) = value else { return Vec::new() };
        let mut parts = Vec::new();
        for (keyword, value) in members {
            match (keyword.as_str(), value) {
                ("$ref", Value::String(reference)) => {
                    parts.extend(self.resolve(reference).map(|(node, _)| node.value));
                }
                ("allOf" | "anyOf" | "oneOf", Value::Array(items)) => parts.extend(items),
                ("not" | "if" | "then" | "else", part) => parts.push(part),
                ("dependencies" | "dependentSchemas", Value::Object(members)) => parts.extend(members.values()),
                _ => {}
            }
        }
        parts
    }

    pub(super) fn root(&'a self) -> Node<'a> {
        Node { value: self.root, document: self }
    }

    /// What a reference stands for, and its pointer where it is written as one.
    fn resolve(&'a self, reference: &str) -> Option<(Node<'a>, String)> {
        if self.parts {
            return None;
        }
        let fragment = match self.id.and_then(|id| reference.strip_prefix(id)) {
            Some(rest) if rest.is_empty() || rest.starts_with('#') => rest,
            _ => reference,
        };
        let fragment = match fragment.strip_prefix('#') {
            Some(fragment) => fragment,
            None if fragment.is_empty() => "",
            None => return None,
        };
        if fragment.contains('%') {
            return None;
        }
        let value = if fragment.is_empty() || fragment.starts_with('/') {
            self.root.pointer(fragment)?
        } else {
            let mut found = Vec::new();
            named(self.root, fragment, &mut found);
            match found[..] {
                [one] => one,
                _ => return None,
            }
        };
        Some((Node { value, document: self }, fragment.to_owned()))
    }
}

/// All objects in a document: whatever may be a schema.
fn collect<'a>(value: &'a Value, parts: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => {
            parts.push(value);
            members.values().for_each(|member| collect(member, parts));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, parts)),
        _ => {}
    }
}

fn draft_of(name: &str) -> Draft {
    match name {
        name if name.contains("draft-04") => Draft::D4,
        name if name.contains("draft-06") => Draft::D6,
        name if name.contains("draft-07") => Draft::D7,
        name if name.contains("2019-09") => Draft::D2019,
        _ => Draft::D2020,
    }
}

/// Whether some object is of another draft. Too many are found, never too few.
fn has_other_draft(value: &Value, draft: Draft) -> bool {
    match value {
        Value::Object(members) => {
            members.get("$schema").and_then(Value::as_str).is_some_and(|name| draft_of(name) != draft)
                || members.values().any(|member| has_other_draft(member, draft))
        }
        Value::Array(items) => items.iter().any(|item| has_other_draft(item, draft)),
        _ => false,
    }
}

/// Whether some object has an address or a draft of its own. Too many are found (in an `enum`, say), never too few.
fn has_parts(value: &Value) -> bool {
    match value {
        Value::Object(members) => {
            let address = |key: &str| members.get(key).and_then(Value::as_str).is_some_and(|id| !id.starts_with('#'));
            address("$id") || address("id") || address("$schema") || members.values().any(has_parts)
        }
        Value::Array(items) => items.iter().any(has_parts),
        _ => false,
    }
}

fn named<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => {
            let is = |key: &str, prefix: &str| {
                members.get(key).and_then(Value::as_str).and_then(|id| id.strip_prefix(prefix)) == Some(name)
            };
            if is("$anchor", "") || is("$dynamicAnchor", "") || is("$id", "#") || is("id", "#") {
                found.push(value);
            }
            members.values().for_each(|member| named(member, name, found));
        }
        Value::Array(items) => items.iter().for_each(|item| named(item, name, found)),
        _ => {}
    }
}

impl<'a> Node<'a> {
    pub(super) fn address(self) -> usize {
        std::ptr::from_ref(self.value) as usize
    }

    pub(super) fn at(self, value: &'a Value) -> Self {
        Self { value, document: self.document }
    }

    pub(super) fn draft(self) -> Draft {
        self.document.draft
    }

    /// A keyword that means something in this draft.
    pub(super) fn get(self, keyword: &str) -> Option<&'a Value> {
        has_meaning(self.draft(), keyword).then(|| self.value.get(keyword)).flatten()
    }

    /// A keyword beside which nothing else is said.
    pub(super) fn alone(self, keyword: &str) -> Option<&'a Value> {
        let value = self.get(keyword)?;
        let members = self.value.as_object()?;
        (members.keys().filter(|key| has_meaning(self.draft(), key)).count() == 1).then_some(value)
    }

    pub(super) fn schema(self, keyword: &str) -> Option<Self> {
        self.get(keyword).map(|value| self.at(value))
    }

    /// The schemas of a keyword that has a list of them.
    pub(super) fn list(self, keyword: &str) -> Vec<Self> {
        let list = self.get(keyword).and_then(Value::as_array);
        list.map_or_else(Vec::new, |list| list.iter().map(|value| self.at(value)).collect())
    }

    /// The members of a keyword that has an object.
    pub(super) fn map(self, keyword: &str) -> Option<&'a Map<String, Value>> {
        self.get(keyword).and_then(Value::as_object)
    }

    pub(super) fn text(self, keyword: &str) -> Option<&'a str> {
        self.get(keyword).and_then(Value::as_str)
    }

    pub(super) fn count(self, keyword: &str) -> Option<u64> {
        self.get(keyword).and_then(super::bounds::count)
    }

    /// What `$ref` stands for: none without one, and none inside where it cannot be told.
    pub(super) fn reference(self) -> Option<Option<(Self, String)>> {
        self.text("$ref").map(|reference| self.document.resolve(reference))
    }

    /// Whether two schemas say the same, annotations aside; references are followed.
    pub(super) fn same(self, other: Self, seen: &mut HashSet<(usize, usize)>) -> bool {
        self.same_below(other, 0, seen)
    }

    fn same_below(self, other: Self, depth: usize, seen: &mut HashSet<(usize, usize)>) -> bool {
        if depth > SAME_DEPTH || self.draft() != other.draft() {
            return false;
        }
        let (Value::Object(a), Value::Object(b)) = (self.value, other.value) else { return self.value == other.value };
        if !seen.insert((self.address(), other.address())) {
            return true;
        }
        let meant = |key: &&String| has_meaning(self.draft(), key);
        a.keys().filter(meant).count() == b.keys().filter(meant).count()
            && a.keys().filter(meant).all(|key| {
                b.get(key).is_some_and(|theirs| self.same_keyword(other, key, [&a[key], theirs], depth + 1, seen))
            })
    }

    fn same_keyword(
        self,
        other: Self,
        key: &str,
        [a, b]: [&'a Value; 2],
        depth: usize,
        seen: &mut HashSet<(usize, usize)>,
    ) -> bool {
        match key {
            "$ref" => match (self.reference().flatten(), other.reference().flatten()) {
                (Some((a, _)), Some((b, _))) => a.same_below(b, depth, seen),
                _ => false,
            },
            "$dynamicRef" | "$recursiveRef" => false,
            "properties" | "patternProperties" | "dependentSchemas" | "dependencies" => match (a, b) {
                (Value::Object(a), Value::Object(b)) => {
                    a.len() == b.len()
                        && a.iter().all(|(name, a)| {
                            b.get(name).is_some_and(|b| self.at(a).same_below(other.at(b), depth, seen))
                        })
                }
                _ => false,
            },
            "enum" | "const" | "required" | "type" | "dependentRequired" => a == b,
            _ => match (a, b) {
                (Value::Array(a), Value::Array(b)) => {
                    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.at(a).same_below(other.at(b), depth, seen))
                }
                // A schema, or a plain value.
                _ => self.at(a).same_below(other.at(b), depth, seen),
            },
        }
    }
}
