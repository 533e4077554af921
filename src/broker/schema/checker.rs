//! A schema that is ready to check payloads with.

use jsonschema::{PatternOptions, ValidationError, Validator, error::ValidationErrorKind, json::Json};
use serde_json::Value;

use super::{
    super::error::{BrokerError, Violation},
    cost::{self, Cost, Excess},
    reading::read,
    sparse::{Sparse, SparseJson},
    violations,
};
use crate::model::Limits;

/// What serde_json nests at most.
const PARSER_DEPTH: usize = 128;
/// A check that takes more steps says only the first place that it finds: each place may carry others with it.
const EXPLAINED: u64 = 100_000;
/// Bytes of payload for each value in it, at the least that is usual: for guessing how long checks take.
const BYTES_OF_A_VALUE: u64 = 8;
/// Checks that take fewer steps are quick enough for a thread that serves others.
const QUICK: u64 = 2_000_000;

/// A schema ready to check payloads with. Share it in an `Arc`.
pub struct CompiledSchema {
    pub(super) judge: Validator,
    // Knows the same schema, but its errors carry no copy of the payload.
    pub(super) explain: Validator<SparseJson>,
    cost: Cost,
}

/// Why a payload was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It breaks the schema, in these places.
    Violations(Vec<Violation>),
    /// Nobody looked: to check it takes more than one message may cost. A sentence says what.
    TooExpensive(String),
}

impl Unfit {
    /// As the error of a message for a channel.
    pub(in crate::broker) fn of_channel(self, channel: &str) -> BrokerError {
        let channel = channel.to_owned();
        match self {
            Self::Violations(violations) => BrokerError::SchemaViolation { channel, violations },
            Self::TooExpensive(reason) => BrokerError::SchemaTooExpensive { channel, reason },
        }
    }

    /// As places, the whole payload where nobody looked.
    pub fn into_violations(self) -> Vec<Violation> {
        match self {
            Self::Violations(violations) => violations,
            Self::TooExpensive(reason) => vec![whole(format!("it was not checked: {reason}"))],
        }
    }
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
        let within = |nodes: u64| {
            if nodes <= limits.schema_nodes as u64 {
                return Ok(());
            }
            Err(format!("it has {nodes} nodes when its references are followed; the limit is {}", limits.schema_nodes))
        };
        within(cost::document_nodes(&schema))?;
        // Before anything compiles it. What is wrong with a reference the library says better.
        let cost = Cost::of(&schema);
        if let Ok(cost) = &cost {
            within(cost.nodes_of_a_value())?;
        }
        let (judge, explain) = (build(&schema, limits)?, build(&schema, limits)?);
        let cost = cost?;
        // What holds for the smallest payload holds for all.
        if let Err(excess @ Excess::Endless) = cost.steps(&Value::Null, u64::MAX) {
            return Err(format!("it cannot be checked with: {excess}"));
        }
        Ok(Self { judge, explain, cost })
    }

    /// Whether payloads of so many bytes together are checked so quickly that a thread that serves others may do it.
    pub fn is_quick(&self, bytes: usize) -> bool {
        (bytes as u64 / BYTES_OF_A_VALUE).saturating_mul(self.cost.steps_per_value()) <= QUICK
    }

    /// Checks one payload.
    ///
    /// # Errors
    /// Every place that breaks the schema, at most `limits.violations` of them; one place with an empty pointer when
    /// the payload is no JSON or too deep. Or that it takes more than `limits.schema_steps` to find out.
    pub fn check(&self, payload: &[u8], limits: &Limits) -> Result<(), Unfit> {
        let unfit = |violation| Unfit::Violations(vec![violation]);
        let payload = read(payload).map_err(|error| unfit(unreadable(payload, &error)))?;
        if limits.json_depth < PARSER_DEPTH && deeper_than(&payload, limits.json_depth) {
            return Err(unfit(whole(format!("the payload nests deeper than {} levels", limits.json_depth))));
        }
        let too_expensive = |excess: Excess| Unfit::TooExpensive(excess.to_string());
        self.cost.steps(&payload, limits.schema_steps).map_err(too_expensive)?;
        if self.judge.is_valid(&payload) {
            return Ok(());
        }
        let mut violations = if self.cost.steps(&payload, EXPLAINED).is_ok() {
            violations::of(self.explain.iter_errors(Sparse(&payload)), &payload, limits.violations)
        } else {
            violations::of(self.explain.validate(Sparse(&payload)).err(), &payload, limits.violations)
        };
        if violations.is_empty() {
            violations.push(whole("the payload does not match the schema".into()));
        }
        Err(Unfit::Violations(violations))
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

fn unreadable(payload: &[u8], error: &serde_json::Error) -> Violation {
    if let Err(error) = std::str::from_utf8(payload) {
        let (good, wrong) = payload.split_at(error.valid_up_to());
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        let wrong = wrong.first().copied().unwrap_or_default();
        return whole(format!(
            "the payload is no UTF-8: the byte 0x{wrong:02x} at {} on line {line} begins no character; JSON is UTF-8, so \
             convert it before it is published (from Latin-1, for example, with `iconv -f latin1 -t utf-8`)",
            good.len()
        ));
    }
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
