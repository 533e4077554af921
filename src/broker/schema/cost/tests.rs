use serde_json::json;

use super::*;

const BUDGET: u64 = 500_000;

fn cost(schema: &Value) -> Cost {
    Cost::of(schema).unwrap()
}

/// A value in itself, so many times.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!({ "a": inner }))
}

#[test]
fn a_schema_that_does_not_refer_to_itself_is_bounded_by_the_values_of_a_payload() {
    let schema = json!({
        "$defs": { "name": { "type": "string" } },
        "properties": { "id": { "type": "integer" }, "name": { "$ref": "#/$defs/name" } },
        "items": { "allOf": [{ "minimum": 1 }, { "maximum": 9 }] },
    });
    let cost = cost(&schema);
    assert_eq!(cost.steps_per_value(), 3);
    assert_eq!(cost.steps(&json!([1, 2, 3]), BUDGET), Ok(12));
    // The bound is too much, but not what is counted: the array, and three times each item.
    assert_eq!(cost.steps(&json!([1, 2, 3]), 11), Ok(10));
    assert_eq!(cost.steps(&json!([1, 2, 3]), 9), Err(Excess::Steps(9)));
}

#[test]
fn what_refers_to_itself_once_for_each_level_is_cheap_and_twice_doubles_with_each() {
    let once = cost(&json!({ "properties": { "a": { "$ref": "#" } } }));
    assert_eq!(once.steps_per_value(), u64::MAX, "the payload decides");
    assert_eq!(once.steps(&nested(50), BUDGET), Ok(101));
    let twice = cost(&json!({ "properties": { "a": { "anyOf": [{ "$ref": "#" }, { "$ref": "#" }] }, "b": false } }));
    assert!(twice.steps(&nested(10), BUDGET).unwrap() > 1 << 10);
    assert_eq!(twice.steps(&nested(20), BUDGET), Err(Excess::Steps(BUDGET)));
    assert_eq!(twice.steps(&nested(100), BUDGET), Err(Excess::Steps(BUDGET)), "and soon");
}

#[test]
fn references_count_however_they_are_spelt() {
    for spelling in ["#d{}", "#/$defs/d{}", "#/%24defs/d{}", "urn:example:{}", "./s{}"] {
        let refer = |to: usize| json!({ "$ref": spelling.replace("{}", &to.to_string()) });
        let mut definitions: serde_json::Map<String, Value> = (0..45)
            .map(|at| {
                let next = json!({ "allOf": [refer(at + 1), refer(at + 1)] });
                (format!("d{at}"), next)
            })
            .collect();
        definitions.insert("d45".into(), json!({}));
        for (at, (name, definition)) in definitions.iter_mut().enumerate() {
            let number: usize = name[1..].parse().unwrap();
            let mut own = json!({});
            match spelling {
                "#d{}" => own["$anchor"] = json!(name),
                "urn:example:{}" => own["$id"] = json!(format!("urn:example:{number}")),
                "./s{}" => own["$id"] = json!(format!("http://example.com/s{number}")),
                _ => {}
            }
            assert!(at < 46);
            definition.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        }
        let root = match spelling {
            "./s{}" => json!({ "$id": "http://example.com/root", "$defs": definitions, "$ref": "s0" }),
            _ => json!({ "$defs": definitions, "$ref": refer(0)["$ref"] }),
        };
        assert_eq!(cost(&root).steps(&json!(1), BUDGET), Err(Excess::Steps(BUDGET)), "{spelling}");
    }
}

#[test]
fn what_one_value_may_meet_is_counted_however_references_are_spelt_and_recursion_is_one() {
    let schema = json!({
        "$defs": {
            "tree": { "properties": { "next": { "allOf": [{ "$ref": "#/$defs/tree" }, { "$ref": "#leaf" }] } } },
            "leaf": { "$anchor": "leaf", "allOf": [{ "minimum": 1 }, { "maximum": 9 }] },
        },
        "$ref": "#/$defs/tree",
    });
    // Of `next`: itself, two references, the tree, and the leaf with its two.
    assert_eq!(cost(&schema).nodes_of_a_value(), 7);
    assert_eq!(document_nodes(&schema), 10);
    for spelling in ["#d{}", "#/$defs/d{}", "#/%24defs/d{}"] {
        let refer = |to: usize| json!({ "$ref": spelling.replace("{}", &to.to_string()) });
        let mut definitions = serde_json::Map::new();
        for level in 0..30 {
            let own = json!({ "$anchor": format!("d{level}"), "allOf": [refer(level + 1), refer(level + 1)] });
            definitions.insert(format!("d{level}"), own);
        }
        definitions.insert("d30".into(), json!({ "$anchor": "d30" }));
        let bomb = json!({ "$defs": definitions, "allOf": [refer(0)] });
        assert!(cost(&bomb).nodes_of_a_value() > 1 << 30, "{spelling}");
    }
}

#[test]
fn a_reference_by_scope_may_lead_to_every_schema_that_has_its_anchor() {
    let schema = json!({
        "$dynamicAnchor": "node",
        "properties": { "a": { "anyOf": [{ "$dynamicRef": "#node" }, { "$dynamicRef": "#node" }] } },
    });
    assert_eq!(cost(&schema).steps(&nested(30), BUDGET), Err(Excess::Steps(BUDGET)));
    let recursive = json!({
        "$schema": "https://json-schema.org/draft/2019-09/schema",
        "$recursiveAnchor": true,
        "properties": { "a": { "anyOf": [{ "$recursiveRef": "#" }, { "$recursiveRef": "#" }] } },
    });
    assert_eq!(cost(&recursive).steps(&nested(30), BUDGET), Err(Excess::Steps(BUDGET)));
}

#[test]
fn a_check_that_never_ends_or_nests_too_deep_is_not_begun() {
    let endless =
        json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } }, "$ref": "#/$defs/a" });
    assert_eq!(cost(&endless).steps(&json!(1), BUDGET), Err(Excess::Endless));
    let chain: serde_json::Map<String, Value> =
        (0..1000).map(|at| (at.to_string(), json!({ "$ref": format!("#/$defs/{}", at + 1) }))).collect();
    let mut chain = json!({ "$defs": chain, "$ref": "#/$defs/0" });
    chain["$defs"]["1000"] = json!({});
    assert!(Cost::of(&chain).err().unwrap().contains("nest deeper than 400 levels"));
}

#[test]
fn finding_what_is_unevaluated_costs_the_schemas_beside_it_once_more() {
    let inner = json!({ "allOf": [{ "properties": { "a": true } }] });
    let plain = json!({ "allOf": [inner] });
    let mut unevaluated = plain.clone();
    unevaluated["unevaluatedProperties"] = json!(false);
    let steps = |schema: &Value| cost(schema).steps(&json!(1), 2).or(cost(schema).steps(&json!(1), BUDGET)).unwrap();
    assert!(steps(&unevaluated) > steps(&plain));
}
