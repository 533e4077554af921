use jsonschema::error::ValidationErrorKind;
use liminal_schema::Mode;
use serde_json::{Value, json};

use super::{CompiledSchema, Unfit, read, sparse::Sparse};
use crate::model::Limits;

fn compiled(schema: &Value) -> CompiledSchema {
    CompiledSchema::compile(&schema.to_string(), &Limits::default()).unwrap()
}

fn refused(schema: &Value) -> String {
    CompiledSchema::compile(&schema.to_string(), &Limits::default()).err().expect("the schema is refused")
}

fn places(schema: &Value, payload: &Value) -> Vec<(String, String)> {
    let violations = compiled(schema).check(payload.to_string().as_bytes(), &Limits::default()).unwrap_err();
    violations.into_violations().into_iter().map(|found| (found.pointer, found.message)).collect()
}

fn place(pointer: &str, message: &str) -> (String, String) {
    (pointer.into(), message.into())
}

#[test]
fn a_compiled_schema_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<CompiledSchema>();
}

#[test]
fn all_violations_are_named_with_their_pointers() {
    let schema = json!({
        "required": ["a/b", "id"],
        "properties": { "id": { "type": "integer" }, "tags": { "items": { "type": "string" } } },
        "additionalProperties": false,
    });
    let mut found = places(&schema, &json!({ "id": "7", "tags": ["x", 1], "more": null }));
    found.sort();
    assert_eq!(
        found,
        [
            place("/a~1b", "required property is missing"),
            place("/id", "\"7\" is not of type integer"),
            place("/more", "property is not allowed"),
            place("/tags/1", "1 is not of type string"),
        ]
    );
}

#[test]
fn under_one_of_only_the_branch_with_the_matching_constant_is_reported() {
    let schema = json!({ "oneOf": [
        { "required": ["kind", "id", "name", "price"], "properties": { "kind": { "const": "made" } } },
        { "required": ["kind"], "properties": { "kind": { "const": "gone" }, "id": { "type": "integer" } } },
    ]});
    let found = places(&schema, &json!({ "kind": "made" }));
    let pointers: Vec<_> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
    assert_eq!(pointers, ["/id", "/name", "/price"]);
}

#[test]
fn under_any_of_without_a_constant_the_branch_with_the_fewest_errors_is_reported() {
    let schema = json!({ "anyOf": [{ "required": ["a", "b"] }, { "required": ["c"] }] });
    assert_eq!(places(&schema, &json!({})), [place("/c", "required property is missing")]);
}

#[test]
fn a_payload_that_is_no_json_is_one_violation_with_line_and_column() {
    let violations = compiled(&json!({})).check(b"{\n  \"a\": ,\n}", &Limits::default()).unwrap_err().into_violations();
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].pointer, "");
    assert!(violations[0].message.contains("line 2 column 8"), "{}", violations[0].message);
}

#[test]
fn a_payload_that_nests_too_deep_is_one_violation_of_the_whole() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let schema = compiled(&json!({}));
    let shallow = Limits { json_depth: 3, ..Limits::default() };
    assert_eq!(schema.check(nested(3).as_bytes(), &shallow), Ok(()));
    for (levels, limits) in [(4, shallow), (200, Limits::default())] {
        let violations = schema.check(nested(levels).as_bytes(), &limits).unwrap_err().into_violations();
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].pointer, "");
        assert!(violations[0].message.contains("nests"), "{}", violations[0].message);
    }
}

#[test]
fn no_more_violations_are_reported_than_the_limit_says() {
    let schema = compiled(&json!({ "items": { "type": "string" } }));
    let limits = Limits { violations: 3, ..Limits::default() };
    assert_eq!(schema.check(b"[1,2,3,4,5]", &limits).unwrap_err().into_violations().len(), 3);
}

