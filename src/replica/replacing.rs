//! Another state takes the place of this node's: prepared while readers go on, and taken over in one step.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::RwLockWriteGuard;

use super::{
    commits::{RETRY_MAX, RETRY_MIN},
    error::OpenError,
    health::StoreHealth,
    writer::{Replica, catalog_of},
};
use crate::{keys::RestoreError, machine::Machine, model::ChannelId, store::PlainKeys};

/// What was made of a state that is about to take this one's place: see [`Replica::prepare`].
pub struct Prepared(Box<Machine>);

impl Replica {
    /// Keeps those who hold `ReplicaView::whole` out, for as long as the answer lives.
    pub async fn replacing(&self) -> RwLockWriteGuard<'_, ()> {
        let guard = self.shared.replacing.write().await;
        self.shared.keys.rest().await;
        guard
    }

    /// Reads a state that is about to take the store's place, and makes files of those of its keys that memory cannot hold.
    /// That may take minutes, and readers go on meanwhile. Nothing may be applied until the state is in its place. None where
    /// it cannot be read before.
    ///
    /// # Errors
    /// As [`Replica::open`].
    pub async fn prepare(&self, staged: Option<Arc<dyn PlainKeys>>) -> Result<Option<Prepared>, OpenError> {
        match staged {
            Some(state) => self.restore(Some(state)).await.map(|machine| Some(Prepared(Box::new(machine)))),
            None => Ok(None),
        }
    }

    /// Reads everything again after the store's state was replaced, which [`Replica::replacing`] has to surround. Whoever
    /// waits for something is told as if the entries behind it had been applied here.
    ///
    /// # Errors
    /// As [`Replica::open`].
    pub async fn reload(&self, index: u64) -> Result<(), OpenError> {
        self.take_over(None, index).await
    }

    /// The same with what was made of the state beforehand: readers wait for no more than the change from one to the other.
    ///
    /// # Errors
    /// As [`Replica::open`].
    pub async fn take_over(&self, prepared: Option<Prepared>, index: u64) -> Result<(), OpenError> {
        let machine = match prepared {
            Some(Prepared(machine)) => *machine,
            None => self.restore(None).await?,
        };
        let ends: HashMap<ChannelId, u64> = machine.channels().map(|(meta, stats)| (meta.id, stats.next_seq)).collect();
        *self.shared.catalog.write() = Arc::new(catalog_of(&machine));
        let due = machine.next_due_ms();
        self.shared.security.send_replace(machine.security().clone());
        self.shared.pass_time(&machine);
        *self.shared.machine.write() = machine;
        self.shared.announce_due(due);
        self.shared.fanout.reset(|channel| ends.get(&channel).copied());
        self.shared.wakes.all();
        self.shared.applied.send_replace(index);
        Ok(())
    }

    /// Tries again while the files of keys cannot be written, for want of space or because of the disk.
    async fn restore(&self, staged: Option<Arc<dyn PlainKeys>>) -> Result<Machine, OpenError> {
        let mut wait = RETRY_MIN;
        loop {
            let restored = match &staged {
                Some(state) => self.shared.keys.restore_from(state.clone()).await,
                None => self.shared.keys.restore().await,
            };
            match restored {
                Err(RestoreError::Files(reason)) => {
                    tracing::error!(reason, retry_in = ?wait, "cannot read the state that was installed");
                    self.shared.failing(StoreHealth::Failing(reason));
                }
                restored => {
                    let machine = restored?;
                    self.shared.working();
                    return Ok(machine);
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }
}
