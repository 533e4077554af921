//! How large a schema is, before anything compiles it.
//!
//! A few lines of definitions that refer to each other twice (`allOf` of two references to the next) can stand for
//! millions of checks of one and the same value. So references are followed wherever a schema applies others to
//! the value that it is applied to. Properties and items need no such care: each has a value of its own.

use std::collections::HashMap;

use serde_json::Value;

/// Keywords whose schemas are applied to the same value.
const IN_PLACE: [&str; 9] =
    ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"];

/// Nodes of the document (objects and booleans), or the schemas that one value may have to be checked against when
/// that is more. A reference back into what is being counted is one node.
pub(super) fn nodes(schema: &Value) -> u64 {
    let mut counter = Counter { root: schema, expanded: HashMap::new(), largest: 0 };
    let document = counter.document(schema);
    document.max(counter.largest)
}

struct Counter<'a> {
    root: &'a Value,
    /// Expansions by the address of the schema; 1 while one is being counted.
    expanded: HashMap<*const Value, u64>,
    largest: u64,
}

impl<'a> Counter<'a> {
    fn document(&mut self, value: &'a Value) -> u64 {
        match value {
            Value::Object(members) => {
                let expansion = self.expansion(value);
                self.largest = self.largest.max(expansion);
                1 + members.values().map(|member| self.document(member)).sum::<u64>()
            }
            Value::Array(items) => items.iter().map(|item| self.document(item)).sum(),
            Value::Bool(_) => 1,
            _ => 0,
        }
    }

    fn expansion(&mut self, schema: &'a Value) -> u64 {
        let Value::Object(members) = schema else { return 1 };
        let address = std::ptr::from_ref(schema);
        if let Some(nodes) = self.expanded.get(&address) {
            return *nodes;
        }
        self.expanded.insert(address, 1);
        let mut nodes: u64 = 1;
        for keyword in IN_PLACE {
            nodes = nodes.saturating_add(match members.get(keyword) {
                Some(Value::Array(branches)) => self.sum(branches.iter()),
                Some(Value::Object(branches)) if keyword.starts_with("depend") => self.sum(branches.values()),
                Some(branch) => self.expansion(branch),
                None => 0,
            });
        }
        let target = members.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
        if let Some(target) = target.and_then(|pointer| self.root.pointer(pointer)) {
            nodes = nodes.saturating_add(self.expansion(target));
        }
        self.expanded.insert(address, nodes);
        nodes
    }

    fn sum(&mut self, schemas: impl Iterator<Item = &'a Value>) -> u64 {
        schemas.fold(0, |nodes, schema| nodes.saturating_add(self.expansion(schema)))
    }
}
