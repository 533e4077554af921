//! Typical edits of real schemas, where those are at hand.

use std::{env, fs, path::PathBuf};

use serde_json::{Value, json};

use crate::*;

fn schemas() -> Vec<(String, Value)> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/github-webhooks");
    let directory = env::var_os("LIMINAL_TEST_DATA").map_or(beside, PathBuf::from).join("schemas");
    let Ok(files) = fs::read_dir(&directory) else {
        println!("skipped: no real schemas in {}; set LIMINAL_TEST_DATA to a directory", directory.display());
        return Vec::new();
    };
    let read =
        |path: PathBuf| (path.display().to_string(), serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap());
    // One of them takes nothing: it asks for properties that it does not allow. All may take its place.
    let takes_some = |(_, schema): &(String, Value)| check(schema, &json!(false), Mode::Backward).is_err();
    files.map(|file| read(file.unwrap().path())).filter(takes_some).collect()
}

/// Adds a member that means nothing, so that the two are not the same text.
fn touched(schema: &Value) -> Value {
    let mut schema = schema.clone();
    schema["$comment"] = json!("touched");
    schema
}

/// Every object of a schema that requires something.
fn requiring(schema: &mut Value, edit: &mut impl FnMut(&mut Value)) {
    if schema.get("required").is_some_and(|names| names.as_array().is_some_and(|names| !names.is_empty())) {
        edit(schema);
    }
    match schema {
        Value::Object(members) => members.values_mut().for_each(|member| requiring(member, edit)),
        Value::Array(items) => items.iter_mut().for_each(|item| requiring(item, edit)),
        _ => {}
    }
}

#[test]
fn every_real_schema_is_compatible_with_itself() {
    for (name, schema) in schemas() {
        assert_eq!(check(&schema, &touched(&schema), Mode::Full), Ok(()), "{name}");
    }
}

#[test]
fn a_real_schema_that_requires_less_is_compatible_and_the_way_back_is_not() {
    for (name, old) in schemas() {
        let mut new = old.clone();
        let mut edited = false;
        requiring(&mut new, &mut |schema| {
            if !std::mem::replace(&mut edited, true) {
                schema["required"].as_array_mut().unwrap().pop();
            }
        });
        if !edited {
            continue;
        }
        // Under `oneOf` the schemas have to stay apart, which a property less may undo.
        let places = check(&old, &new, Mode::Backward).err().unwrap_or_default();
        assert!(places.iter().all(|place| place.reason.contains("oneOf")), "{name}: {places:?}");
        assert!(check(&new, &old, Mode::Backward).is_err(), "{name}");
    }
}

#[test]
fn a_real_schema_that_is_closed_or_asks_for_more_is_refused() {
    for (name, old) in schemas() {
        let mut more = old.clone();
        match more.get_mut("oneOf").and_then(Value::as_array_mut) {
            Some(branches) => branches.iter_mut().for_each(|branch| branch["required"] = json!(["is_never_there"])),
            None => more["required"] = json!(["is_never_there"]),
        }
        let more =
            json!({"$schema": old["$schema"], "allOf": [touched(&old)], "required": ["is_never_there"], "more": more});
        let places = check(&old, &more, Mode::Backward).expect_err(&name);
        assert!(places.iter().any(|place| place.pointer == "/required"), "{name}: {places:?}");
    }
}
