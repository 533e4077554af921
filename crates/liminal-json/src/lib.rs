//! One judgement of what is JSON, and one order of its numbers.
//!
//! Readers of different make disagree about odd texts. If each part of a node asked a parser of its own, a message could
//! travel as bytes and match a filter on a field. So the faces, the filters and the comparison of payloads all ask
//! [`json_text`], and whoever compares numbers goes by [`Decimal`].
//!
//! ```
//! use liminal_json::{Decimal, json_text};
//!
//! assert_eq!(json_text(b" [1e2] "), Some("[1e2]"));
//! assert_eq!(json_text(br#""\ud800""#), None);
//! assert!(Decimal::of("0.1").compare(&Decimal::of("0.1000000000000000000001")).is_lt());
//! assert!(Decimal::of("100").compare(&Decimal::of("1e2")).is_eq());
//! ```

mod decimal;
mod text;

pub use decimal::Decimal;
pub use text::{Form, embedded, json_parts, json_text, unbroken};
