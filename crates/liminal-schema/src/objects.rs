//! The keywords of objects: each property by its name, then all those that nobody lists.

use serde_json::Value;

use super::{
    document::Node,
    facts::{Facts, OBJECT, STRING, texts},
    prover::{Places, Prover, exactly, place},
};
use crate::words::child;

impl<'a> Prover<'a> {
    pub(super) fn object(
        &mut self,
        facts: &Facts<'a>,
        node: Node<'a>,
        keyword: &str,
        value: &'a Value,
        here: &str,
    ) -> Places {
        match keyword {
            "required" => {
                let missing = texts(Some(value)).filter(|name| !facts.requires(name));
                missing
                    .flat_map(|name| {
                        let reason = format!(
                            "property `{name}` is required; the {} schema takes objects without it",
                            self.narrow
                        );
                        place(here, reason)
                    })
                    .collect()
            }
            "minProperties" | "maxProperties" => {
                self.counted(self.properties_count(facts), keyword, value, "objects", "properties", here)
            }
            "properties" => self.properties(facts, value, node, here),
            "patternProperties" => self.pattern_properties(facts, value, node, here),
            "additionalProperties" => self.rest_of_properties(facts, node, here),
            // What other keywords evaluate is left out, so this asks for more than is due.
            "unevaluatedProperties" if node.get("additionalProperties").is_none() => {
                self.rest_of_properties(facts, node, here)
            }
            "propertyNames" => self.property_names(facts, node, value, here),
            "dependentRequired" | "dependentSchemas" | "dependencies" => self.dependencies(facts, node, value, here),
            _ => Vec::new(),
        }
    }

    fn properties(&mut self, facts: &Facts<'a>, value: &'a Value, node: Node<'a>, here: &str) -> Places {
        let mut places = Vec::new();
        for (name, schema) in value.as_object().into_iter().flatten() {
            if self.brief && !places.is_empty() {
                break;
            }
            let property = self.property(facts, name);
            let at = child(here, name);
            let found = self.below(|prover| prover.prove(&property, node.at(schema), &at));
            let unknown = property.schemas.is_empty() && property.exact.is_empty() && property.nots.is_empty();
            if found.is_empty() || !unknown {
                places.extend(found);
                continue;
            }
            // The commonest edit that breaks history; say what it is.
            let reason = format!(
                "property `{name}` has no schema in the {} schema, which takes any value there; the {} one does not: \
                 give it in an object that is closed with `additionalProperties: false`, or check that no stored \
                 message has one and update without the check",
                self.narrow, self.wide
            );
            places.extend(place(&at, reason));
        }
        places
    }

    fn pattern_properties(&mut self, facts: &Facts<'a>, value: &'a Value, node: Node<'a>, here: &str) -> Places {
        let mut places = Vec::new();
        for (pattern, schema) in value.as_object().into_iter().flatten() {
            let at = child(here, pattern);
            let mut claims = self.other_property(facts, Some(pattern), &[]);
            for name in self.names(facts, node) {
                if self.matches(pattern, &name) != Some(false) {
                    claims.push(self.property(facts, &name));
                }
            }
            places.extend(self.first_failure(&claims, node.at(schema), &at));
        }
        places
    }

    /// `additionalProperties`, and what is not evaluated.
    fn rest_of_properties(&mut self, facts: &Facts<'a>, node: Node<'a>, here: &str) -> Places {
        let keyword =
            if node.get("additionalProperties").is_some() { "additionalProperties" } else { "unevaluatedProperties" };
        let Some(schema) = node.schema(keyword) else { return Vec::new() };
        let patterns: Vec<&'a str> =
            node.map("patternProperties").into_iter().flatten().map(|(p, _)| p.as_str()).collect();
        let listed = node.map("properties");
        let mut places = Vec::new();
        for name in self.names(facts, node) {
            let matched = patterns.iter().any(|pattern| self.matches(pattern, &name) == Some(true));
            if matched || listed.is_some_and(|map| map.contains_key(&name)) {
                continue;
            }
            let property = self.property(facts, &name);
            let found = self.below(|prover| prover.prove(&property, schema, here));
            places.extend(found.into_iter().map(|mut found| {
                found.reason = format!("property `{name}`: {}", found.reason);
                found
            }));
        }
        let others = self.other_property(facts, None, &patterns);
        let found = self.first_failure(&others, schema, here);
        places.extend(found.into_iter().map(|mut found| {
            found.reason = format!("properties that are not listed: {}", found.reason);
            found
        }));
        places
    }

    /// The first of these that may not fit.
    pub(super) fn first_failure(&mut self, claims: &[Facts<'a>], schema: Node<'a>, at: &str) -> Places {
        for claim in claims {
            let found = self.below(|prover| prover.prove(claim, schema, at));
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    fn property_names(&mut self, facts: &Facts<'a>, node: Node<'a>, value: &'a Value, here: &str) -> Places {
        let mut any = Facts::default().only(STRING);
        facts.schemas.iter().filter_map(|node| node.schema("propertyNames")).for_each(|names| any.add(names));
        let mut claims = Vec::new();
        if !self.other_property(facts, None, &[]).is_empty() {
            claims.push(any.clone());
        }
        for name in self.names(facts, node) {
            let property = self.property(facts, &name);
            if !self.below(|prover| prover.empty(&property)) {
                claims.push(any.clone().with_exact(exactly(&name)));
            }
        }
        self.first_failure(&claims, node.at(value), here)
    }

    fn dependencies(&mut self, facts: &Facts<'a>, node: Node<'a>, value: &'a Value, here: &str) -> Places {
        let mut places = Vec::new();
        for (name, due) in value.as_object().into_iter().flatten() {
            let property = self.property(facts, name);
            if self.below(|prover| prover.empty(&property)) {
                continue;
            }
            let with = facts.clone().only(OBJECT).with_property(name);
            let at = child(here, name);
            if due.is_array() {
                for missing in texts(Some(due)).filter(|missing| !with.requires(missing)) {
                    let reason = format!(
                        "with `{name}`, property `{missing}` is required; the {} schema takes objects without it",
                        self.narrow
                    );
                    places.extend(place(&at, reason));
                }
            } else {
                places.extend(self.prove(&with, node.at(due), &at));
            }
        }
        places
    }
}
