//! What is known of a value: the schemas that it fits and does not fit, and sometimes the value itself.

use std::{borrow::Cow, collections::BTreeSet};

use serde_json::Value;

use super::{
    bounds::{Bound, Num, equal},
    document::{Draft, Node},
};

/// A set of kinds of values.
pub(super) type Types = u8;
pub(super) const NULL: Types = 1;
pub(super) const BOOLEAN: Types = 2;
/// Written as an integer.
pub(super) const INTEGER: Types = 4;
/// Whole, but written as a float: an integer from draft 6 on.
pub(super) const WHOLE: Types = 8;
pub(super) const FRACTION: Types = 16;
pub(super) const NUMBER: Types = INTEGER | WHOLE | FRACTION;
pub(super) const STRING: Types = 32;
pub(super) const ARRAY: Types = 64;
pub(super) const OBJECT: Types = 128;
pub(super) const ANY: Types = 255;

/// Facts, by address; values that have none as text.
pub(super) type Key = (Vec<(u8, usize)>, Vec<String>);

#[derive(Clone, Default)]
pub(super) struct Facts<'a> {
    /// It fits these objects; references, `allOf` and `not` are followed.
    pub(super) schemas: Vec<Node<'a>>,
    /// It does not fit these.
    pub(super) nots: Vec<Node<'a>>,
    /// It equals these.
    pub(super) exact: Vec<Cow<'a, Value>>,
    /// If it is an object it has these.
    pub(super) has: Vec<&'a str>,
    /// It is none of these kinds.
    pub(super) without: Types,
    /// There is no such value.
    pub(super) never: bool,
    /// What cases were made of already, by address.
    pub(super) split: Vec<usize>,
    seen: Vec<usize>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(node: Node<'a>) -> Self {
        Self::default().with(node)
    }

    pub(super) fn with(mut self, node: Node<'a>) -> Self {
        self.add(node);
        self
    }

    pub(super) fn with_not(mut self, node: Node<'a>) -> Self {
        self.add_not(node);
        self.close();
        self
    }

    pub(super) fn with_exact(mut self, value: Cow<'a, Value>) -> Self {
        self.exact.push(value);
        self.close();
        self
    }

    pub(super) fn with_property(mut self, name: &'a str) -> Self {
        self.has.push(name);
        self.close();
        self
    }

    pub(super) fn only(mut self, types: Types) -> Self {
        self.without |= ANY ^ types;
        self.close();
        self
    }

    pub(super) fn add(&mut self, node: Node<'a>) {
        self.add_alone(node);
        self.close();
    }

    pub(super) fn add_not(&mut self, node: Node<'a>) {
        if let Some(kinds) = node.alone("type") {
            self.without |= types_of(kinds, node.draft());
        }
        self.nots.push(node);
    }

    /// Not by recursion: references may form long chains.
    fn add_alone(&mut self, node: Node<'a>) {
        let mut due = vec![node];
        while let Some(node) = due.pop() {
            match node.value {
                Value::Bool(false) => self.never = true,
                Value::Object(_) if !self.seen.contains(&node.address()) => {
                    self.seen.push(node.address());
                    let reference = node.reference();
                    // In old drafts a reference replaces what is beside it.
                    if reference.is_none() || node.draft() >= Draft::D2019 {
                        self.schemas.push(node);
                        node.schema("not").into_iter().for_each(|not| self.add_not(not));
                        due.extend(node.list("allOf"));
                    }
                    due.extend(reference.flatten().map(|(target, _)| target));
                }
                _ => {}
            }
        }
    }

    /// What makes facts the same, so that nothing need be proved twice, and that a circle is seen.
    pub(super) fn key(&self) -> Key {
        let mut key: Vec<(u8, usize)> = self.schemas.iter().map(|node| (0, node.address())).collect();
        key.extend(self.nots.iter().map(|node| (1, node.address())));
        // Two names at one address would be the same name cut short; the length tells them apart.
        key.extend(self.has.iter().flat_map(|name| [(2, name.as_ptr() as usize), (3, name.len())]));
        key.push((4, self.without.into()));
        let mut texts = Vec::new();
        for value in &self.exact {
            match value {
                Cow::Borrowed(value) => key.push((5, std::ptr::from_ref(*value) as usize)),
                // Not from a schema: null, a boolean or a name, so it is short.
                Cow::Owned(value) => texts.push(value.to_string()),
            }
        }
        key.sort_unstable();
        key.dedup();
        texts.sort_unstable();
        (key, texts)
    }

    /// How much work it is to look at them once.
    pub(super) fn weight(&self) -> usize {
        let listed = |node: &Node<'a>| {
            node.value.as_object().map_or(0, |members| {
                members.values().map(|member| member.as_array().map_or(0, Vec::len)).sum::<usize>()
            })
        };
        (self.schemas.len() + self.nots.len() + self.schemas.iter().map(listed).sum::<usize>() / 4) / 8
    }

    /// Adds what follows from the properties that are there, once it is certain that the value is an object.
    fn close(&mut self) {
        if self.types() & !OBJECT != 0 {
            return;
        }
        loop {
            let (known, required) = (self.seen.len(), self.required());
            let due: Vec<_> = self
                .schemas
                .iter()
                .flat_map(|node| ["dependentSchemas", "dependencies"].map(|keyword| (*node, node.map(keyword))))
                .filter_map(|(node, map)| Some((node, map?)))
                .flat_map(|(node, map)| map.iter().map(move |(name, schema)| (name, node.at(schema))))
                .filter(|(name, schema)| required.contains(name.as_str()) && !schema.value.is_array())
                .map(|(_, schema)| schema)
                .collect();
            due.into_iter().for_each(|schema| self.add_alone(schema));
            if self.seen.len() == known {
                return;
            }
        }
    }

    /// The properties that an object has.
    pub(super) fn required(&self) -> BTreeSet<&'a str> {
        let mut required: BTreeSet<&'a str> = self.has.iter().copied().collect();
        for node in &self.schemas {
            required.extend(texts(node.get("required")));
        }
        loop {
            let before = required.len();
            let due: Vec<&'a str> = self
                .schemas
                .iter()
                .flat_map(|node| ["dependentRequired", "dependencies"].map(|keyword| node.map(keyword)))
                .flatten()
                .flatten()
                .filter(|(name, _)| required.contains(name.as_str()))
                .flat_map(|(_, names)| texts(Some(names)))
                .collect();
            required.extend(due);
            if required.len() == before {
                return required;
            }
        }
    }

    /// Whether an object has the property.
    pub(super) fn requires(&self, name: &str) -> bool {
        self.required().contains(name) || self.exact.iter().any(|value| value.get(name).is_some())
    }

    /// The kinds that it may be of.
    pub(super) fn types(&self) -> Types {
        let mut types = if self.never { 0 } else { ANY & !self.without };
        for node in &self.schemas {
            if let Some(kinds) = node.get("type") {
                types &= types_of(kinds, node.draft());
            }
            if let Some(values) = values_of(*node) {
                types &= values.iter().fold(0, |types, value| types | type_of(value));
            }
        }
        self.exact.iter().fold(types, |types, value| types & type_of(value))
    }

    /// The values that it may be, where they can be counted.
    pub(super) fn finite(&self) -> Option<Vec<Cow<'a, Value>>> {
        if let Some(value) = self.exact.first() {
            return Some(vec![value.clone()]);
        }
        if let Some(values) = self.schemas.iter().filter_map(|node| values_of(*node)).min_by_key(Vec::len) {
            return Some(values.into_iter().map(Cow::Borrowed).collect());
        }
        let types = self.types();
        (types & !(NULL | BOOLEAN) == 0).then(|| {
            [Value::Null, Value::Bool(false), Value::Bool(true)]
                .into_iter()
                .filter(|value| type_of(value) & types != 0)
                .map(Cow::Owned)
                .collect()
        })
    }

    /// The lower or the upper end of the numbers that it may be.
    pub(super) fn bound(&self, lower: bool) -> Option<Bound> {
        let mut tightest: Option<Bound> = None;
        let mut take = |bound: Bound| {
            if tightest.as_ref().is_none_or(|known| if lower { bound.above(known) } else { bound.below(known) }) {
                tightest = Some(bound);
            }
        };
        self.schemas.iter().for_each(|node| bounds_of(*node, lower).into_iter().for_each(&mut take));
        for value in &self.exact {
            if let Value::Number(number) = value.as_ref() {
                take(Bound { at: Num::of(number), open: false });
            }
        }
        // Only whole numbers are left.
        let whole = self.types() & FRACTION == 0;
        tightest.map(|bound| if whole { bound.whole(lower) } else { bound })
    }

    /// The least and the greatest of something counted.
    pub(super) fn counts(&self, least: &str, most: &str, exact: impl Fn(&Value) -> Option<u64>) -> (u64, Option<u64>) {
        let lows = self.schemas.iter().filter_map(|node| node.count(least));
        let highs = self.schemas.iter().filter_map(|node| node.count(most));
        let exact: Vec<u64> = self.exact.iter().filter_map(|value| exact(value)).collect();
        (lows.chain(exact.iter().copied()).max().unwrap_or(0), highs.chain(exact.iter().copied()).min())
    }

    pub(super) fn length(&self) -> (u64, Option<u64>) {
        self.counts("minLength", "maxLength", |value| value.as_str().map(|text| text.chars().count() as u64))
    }

    pub(super) fn items(&self) -> (u64, Option<u64>) {
        let (least, most) = self.counts("minItems", "maxItems", |value| value.as_array().map(|list| list.len() as u64));
        let closed = self.schemas.iter().filter_map(|node| {
            let (prefix, rest) = items_of(*node);
            rest.filter(|rest| rest.value == &Value::Bool(false)).map(|_| prefix.len() as u64)
        });
        (least, most.into_iter().chain(closed).min())
    }

    /// Whether the value that it equals is not among those that a schema lists.
    pub(super) fn contradicts_itself(&self) -> bool {
        self.exact.iter().any(|value| {
            self.exact.iter().any(|other| !equal(value, other))
                || self
                    .schemas
                    .iter()
                    .filter_map(|node| values_of(*node))
                    .any(|values| !values.iter().any(|listed| equal(listed, value)))
        })
    }
}