#[test]
fn a_message_shows_only_the_beginning_of_a_long_value() {
    let found = places(&json!({ "type": "integer" }), &json!("x".repeat(10_000)));
    assert!(found[0].1.len() < 150, "{}", found[0].1);
}

#[test]
fn a_message_never_shows_a_whole_object() {
    let found = places(&json!({ "type": "integer" }), &json!({ "secret": 1 }));
    assert_eq!(found, [place("", "an object of 1 properties is not of type integer")]);
}

#[test]
fn a_reference_outside_the_document_is_refused_by_name() {
    for outside in ["https://example.com/s.json", "file:///etc/passwd", "other.json"] {
        let reason = refused(&json!({ "$ref": outside }));
        assert!(reason.contains("outside the document") && reason.contains(outside), "{reason}");
    }
}

#[test]
fn the_draft_is_the_one_that_the_schema_names() {
    // `exclusiveMinimum` is a boolean in draft 4 and a number since draft 6; `prefixItems` came with 2020-12.
    let draft4 =
        json!({ "$schema": "http://json-schema.org/draft-04/schema#", "minimum": 5, "exclusiveMinimum": true });
    assert_eq!(places(&draft4, &json!(5)).len(), 1);
    for draft in ["draft-06", "draft-07"] {
        let schema = json!({ "$schema": format!("http://json-schema.org/{draft}/schema#"), "exclusiveMinimum": 5 });
        assert_eq!(places(&schema, &json!(5)), [place("", "5 is not greater than 5")]);
    }
    let tuple = |draft: &str| json!({ "$schema": draft, "prefixItems": [{ "type": "string" }] });
    let before = tuple("https://json-schema.org/draft/2019-09/schema");
    assert_eq!(compiled(&before).check(b"[1]", &Limits::default()), Ok(()));
    assert_eq!(places(&tuple("https://json-schema.org/draft/2020-12/schema"), &json!([1])).len(), 1);
    assert_eq!(places(&json!({ "prefixItems": [{ "type": "string" }] }), &json!([1])).len(), 1);
}

#[test]
fn an_unknown_draft_is_refused() {
    refused(&json!({ "$schema": "https://example.com/my-draft" }));
}

#[test]
fn format_is_an_annotation_in_every_draft() {
    for draft in ["http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2020-12/schema"] {
        let schema = compiled(&json!({ "$schema": draft, "format": "date-time" }));
        assert_eq!(schema.check(b"\"2018-04-25 20:42:10\"", &Limits::default()), Ok(()));
    }
}

#[test]
fn a_recursive_schema_checks_nested_payloads() {
    let schema = json!({
        "$defs": { "tree": { "required": ["v"], "properties": { "next": { "$ref": "#/$defs/tree" } } } },
        "$ref": "#/$defs/tree",
    });
    let found = places(&schema, &json!({ "v": 1, "next": { "v": 2, "next": {} } }));
    assert_eq!(found, [place("/next/next/v", "required property is missing")]);
}

#[test]
fn references_that_multiply_are_refused_before_they_are_compiled() {
    let mut definitions = serde_json::Map::new();
    for level in 0..30 {
        let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
        definitions.insert(format!("d{level}"), json!({ "allOf": [next, next] }));
    }
    definitions.insert("d30".into(), json!({ "type": "string" }));
    let reason = refused(&json!({ "$defs": definitions, "$ref": "#/$defs/d0" }));
    assert!(reason.contains("the limit is 10000"), "{reason}");
}

#[test]
fn look_around_in_a_pattern_is_refused() {
    let reason = refused(&json!({ "pattern": "(?=a)b" }));
    assert!(reason.contains("look-around"), "{reason}");
}

#[test]
fn a_pattern_whose_automaton_is_too_large_is_refused() {
    let reason = refused(&json!({ "pattern": "(\\w{500}){500}" }));
    assert!(reason.contains("compiled size"), "{reason}");
}

