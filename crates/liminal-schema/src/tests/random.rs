//! The promise itself: what the old schema takes and the check lets pass, the new one takes.

use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use crate::*;

const NAMES: [&str; 4] = ["a", "b", "ab", "c"];
const PATTERNS: [&str; 3] = ["^a", "b$", "^[ab]*$"];

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..4_i64).prop_map(Value::from),
        select(vec![-1.5, 0.5, 1.0, 2.0, 2.5]).prop_map(Value::from),
        select(vec!["", "a", "b", "ab", "abc"]).prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((select(NAMES.to_vec()), inner), 0..4).prop_map(object),
        ]
    })
}

fn object(members: Vec<(&str, Value)>) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A draft's keywords, a few at a time.
fn schema(draft: &'static str) -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        4 => vec(keyword(draft, Just(json!(true)).boxed()), 0..3).prop_map(assemble),
        1 => any::<bool>().prop_map(move |yes| if draft == "04" { if yes { json!({}) } else { json!({"not": {}}) } } else { json!(yes) }),
        1 => Just(json!({"$ref": "#/definitions/d"})),
    ];
    leaf.prop_recursive(3, 24, 3, move |inner| vec(keyword(draft, inner.boxed()), 1..4).prop_map(assemble)).boxed()
}

fn assemble(keywords: Vec<Map<String, Value>>) -> Value {
    Value::Object(keywords.into_iter().flatten().collect())
}

fn keyword(draft: &'static str, inner: BoxedStrategy<Value>) -> BoxedStrategy<Map<String, Value>> {
    let one = |name: &'static str, values: BoxedStrategy<Value>| {
        values.prop_map(move |value| Map::from_iter([(name.to_owned(), value)])).boxed()
    };
    let inner = if draft == "04" {
        inner.prop_map(|value| if value == json!(true) { json!({}) } else { value }).boxed()
    } else {
        inner
    };
    let types = || select(vec!["null", "boolean", "integer", "number", "string", "array", "object"]);
    let list = vec(inner.clone(), 1..4).prop_map(Value::from).boxed();
    let map = |names: &[&'static str]| vec((select(names.to_vec()), inner.clone()), 1..3).prop_map(object).boxed();
    let small = (0..4_u64).prop_map(Value::from).boxed();
    let number =
        prop_oneof![(-2..4_i64).prop_map(Value::from), select(vec![0.5, 1.5, 2.0]).prop_map(Value::from)].boxed();
    let mut kinds = vec![
        one("type", types().prop_map(Value::from).boxed()),
        one(
            "type",
            proptest::sample::subsequence(vec!["null", "boolean", "integer", "string", "array", "object"], 1..4)
                .prop_map(Value::from)
                .boxed(),
        ),
        one(
            "enum",
            vec(value(), 1..4)
                .prop_filter("equal values", |list| (1..list.len()).all(|at| !list[..at].contains(&list[at])))
                .prop_map(Value::from)
                .boxed(),
        ),
        one("minimum", number.clone()),
        one("maximum", number.clone()),
        one("multipleOf", select(vec![json!(1), json!(2), json!(4), json!(0.5)]).boxed()),
        one("minLength", small.clone()),
        one("maxLength", small.clone()),
        one("pattern", select(PATTERNS.to_vec()).prop_map(Value::from).boxed()),
        one("minItems", small.clone()),
        one("maxItems", small.clone()),
        one("uniqueItems", any::<bool>().prop_map(Value::from).boxed()),
        one("minProperties", small.clone()),
        one("maxProperties", small.clone()),
        one("required", select(NAMES.to_vec()).prop_map(|name| json!([name])).boxed()),
        one("properties", map(&NAMES)),
        one("patternProperties", map(&PATTERNS)),
        one("additionalProperties", inner.clone()),
        one("items", inner.clone()),
        one("allOf", list.clone()),
        one("anyOf", list.clone()),
        one("oneOf", list.clone()),
        one("not", inner.clone()),
    ];
    if draft != "04" {
        kinds.extend([
            one("const", value().boxed()),
            one("exclusiveMinimum", number.clone()),
            one("exclusiveMaximum", number),
            one("contains", inner.clone()),
            one("propertyNames", inner.clone()),
        ]);
    } else {
        kinds.push(
            (any::<bool>(), -1..3_i64)
                .prop_map(|(open, at)| {
                    Map::from_iter([("minimum".into(), json!(at)), ("exclusiveMinimum".into(), json!(open))])
                })
                .boxed(),
        );
    }
    if draft == "2020-12" {
        kinds.extend([
            one("prefixItems", list),
            one("minContains", small.clone()),
            one("maxContains", small),
            one("dependentRequired", select(vec![json!({"a": ["b"]}), json!({"b": ["c"], "a": ["b"]})]).boxed()),
            one("dependentSchemas", map(&NAMES)),
            one("unevaluatedProperties", inner.clone()),
            one("unevaluatedItems", inner.clone()),
        ]);
    } else {
        kinds.extend([one("items", list), one("additionalItems", inner.clone()), one("dependencies", map(&NAMES))]);
    }
    if matches!(draft, "07" | "2020-12") {
        let branches = (inner.clone(), option::of(inner.clone()), option::of(inner));
        kinds.push(
            branches
                .prop_map(|(condition, then, otherwise)| {
                    let parts = [("if", Some(condition)), ("then", then), ("else", otherwise)];
                    parts.into_iter().filter_map(|(name, part)| Some((name.to_owned(), part?))).collect()
                })
                .boxed(),
        );
    }
    proptest::strategy::Union::new(kinds).boxed()
}

