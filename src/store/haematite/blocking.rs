//! Work of the store that would block a runtime.

use crate::store::StoreError;

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(StoreError::Failed { action: "finish a blocking read", reason: error.to_string() }))
}
