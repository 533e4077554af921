//! When the log is cut. Openraft's own policies are off: its core does not survive a purge that overtakes an apply,
//! so the log is cut only up to what the store has made durable, and keeps a tail for followers that lag behind:
//! entries up to a number, and up to a size, whichever is reached first.

use std::{sync::Arc, time::Duration};

use openraft::async_runtime::WatchReceiver as _;
use tokio_util::sync::CancellationToken;

use super::{encoding::Mark, log::LogStore, types::Raft};
use crate::{replica::ReplicaView, store::StoreError};

/// How often to look.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long openraft may take to make a snapshot, which is only a view.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);

/// How much of the log stays behind what is durable in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepLog {
    /// At most so many entries.
    pub entries: u64,
    /// At most so many bytes.
    pub bytes: u64,
}

impl KeepLog {
    const NOTHING: Self = Self { entries: 0, bytes: 0 };
}

/// Cuts one node's log.
pub(super) struct Purge {
    pub(super) raft: Raft,
    pub(super) view: ReplicaView,
    pub(super) log: Arc<dyn LogStore>,
    pub(super) keep: KeepLog,
}

impl Purge {
    /// Cuts the log whenever a quarter more than what is to be kept has gathered.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let slack = KeepLog { entries: self.keep.entries / 4, bytes: self.keep.bytes / 4 };
        while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
            if let Err(error) = self.cut(self.keep, slack).await {
                tracing::warn!(%error, "cannot tell what the store has made durable: the log is not cut");
            }
        }
    }

    /// Makes the state durable and cuts the log at once; gives the index up to which the state is durable.
    pub(super) async fn now(&self) -> Result<u64, StoreError> {
        self.view.store().flush().await?;
        self.cut(self.keep, KeepLog::NOTHING).await
    }

    /// The same, and keeps nothing for followers that lag behind: they get the state.
    pub(super) async fn everything(self: Arc<Self>) -> Result<u64, StoreError> {
        self.view.store().flush().await?;
        self.cut(KeepLog::NOTHING, KeepLog::NOTHING).await
    }

    async fn cut(&self, keep: KeepLog, slack: KeepLog) -> Result<u64, StoreError> {
        let durable = match self.view.store().durable_applied().await? {
            Some(mark) => Mark::decode(&mark).ok().and_then(|mark| mark.applied).map_or(0, |applied| applied.index),
            None => 0,
        };
        let first = self.log.bounds().purged.map_or(0, |purged| purged.index + 1);
        let keep_from = |entries: u64, bytes: u64| {
            (durable + 1).saturating_sub(entries).max(self.log.first_within(bytes)).min(durable + 1)
        };
        let due = keep_from(keep.entries + slack.entries, keep.bytes + slack.bytes) > first;
        let up_to = keep_from(keep.entries, keep.bytes).saturating_sub(1);
        if due && up_to >= first && self.raft.trigger().snapshot().await.is_ok() {
            let mut metrics = self.raft.data_metrics();
            let covered = async {
                while metrics.borrow_watched().snapshot.is_none_or(|snapshot| snapshot.index < up_to) {
                    if metrics.changed().await.is_err() {
                        return;
                    }
                }
            };
            if tokio::time::timeout(SNAPSHOT_TIMEOUT, covered).await.is_ok() {
                let _ = self.raft.trigger().purge_log(up_to).await; // or the core has stopped
            }
        }
        Ok(durable)
    }
}
