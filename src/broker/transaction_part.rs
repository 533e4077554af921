//! Names a part of a transaction, in errors and on the wire.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names a part of a transaction as its user knows it: its list, and its position there from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionPart {
    /// Of the messages.
    Message(u32),
    /// Of the acknowledgements.
    Ack(u32),
    /// Of the completions.
    Completion(u32),
}

impl fmt::Display for TransactionPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(position) => write!(f, "message {position}"),
            Self::Ack(position) => write!(f, "ack {position}"),
            Self::Completion(position) => write!(f, "completion {position}"),
        }
    }
}