#[test]
fn a_schema_text_over_the_limit_is_refused() {
    let reason = refused(&json!({ "description": "x".repeat(70_000) }));
    assert!(reason.contains("the limit is 65536"), "{reason}");
}

#[test]
fn a_schema_that_is_none_is_refused_with_the_reason() {
    assert!(refused(&json!([1])).contains("object or a boolean"));
    assert!(refused(&json!({ "type": "number or so" })).contains("/type"));
    assert!(CompiledSchema::compile("{", &Limits::default()).err().unwrap().contains("no JSON"));
}

#[test]
fn the_errors_under_one_of_hold_no_copy_of_the_payload() {
    let schema = json!({ "oneOf": [{ "required": ["a"] }, { "required": ["b"] }] });
    let schema = compiled(&schema);
    let payload = json!({ "large": "x".repeat(1000) });
    let errors: Vec<_> = schema.explain.iter_errors(Sparse(&payload)).collect();
    let ValidationErrorKind::OneOfNotValid { context } = errors[0].kind() else { panic!("{errors:?}") };
    assert_eq!(context.len(), 2);
    assert!(context.iter().flatten().all(|error| error.instance().is_null()));
}

#[test]
fn a_payload_whose_check_would_take_too_long_is_refused_before_it_begins() {
    let schema =
        compiled(&json!({ "properties": { "a": { "anyOf": [{ "$ref": "#" }, { "$ref": "#" }] }, "b": false } }));
    let deep = (0..40).fold(json!({ "b": 1 }), |inner, _| json!({ "a": inner }));
    let unfit = schema.check(deep.to_string().as_bytes(), &Limits::default()).unwrap_err();
    assert_eq!(unfit, Unfit::TooExpensive("it takes more than 500000 steps".into()));
}

#[test]
fn many_places_at_once_are_cut_while_they_are_collected() {
    let small: Vec<Value> = (0..1_200).map(|number| json!({ "minimum": number + 2 })).collect();
    let schema = compiled(&json!({ "items": { "allOf": small } }));
    let ones = |count: usize| json!(vec![1; count]).to_string();
    let limits = Limits::default();
    assert_eq!(schema.check(ones(50).as_bytes(), &limits).unwrap_err().into_violations().len(), limits.violations);
    let found = schema.check(ones(300).as_bytes(), &limits).unwrap_err().into_violations();
    assert_eq!(found.len(), 1, "each place may carry others with it: {found:?}");
    assert!(matches!(schema.check(ones(5_000).as_bytes(), &limits), Err(Unfit::TooExpensive(_))));
}

/// Whether a payload fits a schema, both as they are written.
fn fits(schema: &str, payload: &str) -> bool {
    CompiledSchema::compile(schema, &Limits::default()).unwrap().check(payload.as_bytes(), &Limits::default()).is_ok()
}

