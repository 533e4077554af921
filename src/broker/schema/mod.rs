//! JSON Schema: what a channel's payloads have to look like.
//!
//! Checked before a message is proposed, never when it is applied: an upgrade of the validating library must not
//! make replicas differ. A schema comes from a user, so everything about it is bounded: its text, its size once its
//! references are followed, its regular expressions; and nothing outside the document is ever fetched. A payload is
//! first only judged, which is fast; the places are collected when it is known to be bad.

mod checker;
mod compiled;
mod cost;
mod reading;
mod sparse;
mod violations;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;

pub use self::checker::{CompiledSchema, Unfit};
pub(super) use self::compiled::Compiled;
pub(crate) use self::reading::read;
