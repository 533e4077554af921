//! The idempotency keys that a node does not hold in memory.
//!
//! A day of keys at 5,000 a second takes 15 to 20 GB of memory. So the newest are in memory exactly, as many as there is
//! room for, and older ones in files (`run`), of which memory has a filter. A key of a command that memory does not know
//! is looked for in the filters, then, if it may be there, in a file, and then in the store, which has every key and what
//! it was claimed for: the answer comes from there alone. What was found is told to the machine before it applies the
//! command. So answers are exact and the same on all nodes, although each has its own files, of other keys perhaps.
//!
//! Files are made from the store, and so can be made again: they are in no snapshot and no hash of the state. They are
//! made on a thread of low priority; until one is there, its keys stay in memory, and afterwards they leave it some with
//! each command. A file goes as a whole when the window has passed its last key; many small ones become one large one,
//! because every key that is new is looked for in all of them.

mod build;
mod files;
mod filter;
mod look_up;
mod open_files;
mod opening;
mod plan;
mod run;
mod tending;
#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use self::{
    build::{BuildError, Builder, Live},
    plan::Sizes,
    run::{Damaged, Run, Salt},
};
pub use self::{
    files::{KeyDirectory, KeyFile, KeyFiles, KeyMemory, NewFile},
    opening::RestoreError,
};
use crate::{
    machine::Machine,
    model::{ChannelId, Digest, KeyHash, Limits},
    store::{DurableStore, PlainKeys, StoreError},
};

/// Keys that one command makes cold at most, but as many as it brought, and as many again: they leave memory faster than
/// they come.
const COOLED: u64 = 2_048;
/// Looks into filters that are done at once; for more, a thread is asked that may take its time.
const QUICK: usize = 1 << 15;

/// The runs of each channel, oldest first. They do not overlap, but for what a crash leaves.
type Runs = BTreeMap<ChannelId, Vec<Arc<Run>>>;

/// What was found of a key that memory does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// In which channel.
    pub channel: ChannelId,
    /// Which key.
    pub key: KeyHash,
    /// Of the message that it was claimed for.
    pub seq: u64,
    /// Of that message's payload.
    pub digest: Digest,
}

/// How many keys are where on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyPlaces {
    /// Keys in memory.
    pub in_memory: u64,
    /// Files.
    pub files: u64,
    /// Keys in them; some of these may be forgotten, or in memory as well.
    pub in_files: u64,
    /// Bytes of memory that their filters take.
    pub filter_bytes: u64,
    /// Bytes of the files.
    pub file_bytes: u64,
}

/// Why keys cannot be looked up, or the files cannot be made to fit the store.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct KeyError(#[from] Reason);

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("a file of idempotency keys cannot be read, and is made again: {0}")]
    Damaged(#[from] Damaged),
}

impl From<BuildError> for KeyError {
    fn from(error: BuildError) -> Self {
        Self(error.into())
    }
}

impl From<StoreError> for KeyError {
    fn from(error: StoreError) -> Self {
        Self(BuildError::Store(error).into())
    }
}

/// See the module's description.
pub struct ColdKeys {
    builder: Builder,
    sizes: Sizes,
    runs: RwLock<Arc<Runs>>,
    /// Keys in all runs.
    in_runs: AtomicU64,
    /// Channels whose keys below a sequence number are in runs and may leave memory.
    cooling: Mutex<BTreeMap<ChannelId, u64>>,
    /// Whether somebody makes files.
    busy: watch::Sender<bool>,
    /// Whether one file is being made of several.
    joining: AtomicBool,
    /// Why the newest try to make files failed, and when the next one may begin.
    failure: Mutex<Option<(String, Instant)>>,
    /// How many keys were in memory when no channel had enough of them for a file.
    nothing_at: AtomicU64,
    commands: AtomicU64,
}

