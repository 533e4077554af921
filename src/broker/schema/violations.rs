//! From the library's errors to places that a person can go to.
//!
//! A missing property is reported at its own pointer. Under `oneOf` and `anyOf` only the branch that the payload
//! was probably meant for is reported: the one whose constants (an `action`, a `kind`) match, else the one with the
//! fewest errors.

use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind as Kind},
};
pub(super) use liminal_schema::{child, clip, short};
use serde_json::Value;

use crate::broker::error::Violation;

/// The violations behind these errors, in the library's order, each once, until there are `limit` of them.
pub(super) fn of<'a>(
    errors: impl IntoIterator<Item = ValidationError<'a>>,
    payload: &Value,
    limit: usize,
) -> Vec<Violation> {
    let (mut found, mut seen) = (Vec::new(), std::collections::HashSet::new());
    for error in errors {
        let mut fresh = Vec::new();
        collect(&error, payload, &mut fresh);
        fresh.retain(|violation: &Violation| seen.insert((violation.pointer.clone(), violation.message.clone())));
        found.append(&mut fresh);
        if found.len() >= limit {
            break;
        }
    }
    found.truncate(limit);
    found
}

fn collect(error: &ValidationError<'_>, payload: &Value, found: &mut Vec<Violation>) {
    let pointer = error.instance_path().as_str();
    match error.kind() {
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            found.push(Violation { pointer: child(pointer, name), message: "required property is missing".into() });
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            found.extend(
                unexpected
                    .iter()
                    .map(|name| Violation { pointer: child(pointer, name), message: "property is not allowed".into() }),
            );
        }
        Kind::OneOfNotValid { context } | Kind::AnyOf { context } => match best_branch(context, pointer, payload) {
            Some(violations) => found.extend(violations),
            None => found.push(Violation { pointer: pointer.into(), message: message(error, payload) }),
        },
        _ => found.push(Violation { pointer: pointer.into(), message: message(error, payload) }),
    }
}

/// The violations of the branch that is nearest to the payload.
fn best_branch(branches: &[Vec<ValidationError<'_>>], pointer: &str, payload: &Value) -> Option<Vec<Violation>> {
    branches
        .iter()
        .map(|errors| {
            let mut violations = Vec::new();
            for error in errors {
                collect(error, payload, &mut violations);
            }
            let other_type = errors
                .iter()
                .any(|error| matches!(error.kind(), Kind::Type { .. }) && error.instance_path().as_str() == pointer);
            let other_constants = errors.iter().filter(|error| tells_branches_apart(error, pointer)).count();
            ((other_type, other_constants, violations.len()), violations)
        })
        .filter(|(_, violations)| !violations.is_empty())
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, violations)| violations)
}

/// A constant or an enumeration on the value itself or on one of its members.
fn tells_branches_apart(error: &ValidationError<'_>, pointer: &str) -> bool {
    matches!(error.kind(), Kind::Constant { .. } | Kind::Enum { .. })
        && error
            .instance_path()
            .as_str()
            .strip_prefix(pointer)
            .is_some_and(|below| below.bytes().filter(|byte| *byte == b'/').count() <= 1)
}

fn message(error: &ValidationError<'_>, payload: &Value) -> String {
    let value = || payload.pointer(error.instance_path().as_str()).map_or_else(|| "the value".into(), short);
    match error.kind() {
        Kind::Type { kind: TypeKind::Single(expected) } => format!("{} is not of type {expected}", value()),
        Kind::Type { kind: TypeKind::Multiple(expected) } => {
            let expected: Vec<String> = expected.iter().map(|kind| kind.to_string()).collect();
            format!("{} is not of type {}", value(), expected.join(" or "))
        }
        Kind::Constant { expected_value } => format!("{} is not {}", value(), short(expected_value)),
        Kind::Enum { options } => format!("{} is not one of {}", value(), clip(&options.to_string())),
        Kind::Format { format } => format!("{} is not a valid {format}", value()),
        Kind::Pattern { pattern } => format!("{} does not match the pattern `{}`", value(), clip(pattern)),
        Kind::Minimum { limit } => format!("{} is less than {limit}", value()),
        Kind::Maximum { limit } => format!("{} is greater than {limit}", value()),
        Kind::ExclusiveMinimum { limit } => format!("{} is not greater than {limit}", value()),
        Kind::ExclusiveMaximum { limit } => format!("{} is not less than {limit}", value()),
        Kind::MultipleOf { multiple_of } => format!("{} is not a multiple of {multiple_of}", value()),
        Kind::MinLength { limit } => format!("{} is shorter than {limit} characters", value()),
        Kind::MaxLength { limit } => format!("{} is longer than {limit} characters", value()),
        Kind::MinItems { limit } => format!("{} has fewer than {limit} items", value()),
        _ => other(error, &value()),
    }
}

fn other(error: &ValidationError<'_>, value: &str) -> String {
    match error.kind() {
        Kind::MaxItems { limit } => format!("{value} has more than {limit} items"),
        Kind::AdditionalItems { limit } => format!("{value} has more than {limit} items"),
        Kind::MinProperties { limit } => format!("{value} has fewer than {limit} properties"),
        Kind::MaxProperties { limit } => format!("{value} has more than {limit} properties"),
        Kind::UniqueItems => format!("{value} has items that are equal"),
        Kind::Contains => format!("{value} has no item that the schema asks for"),
        Kind::UnevaluatedItems { .. } => format!("{value} has items that are not allowed"),
        Kind::FalseSchema => "no value is allowed here".into(),
        Kind::Not { .. } => format!("{value} is what the schema forbids with `not`"),
        Kind::OneOfMultipleValid { .. } => format!("{value} matches more than one schema of `oneOf`"),
        Kind::OneOfNotValid { .. } => format!("{value} matches no schema of `oneOf`"),
        Kind::AnyOf { .. } => format!("{value} matches no schema of `anyOf`"),
        Kind::PropertyNames { .. } => format!("{value} has a property whose name is not allowed"),
        kind => format!("{value} breaks `{}`", kind.keyword()),
    }
}
