mod corpus;
mod random;

use serde_json::{Value, json};

use super::*;

fn backward(old: &Value, new: &Value) -> Vec<(String, String)> {
    let places = check(old, new, Mode::Backward).err().unwrap_or_default();
    places.into_iter().map(|place| (place.pointer, place.reason)).collect()
}

#[track_caller]
fn compatible(old: Value, new: Value) {
    assert_eq!(backward(&old, &new), [], "{old} to {new}");
}

#[track_caller]
fn refused(old: Value, new: Value, pointer: &str, words: &str) {
    let places = backward(&old, &new);
    assert!(
        places.iter().any(|(at, reason)| at == pointer && reason.contains(words)),
        "{old} to {new}: {places:?} has no `{words}` at `{pointer}`"
    );
}

#[test]
fn annotations_never_matter() {
    compatible(
        json!({"type": "string"}),
        json!({"type": "string", "title": "t", "description": "d", "default": 7, "examples": [1], "format": "email",
               "$comment": "c", "$defs": {"unused": false}}),
    );
}

#[test]
fn types_may_be_added_but_not_taken_away() {
    compatible(json!({"type": "integer"}), json!({"type": "number"}));
    compatible(json!({"type": "string"}), json!({"type": ["string", "null"]}));
    refused(json!({"type": "number"}), json!({"type": "integer"}), "/type", "number");
    refused(
        json!({"type": ["string", "null"]}),
        json!({"type": "string"}),
        "/type",
        "null or string, the new one only string",
    );
    refused(json!(true), json!(false), "", "no value");
    compatible(json!(false), json!({"type": "string"}));
    // In draft 4 a whole float is no integer.
    let draft4 = json!({"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer"});
    compatible(draft4.clone(), json!({"type": "integer"}));
    assert!(!backward(&json!({"type": "integer"}), &draft4).is_empty());
}

