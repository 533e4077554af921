//! The stable codes of errors: what programs tell errors apart by, the same over every face, and what each of them means.
//! The codes themselves are the rows of `code/table.rs`.

use std::{fmt, str::FromStr};

pub use self::table::Code;

#[cfg(test)]
mod catalogue;
mod table;

/// Whether what was asked for was done, once it has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was done, and nothing will be.
    Definite,
    /// It may have been done, or may yet be.
    Unknown,
    /// Either: each error says which (`unknown_outcome`).
    Either,
}

/// What is the same of all errors with one code: a row of the table of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Meaning {
    /// What it is about, as a heading.
    pub group: &'static str,
    /// The code as every face says it.
    pub code: &'static str,
    /// What happened, in a sentence.
    pub meaning: &'static str,
    /// The same in a few words: the `title` of an HTTP problem.
    pub title: &'static str,
    /// What to do next, where the error itself knows nothing better.
    pub next: &'static str,
    /// The gRPC status; none where it is never said over gRPC.
    pub grpc: Option<tonic::Code>,
    /// The HTTP status; none where it is never said over HTTP.
    pub http: Option<u16>,
    /// What is known of the outcome.
    pub outcome: Outcome,
    /// Whether the same request may succeed later, unchanged and with the same key: it says something about the moment
    /// and not about the request.
    pub retry: bool,
    /// The exit code of a command that ends with it.
    pub exit: u8,
}

impl Meaning {
    /// The row whose statuses an error has. Where the outcome of such errors may be either, those whose outcome is unknown
    /// are told as such.
    pub fn told_as(&'static self, outcome_unknown: bool) -> &'static Self {
        if self.outcome == Outcome::Either && outcome_unknown { Code::OutcomeUnknown.meaning() } else { self }
    }
}

impl FromStr for Code {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.into())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl PartialEq<str> for Code {
    fn eq(&self, text: &str) -> bool {
        self.as_str() == text
    }
}

impl PartialEq<&str> for Code {
    fn eq(&self, text: &&str) -> bool {
        self.as_str() == *text
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_comes_back_from_its_text() {
        for code in Code::ALL {
            assert_eq!(&Code::from(code.as_str()), code);
            assert!(!matches!(code, Code::Other(_)));
            assert_eq!(code.meaning().code, code.as_str());
        }
        assert_eq!(Code::from("WRONG_SEQ"), Code::WrongSeq);
    }

    #[test]
    fn a_code_of_a_newer_server_keeps_its_text_and_promises_nothing() {
        let code = Code::from("NOT_YET_THOUGHT_OF");
        assert_eq!((code.as_str(), code.to_string()), ("NOT_YET_THOUGHT_OF", "NOT_YET_THOUGHT_OF".to_owned()));
        assert_eq!(code, "NOT_YET_THOUGHT_OF");
        let Meaning { outcome, retry, .. } = *code.meaning();
        assert_eq!((outcome, retry), (Outcome::Either, false));
    }

    #[test]
    fn every_row_says_what_happened_and_what_to_do_next() {
        for row in Code::ALL.iter().map(Code::meaning) {
            assert!(row.meaning.ends_with('.') && !row.title.ends_with('.'), "{row:?}");
            assert!(!row.next.is_empty() && !row.next.ends_with('.'), "{row:?}");
            assert!(row.http.is_none_or(|http| (400..600).contains(&http)), "{row:?}");
            assert!(!row.grpc.is_some_and(|grpc| grpc == tonic::Code::Ok), "{row:?}");
            assert_ne!(row.exit, 0, "{row:?}");
        }
    }

    #[test]
    fn only_an_error_whose_outcome_may_be_either_changes_its_statuses_with_it() {
        let failed = Code::StoreFailed.meaning();
        assert_eq!((failed.told_as(false).http, failed.told_as(true).http), (Some(503), Some(504)));
        let stopping = Code::Stopping.meaning();
        assert_eq!(stopping.told_as(true), stopping);
    }
}
