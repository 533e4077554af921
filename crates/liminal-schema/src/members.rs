//! What is known of the properties and items of a value, by name, by index, and of all the others.

use std::{borrow::Cow, collections::BTreeSet};

use serde_json::Value;

use super::{
    document::Node,
    facts::{Facts, items_of},
    prover::Prover,
};

/// Cases made of the patterns that a name may match; with more, what the patterns say is left out.
const CASES: usize = 16;

impl<'a> Prover<'a> {
    /// The facts of the property of that name, if it is there.
    pub(super) fn property(&mut self, facts: &Facts<'a>, name: &str) -> Facts<'a> {
        let mut property = Facts::default();
        for value in &facts.exact {
            match member(value, name) {
                Some(member) => property.exact.push(member),
                None if value.is_object() => property.never = true,
                None => {}
            }
        }
        for node in &facts.schemas {
            let mut unmatched = true;
            if let Some(schema) = node.map("properties").and_then(|map| map.get(name)) {
                property.add(node.at(schema));
                unmatched = false;
            }
            for (pattern, schema) in node.map("patternProperties").into_iter().flatten() {
                match self.matches(pattern, name) {
                    Some(true) => {
                        property.add(node.at(schema));
                        unmatched = false;
                    }
                    Some(false) => {}
                    // It may be one of the others, or not.
                    None => unmatched = false,
                }
            }
            if unmatched && let Some(rest) = other_properties(*node) {
                property.add(rest);
            }
        }
        property
    }

    /// What the value of a property may be whose name none of the schemas lists, in cases: one that matches
    /// `pattern`, or with none one that matches no pattern of `excluded`.
    pub(super) fn other_property(&self, facts: &Facts<'a>, pattern: Option<&str>, excluded: &[&str]) -> Vec<Facts<'a>> {
        if facts.exact.iter().any(|value| value.is_object()) {
            return Vec::new();
        }
        let mut cases = vec![Facts::default()];
        for node in &facts.schemas {
            let patterns = node.map("patternProperties");
            if let Some(same) = pattern.and_then(|pattern| patterns.and_then(|map| map.get(pattern))) {
                cases.iter_mut().for_each(|case| case.add(node.at(same)));
                continue;
            }
            // Without a word on the others any value may stand there.
            let Some(rest) = other_properties(*node) else { continue };
            let matching = patterns.into_iter().flatten().filter(|(pattern, _)| !excluded.contains(&pattern.as_str()));
            let options: Vec<Node<'a>> =
                std::iter::once(rest).chain(matching.map(|(_, schema)| node.at(schema))).collect();
            if cases.len() * options.len() <= CASES {
                cases = cases.iter().flat_map(|case| options.iter().map(|option| case.clone().with(*option))).collect();
            }
        }
        cases.retain(|case| !case.never);
        cases
    }

    /// The facts of the item at an index, if it is there.
    pub(super) fn item(&self, facts: &Facts<'a>, index: usize) -> Facts<'a> {
        let mut item = Facts::default();
        for value in &facts.exact {
            match element(value, index) {
                Some(element) => item.exact.push(element),
                None if value.is_array() => item.never = true,
                None => {}
            }
        }
        for node in &facts.schemas {
            let (prefix, rest) = items_of(*node);
            if let Some(schema) = prefix.get(index).copied().or(rest) {
                item.add(schema);
            }
        }
        item
    }

    /// How many properties an object has.
    pub(super) fn properties_count(&self, facts: &Facts<'a>) -> (u64, Option<u64>) {
        let (least, most) =
            facts.counts("minProperties", "maxProperties", |value| value.as_object().map(|map| map.len() as u64));
        let closed = facts.schemas.iter().filter(|node| {
            other_properties(**node).is_some_and(|rest| rest.value == &Value::Bool(false))
                && node.map("patternProperties").is_none_or(serde_json::Map::is_empty)
        });
        let names = closed.map(|node| node.map("properties").map_or(0, |map| map.len() as u64));
        (least.max(facts.required().len() as u64), most.into_iter().chain(names).min())
    }

    /// Whether an object would need a property that cannot be there.
    pub(super) fn lacks_property(&mut self, facts: &Facts<'a>) -> bool {
        facts.required().into_iter().any(|name| {
            let property = self.property(facts, name);
            self.below(|prover| prover.empty(&property))
        })
    }

    /// Whether an array would need an item that cannot be there.
    pub(super) fn lacks_item(&mut self, facts: &Facts<'a>) -> bool {
        let least = facts.items().0.min(self.prefix(facts, None) as u64 + 1);
        (0..usize::try_from(least).unwrap_or(0)).any(|index| {
            let item = self.item(facts, index);
            self.below(|prover| prover.empty(&item))
        })
    }

    /// From which index on all items are alike.
    pub(super) fn prefix(&self, facts: &Facts<'a>, node: Option<Node<'a>>) -> usize {
        let known = facts.exact.iter().filter_map(|value| value.as_array()).map(Vec::len);
        facts.schemas.iter().copied().chain(node).map(|node| items_of(node).0.len()).chain(known).max().unwrap_or(0)
    }

    /// The names that the facts or the schema mention.
    pub(super) fn names(&self, facts: &Facts<'a>, node: Node<'a>) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = facts.required().into_iter().map(str::to_owned).collect();
        for node in facts.schemas.iter().copied().chain([node]) {
            names.extend(node.map("properties").into_iter().flat_map(|map| map.keys().cloned()));
        }
        for value in &facts.exact {
            names.extend(value.as_object().into_iter().flat_map(|map| map.keys().cloned()));
        }
        names
    }
}

/// What holds for properties that are not listed and match no pattern.
fn other_properties(node: Node<'_>) -> Option<Node<'_>> {
    // Without these, what is not evaluated is what is not listed.
    const IN_PLACE: [&str; 12] = [
        "$ref",
        "$dynamicRef",
        "$recursiveRef",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "if",
        "then",
        "else",
        "dependentSchemas",
        "dependencies",
    ];
    node.schema("additionalProperties").or_else(|| {
        let alone = IN_PLACE.iter().all(|keyword| node.value.get(keyword).is_none());
        node.schema("unevaluatedProperties").filter(|_| alone)
    })
}

fn member<'a>(value: &Cow<'a, Value>, name: &str) -> Option<Cow<'a, Value>> {
    match value {
        Cow::Borrowed(value) => value.get(name).map(Cow::Borrowed),
        Cow::Owned(value) => value.get(name).cloned().map(Cow::Owned),
    }
}

fn element<'a>(value: &Cow<'a, Value>, index: usize) -> Option<Cow<'a, Value>> {
    match value {
        Cow::Borrowed(value) => value.get(index).map(Cow::Borrowed),
        Cow::Owned(value) => value.get(index).cloned().map(Cow::Owned),
    }
}
