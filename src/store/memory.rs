//! A store in memory, with a model of what a power cut would leave: for tests, simulations and embedders that want
//! no files.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::RwLock;

use super::{
    PlainKeys, StateHash, StoreError, StoreInstall, StoreSnapshot, StoreUsage,
    engine::{Changes, Cut, Engine, Layered, Page},
    keys,
};

/// Keeps everything in memory. What was not flushed is lost in [`MemoryStore::crash`].
pub type MemoryStore = Layered<MemoryEngine>;

type Map = BTreeMap<Bytes, Bytes>;

/// The key space of a [`MemoryStore`].
#[derive(Default)]
pub struct MemoryEngine {
    state: Arc<RwLock<State>>,
    flush_every: Option<u64>,
    writes: AtomicU64,
}

#[derive(Default)]
struct State {
    current: Arc<Map>,
    durable: Arc<Map>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::over(MemoryEngine::default())
    }

    /// An empty store that flushes by itself after every `commits` commits.
    pub fn flushing_every(commits: u64) -> Self {
        Self::over(MemoryEngine { flush_every: Some(commits.max(1)), ..MemoryEngine::default() })
    }

    /// What a power cut leaves of this store: everything up to the last flush.
    #[must_use]
    pub fn crash(&self) -> Self {
        let durable = self.engine.state.read().durable.clone();
        let state = State { current: durable.clone(), durable };
        Self::over(MemoryEngine {
            state: Arc::new(RwLock::new(state)),
            flush_every: self.engine.flush_every,
            writes: AtomicU64::new(0),
        })
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.state.read().current.get(key).cloned())
    }

    async fn range(&self, from: &[u8], to: &[u8], limit: usize, max_bytes: usize) -> Result<Page, StoreError> {
        Ok(page(&self.state.read().current, Bound::Included(from), Bound::Excluded(to), limit, max_bytes))
    }

    fn recent(&self, from: &[u8], to: &[u8], max_bytes: usize) -> Page {
        page(&self.state.read().current, Bound::Included(from), Bound::Excluded(to), usize::MAX, max_bytes)
    }

    async fn write(&self, changes: Changes) -> Result<(), StoreError> {
        let mut state = self.state.write();
        let map = Arc::make_mut(&mut state.current);
        for Cut { range, .. } in changes.cuts.iter().filter(|cut| !cut.range.is_empty()) {
            let gone: Vec<Bytes> = map.range(range.clone()).map(|(key, _)| key.clone()).collect();
            gone.iter().for_each(|key| drop(map.remove(key)));
        }
        for (key, value) in changes.writes {
            match value {
                Some(value) => map.insert(key, value.bytes()),
                None => map.remove(&key),
            };
        }
        let written = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
        if self.flush_every.is_some_and(|every| written.is_multiple_of(every)) {
            state.durable = state.current.clone();
        }
        Ok(())
    }

    async fn flush(&self) -> Result<(), StoreError> {
        let mut state = self.state.write();
        state.durable = state.current.clone();
        Ok(())
    }

    async fn durable(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.state.read().durable.get(key).cloned())
    }

    fn checkpoint(&self) -> BoxFuture<'static, Result<(StateHash, Option<Bytes>), StoreError>> {
        let map = {
            let mut state = self.state.write();
            state.durable = state.current.clone();
            state.current.clone()
        };
        async move { Ok((hash(&map), map.get(&keys::mark()).cloned())) }.boxed()
    }

    async fn snapshot(&self) -> Result<Arc<dyn StoreSnapshot>, StoreError> {
        self.flush().await?;
        Ok(Arc::new(Snapshot { map: self.state.read().current.clone() }))
    }

    async fn install(&self) -> Result<Box<dyn StoreInstall>, StoreError> {
        Ok(Box::new(Install { state: self.state.clone(), map: Map::new() }))
    }

    fn usage(&self) -> Option<StoreUsage> {
        let map = self.state.read().current.clone();
        let bytes = map.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
        Some(StoreUsage { live_bytes: bytes, disk_bytes: bytes })
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.flush().await
    }
}

struct Snapshot {
    map: Arc<Map>,
}

#[async_trait]
impl StoreSnapshot for Snapshot {
    fn applied(&self) -> Option<Bytes> {
        self.map.get(&keys::mark()).cloned()
    }

    fn root_hash(&self) -> StateHash {
        hash(&self.map)
    }

    async fn page(&self, after: Option<&[u8]>, max_bytes: usize) -> Result<Page, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(page(&self.map, from, Bound::Unbounded, usize::MAX, max_bytes))
    }
}

#[async_trait]
impl PlainKeys for Snapshot {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.map.get(&keys::plain(key)).cloned())
    }

    async fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Page, StoreError> {
        let (from, to) = keys::plain_range(prefix, after);
        let page = page(&self.map, Bound::Included(&from[..]), Bound::Excluded(&to[..]), limit, usize::MAX);
        Ok(page.into_iter().map(|(key, value)| (key.slice(1..), value)).collect())
    }
}

struct Install {
    state: Arc<RwLock<State>>,
    map: Map,
}

#[async_trait]
impl StoreInstall for Install {
    async fn put(&mut self, page: Page) -> Result<(), StoreError> {
        self.map.extend(page);
        Ok(())
    }

    fn plain_keys(&self) -> Option<Arc<dyn PlainKeys>> {
        Some(Arc::new(Snapshot { map: Arc::new(self.map.clone()) }))
    }

    async fn finish(&mut self, expected: StateHash) -> Result<(), StoreError> {
        let found = hash(&self.map);
        if found != expected {
            let detail = format!("its hash is {found}, not {expected}");
            return Err(StoreError::Corrupt { what: "the snapshot".into(), detail });
        }
        let map = Arc::new(std::mem::take(&mut self.map));
        *self.state.write() = State { current: map.clone(), durable: map };
        Ok(())
    }
}

fn hash(map: &Map) -> StateHash {
    let mut hasher = blake3::Hasher::new();
    for (key, value) in map {
        for part in [key, value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    StateHash(*hasher.finalize().as_bytes())
}

fn page(map: &Map, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize, max_bytes: usize) -> Page {
    let mut bytes = 0;
    let more = |(_, value): &(&Bytes, &Bytes)| {
        let go_on = bytes < max_bytes;
        bytes += value.len();
        go_on
    };
    map.range::<[u8], _>((from, to))
        .take_while(more)
        .take(limit)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
