//! How a definition differs from what is there, field by field.

use serde::Serialize;
use serde_json::{Map, Value};

/// A field that is to be another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Change {
    pub(super) field: String,
    from: Value,
    to: Value,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} -> {}", self.field, self.from, self.to)
    }
}

/// The fields that a definition says and that are different. What it leaves out is not compared.
pub(super) fn changes(present: &impl Serialize, wanted: &impl Serialize, passed_over: &[&str]) -> Vec<Change> {
    let (present, wanted) = (object(present), object(wanted));
    let said = wanted.into_iter().filter(|(field, _)| !passed_over.contains(&field.as_str()));
    said.filter_map(|(field, to)| {
        let from = present.get(&field).cloned().unwrap_or_default();
        (!is_same(&from, &to)).then_some(Change { field, from, to })
    })
    .collect()
}

fn object(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => object,
        // Definitions are structs, which are objects.
        _ => Map::new(),
    }
}

/// Nothing may be said in several ways.
fn is_same(one: &Value, other: &Value) -> bool {
    let is_nothing = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    one == other || is_nothing(one) && is_nothing(other)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_said_and_different_is_a_change() {
        let present = json!({"name": "a", "window": 1, "schema": {"type": "object", "x": 1}});
        let wanted =
            json!({"name": "a", "window": 2, "schema": {"x": 1, "type": "object"}, "filter": "", "drop": false});
        let found: Vec<String> = changes(&present, &wanted, &[]).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["window: 1 -> 2"]);
        assert!(changes(&present, &json!({"name": "a"}), &[]).is_empty());
        assert!(changes(&present, &wanted, &["window"]).is_empty());
    }
}