/// The texts of a list.
pub(super) fn texts(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// What `enum` and `const` list.
pub(super) fn values_of(node: Node<'_>) -> Option<Vec<&Value>> {
    match (node.get("enum").and_then(Value::as_array), node.get("const")) {
        (_, Some(value)) => Some(vec![value]),
        (Some(values), None) => Some(values.iter().collect()),
        (None, None) => None,
    }
}

pub(super) fn types_of(kinds: &Value, draft: Draft) -> Types {
    let one = |kind: &Value| match kind.as_str().unwrap_or_default() {
        "null" => NULL,
        "boolean" => BOOLEAN,
        "integer" if draft == Draft::D4 => INTEGER,
        "integer" => INTEGER | WHOLE,
        "number" => NUMBER,
        "string" => STRING,
        "array" => ARRAY,
        "object" => OBJECT,
        _ => 0,
    };
    match kinds {
        Value::Array(kinds) => kinds.iter().fold(0, |types, kind| types | one(kind)),
        kind => one(kind),
    }
}

fn type_of(value: &Value) -> Types {
    match value {
        Value::Null => NULL,
        Value::Bool(_) => BOOLEAN,
        Value::Number(number) if Num::of(number).is_whole() => INTEGER | WHOLE,
        Value::Number(_) => FRACTION,
        Value::String(_) => STRING,
        Value::Array(_) => ARRAY,
        Value::Object(_) => OBJECT,
    }
}

/// The ends that a schema sets on one side.
pub(super) fn bounds_of(node: Node<'_>, lower: bool) -> Vec<Bound> {
    let (closed, open) = if lower { ("minimum", "exclusiveMinimum") } else { ("maximum", "exclusiveMaximum") };
    let number = |keyword: &str| match node.get(keyword) {
        Some(Value::Number(number)) => Some(Num::of(number)),
        _ => None,
    };
    if node.draft() == Draft::D4 {
        let open = node.get(open) == Some(&Value::Bool(true));
        return number(closed).map(|at| Bound { at, open }).into_iter().collect();
    }
    let bound = |keyword, open| number(keyword).map(|at| Bound { at, open });
    bound(closed, false).into_iter().chain(bound(open, true)).collect()
}

/// The schemas of the first items, and of all after them.
pub(super) fn items_of(node: Node<'_>) -> (Vec<Node<'_>>, Option<Node<'_>>) {
    if node.draft() >= Draft::D2020 {
        return (node.list("prefixItems"), node.schema("items"));
    }
    match node.schema("items") {
        Some(items) if items.value.is_array() => (node.list("items"), node.schema("additionalItems")),
        items => (Vec::new(), items),
    }
}

/// The kinds of values as a sentence names them.
pub(super) fn kinds(types: Types) -> String {
    if types == ANY {
        return "any value".into();
    }
    let mut names = Vec::new();
    for (bit, name) in [(NULL, "null"), (BOOLEAN, "boolean"), (STRING, "string"), (ARRAY, "array"), (OBJECT, "object")]
    {
        if types & bit != 0 {
            names.push(name);
        }
    }
    match types & NUMBER {
        0 => {}
        numbers if numbers & FRACTION == 0 => names.push("integer"),
        numbers if numbers & (INTEGER | WHOLE) == 0 => names.push("number with a fraction"),
        _ => names.push("number"),
    }
    if names.is_empty() { "nothing".into() } else { names.join(" or ") }
}
