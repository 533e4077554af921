//! JSON Schema: what a channel's payloads have to look like.
//!
//! Checked before a message is proposed, never when it is applied: an upgrade of the validating library must not
//! make replicas differ. A schema comes from a user, so everything about it is bounded: its text, its size once its
//! references are followed, its regular expressions; and nothing outside the document is ever fetched. A payload is
//! first only judged, which is fast; the places are collected when it is known to be bad.

pub mod compatibility;
mod expand;
mod reading;
mod sparse;
mod violations;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;

use jsonschema::{PatternOptions, ValidationError, Validator, error::ValidationErrorKind, json::Json};
use serde_json::Value;

pub(crate) use self::reading::read;
use self::sparse::{Sparse, SparseJson};
use super::error::Violation;
use crate::model::Limits;

/// What serde_json nests at most.
const PARSER_DEPTH: usize = 128;

/// A schema ready to check payloads with. Share it in an `Arc`.
pub struct CompiledSchema {
    judge: Validator,
    // Knows the same schema, but its errors carry no copy of the payload.
    explain: Validator<SparseJson>,
}

impl CompiledSchema {
    /// Compiles a schema of draft 4, 6, 7, 2019-09 or 2020-12, as its `$schema` says; without one, 2020-12. Takes
    /// milliseconds for a large schema: keep it off the path of a publish.
    ///
    /// # Errors
    /// Why the schema cannot be used, in a sentence.
    pub fn compile(text: &str, limits: &Limits) -> Result<Self, String> {
        if text.len() > limits.schema_bytes {
            return Err(format!("it has {} bytes; the limit is {}", text.len(), limits.schema_bytes));
        }
        let schema = read(text.as_bytes()).map_err(|error| format!("it is no JSON: {error}"))?;
        if !matches!(schema, Value::Object(_) | Value::Bool(_)) {
            return Err("a schema must be a JSON object or a boolean".into());
        }
        let nodes = expand::nodes(&schema);
        if nodes > limits.schema_nodes as u64 {
            return Err(format!(
                "it has {nodes} nodes when its references are followed; the limit is {}",
                limits.schema_nodes
            ));
        }
        Ok(Self { judge: build(&schema, limits)?, explain: build(&schema, limits)? })
    }

    /// Checks one payload.
    ///
    /// # Errors
    /// Every place that breaks the schema, at most `limits.violations` of them; one place with an empty pointer when
    /// the payload is no JSON or too deep.
    pub fn check(&self, payload: &[u8], limits: &Limits) -> Result<(), Vec<Violation>> {
        let payload = read(payload).map_err(|error| vec![unreadable(&error)])?;
        if limits.json_depth < PARSER_DEPTH && deeper_than(&payload, limits.json_depth) {
            return Err(vec![whole(format!("the payload nests deeper than {} levels", limits.json_depth))]);
        }
        if self.judge.is_valid(&payload) {
            return Ok(());
        }
        let mut violations = violations::of(self.explain.iter_errors(Sparse(&payload)), &payload);
        violations.truncate(limits.violations);
        if violations.is_empty() {
            violations.push(whole("the payload does not match the schema".into()));
        }
        Err(violations)
    }
}

fn build<F: Json>(schema: &Value, limits: &Limits) -> Result<Validator<F>, String> {
    jsonschema::options_for::<F>()
        .offline()
        // An annotation in every draft, as 2019-09 and later say: real payloads take it lightly, and what a library
        // checks under it changes between its versions.
        .should_validate_formats(false)
        .with_pattern_options(PatternOptions::regex().size_limit(limits.schema_regex_bytes))
        .build(schema)
        .map_err(|error| refusal(&error))
}

/// Why the library refuses a schema, in our words where the reason is one of our rules.
fn refusal(error: &ValidationError<'_>) -> String {
    use jsonschema::ReferencingError::{UnknownSpecification, Unretrievable};
    match error.kind() {
        ValidationErrorKind::Referencing(Unretrievable { uri, .. }) => {
            format!("it refers to `{uri}`, which is outside the document; put the definition inside")
        }
        ValidationErrorKind::Referencing(UnknownSpecification { specification }) => {
            format!("`{specification}` is no known draft; use draft 4, 6, 7, 2019-09 or 2020-12")
        }
        ValidationErrorKind::Format { format } if format == "regex" => format!(
            "{}: {} is no regular expression that can be used: look-around and back references are not, and its \
             compiled size is limited",
            error.instance_path(),
            violations::short(error.instance()),
        ),
        _ => {
            let pointer = error.instance_path();
            let reason = violations::clip(&error.to_string());
            if pointer.as_str().is_empty() { reason } else { format!("{pointer}: {reason}") }
        }
    }
}

fn unreadable(error: &serde_json::Error) -> Violation {
    // serde_json reports the nesting limit as a syntax error without a kind of its own.
    let reason = error.to_string();
    if reason.starts_with("recursion limit exceeded") {
        return whole(format!("the payload nests {PARSER_DEPTH} levels or more, line {}", error.line()));
    }
    whole(format!("the payload is no JSON: {reason}"))
}

fn whole(message: String) -> Violation {
    Violation { pointer: String::new(), message }
}

fn deeper_than(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| deeper_than(item, levels - 1)),
        Value::Object(members) => levels == 0 || members.values().any(|member| deeper_than(member, levels - 1)),
        _ => false,
    }
}
