//! When the log is cut. Openraft's own policies are off: its core does not survive a purge that overtakes an apply,
//! so the log keeps a long tail behind what is applied, and is cut only up to what the store has made durable.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use tokio_util::sync::CancellationToken;

use super::types::{Mark, Raft};
use crate::replica::ReplicaView;

/// Entries that stay in the log behind the newest snapshot.
pub(super) const KEEP_ENTRIES: u64 = 10_000;
/// Entries beyond those that make a cut worth its while.
const SLACK_ENTRIES: u64 = 10_000;
/// How often to look.
const INTERVAL: Duration = Duration::from_secs(5);

/// Asks for a snapshot, which lets openraft purge up to [`KEEP_ENTRIES`] before it, whenever enough of the log is
/// durable in the store.
pub(super) async fn run(raft: Raft, view: ReplicaView, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        let purged = raft.metrics().borrow_watched().purged.map_or(0, |id| id.index);
        let durable = match view.store().durable_applied().await {
            Ok(Some(mark)) => Mark::decode(&mark).ok().and_then(|mark| mark.applied).map_or(0, |applied| applied.index),
            Ok(None) => 0,
            Err(error) => {
                tracing::warn!(%error, "cannot tell what the store has made durable: the log is not cut");
                continue;
            }
        };
        if durable.saturating_sub(purged) > KEEP_ENTRIES + SLACK_ENTRIES
            && let Err(error) = raft.trigger().snapshot().await
        {
            tracing::debug!(%error, "the Raft core stopped");
            return;
        }
    }
}
