//! Predicates: which messages a routing rule or a subscription means.
//!
//! The language is described in docs/PREDICATES.md, which is also the documentation of [`Predicate`]. What it promises
//! above all is the same answer everywhere: nothing depends on the machine, on the versions of libraries, or on other
//! predicates that look at the same message.

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

#[doc = include_str!("../../../docs/PREDICATES.md")]
///
/// ```
/// use liminal_predicate::{MessageView, Predicate};
/// use liminal_wire::v1::Message;
///
/// let large: Predicate = r#"type in ["push"] and size >= 500"#.parse()?;
/// let message = Message { payload: r#"{"type":"push","size":512}"#.into(), ..Message::default() };
/// assert!(large.matches(&MessageView::of(&message)));
///
/// let error = "size >".parse::<Predicate>().unwrap_err();
/// assert_eq!(error.column, 7);
/// # Ok::<(), liminal_predicate::InvalidPredicate>(())
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
