//! The schema check against real messages and their real schemas, where those are at hand.

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use serde_json::{Value, value::RawValue};

use super::CompiledSchema;
use crate::model::Limits;

struct Corpus {
    schemas: BTreeMap<String, CompiledSchema>,
    payloads: Vec<(String, Box<RawValue>)>,
}

#[derive(serde::Deserialize)]
struct Line {
    event: String,
    payload: Box<RawValue>,
}

/// None, with a notice, where the data is not there.
fn corpus() -> Option<Corpus> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/github-webhooks");
    let directory = env::var_os("LIMINAL_TEST_DATA").map_or(beside, PathBuf::from);
    let Ok(lines) = fs::read_to_string(directory.join("events.ndjson")) else {
        println!("skipped: no real messages in {}; set LIMINAL_TEST_DATA to a directory", directory.display());
        return None;
    };
    let payloads: Vec<_> = lines
        .lines()
        .map(|line| serde_json::from_str::<Line>(line).unwrap())
        .map(|line| (line.event, line.payload))
        .collect();
    let mut schemas = BTreeMap::new();
    for (event, _) in &payloads {
        schemas.entry(event.clone()).or_insert_with(|| {
            let text = fs::read_to_string(directory.join("schemas").join(format!("{event}.json"))).unwrap();
            CompiledSchema::compile(&text, &Limits::default()).unwrap_or_else(|why| panic!("{event}: {why}"))
        });
    }
    Some(Corpus { schemas, payloads })
}

#[test]
fn every_real_payload_is_valid_under_its_schema() {
    let Some(corpus) = corpus() else { return };
    assert_eq!(corpus.payloads.len(), 200);
    for (event, payload) in &corpus.payloads {
        assert_eq!(corpus.schemas[event].check(payload.get().as_bytes(), &Limits::default()), Ok(()), "{event}");
    }
}

#[test]
fn a_real_payload_without_a_required_field_is_rejected_with_the_pointer_of_the_field() {
    let Some(corpus) = corpus() else { return };
    let limits = Limits::default();
    let mut rejected = 0;
    for (event, payload) in &corpus.payloads {
        let schema = &corpus.schemas[event];
        let whole: Value = serde_json::from_str(payload.get()).unwrap();
        for field in ["sender", "repository"] {
            let mut payload = whole.clone();
            if payload.as_object_mut().unwrap().remove(field).is_none() {
                continue;
            }
            // A field that the schema does not require leaves the payload valid.
            let Err(violations) = schema.check(payload.to_string().as_bytes(), &limits) else { continue };
            rejected += 1;
            let pointer = format!("/{field}");
            let violations = violations.into_violations();
            assert!(violations.iter().any(|found| found.pointer == pointer), "{event}: {violations:?}");
        }
    }
    assert!(rejected > 200, "only {rejected} payloads were rejected");
}

#[test]
fn a_field_removed_deep_inside_a_real_payload_is_the_only_place_named() {
    let Some(corpus) = corpus() else { return };
    for (event, payload) in &corpus.payloads {
        let mut payload: Value = serde_json::from_str(payload.get()).unwrap();
        let Some(sender) = payload.get_mut("sender").and_then(Value::as_object_mut) else { continue };
        sender.remove("login").expect("every sender has a login");
        let Err(violations) = corpus.schemas[event].check(payload.to_string().as_bytes(), &Limits::default()) else {
            panic!("{event}: taken without /sender/login");
        };
        let violations = violations.into_violations();
        let pointers: Vec<_> = violations.iter().map(|found| found.pointer.as_str()).collect();
        assert_eq!(pointers, ["/sender/login"], "{event}");
    }
}

#[test]
#[ignore = "a measurement: run it alone, with --nocapture and optimisation"]
fn a_check_costs_little_more_than_parsing_and_judging() {
    let Some(corpus) = corpus() else { return };
    let limits = Limits::default();
    let time = |work: &dyn Fn(&CompiledSchema, &[u8]) -> bool| {
        let start = std::time::Instant::now();
        for _ in 0..20 {
            for (event, payload) in &corpus.payloads {
                assert!(work(&corpus.schemas[event], payload.get().as_bytes()));
            }
        }
        start.elapsed() / (20 * u32::try_from(corpus.payloads.len()).unwrap())
    };
    let bare = time(&|schema, payload| schema.judge.is_valid(&serde_json::from_slice(payload).unwrap()));
    let parse = time(&|_, payload| serde_json::from_slice::<Value>(payload).is_ok());
    let check = time(&|schema, payload| schema.check(payload, &limits).is_ok());
    println!("for each payload: parse {parse:?}, parse and judge {bare:?}, check {check:?}");
}

#[test]
fn real_schemas_are_cheap_enough_to_be_checked_where_a_message_comes_in() {
    let Some(corpus) = corpus() else { return };
    for (event, payload) in &corpus.payloads {
        assert!(corpus.schemas[event].is_quick(payload.get().len()), "{event}: {} bytes", payload.get().len());
    }
}
