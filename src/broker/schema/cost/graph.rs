//! A schema as a graph: which schemas are applied to the same value, and which to its members and items. References are
//! followed as the validator follows them, by the library that it resolves them with.

use std::collections::{HashMap, HashSet};

use jsonschema::{Draft, Registry};
use referencing::{Resolver, uri};
use serde_json::{Map, Value};

/// Keywords whose schema, or list of schemas, is applied to the same value.
const IN_PLACE: [&str; 7] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else"];
/// Keywords whose members are schemas that are applied to the same value.
const IN_PLACE_BY_NAME: [&str; 2] = ["dependentSchemas", "dependencies"];
/// References that the scope of a check decides.
const DYNAMIC: [(&str, &str); 2] = [("$dynamicRef", "$dynamicAnchor"), ("$recursiveRef", "$recursiveAnchor")];
/// What a document is called that has no name.
const UNNAMED: &str = "json-schema:///";
/// Options of an `enum` that cost as much as a step.
const OPTIONS_OF_A_STEP: usize = 16;

pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) root: usize,
}

/// One schema; others by their number.
#[derive(Default)]
pub(super) struct Node {
    /// Steps at each value that it is applied to.
    pub(super) weight: u64,
    /// Applied to the same value.
    pub(super) in_place: Vec<usize>,
    /// Applied to the member of that name.
    pub(super) properties: HashMap<String, usize>,
    /// Applied to members whose names match.
    pub(super) patterns: Vec<usize>,
    pub(super) additional: Option<usize>,
    pub(super) unevaluated_members: Option<usize>,
    /// Applied to the names of members.
    pub(super) names: Option<usize>,
    /// Applied to the item at that position.
    pub(super) prefix: Vec<usize>,
    pub(super) items: Option<usize>,
    pub(super) contains: Option<usize>,
    pub(super) unevaluated_items: Option<usize>,
}

impl Graph {
    /// # Errors
    /// When a reference cannot be followed, in a sentence.
    pub(super) fn of(schema: &Value) -> Result<Self, String> {
        let draft = Draft::default().detect(schema);
        let resource = draft.create_resource_ref(schema);
        let base = resource.id().unwrap_or(UNNAMED).to_owned();
        let failed = |error: &dyn std::fmt::Display| format!("its references cannot be followed: {error}");
        let base = uri::from_str(&base).map_err(|error| failed(&error))?;
        let registry =
            Registry::new().draft(draft).add(base.as_str(), resource).and_then(jsonschema::RegistryBuilder::prepare);
        let registry = registry.map_err(|error| failed(&error))?;
        let mut builder = Builder { draft, ..Builder::default() };
        let root = builder.number(schema, registry.resolver(base));
        while let Some((at, schema, resolver)) = builder.open.pop() {
            builder.look(at, schema, &resolver).map_err(|error| failed(&error))?;
        }
        builder.join_dynamic();
        Ok(Self { nodes: builder.nodes, root })
    }
}

#[derive(Default)]
struct Builder<'a> {
    draft: Draft,
    nodes: Vec<Node>,
    numbers: HashMap<*const Value, usize>,
    open: Vec<(usize, &'a Value, Resolver<'a>)>,
    /// Schemas that references by scope may lead to, by the anchor's name.
    anchors: HashMap<String, Vec<usize>>,
    /// Who refers so.
    dynamic: Vec<(usize, String)>,
}

impl<'a> Builder<'a> {
    fn number(&mut self, schema: &'a Value, resolver: Resolver<'a>) -> usize {
        let next = self.nodes.len();
        let number = *self.numbers.entry(std::ptr::from_ref(schema)).or_insert(next);
        if number == next {
            self.nodes.push(Node::default());
            self.open.push((number, schema, resolver));
        }
        number
    }

    fn look(&mut self, at: usize, schema: &'a Value, resolver: &Resolver<'a>) -> Result<(), referencing::Error> {
        let mut node = Node { weight: 1, ..Node::default() };
        if let Value::Object(members) = schema {
            let resolver = &resolver.in_subresource(self.draft.create_resource_ref(schema))?;
            node.weight +=
                (members.get("enum").and_then(Value::as_array).map_or(0, Vec::len) / OPTIONS_OF_A_STEP) as u64;
            self.look_in_place(&mut node, members, resolver);
            self.look_below(&mut node, members, resolver);
            self.follow(at, &mut node, members, resolver)?;
        }
        self.nodes[at] = node;
        Ok(())
    }

