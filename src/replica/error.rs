//! What a replica cannot open.

use crate::{keys::RestoreError, store::StoreError};

/// What a replica cannot open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store's content makes no sense.
    #[error("the stored state cannot be read: {0}")]
    Corrupt(String),
    /// The idempotency keys that memory does not hold cannot be read or written.
    #[error("idempotency keys: {0}")]
    Keys(String),
}

impl From<RestoreError> for OpenError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Corrupt(reason) => Self::Corrupt(reason),
            RestoreError::Store(error) => Self::Store(error),
            RestoreError::Files(reason) => Self::Keys(reason),
        }
    }
}