fn uri(draft: &str) -> String {
    match draft {
        "2020-12" => "https://json-schema.org/draft/2020-12/schema".into(),
        draft => format!("http://json-schema.org/draft-{draft}/schema#"),
    }
}

fn document(draft: &'static str) -> impl Strategy<Value = Value> {
    // A definition that is a reference to itself says nothing at all.
    let shared = schema(draft).prop_filter("a circle", |shared| shared.get("$ref").is_none());
    (schema(draft), shared).prop_map(move |(root, shared)| {
        let mut root = if root.is_object() { root } else { json!({"allOf": [root]}) };
        root["$schema"] = json!(uri(draft));
        root["definitions"] = json!({"d": shared});
        root
    })
}

/// Takes a few members away, or puts those of another schema in: an edit.
fn edited(old: &Value, other: &Value, mut choice: u32) -> Value {
    let (Value::Object(old), Value::Object(other)) = (old, other) else {
        return if choice.is_multiple_of(3) { other.clone() } else { old.clone() };
    };
    let mut new = Map::new();
    for (key, value) in old {
        choice = choice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match (choice >> 16) % 6 {
            0 if !key.starts_with('$') && key != "definitions" => {}
            1 if other.contains_key(key) => {
                new.insert(key.clone(), edited(value, &other[key], choice));
            }
            2 if value.is_object() => {
                new.insert(key.clone(), edited(value, value, choice));
            }
            _ => {
                new.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(new)
}

fn pair() -> impl Strategy<Value = (Value, Value)> {
    select(vec!["04", "06", "07", "2020-12"]).prop_flat_map(|draft| {
        (document(draft), document(draft), any::<u32>(), any::<bool>()).prop_map(|(old, other, choice, edit)| {
            let new = if edit { edited(&old, &other, choice) } else { other };
            (old, new)
        })
    })
}

fn judge(schema: &Value) -> Option<jsonschema::Validator> {
    jsonschema::options().offline().should_validate_formats(false).build(schema).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_called_compatible_takes_every_payload_that_was_taken((old, new) in pair(), payloads in vec(value(), 24)) {
        // Some random schemas are none: a reference to itself, for example.
        let (Some(before), Some(after)) = (judge(&old), judge(&new)) else { return Ok(()) };
        if check(&old, &new, Mode::Backward).is_ok() {
            for payload in &payloads {
                prop_assert!(
                    !before.is_valid(payload) || after.is_valid(payload),
                    "{payload} is refused by {new}, but not by {old}"
                );
            }
        }
    }

    #[test]
    fn a_schema_is_compatible_with_itself(old in select(vec!["04", "06", "07", "2020-12"]).prop_flat_map(document)) {
        // A circle means nothing that could be compared.
        prop_assume!(!Document::new(&old).is_circular());
        let mut new = old.clone();
        new["$comment"] = json!("the same");
        prop_assert_eq!(check(&old, &new, Mode::Full), Ok(()));
    }
}
