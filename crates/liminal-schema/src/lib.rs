//! Whether one schema may take the place of another: is every value that one takes also taken by the other?
//!
//! The answer is a proof. What the first schema says is collected into facts about a value (`facts`), and each
//! keyword of the second has to follow from them (`prover`, `keywords`); where it does not, the facts are split
//! into cases (the branches of `anyOf`, the values of an `enum`) that have to hold each by itself. So the answer is
//! never "compatible" where a value exists that breaks it; a schema that cannot be proved is refused, with the place
//! and in words. Time is bounded by steps: a schema comes from a user.
//!
//! ```
//! use liminal_schema::{Mode, check};
//! use serde_json::json;
//!
//! let old = json!({"type": "object", "required": ["id"]});
//! let new = json!({"type": "object", "required": ["id", "time"]});
//! let places = check(&old, &new, Mode::Backward).unwrap_err();
//! assert_eq!(places[0].pointer, "/required");
//! assert!(check(&old, &new, Mode::Forward).is_ok());
//! ```

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
mod words;

use serde_json::Value;

pub use self::words::{child, clip, short};
use self::{document::Document, prover::Prover};

/// A place where a schema cannot take the place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incompatibility {
    /// JSON pointer (RFC 6901) into the new schema; into the old one where the reason says so.
    pub pointer: String,
    /// What is wrong there, with old and new values.
    pub reason: String,
}

/// What a new schema has to be to the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It takes all that the old one takes.
    Backward,
    /// The old one takes all that it takes.
    Forward,
    /// Both.
    Full,
}

/// Places reported at most.
const REPORTED: usize = 100;

/// Checks a new schema against the old one. Both must be valid schemas whose references do
/// not leave the document.
///
/// # Errors
/// Every place where the new schema is not, or cannot be shown to be, what `mode` asks for.
pub fn check(old: &Value, new: &Value, mode: Mode) -> Result<(), Vec<Incompatibility>> {
    let mut found = Vec::new();
    if matches!(mode, Mode::Backward | Mode::Full) {
        found.extend(includes(new, old, ["old", "new"]));
    }
    if matches!(mode, Mode::Forward | Mode::Full) {
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