impl ColdKeys {
    /// Opens the files that are there, whatever they hold: [`ColdKeys::restore`] tells which are of use. `salt` is used
    /// where they do not have one. Blocks.
    ///
    /// # Errors
    /// When the place of the files cannot be looked into.
    pub fn open(
        files: Arc<dyn KeyFiles>,
        store: Arc<dyn DurableStore>,
        limits: &Limits,
        salt: [u64; 2],
    ) -> io::Result<Self> {
        let (mut runs, mut salt): (Vec<Run>, _) = (Vec::new(), Salt::new(salt));
        for name in files.names()? {
            match Run::open(&*files, &name) {
                Ok(run) if runs.is_empty() || run.salt == salt => {
                    salt = run.salt.clone();
                    runs.push(run);
                }
                Ok(_) => files.remove(&name)?,
                Err(damaged) => {
                    tracing::warn!(%damaged, "the keys in it are put into a new file");
                    files.remove(&name)?;
                }
            }
        }
        let mut by_channel = Runs::new();
        for run in runs {
            by_channel.entry(run.span.channel).or_default().push(Arc::new(run));
        }
        // Of those that begin alike, the longest is the one that the others were put together to.
        by_channel
            .values_mut()
            .for_each(|runs| runs.sort_by_key(|run| (run.span.first_seq, Reverse(run.span.last_seq))));
        let sizes = Sizes::of(limits);
        let state = RwLock::new(Arc::new(Live(store)) as Arc<dyn PlainKeys>);
        let builder = Builder { state, files, salt, part: sizes.moved, cancelled: AtomicBool::new(false) };
        let keys = Self {
            builder,
            sizes,
            runs: RwLock::default(),
            in_runs: AtomicU64::new(0),
            cooling: Mutex::default(),
            busy: watch::Sender::new(false),
            joining: AtomicBool::new(false),
            failure: Mutex::default(),
            nothing_at: AtomicU64::new(0),
            commands: AtomicU64::new(0),
        };
        keys.put(by_channel);
        Ok(keys)
    }

    fn runs(&self) -> Arc<Runs> {
        self.runs.read().clone()
    }

    /// Puts others in the place of the runs, and removes the files of those that are left out.
    fn put(&self, mut runs: Runs) {
        runs.retain(|_, runs| !runs.is_empty());
        let all = |runs: &Runs| runs.values().flatten().cloned().collect::<Vec<_>>();
        let kept: BTreeSet<String> = all(&runs).iter().map(|run| run.name.clone()).collect();
        self.in_runs.store(all(&runs).iter().map(|run| run.span.keys).sum(), Ordering::Relaxed);
        let before = std::mem::replace(&mut *self.runs.write(), Arc::new(runs));
        for run in all(&before).iter().filter(|run| !kept.contains(&run.name)) {
            if let Err(error) = self.builder.files.remove(&run.name) {
                tracing::warn!(%error, file = run.name, "a file of idempotency keys that is of no use cannot be removed");
            }
        }
    }

    /// Where keys are that are not in memory.
    pub fn places(&self) -> KeyPlaces {
        let runs = self.runs();
        runs.values().flatten().fold(KeyPlaces::default(), |sum, run| KeyPlaces {
            in_memory: sum.in_memory,
            files: sum.files + 1,
            in_files: sum.in_files + run.span.keys,
            filter_bytes: sum.filter_bytes + run.memory(),
            file_bytes: sum.file_bytes + run.bytes,
        })
    }

    /// Ends what makes files, and waits until it has. Nothing new begins before the next command.
    pub async fn rest(&self) {
        self.builder.cancelled.store(true, Ordering::Relaxed);
        // The sender lives as long as `self`.
        let _ = self.busy.subscribe().wait_for(|busy| !busy).await;
        self.builder.cancelled.store(false, Ordering::Relaxed);
    }

    /// Ends what makes files, for good.
    pub fn stop(&self) {
        self.builder.cancelled.store(true, Ordering::Relaxed);
    }

    /// Lets keys leave memory that are in files, after a command that brought `came` keys.
    pub fn cool(&self, machine: &mut Machine, came: u64) {
        let mut cooling = self.cooling.lock();
        let mut left = COOLED.max(2 * came);
        while let Some(entry) = cooling.first_entry() {
            left -= machine.cool(*entry.key(), *entry.get(), left);
            if left == 0 {
                return;
            }
            entry.remove();
        }
    }

    /// Whether a command has to wait: there are far more keys in memory than there should be.
    pub fn must_wait(&self, hot: u64) -> bool {
        let most = self.sizes.most_beside(self.in_runs.load(Ordering::Relaxed));
        hot > most && (*self.busy.borrow() || !self.cooling.lock().is_empty() || self.is_due(hot))
    }

    /// Waits for what makes files, for a moment; gives why it cannot, if it cannot.
    pub async fn wait(&self, moment: Duration) -> Option<String> {
        let mut busy = self.busy.subscribe();
        if *busy.borrow_and_update() {
            let _ = timeout(moment, busy.wait_for(|busy| !busy)).await;
        } else if self.cooling.lock().is_empty() {
            tokio::time::sleep(moment).await;
        } else {
            tokio::task::yield_now().await;
        }
        self.failure.lock().as_ref().map(|(reason, _)| reason.clone())
    }

    /// Whether keys should leave memory, and there may be a channel that has enough of them.
    fn is_due(&self, hot: u64) -> bool {
        let nothing_at = self.nothing_at.load(Ordering::Relaxed);
        hot > self.sizes.hot_beside(self.in_runs.load(Ordering::Relaxed)).max(nothing_at)
    }
}