#[test]
fn bounds_may_be_loosened_but_not_tightened() {
    compatible(json!({"minimum": 3}), json!({"minimum": 2.5}));
    refused(json!({"minimum": 3}), json!({"minimum": 4}), "/minimum", "from 3, the new one only numbers from 4");
    refused(json!({"maximum": 3}), json!({"exclusiveMaximum": 3}), "/exclusiveMaximum", "below 3");
    compatible(json!({"type": "integer", "exclusiveMinimum": 0}), json!({"minimum": 1}));
    refused(json!({"exclusiveMinimum": 0}), json!({"minimum": 1}), "/minimum", "above 0");
    compatible(json!({"multipleOf": 6}), json!({"multipleOf": 3}));
    refused(json!({"multipleOf": 3}), json!({"multipleOf": 6}), "/multipleOf", "multiples of 3");
    compatible(json!({"minLength": 2, "maxLength": 3}), json!({"minLength": 1, "maxLength": 4}));
    refused(json!({"maxLength": 4}), json!({"maxLength": 3}), "/maxLength", "4 characters");
    compatible(json!({"pattern": "^a"}), json!({"pattern": "^a"}));
    refused(json!({"pattern": "^a"}), json!({"pattern": "^b"}), "/pattern", "cannot be shown");
    compatible(json!({"enum": ["ab", "ac"]}), json!({"pattern": "^a", "minLength": 2}));
    let draft4 = |exclusive: bool| json!({"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 3, "exclusiveMinimum": exclusive});
    compatible(draft4(true), draft4(false));
    refused(draft4(false), draft4(true), "/minimum", "above 3");
    // Floats are compared exactly: 2^53 + 1 has no float of its own.
    refused(
        json!({"maximum": 9_007_199_254_740_993_u64}),
        json!({"maximum": 9_007_199_254_740_992.0}),
        "/maximum",
        "9007199254740993",
    );
}

#[test]
fn enumerations_may_be_widened() {
    compatible(json!({"enum": ["a", "b"]}), json!({"enum": ["b", "c", "a"]}));
    refused(json!({"enum": ["a", "b"]}), json!({"enum": ["a"]}), "/enum", "\"b\" is taken by the old schema");
    compatible(json!({"const": 1}), json!({"enum": [1.0, 2]}));
    compatible(json!({"type": "boolean"}), json!({"enum": [true, false]}));
    compatible(json!({"enum": ["a", 7], "type": "string"}), json!({"const": "a"}));
    compatible(json!({"enum": ["a", "b"]}), json!({"type": "string"}));
    refused(json!({"type": "string"}), json!({"enum": ["a"]}), "/enum", "other values too");
}

#[test]
fn properties_may_become_optional_but_not_required() {
    let object =
        |required: Value| json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": required});
    compatible(object(json!(["a"])), object(json!([])));
    refused(object(json!([])), object(json!(["a"])), "/required", "property `a` is required");
}

#[test]
fn a_typed_property_may_be_added_to_a_closed_object_only() {
    let old = json!({"properties": {"a": true}, "additionalProperties": false});
    let new = json!({"properties": {"a": true, "b": {"type": "string"}}, "additionalProperties": false});
    compatible(old.clone(), new.clone());
    refused(new, old, "/additionalProperties", "property `b`");
    let open = json!({"properties": {"a": true}});
    refused(open.clone(), json!({"properties": {"b": {"type": "string"}}}), "/properties/b", "takes any value there");
    compatible(open.clone(), json!({"properties": {"a": true, "b": {"title": "anything"}}}));
    refused(
        open,
        json!({"properties": {"a": true}, "additionalProperties": false}),
        "/additionalProperties",
        "not listed",
    );
    compatible(
        json!({"additionalProperties": {"type": "integer"}}),
        json!({"properties": {"n": {"type": "number"}}, "additionalProperties": {"type": ["integer", "null"]}}),
    );
}

#[test]
fn patterns_of_names_are_followed() {
    let old = json!({"patternProperties": {"^x-": {"type": "string"}}, "additionalProperties": false});
    compatible(old.clone(), json!({"patternProperties": {"^x-": {"type": ["string", "null"]}}}));
    compatible(old.clone(), json!({"additionalProperties": {"type": "string"}}));
    compatible(old.clone(), json!({"properties": {"x-a": {"type": "string"}, "y": {"type": "null"}}}));
    refused(old, json!({"properties": {"x-a": {"type": "null"}}}), "/properties/x-a/type", "string");
    compatible(json!({"propertyNames": {"maxLength": 3}}), json!({"propertyNames": {"maxLength": 4}}));
    refused(json!({}), json!({"propertyNames": {"maxLength": 4}}), "/propertyNames/maxLength", "any size");
    refused(
        json!({"properties": {"a": true}, "unevaluatedProperties": true}),
        json!({"properties": {"a": true}, "unevaluatedProperties": false}),
        "/unevaluatedProperties",
        "not listed",
    );
}

#[test]
fn dependencies_follow_from_what_is_required() {
    compatible(json!({"required": ["b"]}), json!({"dependentRequired": {"a": ["b"]}}));
    refused(json!({}), json!({"dependentRequired": {"a": ["b"]}}), "/dependentRequired/a", "with `a`");
    let draft7 = |dependencies: Value| json!({"$schema": "http://json-schema.org/draft-07/schema#", "dependencies": dependencies});
    compatible(draft7(json!({"a": ["b", "c"]})), draft7(json!({"a": ["b"]})));
    compatible(draft7(json!({"a": {"maxProperties": 3}})), draft7(json!({"a": {"maxProperties": 4}})));
    // Nothing is required of a value that is no object.
    let asked = json!({"required": ["a"], "dependentSchemas": {"a": {"type": "object"}}});
    refused(asked, json!({"type": "object"}), "/type", "only object");
}

#[test]
fn items_are_compared_one_by_one_and_all_the_others() {
    compatible(json!({"items": {"type": "integer"}}), json!({"items": {"type": "number"}}));
    refused(json!({"items": {"type": "number"}}), json!({"items": {"type": "integer"}}), "/items/type", "number");
    compatible(
        json!({"prefixItems": [{"type": "integer"}], "items": false}),
        json!({"items": {"type": "integer"}, "maxItems": 1}),
    );
    refused(
        json!({"prefixItems": [{"type": "integer"}]}),
        json!({"items": {"type": "integer"}}),
        "/items/type",
        "any value",
    );
    let draft7 = |rest: Value| json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}], "additionalItems": rest});
    compatible(draft7(json!(false)), draft7(json!({"type": "null"})));
    refused(draft7(json!(true)), draft7(json!(false)), "/additionalItems", "no value");
    refused(json!({"maxItems": 4}), json!({"maxItems": 3}), "/maxItems", "4 items");
    refused(json!({}), json!({"uniqueItems": true}), "/uniqueItems", "equal items");
    compatible(json!({"contains": {"const": 1}, "minContains": 2}), json!({"contains": {"type": "integer"}}));
    refused(json!({"minItems": 1}), json!({"contains": {"type": "integer"}}), "/contains", "without such an item");
    compatible(json!({"minItems": 1, "items": {"const": 2}}), json!({"contains": {"type": "integer"}}));
}

