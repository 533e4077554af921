//! Work that would hold up a thread that serves others.

use super::error::BrokerError;

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BrokerError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| BrokerError::Internal { reason: error.to_string() })
}
