//! The key space of a store on disk: opened from a directory, written through the memtable, read through both.

use std::{
    fs::{self, File},
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::{
    blocking::blocking,
    config::HaematiteConfig,
    current,
    damages::Damages,
    database,
    fold::{self, Folder},
    healing::Parts,
    install,
    links::sync_rest,
    shared::{Checkpointed, STEP, Shared, present},
    snapshot::Snapshot,
};
use crate::{
    meter::{Histogram, Reading},
    store::{
        StoreError, StoreInstall, StoreParts, StoreSnapshot, StoreUsage,
        engine::{Changes, Engine, Layered, Page},
        keys,
    },
};

/// Keeps state in a directory. See the module's description.
pub type HaematiteStore = Layered<HaematiteEngine>;

/// The key space of a [`HaematiteStore`].
pub struct HaematiteEngine {
    pub(super) shared: Arc<Shared>,
    pub(super) folder: Folder,
    pub(super) config: HaematiteConfig,
    /// Unlocks when it is dropped: at close, even while somebody still holds the store.
    pub(super) lock: Mutex<Option<File>>,
}

impl HaematiteStore {
    /// Whether a directory holds a store, or what is left of one.
    pub fn is_there(dir: &Path) -> bool {
        current::is_there(dir)
    }

    /// Opens the store in a directory, or makes one. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it; [`StoreError::Corrupt`] naming what cannot be read.
    pub fn open(dir: &Path, config: HaematiteConfig) -> Result<Self, StoreError> {
        let io = |action: &'static str| {
            move |error: std::io::Error| StoreError::Failed { action, reason: format!("{}: {error}", dir.display()) }
        };
        fs::create_dir_all(dir).map_err(io("create the data directory"))?;
        let lock = File::create(dir.join("LOCK")).map_err(io("create the lock file"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StoreError::Locked { path: dir.display().to_string() }),
            Err(fs::TryLockError::Error(error)) => return Err(io("lock the data directory")(error)),
        }
        let found = current::find(dir, config.owner)?;
        let next_state = AtomicU64::new(found.highest + 1);
        let shared = Arc::new(Shared {
            root: dir.to_owned(),
            state: Mutex::default(),
            folded: Notify::new(),
            next_state,
            cache_bytes: config.cache_bytes,
            damages: Damages::default(),
            folds: Histogram::default(),
        });
        let folder = Folder::start(shared.clone(), dir.join(&found.name), config.clone())?;
        if found.is_new {
            sync_rest(&dir.join(&found.name))?;
            current::establish(dir, config.owner)?;
        }
        Ok(Self::over(HaematiteEngine { shared, folder, config, lock: Mutex::new(Some(lock)) }))
    }
}

#[async_trait]
impl Engine for HaematiteEngine {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let view = {
            let state = self.shared.state.lock();
            if let Some(value) = state.memory(key) {
                return Ok(value.map(|value| value.bytes()));
            }
            state.view()?
        };
        let (key, cache_bytes) = (Bytes::copy_from_slice(key), self.shared.cache_bytes);
        self.shared.reading(move || view.get(cache_bytes, &key)).await
    }

    async fn range(&self, from: &[u8], to: &[u8], limit: usize, max_bytes: usize) -> Result<Page, StoreError> {
        let (shared, from, to) = (self.shared.clone(), Bytes::copy_from_slice(from), Bytes::copy_from_slice(to));
        self.shared.reading(move || shared.range(&from, &to, limit, max_bytes)).await
    }

    fn recent(&self, from: &[u8], to: &[u8], max_bytes: usize) -> Page {
        let mut bytes = 0;
        let overlay = self.shared.state.lock().overlay(from, to, STEP);
        let entries = overlay.entries.into_iter().filter_map(present);
        entries
            .take_while(|(_, value)| {
                let go_on = bytes < max_bytes;
                bytes += value.len();
                go_on
            })
            .collect()
    }

    async fn write(&self, changes: Changes) -> Result<(), StoreError> {
        loop {
            let folded = self.shared.folded.notified();
            {
                let mut state = self.shared.state.lock();
                state.view()?;
                let behind = !state.frozen.is_empty() && state.waiting_bytes() > 2 * self.config.fold_bytes;
                if !behind {
                    changes.cuts.into_iter().for_each(|cut| state.active.cut(cut));
                    changes.writes.into_iter().for_each(|(key, value)| state.active.put(key, value));
                    if state.active.bytes() > self.config.fold_bytes {
                        self.folder.wake();
                    }
                    return Ok(());
                }
            }
            folded.await;
        }
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.folder.fold().await
    }

    async fn durable(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let (view, key) = (self.shared.state.lock().view()?, Bytes::copy_from_slice(key));
        let cache_bytes = self.shared.cache_bytes;
        self.shared.reading(move || view.get(cache_bytes, &key)).await
    }

    fn checkpoint(&self) -> BoxFuture<'static, Checkpointed> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.shared.state.lock();
            let view = match state.view() {
                Ok(view) => view,
                Err(error) => return std::future::ready(Err(error)).boxed(),
            };
            if state.active.is_empty() && state.frozen.is_empty() {
                let shared = self.shared.clone();
                return async move {
                    let cache_bytes = shared.cache_bytes;
                    shared.reading(move || fold::checkpoint(&view, cache_bytes)).await
                }
                .boxed();
            }
            if !state.active.is_empty() && state.frozen.len() >= self.config.frozen_memtables {
                let reason = format!("{} older memtables wait to be folded", state.frozen.len());
                return std::future::ready(Err(StoreError::Failed { action: "pin the state", reason })).boxed();
            }
            state.freeze();
            if let Some(newest) = state.frozen.back_mut() {
                newest.checkpoints.push(sender);
            }
        }
        self.folder.wake();
        let gone = |_| {
            let reason = "the store was closed, or its state replaced".to_owned();
            Err(StoreError::Failed { action: "hash the state", reason })
        };
        receiver.map(move |answer| answer.unwrap_or_else(gone)).boxed()
    }

    async fn snapshot(&self) -> Result<Arc<dyn StoreSnapshot>, StoreError> {
        self.folder.fold().await?;
        let view = self.shared.state.lock().view()?;
        let hash = database::root(&view)?;
        let (of_mark, cache_bytes) = (view.clone(), self.shared.cache_bytes);
        let applied = self.shared.reading(move || of_mark.get(cache_bytes, &keys::mark())).await?;
        Ok(Arc::new(Snapshot { shared: self.shared.clone(), view, hash, applied, config: self.config.clone() }))
    }

    async fn install(&self) -> Result<Box<dyn StoreInstall>, StoreError> {
        let shared = self.shared.clone();
        let next = blocking(move || shared.next_state()).await?;
        let (config, folder) = (self.config.clone(), self.folder.clone());
        let live = self.shared.state.lock().view()?;
        Ok(install::begin(next, config, folder, live))
    }

    fn parts(&self) -> Option<Arc<dyn StoreParts>> {
        Some(Arc::new(Parts { shared: self.shared.clone() }))
    }

    fn usage(&self) -> Option<StoreUsage> {
        self.shared.state.lock().usage
    }

    fn folds(&self) -> Option<Reading> {
        Some(self.shared.folds.read())
    }

    fn failure(&self) -> Option<String> {
        self.shared.state.lock().failure.clone()
    }

    async fn close(&self) -> Result<(), StoreError> {
        let closed = self.folder.close().await;
        self.lock.lock().take();
        closed
    }
}