    fn look_in_place(&mut self, node: &mut Node, members: &'a Map<String, Value>, resolver: &Resolver<'a>) {
        for keyword in IN_PLACE {
            match members.get(keyword) {
                Some(Value::Array(branches)) => {
                    node.in_place.extend(branches.iter().map(|branch| self.number(branch, resolver.clone())));
                }
                Some(branch) => node.in_place.push(self.number(branch, resolver.clone())),
                None => {}
            }
        }
        for branches in IN_PLACE_BY_NAME.iter().filter_map(|keyword| members.get(*keyword)?.as_object()) {
            // A list of names is no schema.
            let schemas = branches.values().filter(|branch| !branch.is_array());
            node.in_place.extend(schemas.map(|branch| self.number(branch, resolver.clone())));
        }
    }

    fn look_below(&mut self, node: &mut Node, members: &'a Map<String, Value>, resolver: &Resolver<'a>) {
        let mut one = |keyword: &str| members.get(keyword).map(|schema| self.number(schema, resolver.clone()));
        node.additional = one("additionalProperties");
        node.unevaluated_members = one("unevaluatedProperties");
        node.unevaluated_items = one("unevaluatedItems");
        node.names = one("propertyNames");
        node.contains = one("contains");
        let by_name = |keyword: &str| members.get(keyword).and_then(Value::as_object).into_iter().flatten();
        for (name, schema) in by_name("properties") {
            let number = self.number(schema, resolver.clone());
            node.properties.insert(name.clone(), number);
        }
        for (_, schema) in by_name("patternProperties") {
            node.patterns.push(self.number(schema, resolver.clone()));
        }
        // Before 2020-12 a list stands under `items`, and what is beyond it under `additionalItems`.
        let (list, rest) = match (members.get("prefixItems"), members.get("items")) {
            (Some(Value::Array(list)), rest) => (Some(list), rest),
            (_, Some(Value::Array(list))) => (Some(list), members.get("additionalItems")),
            (_, rest) => (None, rest),
        };
        for schema in list.into_iter().flatten() {
            node.prefix.push(self.number(schema, resolver.clone()));
        }
        node.items = rest.map(|schema| self.number(schema, resolver.clone()));
    }

    fn follow(
        &mut self,
        at: usize,
        node: &mut Node,
        members: &'a Map<String, Value>,
        resolver: &Resolver<'a>,
    ) -> Result<(), referencing::Error> {
        let text = |keyword: &str| members.get(keyword).and_then(Value::as_str);
        if let Some(reference) = text("$ref") {
            let (target, resolver, _) = resolver.lookup(reference)?.into_inner();
            node.in_place.push(self.number(target, resolver));
        }
        for (keyword, anchor) in DYNAMIC {
            if let Some(reference) = text(keyword) {
                let (target, resolver, _) = resolver.lookup(reference)?.into_inner();
                node.in_place.push(self.number(target, resolver));
                let name = reference.rsplit_once('#').map_or("", |(_, name)| name);
                self.dynamic.push((at, name.to_owned()));
            }
            match members.get(anchor) {
                Some(Value::String(name)) => self.anchors.entry(name.clone()).or_default().push(at),
                Some(Value::Bool(true)) => self.anchors.entry(String::new()).or_default().push(at),
                _ => {}
            }
        }
        Ok(())
    }

    /// A reference by scope may lead to each schema that has its anchor.
    fn join_dynamic(&mut self) {
        for (at, name) in std::mem::take(&mut self.dynamic) {
            let known: HashSet<usize> = self.nodes[at].in_place.iter().copied().collect();
            let others = self.anchors.get(&name).into_iter().flatten().filter(|target| !known.contains(target));
            let others: Vec<usize> = others.copied().collect();
            self.nodes[at].in_place.extend(others);
        }
    }
}
