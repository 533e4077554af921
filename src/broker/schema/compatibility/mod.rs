//! Whether one schema may take the place of another: is every value that one takes also taken by the other?
//!
//! The answer is a proof. What the first schema says is collected into facts about a value ([`facts`]), and each
//! keyword of the second has to follow from them ([`prover`], [`keywords`]); where it does not, the facts are split
//! into cases (the branches of `anyOf`, the values of an `enum`) that have to hold each by itself. So the answer is
//! never "compatible" where a value exists that breaks it; a schema that cannot be proved is refused, with the place
//! and in words. Time is bounded by steps: a schema comes from a user.

mod arrays;
mod bounds;
mod document;
mod facts;
mod keywords;
mod members;
mod objects;
mod prover;
#[cfg(test)]
mod tests;

use serde_json::Value;

use self::{document::Document, prover::Prover};
use crate::model::Compatibility;

/// A place where a schema cannot take the place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incompatibility {
    /// JSON pointer (RFC 6901) into the new schema; into the old one where the reason says so.
    pub pointer: String,
    /// What is wrong there, with old and new values.
    pub reason: String,
}

/// Places reported at most.
const REPORTED: usize = 100;

/// Checks a new schema against the old one. Both must be schemas that [`super::CompiledSchema`] takes.
///
/// # Errors
/// Every place where the new schema is not, or cannot be shown to be, what `mode` asks for.
pub fn check(old: &Value, new: &Value, mode: Compatibility) -> Result<(), Vec<Incompatibility>> {
    let mut found = Vec::new();
    if matches!(mode, Compatibility::Backward | Compatibility::Full) {
        found.extend(includes(new, old, ["old", "new"]));
    }
    if matches!(mode, Compatibility::Forward | Compatibility::Full) {
        found.extend(includes(old, new, ["new", "old"]).into_iter().map(|place| Incompatibility {
            reason: format!("readers of the old schema (the place is in it): {}", place.reason),
            ..place
        }));
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|place| seen.insert((place.pointer.clone(), place.reason.clone())));
    found.truncate(REPORTED);
    if found.is_empty() { Ok(()) } else { Err(found) }
}

/// Why `wide` may not take everything that `narrow` takes.
fn includes(wide: &Value, narrow: &Value, names: [&'static str; 2]) -> Vec<Incompatibility> {
    // Also settles what no proof covers, as long as nobody touches it.
    if wide == narrow {
        return Vec::new();
    }
    let (narrow, wide) = (Document::new(narrow), Document::new(wide));
    let found = Prover::new(names).run(narrow.root(), wide.root());
    if found.is_empty() && (narrow.is_circular() || wide.is_circular()) {
        let reason = "cannot be shown to be compatible: a schema refers to itself without going down into the value";
        return vec![Incompatibility { pointer: String::new(), reason: reason.into() }];
    }
    found
}
