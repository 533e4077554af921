//! Predicates: which messages a routing rule or a subscription means.
//!
//! A predicate is a text over a message's JSON payload, its headers and its key:
//!
//! ```text
//! action == "opened" and (pull_request.additions > 500 or not exists(labels.0))
//! type in ["push", "merge"] and amount between 1 and 10
//! $headers.content-type starts with "image/" or $key == "order-7"
//! ```
//!
//! | Text | True when |
//! |---|---|
//! | `path == value`, `!=`, `<`, `<=`, `>`, `>=` | the field is there, has the value's type, and compares so |
//! | `path in [value, ...]` | it equals one of them |
//! | `path between low and high` | it is neither below `low` nor above `high` |
//! | `path starts with "text"` | it is a string that begins so |
//! | `exists(path)` | it is there, whatever it holds, `null` too |
//! | `not p`, `p and q`, `p or q`, `( )` | as usual; `not` binds closest, then `and` |
//!
//! A value is a string (as in JSON), a number, `true`, `false` or `null`. Only strings and numbers have an order.
//!
//! A path is names joined by dots. `labels.0.name` goes through the first item of an array. A name other than letters,
//! digits, `_` and `-` stands in double quotes (`"odd name".x`); so does a first name that begins with a digit or is a
//! word of the language. `$key` is the message's key, `$headers.NAME` the first header of exactly that name, and
//! `$payload` the whole payload (`$payload.a` is `a`). Of a member that an object has twice the last one counts.
//!
//! What is missing makes every comparison false, `!=` too, and so does another type: `a != 1` is false where `a` is a
//! string. `null` alone may be compared with everything: `a != null` is true for all that is there and not null.
//! A payload that is no JSON has no paths; neither has one that is not UTF-8.
//!
//! Whole numbers of up to 38 digits are compared exactly, others as the nearest IEEE 754 double, a whole number with a
//! double exactly too. A number beyond the range of doubles compares with nothing. Strings are ordered by their code
//! points. Nothing depends on the machine or on other predicates that look at the same message.

mod eval;
mod number;
mod parse;
mod text;

#[cfg(test)]
mod tests;

use std::fmt;

use self::number::Number;

pub use eval::MessageView;

/// Bytes of a predicate's text.
const TEXT_BYTES: usize = 4 << 10;
/// Parentheses and `not`s within each other.
const DEPTH: usize = 32;
/// Comparisons and `exists` of a predicate.
const TESTS: usize = 256;
/// Values of one list.
const LIST_VALUES: usize = 256;
/// Names of one path.
const PATH_NAMES: usize = 32;

/// Which messages are meant: see the text at the head of this module.
///
/// ```
/// use liminal::{model::{MessageView, Predicate}, proto::v1::Message};
///
/// let large: Predicate = r#"type in ["push"] and size >= 500"#.parse()?;
/// let message = Message { payload: r#"{"type":"push","size":512}"#.into(), ..Message::default() };
/// assert!(large.matches(&MessageView::of(&message)));
///
/// let error = "size >".parse::<Predicate>().unwrap_err();
/// assert_eq!(error.column, 7);
/// # Ok::<(), liminal::model::InvalidPredicate>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Predicate {
    root: Expr,
}

/// A text that is no predicate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {reason}")]
pub struct InvalidPredicate {
    /// The character, counted from 1, where it goes wrong.
    pub column: usize,
    /// What was expected there, with an example.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Expr {
    /// At least two, none of which is an `And`.
    And(Vec<Expr>),
    /// At least two, none of which is an `Or`.
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Test(Path, Test),
}

#[derive(Clone, Debug, PartialEq)]
enum Path {
    Key,
    Header(String),
    /// Names from the root on; none for the whole payload.
    Payload(Vec<Name>),
}

/// One step of a path: a member's name, and an item's place when it is a number.
#[derive(Clone, Debug, PartialEq)]
struct Name {
    text: String,
    index: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Exists,
    Compare(Op, Literal),
    In(Vec<Literal>),
    Between(Literal, Literal),
    StartsWith(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Clone, Debug, PartialEq)]
enum Literal {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
}

impl Name {
    fn new(text: String) -> Self {
        let plain = text == "0" || !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        Self { index: text.parse().ok().filter(|_| plain), text }
    }
}

impl Predicate {
    /// Whether it means this message.
    pub fn matches(&self, message: &MessageView<'_>) -> bool {
        self.root.holds(message)
    }
}

impl fmt::Display for Predicate {
    /// The canonical text, which parses to the same predicate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}
