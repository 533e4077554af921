//! Exact comparison of JSON numbers and the ranges that schemas give them. A float is compared by its exact value:
//! rounding would make a bound look looser than it is.

use std::{cmp::Ordering, fmt};

use serde_json::{Number, Value};

/// Whole floats below this magnitude are kept as integers.
const EXACT: f64 = 1e36;

#[derive(Clone, Copy, Debug)]
pub(super) enum Num {
    Int(i128),
    /// Not whole, or at least [`EXACT`].
    Float(f64),
}

impl Num {
    pub(super) fn of(number: &Number) -> Self {
        if let Some(int) = number.as_i64() {
            return Self::Int(int.into());
        }
        if let Some(int) = number.as_u64() {
            return Self::Int(int.into());
        }
        Self::of_float(number.as_f64().unwrap_or_default())
    }

    #[allow(clippy::cast_possible_truncation, reason = "whole, and far below the limits of the type")]
    fn of_float(float: f64) -> Self {
        if float.fract() == 0.0 && float.abs() < EXACT { Self::Int(float as i128) } else { Self::Float(float) }
    }

    pub(super) fn is_whole(self) -> bool {
        match self {
            Self::Int(_) => true,
            Self::Float(float) => float.fract() == 0.0,
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "floored, and far below the limits of the type")]
    pub(super) fn cmp(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(&b),
            // No JSON number is NaN.
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (Self::Float(_), Self::Int(_)) => other.cmp(self).reverse(),
            (Self::Int(_), Self::Float(b)) if b >= EXACT => Ordering::Less,
            (Self::Int(_), Self::Float(b)) if b <= -EXACT => Ordering::Greater,
            (Self::Int(a), Self::Float(b)) => {
                if a <= b.floor() as i128 {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
        }
    }
}

impl fmt::Display for Num {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(int) => write!(f, "{int}"),
            Self::Float(float) => write!(f, "{float}"),
        }
    }
}

/// One end of a range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) at: Num,
    /// The value itself is outside.
    pub(super) open: bool,
}

impl Bound {
    /// Whether, as a lower end, this one leaves less than the other.
    pub(super) fn above(self, other: Self) -> bool {
        match self.at.cmp(other.at) {
            Ordering::Greater => true,
            Ordering::Equal => self.open && !other.open,
            Ordering::Less => false,
        }
    }

    /// Whether, as an upper end, this one leaves less than the other.
    pub(super) fn below(self, other: Self) -> bool {
        match self.at.cmp(other.at) {
            Ordering::Less => true,
            Ordering::Equal => self.open && !other.open,
            Ordering::Greater => false,
        }
    }

    /// The same end for whole numbers only, as a closed one.
    #[allow(clippy::cast_possible_truncation, reason = "rounded, and far below the limits of the type")]
    pub(super) fn whole(self, lower: bool) -> Self {
        let at = match self.at {
            Num::Int(int) if self.open => Num::Int(if lower { int + 1 } else { int - 1 }),
            Num::Int(int) => Num::Int(int),
            Num::Float(float) if float.abs() >= EXACT => return self,
            Num::Float(float) => Num::Int(if lower { float.ceil() } else { float.floor() } as i128),
        };
        Self { at, open: false }
    }

    pub(super) fn describe(bound: Option<Self>, lower: bool) -> String {
        match (bound, lower) {
            (None, _) => "any number".into(),
            (Some(Self { at, open: false }), true) => format!("numbers from {at}"),
            (Some(Self { at, open: true }), true) => format!("numbers above {at}"),
            (Some(Self { at, open: false }), false) => format!("numbers up to {at}"),
            (Some(Self { at, open: true }), false) => format!("numbers below {at}"),
        }
    }
}

/// Equality of JSON: 1 is 1.0.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => Num::of(a).cmp(Num::of(b)) == Ordering::Equal,
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

/// A count in a schema, which may be written `2.0`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range")]
pub(super) fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let float = value.as_f64()?;
        (float.fract() == 0.0 && (0.0..9e15).contains(&float)).then_some(float as u64)
    })
}
