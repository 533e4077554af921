//! JSON Schema checks, made on the node that receives a message: never in the machine, so that another version of the
//! validator cannot make replicas differ. References outside the schema are never followed.

use jsonschema::{PatternOptions, Validator, error::ValidationErrorKind};
use serde_json::Value;

use super::Violation;
use crate::model::Limits;

/// Longest message of one violation, in characters.
const MAX_MESSAGE: usize = 200;

/// A schema that is ready to check payloads.
pub struct CompiledSchema {
    validator: Validator,
}

impl CompiledSchema {
    /// Compiles a schema of draft 4 to 2020-12 (the newest where it does not say).
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn compile(text: &str, limits: &Limits) -> Result<Self, String> {
        if text.len() > limits.schema_bytes {
            return Err(format!("it has {} bytes; the limit is {}", text.len(), limits.schema_bytes));
        }
        let schema: Value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
        let nodes = count(&schema);
        if nodes > limits.schema_nodes {
            return Err(format!("it has {nodes} nodes; the limit is {}", limits.schema_nodes));
        }
        // The `regex` engine runs in linear time and has no look-around.
        let patterns = PatternOptions::regex().size_limit(limits.schema_regex_bytes);
        let validator = jsonschema::options()
            .with_pattern_options(patterns)
            // As most validators do: a format is a remark, not a rule.
            .should_validate_formats(false)
            .build(&schema)
            .map_err(|error| shorten(&error.to_string()))?;
        Ok(Self { validator })
    }

    /// Checks a payload.
    ///
    /// # Errors
    /// Every place that breaks the schema, up to a limit; for alternatives, the places of the one that fits best.
    pub fn check(&self, payload: &[u8], limits: &Limits) -> Result<(), Vec<Violation>> {
        let value: Value = serde_json::from_slice(payload)
            .map_err(|error| vec![Violation { pointer: String::new(), message: format!("no valid JSON: {error}") }])?;
        if self.validator.is_valid(&value) {
            return Ok(());
        }
        let mut violations = Vec::new();
        for error in self.validator.iter_errors(&value) {
            explain(&error, &mut violations);
            if violations.len() >= limits.violations {
                violations.truncate(limits.violations);
                break;
            }
        }
        Err(violations)
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

fn explain(error: &jsonschema::ValidationError<'_>, violations: &mut Vec<Violation>) {
    let at = error.instance_path().to_string();
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default().replace('~', "~0").replace('/', "~1");
            violations
                .push(Violation { pointer: format!("{at}/{name}"), message: "required property is missing".into() });
        }
        ValidationErrorKind::OneOfNotValid { context } | ValidationErrorKind::AnyOf { context } => {
            // An alternative whose constants do not fit is not the one that was meant.
            let wrong_kind = |branch: &Vec<jsonschema::ValidationError<'_>>| {
                branch.iter().filter(|error| is_discriminator(error)).count()
            };
            match context.iter().min_by_key(|branch| (wrong_kind(branch), branch.len())) {
                Some(best) if !best.is_empty() => best.iter().for_each(|error| explain(error, violations)),
                _ => violations.push(Violation { pointer: at, message: shorten(&error.to_string()) }),
            }
        }
        _ => violations.push(Violation { pointer: at, message: shorten(&error.to_string()) }),
    }
}

fn is_discriminator(error: &jsonschema::ValidationError<'_>) -> bool {
    matches!(error.kind(), ValidationErrorKind::Constant { .. } | ValidationErrorKind::Enum { .. })
}

fn shorten(message: &str) -> String {
    if message.chars().count() <= MAX_MESSAGE {
        return message.to_owned();
    }
    let kept: String = message.chars().take(MAX_MESSAGE).collect();
    format!("{kept}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: &str, payload: &str) -> Result<(), Vec<Violation>> {
        let limits = Limits::default();
        CompiledSchema::compile(schema, &limits).unwrap().check(payload.as_bytes(), &limits)
    }

    #[test]
    fn all_violations_are_reported_with_their_pointers() {
        let schema = r#"{"required":["id","a/b"],"properties":{"n":{"type":"integer"}}}"#;
        let violations = check(schema, r#"{"n":"x"}"#).unwrap_err();
        let mut pointers: Vec<_> = violations.iter().map(|violation| violation.pointer.as_str()).collect();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/a~1b", "/id", "/n"]);
    }

    #[test]
    fn of_several_alternatives_the_one_that_was_meant_is_explained() {
        let schema = r#"{"oneOf":[
            {"required":["x"],"properties":{"action":{"const":"opened"}}},
            {"required":["id","y","z"],"properties":{"action":{"const":"closed"}}}]}"#;
        let violations = check(schema, r#"{"action":"closed","y":1,"z":1}"#).unwrap_err();
        assert_eq!(violations[0].pointer, "/id");
    }

    #[test]
    fn remote_references_are_refused_and_not_fetched() {
        let schema = r#"{"$ref":"http://127.0.0.1:9/schema.json"}"#;
        assert!(CompiledSchema::compile(schema, &Limits::default()).is_err());
        assert!(CompiledSchema::compile(r#"{"$ref":"file:///etc/hostname"}"#, &Limits::default()).is_err());
    }

    #[test]
    fn what_is_no_json_or_nested_too_deeply_breaks_any_schema() {
        assert_eq!(check("true", "{").unwrap_err()[0].pointer, "");
        assert!(check("true", &"[".repeat(200)).is_err());
    }

    #[test]
    fn the_real_corpus_is_valid_and_a_missing_field_is_named() {
        let home = std::env::var("LIMINAL_TEST_DATA")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/github-webhooks").into());
        let Ok(events) = std::fs::read_to_string(format!("{home}/events.ndjson")) else {
            println!("skipped: no corpus at {home}");
            return;
        };
        for line in events.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            let schema = std::fs::read_to_string(format!("{home}/schemas/{}.json", event["event"].as_str().unwrap()));
            let limits = Limits::default();
            let schema = CompiledSchema::compile(&schema.unwrap(), &limits).unwrap();
            let mut payload = event["payload"].clone();
            schema.check(payload.to_string().as_bytes(), &limits).unwrap();
            if payload.as_object_mut().unwrap().remove("sender").is_some()
                && let Err(violations) = schema.check(payload.to_string().as_bytes(), &limits)
            {
                assert!(violations.iter().any(|violation| violation.pointer == "/sender"), "{violations:?}");
            }
        }
    }
}
