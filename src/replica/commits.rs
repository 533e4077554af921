//! Brings effects into the store. A command is never skipped: while the store, or a file of keys, fails, the same is tried
//! again, and everybody can see that nothing goes on.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    checkpoint::{Checkpoint, keep},
    health::StoreHealth,
    shared::Shared,
};
use crate::{
    keys::Found,
    model::{ChannelId, KeyHash},
    store::{StoreError, WriteBatch},
};

/// How long to wait before a failed commit is tried again; doubles up to [`RETRY_MAX`].
pub(super) const RETRY_MIN: Duration = Duration::from_millis(20);
/// The longest wait between two tries.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(1);

/// How often a commit that waits is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// A commit that waits for longer is no commit that is slow: nothing goes on.
const STALL: Duration = Duration::from_secs(5);

impl Shared {
    /// Finds the keys of a command that are not in memory. As with a commit, nothing is skipped: while they cannot be
    /// looked up, it tries again, and says so.
    pub(super) async fn look_up(&self, asks: &BTreeMap<ChannelId, Vec<KeyHash>>) -> Vec<Found> {
        let mut wait = RETRY_MIN;
        let found = loop {
            match self.keys.look_up(asks).await {
                Ok(found) => break found,
                Err(error) => {
                    tracing::error!(%error, retry_in = ?wait, "cannot look idempotency keys up");
                    self.failing(StoreHealth::Failing(error.to_string()));
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        };
        if wait > RETRY_MIN {
            self.working();
        }
        found
    }

    /// Waits until some of the keys in memory have left it.
    pub(super) async fn make_room(&self) {
        loop {
            let hot = {
                let mut machine = self.machine.write();
                self.keys.cool(&mut machine, 0);
                machine.hot_keys()
            };
            if !self.keys.must_wait(hot) {
                break;
            }
            self.keys.tend(hot, &self.machine);
            if let Some(reason) = self.keys.wait(LOOK).await {
                self.failing(StoreHealth::Failing(format!("idempotency keys cannot leave memory: {reason}")));
            }
        }
        self.working();
    }

    pub(super) fn failing(&self, failing: StoreHealth) {
        self.commits.send_if_modified(|health| {
            let changed = *health != failing;
            *health = failing;
            changed
        });
    }

    pub(super) fn working(&self) {
        self.commits.send_if_modified(|health| std::mem::take(health) != StoreHealth::Working);
    }

    pub(super) async fn commit(&self, writes: &WriteBatch) {
        let mut wait = RETRY_MIN;
        loop {
            match self.try_commit(writes.clone()).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::error!(%error, retry_in = ?wait, "the store refused a commit");
                    let ended = matches!(error, StoreError::Closed);
                    let failing = if ended { StoreHealth::Ended } else { StoreHealth::Failing };
                    self.commits.send_replace(failing(error.to_string()));
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
        self.working();
    }

    /// One try, which says so while it waits for what does not come: room in memory that a flush should make, or a disk.
    async fn try_commit(&self, writes: WriteBatch) -> Result<(), StoreError> {
        let store = &self.store;
        let (mut commit, begun) = (store.commit(writes), tokio::time::Instant::now());
        loop {
            if let Ok(done) = tokio::time::timeout(LOOK, &mut commit).await {
                return done;
            }
            let stalled = || (begun.elapsed() >= STALL).then(|| format!("a commit has waited for more than {STALL:?}"));
            if let Some(reason) = store.failure().or_else(stalled) {
                self.failing(StoreHealth::Failing(reason));
            }
        }
    }

    /// Pins the state as it is after `index`. Hashing it may take a fold, and the next entry must not wait for that.
    pub(super) fn checkpoint(self: &Arc<Self>, index: u64) {
        let hash = self.store.checkpoint();
        let shared = self.clone();
        tokio::spawn(async move {
            match hash.await {
                Ok((hash, _)) => shared.checkpoints.send_modify(|kept| keep(kept, Checkpoint { index, hash })),
                Err(error) => tracing::error!(%error, index, "cannot hash the state"),
            }
        });
    }
}