#[test]
fn branches_are_compared_case_by_case() {
    compatible(json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), json!({"type": ["null", "string"]}));
    compatible(json!({"type": ["null", "string"]}), json!({"anyOf": [{"type": "string"}, {"type": "null"}]}));
    compatible(
        json!({"oneOf": [{"const": "a"}, {"const": "b"}]}),
        json!({"oneOf": [{"const": "c"}, {"const": "b"}, {"const": "a"}]}),
    );
    assert!(
        !backward(&json!({"oneOf": [{"const": "a"}, {"const": "b"}]}), &json!({"oneOf": [{"const": "a"}]})).is_empty()
    );
    // A value that fits both schemas of `oneOf` is refused by it.
    assert!(
        !backward(&json!({"type": "integer"}), &json!({"oneOf": [{"type": "integer"}, {"type": "number"}]})).is_empty()
    );
    let kinds = |more: Value| {
        let mut list = vec![
            json!({"properties": {"kind": {"const": "made"}}, "required": ["kind"]}),
            json!({"properties": {"kind": {"const": "gone"}, "id": {"type": "integer"}}, "required": ["kind", "id"]}),
        ];
        list.extend(more.as_array().unwrap().iter().cloned());
        json!({"type": "object", "oneOf": list})
    };
    compatible(kinds(json!([])), kinds(json!([{"properties": {"kind": {"const": "kept"}}, "required": ["kind"]}])));
    compatible(json!({"allOf": [{"minimum": 3}, {"type": "integer"}]}), json!({"type": "number", "minimum": 2}));
    compatible(json!({"not": {"type": ["string", "null"]}}), json!({"not": {"type": "null"}}));
    refused(json!({"not": {"type": "null"}}), json!({"not": {"type": ["string", "null"]}}), "/not", "forbids");
    compatible(json!({"not": {"type": "null"}}), json!({"type": ["string", "number", "object", "array", "boolean"]}));
    let condition =
        |length: u64| json!({"if": {"type": "string"}, "then": {"maxLength": length}, "else": {"type": "null"}});
    compatible(condition(3), condition(4));
    refused(condition(4), condition(3), "/then/maxLength", "at most 3");
    compatible(condition(3), json!({"type": ["string", "null"]}));
}

#[test]
fn references_are_followed_and_recursion_ends() {
    let tree = |leaf: &str| {
        json!({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {
            "value": {"type": leaf}, "left": {"$ref": "#/$defs/tree"}, "right": {"$ref": "#/$defs/tree"}}}}})
    };
    compatible(tree("integer"), tree("number"));
    refused(tree("number"), tree("integer"), "/$defs/tree/properties/value/type", "number");
    compatible(json!({"type": "string"}), json!({"$ref": "#/definitions/a", "definitions": {"a": {"type": "string"}}}));
    compatible(json!({"$ref": "#a", "$defs": {"x": {"$anchor": "a", "type": "null"}}}), json!({"type": "null"}));
    let paradox =
        json!({"$ref": "#/definitions/d", "definitions": {"d": {"oneOf": [{"$ref": "#/definitions/d"}, {}]}}});
    refused(paradox.clone(), json!({"minItems": 1}), "", "refers to itself");
    refused(paradox, json!({}), "", "refers to itself");
    refused(json!({"type": "null"}), json!({"allOf": [{"$ref": "#"}]}), "", "refers to itself");
    let part = |title: &str| json!({"title": title, "items": {"$schema": "http://json-schema.org/draft-04/schema#"}});
    refused(part("a"), part("b"), "", "another draft");
}

#[test]
fn a_schema_that_is_made_to_be_slow_is_refused_in_time() {
    let level = |next: usize| json!({"anyOf": [{"$ref": format!("#/$defs/{next}")}, {"properties": {"a": {"$ref": format!("#/$defs/{next}")}}}]});
    let deep = |last: &str| {
        let mut defs = serde_json::Map::new();
        (0..60).for_each(|at| {
            defs.insert(at.to_string(), level(at + 1));
        });
        defs.insert("60".into(), json!({"type": last}));
        json!({"$ref": "#/$defs/0", "$defs": defs})
    };
    assert!(!backward(&deep("number"), &deep("integer")).is_empty());
    let wide = |kind: &str| {
        let branch = |at: usize| json!({"properties": {"a": {"oneOf": [{"const": at}, {"type": kind}]}}});
        json!({"oneOf": (0..300).map(branch).collect::<Vec<_>>(), "anyOf": (0..200).map(branch).collect::<Vec<_>>()})
    };
    assert!(!backward(&wide("string"), &wide("null")).is_empty());
    let chain = |last: &str| {
        let mut defs: serde_json::Map<String, Value> =
            (0..2000).map(|at| (at.to_string(), json!({"$ref": format!("#/$defs/{}", at + 1)}))).collect();
        defs.insert("2000".into(), json!({"type": last}));
        json!({"$ref": "#/$defs/0", "$defs": defs})
    };
    assert!(!backward(&chain("number"), &chain("integer")).is_empty());
    let all = |bound: i64| json!({"allOf": (0..1000).map(|_| json!({"anyOf": [{"minimum": bound}, {"type": "null"}]})).collect::<Vec<_>>()});
    assert!(!backward(&all(1), &all(2)).is_empty());
}

#[test]
fn the_mode_says_who_has_to_understand_whom() {
    let (narrow, wide) = (json!({"type": "integer"}), json!({"type": "number"}));
    for (old, new, expected) in [(&narrow, &wide, [true, false, false]), (&wide, &narrow, [false, true, false])] {
        use Mode::{Backward, Forward, Full};
        let found = [Backward, Forward, Full].map(|mode| check(old, new, mode).is_ok());
        assert_eq!(found, expected, "{old} to {new}");
    }
    let places = check(&narrow, &wide, Mode::Forward).unwrap_err();
    assert!(places[0].reason.contains("readers of the old schema"), "{places:?}");
    assert!(places[0].reason.contains("the new schema takes number"), "{places:?}");
}
