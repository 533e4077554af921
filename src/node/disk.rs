//! What a node takes of its disk and what is left of it. A disk may not answer at all, and whoever asks for the metrics must
//! not wait for it: one look is under way at a time, and where it takes long there are no figures.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use crate::{
    http::{Metric, metrics},
    raft::RaftGroup,
};

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The disk of a node's data directory.
pub(super) struct Disk {
    /// None where the node has no directory.
    dir: Option<PathBuf>,
    looking: Arc<Semaphore>,
}

#[derive(Default)]
struct Figures {
    free: Option<u64>,
    size: Option<u64>,
    log: Option<u64>,
}

impl Disk {
    pub(super) fn of(dir: Option<PathBuf>) -> Self {
        Self { dir, looking: Arc::new(Semaphore::new(1)) }
    }

    /// The figures.
    pub(super) async fn metrics(&self, group: &RaftGroup) -> [Metric; 3] {
        let look = tokio::time::timeout(PATIENCE, self.look(group.clone()));
        let Figures { free, size, log } = look.await.ok().flatten().unwrap_or_default();
        let told = |value: Option<u64>| value.map(|value| (Vec::new(), value)).into_iter().collect();
        [
            metrics::DISK_FREE_BYTES.each(told(free)),
            metrics::DISK_SIZE_BYTES.each(told(size)),
            metrics::LOG_BYTES.each(told(log)),
        ]
    }

    /// None where it was not possible.
    async fn look(&self, group: RaftGroup) -> Option<Figures> {
        // It is given back when the disk has answered, whether or not somebody still waits.
        let turn = self.looking.clone().acquire_owned().await.ok()?;
        let dir = self.dir.clone();
        let look = move || {
            let _turn = turn;
            let space = dir.and_then(|dir| rustix::fs::statvfs(dir).ok());
            let bytes = |blocks: fn(&rustix::fs::StatVfs) -> u64| {
                space.as_ref().map(|space| blocks(space).saturating_mul(space.f_frsize))
            };
            // What is left to others than root.
            Figures { free: bytes(|space| space.f_bavail), size: bytes(|space| space.f_blocks), log: group.log_bytes() }
        };
        tokio::task::spawn_blocking(look).await.ok()
    }
}
