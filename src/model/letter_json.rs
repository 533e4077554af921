//! Dead letters as JSON says them, on the command line and over HTTP.

use serde::Serialize;

use super::{Form, MessageJson};
use crate::proto::v1::{DeadLetter, Message};

/// A dead letter. Its `channel` is the one in which it lies, and `seq` its place there.
#[derive(Debug, Serialize)]
pub struct LetterJson<'a> {
    origin: &'a str,
    origin_seq: u64,
    consumer: &'a str,
    attempts: u32,
    reason: &'a str,
    hops: u32,
    redriven: u32,
    bytes: u64,
    #[serde(flatten)]
    message: MessageJson<'a>,
}

impl<'a> LetterJson<'a> {
    /// Of a letter as the API gives it; `origin` and `consumer` are those of its message, `dead_letter` where it lies.
    pub fn of(
        origin: &'a str,
        consumer: &'a str,
        dead_letter: &'a str,
        letter: &'a DeadLetter,
        message: &'a Message,
        form: Form,
    ) -> Self {
        let DeadLetter { seq, time_ms, bytes, origin_seq, attempts, reason, hops, redriven, message: _ } = letter;
        Self {
            origin,
            origin_seq: *origin_seq,
            consumer,
            attempts: *attempts,
            reason,
            hops: *hops,
            redriven: *redriven,
            bytes: *bytes,
            message: MessageJson::of(dead_letter, *seq, *time_ms, 0, message, form),
        }
    }
}
