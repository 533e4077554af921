//! Acts of administrators while they are done: each leaves a record of who did what to what, and of what became of it.

use std::borrow::Cow;

use super::{Access, Caller};
use crate::broker::{
    BrokerError,
    audit::{Fate, Record, shortened},
};

/// An act under way. Nobody may be told what becomes of it any more, if its caller has gone; the record says so then.
#[must_use = "the record says what became of the act"]
pub struct Act {
    caller: Caller,
    act: &'static str,
    on: String,
    detail: String,
    ended: bool,
}

impl Access {
    /// Begins an act to something, such as `channel:orders`.
    pub fn begin(&self, act: &'static str, on: String) -> Act {
        Act { caller: self.caller.clone(), act, on, detail: String::new(), ended: false }
    }
}

impl Act {
    /// Says more of it: nothing that is secret.
    pub(super) fn with(mut self, detail: String) -> Self {
        self.detail = shortened(detail);
        self
    }

    /// Records what became of it, and hands that on.
    ///
    /// # Errors
    /// The error that it is given.
    pub fn end<T>(mut self, result: Result<T, BrokerError>) -> Result<T, BrokerError> {
        let (fate, code) = match &result {
            Ok(_) => (Fate::Done, None),
            Err(error) if error.outcome_unknown() => (Fate::Unknown, Some(error)),
            Err(error) => (Fate::Refused, Some(error)),
        };
        self.record(fate, code.map(|error| error.code().as_str().to_owned()));
        result
    }

    fn record(&mut self, fate: Fate, code: Option<String>) {
        self.ended = true;
        let (on, detail) = (std::mem::take(&mut self.on), std::mem::take(&mut self.detail));
        let record = Record { detail, ..self.caller.record(Cow::Borrowed(self.act), on, fate, code) };
        self.caller.audit().act(record);
    }
}

impl Drop for Act {
    fn drop(&mut self) {
        if !self.ended {
            self.record(Fate::Unknown, None);
        }
    }
}
