//! The canonical text of a predicate: no parentheses but those that are needed, one way to write each value and name.

use std::fmt;

use super::{Expr, Literal, Name, Op, Path, Test};

/// Names that stand in quotes where a path begins, because they mean something else there.
const RESERVED: [&str; 7] = ["and", "or", "not", "exists", "true", "false", "null"];

/// Whether a character may stand in a name without quotes.
pub(super) fn is_bare(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || character == '-'
}

/// Whether a path may begin with this name without quotes.
pub(super) fn may_begin(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') && !RESERVED.contains(&name)
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |f: &mut fmt::Formatter<'_>, parts: &[Self], between: &str| {
            for (place, part) in parts.iter().enumerate() {
                f.write_str(if place == 0 { "" } else { between })?;
                // `or` binds loosest, and an `and` or `or` never stands in one of its kind.
                if matches!(part, Self::Or(_)) { write!(f, "({part})")? } else { part.fmt(f)? }
            }
            Ok(())
        };
        match self {
            Self::And(parts) => join(f, parts, " and "),
            Self::Or(parts) => join(f, parts, " or "),
            Self::Not(inner) if matches!(**inner, Self::And(_) | Self::Or(_)) => write!(f, "not ({inner})"),
            Self::Not(inner) => write!(f, "not {inner}"),
            Self::Test(path, test) => match test {
                Test::Exists => write!(f, "exists({path})"),
                Test::Compare(op, value) => write!(f, "{path} {op} {value}"),
                Test::In(values) => {
                    write!(f, "{path} in [")?;
                    for (place, value) in values.iter().enumerate() {
                        write!(f, "{}{value}", if place == 0 { "" } else { ", " })?;
                    }
                    f.write_str("]")
                }
                Test::Between(low, high) => write!(f, "{path} between {low} and {high}"),
                Test::StartsWith(prefix) => write!(f, "{path} starts with {}", Quoted(prefix)),
            },
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("$key"),
            Self::Header(name) => write!(f, "$headers.{}", Shown(name)),
            Self::Payload(names) => match names.split_first() {
                None => f.write_str("$payload"),
                Some((first, rest)) => {
                    if may_begin(&first.text) {
                        Shown(&first.text).fmt(f)?;
                    } else {
                        Quoted(&first.text).fmt(f)?;
                    }
                    rest.iter().try_for_each(|Name { text, .. }| write!(f, ".{}", Shown(text)))
                }
            },
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        })
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => Quoted(text).fmt(f),
        }
    }
}

/// A name, in quotes where it needs them.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = !self.0.is_empty() && self.0.chars().all(is_bare);
        if bare { f.write_str(self.0) } else { Quoted(self.0).fmt(f) }
    }
}

/// A string as JSON has it.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}
