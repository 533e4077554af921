//! Encodings that outlive a process: log entries, stored batches, machine records, replies between nodes.
//!
//! Everything is wrapped in an envelope: format version (1 byte), kind (1 byte), body, CRC-32 of all before it
//! (4 bytes, little endian).

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::model::{Command, StoredBatch};

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Fewer bytes than the smallest envelope, or than the body says.
    #[error("the {what} ends early")]
    Truncated {
        /// What was read.
        what: &'static str,
    },
    /// The checksum differs.
    #[error("the checksum of the {what} is wrong")]
    Checksum {
        /// What was read.
        what: &'static str,
    },
    /// Written by another version of liminal.
    #[error("the {what} has format version {found}; this liminal reads version {supported}")]
    Version {
        /// What was read.
        what: &'static str,
        /// Its version.
        found: u8,
        /// The version that can be read.
        supported: u8,
    },
    /// The body makes no sense.
    #[error("the {what} cannot be decoded: {detail}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What the decoder said.
        detail: String,
    },
}

/// A log entry's bytes.
pub fn encode_command(command: &Command) -> Bytes {
    let _ = command;
    todo!()
}

/// The command of a log entry; frames share its bytes.
///
/// # Errors
/// When the bytes are no command of this version.
pub fn decode_command(bytes: &Bytes) -> Result<Command, CodecError> {
    let _ = bytes;
    todo!()
}

/// A stored batch's bytes.
pub fn encode_batch(batch: &StoredBatch) -> Bytes {
    let _ = batch;
    todo!()
}

/// A stored batch; its frame shares the bytes.
///
/// # Errors
/// When the bytes are no batch of this version.
pub fn decode_batch(bytes: &Bytes) -> Result<StoredBatch, CodecError> {
    let _ = bytes;
    todo!()
}

/// Any small record (machine state, replies, marks), by bincode.
pub fn encode_record<T: Serialize>(record: &T) -> Bytes {
    let _ = record;
    todo!()
}

/// Any small record; `what` names it in errors.
///
/// # Errors
/// When the bytes are no such record of this version.
pub fn decode_record<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, CodecError> {
    let _ = (what, bytes);
    todo!()
}
