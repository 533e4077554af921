//! Pages of lists as JSON. A page holds up to a thousand items, which take a worker milliseconds: they are written a few at a
//! time, so that whoever publishes has a turn in between.

use serde_json::value::RawValue;

use super::problem::Problem;
use crate::broker::BrokerError;

/// Items that are written in one turn.
const TURN: usize = 32;

/// Items of a page, each as JSON already.
pub(super) async fn written<T>(
    items: &[T],
    write: impl Fn(&T) -> serde_json::Result<Box<RawValue>>,
) -> Result<Vec<Box<RawValue>>, Problem> {
    let mut all = Vec::with_capacity(items.len());
    for some in items.chunks(TURN) {
        for item in some {
            all.push(write(item).map_err(|error| BrokerError::Internal { reason: error.to_string() })?);
        }
        tokio::task::yield_now().await;
    }
    Ok(all)
}