#[test]
fn numbers_are_compared_as_they_are_written() {
    for (schema, good, bad) in [
        (r#"{"const":18446744073709551616}"#, "18446744073709551616", "18446744073709551617"),
        (r#"{"const":0.1}"#, "0.10", "0.1000000000000000000001"),
        (r#"{"enum":[1,18446744073709551616]}"#, "1.0", "18446744073709551617"),
        (r#"{"maximum":9007199254740992}"#, "9007199254740992.0", "9007199254740993.0"),
        (r#"{"maximum":18446744073709551616}"#, "18446744073709551616", "18446744073709551617"),
        (r#"{"maximum":0.3}"#, "0.3", "0.30000000000000000001"),
        (r#"{"minimum":18446744073709551617}"#, "18446744073709551617.0", "18446744073709551616"),
        (r#"{"minimum":-0.1}"#, "-0.1", "-0.1000000000000000000001"),
        (r#"{"exclusiveMaximum":9007199254740993}"#, "9007199254740992.0", "9007199254740993.0"),
        (r#"{"exclusiveMinimum":9007199254740992}"#, "9007199254740993.0", "9007199254740992.0"),
        (r#"{"multipleOf":3}"#, "18446744073709551618", "18446744073709551617"),
        (r#"{"multipleOf":0.01}"#, "19.99", "19.995"),
        (r#"{"multipleOf":18446744073709551616}"#, "36893488147419103232", "36893488147419103233"),
        (r#"{"uniqueItems":true}"#, "[18446744073709551616,18446744073709551617]", "[1,1.0]"),
        (r#"{"type":"integer"}"#, "18446744073709551617.0", "18446744073709551617.5"),
        (r#"{"items":{"const":[9007199254740993]}}"#, "[[9007199254740993]]", "[[9007199254740992]]"),
    ] {
        assert!(fits(schema, good), "{schema} takes {good}");
        assert!(!fits(schema, bad), "{schema} does not take {bad}");
    }
}

#[test]
fn a_violation_shows_a_number_as_it_is_written() {
    let schema = CompiledSchema::compile(r#"{"maximum":1}"#, &Limits::default()).unwrap();
    let violations = schema.check(b"18446744073709551617", &Limits::default()).unwrap_err().into_violations();
    assert!(violations[0].message.contains("18446744073709551617"), "{violations:?}");
}

#[test]
fn no_object_passes_for_a_number() {
    for payload in [r#"{"$serde_json::private::Number":"7"}"#, r#"{"$serde_json::private::RawValue":"7"}"#] {
        assert!(!fits(r#"{"type":"number"}"#, payload), "{payload}");
        assert!(fits(r#"{"type":"object"}"#, payload), "{payload}");
    }
}

#[test]
fn a_number_beyond_what_readers_take_is_refused_by_name() {
    let schema = CompiledSchema::compile("true", &Limits::default()).unwrap();
    let refused = |payload: &str| {
        schema.check(payload.as_bytes(), &Limits::default()).unwrap_err().into_violations()[0].message.clone()
    };
    assert!(refused("1e400").contains("number out of range"), "{}", refused("1e400"));
    let long = format!("0.{}", "1".repeat(2000));
    assert!(refused(&long).contains("a number has 2002 characters; at most 1024"), "{}", refused(&long));
    assert!(schema.check(b"0.10000000000000000555", &Limits::default()).is_ok());
}

#[test]
fn numbers_that_are_one_double_are_two_numbers() {
    let read = |text: &str| read(text.as_bytes()).unwrap();
    let places =
        |old: &str, new: &str| liminal_schema::check(&read(old), &read(new), Mode::Backward).err().unwrap_or_default();
    for (old, new, keyword) in [
        (r#"{"const":18446744073709551616}"#, r#"{"const":18446744073709551617}"#, "/const"),
        (r#"{"enum":[9007199254740993.0]}"#, r#"{"enum":[9007199254740992]}"#, "/enum"),
        (r#"{"maximum":9007199254740993.0}"#, r#"{"maximum":9007199254740992}"#, "/maximum"),
        (r#"{"minimum":0.1}"#, r#"{"minimum":0.1000000000000000000001}"#, "/minimum"),
        (r#"{"exclusiveMaximum":1e300}"#, r#"{"exclusiveMaximum":9.99999999999999999999999e299}"#, "/exclusiveMaximum"),
        (r#"{"multipleOf":9007199254740993}"#, r#"{"multipleOf":9007199254740992}"#, "/multipleOf"),
    ] {
        let found = places(old, new);
        assert!(found.iter().any(|place| place.pointer == keyword), "{old} to {new}: {found:?}");
        assert_eq!(places(old, old), [], "{old}");
    }
    for (old, new) in [
        (r#"{"maximum":9007199254740992}"#, r#"{"maximum":9007199254740993.0}"#),
        (r#"{"const":1.50}"#, r#"{"const":15e-1}"#),
    ] {
        assert_eq!(places(old, new), [], "{old} to {new}");
    }
}
