//! The store on disk: a memtable of ours over haematite, a content-addressed tree.
//!
//! A commit only changes the memtable, because the replicated log is the write-ahead log. A thread of its own *folds*
//! the memtable into haematite, atomically with the applied mark in it, when it is large or old enough, and on flush.
//! Reads look into the memtable, then into the one that is being folded, then into a view of the tree.
//!
//! Layout of a data directory: `LOCK` (held while the store is open), `CURRENT` (names the live state: `current`), `USAGE` (a hint
//! of how much of it lives), and `state-000001` and so on (a haematite database each; a snapshot is installed as the
//! next one, and what lives moves to the next one when most of the disk space is taken by what does not).

mod check;
mod compact;
mod current;
mod database;
mod fold;
mod healing;
mod install;
mod memtable;
mod nodes;
mod scan;

use std::{
    cmp,
    collections::VecDeque,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use haematite::{BranchView, Hash};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use self::{
    fold::Folder,
    healing::{Damages, Parts},
    memtable::{MemTable, Overlay},
    nodes::Nodes,
    scan::{Readers, Walk},
};
use super::{
    PartHash, StateHash, StoreError, StoreInstall, StoreParts, StoreSnapshot, StoreUsage,
    engine::{Changes, Engine, Layered, Page},
    keys,
    value::Value,
};

/// Keeps state in a directory. See the module's description.
pub type HaematiteStore = Layered<HaematiteEngine>;

/// Entries looked at in one step of a range read, at most.
const STEP: usize = 1024;

/// When to fold, and how much to cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaematiteConfig {
    /// Fold when the memtable holds this many bytes.
    pub fold_bytes: usize,
    /// Fold what is older than this.
    pub fold_interval: Duration,
    /// Bytes of tree nodes kept in memory.
    pub cache_bytes: usize,
    /// Memtables that may wait to be folded. A checkpoint closes one whatever its size; one too many is refused.
    pub frozen_memtables: usize,
    /// Compact when the state takes more than this many times the bytes that live. At 1 it would never rest.
    pub compact_factor: u64,
    /// Compact only when more bytes than this would be given back.
    pub compact_garbage: u64,
    /// Bytes of internal nodes kept in memory to tell how much lives.
    pub accounting_cache_bytes: usize,
    /// The node whose state it is: another node's is refused. None: whosever it is.
    pub owner: Option<u64>,
}

impl Default for HaematiteConfig {
    fn default() -> Self {
        Self {
            fold_bytes: 12 << 20,
            fold_interval: Duration::from_secs(5),
            cache_bytes: 16 << 20,
            frozen_memtables: 4,
            compact_factor: 2,
            compact_garbage: 64 << 20,
            accounting_cache_bytes: 2 << 20,
            owner: None,
        }
    }
}

/// The key space of a [`HaematiteStore`].
pub struct HaematiteEngine {
    shared: Arc<Shared>,
    folder: Folder,
    config: HaematiteConfig,
    /// Unlocks when it is dropped: at close, even while somebody still holds the store.
    lock: Mutex<Option<File>>,
}

/// What readers and the folding thread share.
struct Shared {
    root: PathBuf,
    state: Mutex<State>,
    /// After every fold.
    folded: Notify,
    /// Number of the next state to be made beside the live one.
    next_state: AtomicU64,
    cache_bytes: usize,
    damages: Damages,
}

#[derive(Default)]
struct State {
    active: MemTable,
    /// On their way into the tree, oldest first; each stays until it is there.
    frozen: VecDeque<Frozen>,
    /// The tree as of the newest fold; none once the store is closed.
    view: Option<Arc<View>>,
    /// None until it is counted.
    usage: Option<StoreUsage>,
    /// Why the newest fold failed; none when it did not.
    failure: Option<String>,
}

/// The directory of a state, which stays as long as somebody reads it.
struct StateDir {
    path: PathBuf,
    retired: AtomicBool,
    readers: Readers,
}

impl StateDir {
    fn new(path: PathBuf) -> Self {
        Self { path, retired: AtomicBool::new(false), readers: Readers::default() }
    }

    /// Another state is live: this one goes with its last reader, or at the next start.
    fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        if *self.retired.get_mut() {
            let path = std::mem::take(&mut self.path);
            // The last reader may be a task, and many files take a while.
            std::thread::spawn(move || compact::remove(&path));
        }
    }
}

/// A moment of the tree, and a claim on the files that it is read from.
struct View {
    tree: BranchView,
    /// After the tree: its files go last.
    dir: Arc<StateDir>,
}

impl View {
    fn new(tree: BranchView, dir: Arc<StateDir>) -> Self {
        Self { tree, dir }
    }

    /// The value under a key. Blocks.
    fn get(&self, cache_bytes: usize, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        database::get(&self.tree, key).or_else(|_| {
            // Haematite does not say which node it could not read; a walk of our own does.
            let (root, to) = (database::root_node(&self.tree)?, [key, &[0]].concat());
            self.dir.read(cache_bytes, |nodes| Ok(Walk::begin(nodes, root, key, &to)?.next()?.map(|(_, value)| value)))
        })
    }
}

impl std::ops::Deref for View {
    type Target = BranchView;

    fn deref(&self) -> &BranchView {
        &self.tree
    }
}

/// A hash and a mark.
type Checkpointed = Result<(StateHash, Option<Bytes>), StoreError>;

/// A memtable that takes no more changes.
struct Frozen {
    changes: Arc<MemTable>,
    /// Who wants the hash of the state that ends with these changes.
    checkpoints: Vec<oneshot::Sender<Checkpointed>>,
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
        });
        let folder = Folder::start(shared.clone(), dir.join(&found.name), config.clone())?;
        if found.is_new {
            compact::sync_rest(&dir.join(&found.name))?;
            current::establish(dir, config.owner)?;
        }
        Ok(Self::over(HaematiteEngine { shared, folder, config, lock: Mutex::new(Some(lock)) }))
    }
}

impl State {
    fn view(&self) -> Result<Arc<View>, StoreError> {
        self.view.clone().ok_or(StoreError::Closed)
    }

    /// What the memtables say of a key: nothing, that it is deleted, or its value.
    fn memory(&self, key: &[u8]) -> Option<Option<Value>> {
        self.newest_first().find_map(|table| table.get(key))
    }

    fn newest_first(&self) -> impl Iterator<Item = &MemTable> {
        [&self.active].into_iter().chain(self.frozen.iter().rev().map(|frozen| &*frozen.changes))
    }

    /// What the memtables say of a range, the newer ones first in force; at most `limit` entries.
    fn overlay(&self, from: &[u8], to: &[u8], limit: usize) -> Overlay {
        Overlay::of(self.newest_first(), (from, to), limit)
    }

    /// Closes the memtable, if there is anything in it.
    fn freeze(&mut self) {
        if !self.active.is_empty() {
            let changes = Arc::new(std::mem::take(&mut self.active));
            self.frozen.push_back(Frozen { changes, checkpoints: Vec::new() });
        }
    }

    /// Bytes that wait behind the memtable that is being folded.
    fn waiting_bytes(&self) -> usize {
        self.active.bytes() + self.frozen.iter().skip(1).map(|frozen| frozen.changes.bytes()).sum::<usize>()
    }
}

impl Shared {
    /// The directory for another state beside the live one, which nobody else is given.
    fn next_state(&self) -> Result<PathBuf, StoreError> {
        let state = self.root.join(format!("state-{:06}", self.next_state.fetch_add(1, Ordering::Relaxed)));
        current::begin(&state)?;
        Ok(state)
    }

    /// A range over memtables and tree. Blocks.
    fn range(&self, from: &[u8], to: &[u8], limit: usize, max_bytes: usize) -> Result<Page, StoreError> {
        let (mut page, mut bytes, mut cursor) = (Page::new(), 0, Bytes::copy_from_slice(from));
        while cursor < to && page.len() < limit && bytes < max_bytes {
            // Each step sees one moment: what leaves the memtables is in the view that is taken with them.
            let (Overlay { entries, cuts }, view) = {
                let state = self.state.lock();
                (state.overlay(&cursor, to, STEP), state.view()?)
            };
            let end = match entries.last_key_value() {
                Some((last, _)) if entries.len() == STEP => [last, &[0][..]].concat().into(),
                _ => Bytes::copy_from_slice(to),
            };
            let root = database::root_node(&view)?;
            view.dir.read(self.cache_bytes, |nodes| {
                // What the tree still has of a cut is stepped over.
                let after_cut = |at: &[u8]| cuts.end_around(at).cloned();
                let from = after_cut(&cursor).unwrap_or_else(|| cursor.clone());
                let mut tree = Walk::begin(nodes, root, &from, &end)?;
                let mut newer = entries.into_iter().peekable();
                while page.len() < limit && bytes < max_bytes {
                    while let Some(behind) = tree.peek()?.and_then(after_cut) {
                        tree = Walk::begin(nodes, root, &behind, &end)?;
                    }
                    let order = match (tree.peek()?, newer.peek()) {
                        (None, None) => break,
                        (Some(stored), Some((newer, _))) => stored.cmp(newer),
                        (Some(_), None) => cmp::Ordering::Less,
                        (None, Some(_)) => cmp::Ordering::Greater,
                    };
                    if order == cmp::Ordering::Equal {
                        tree.skip();
                    }
                    let next = if order == cmp::Ordering::Less { tree.next()? } else { newer.next().and_then(present) };
                    let Some((key, value)) = next else { continue };
                    bytes += value.len();
                    page.push((key, value));
                }
                Ok(())
            })?;
            cursor = end;
        }
        Ok(page)
    }
}

/// An entry of a memtable, unless it says that there is none.
fn present((key, value): (Bytes, Option<Value>)) -> Option<(Bytes, Bytes)> {
    Some((key, value?.bytes()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(StoreError::Failed { action: "finish a blocking read", reason: error.to_string() }))
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

    fn failure(&self) -> Option<String> {
        self.shared.state.lock().failure.clone()
    }

    async fn close(&self) -> Result<(), StoreError> {
        let closed = self.folder.close().await;
        self.lock.lock().take();
        closed
    }
}

struct Snapshot {
    shared: Arc<Shared>,
    view: Arc<View>,
    hash: StateHash,
    applied: Option<Bytes>,
    config: HaematiteConfig,
}

#[async_trait]
impl StoreSnapshot for Snapshot {
    fn applied(&self) -> Option<Bytes> {
        self.applied.clone()
    }

    fn root_hash(&self) -> StateHash {
        self.hash
    }

    async fn page(&self, after: Option<&[u8]>, max_bytes: usize) -> Result<Page, StoreError> {
        let (view, cache_bytes) = (self.view.clone(), self.config.cache_bytes);
        let from = Bytes::from(after.map_or(vec![0], |after| [after, &[0]].concat()));
        self.shared
            .reading(move || {
                let root = database::root_node(&view)?;
                view.dir.read(cache_bytes, |nodes| {
                    let mut walk = Walk::begin(nodes, root, &from, database::END)?;
                    let (mut page, mut bytes) = (Page::new(), 0);
                    while bytes < max_bytes
                        && let Some((key, value)) = walk.next()?
                    {
                        bytes += key.len() + value.len();
                        page.push((key, value));
                    }
                    Ok(page)
                })
            })
            .await
    }

    async fn parts(&self) -> Result<Option<Vec<PartHash>>, StoreError> {
        let (view, cache) = (self.view.clone(), self.config.accounting_cache_bytes);
        self.shared
            .reading(move || {
                let nodes = Nodes::open(&view.dir.path, cache)?;
                let mut parts = Vec::new();
                nodes.walk(database::root_node(&view)?, &mut |hash| {
                    parts.push(hash.into_bytes());
                    Ok(())
                })?;
                // Equal subtrees are one.
                parts.sort_unstable();
                parts.dedup();
                Ok(Some(parts))
            })
            .await
    }

    async fn part(&self, hash: PartHash) -> Result<Bytes, StoreError> {
        let view = self.view.clone();
        let read = move || check::read_file(&database::nodes_dir(&view.dir.path), &Hash::from_bytes(hash));
        self.shared.reading(read).await.map(|(_, bytes)| bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Frame, StoredBatch},
        proto::v1::Message,
        store::{DurableStore as _, WriteBatch},
    };

    const COPIES: usize = 64;

    fn open(dir: &Path) -> HaematiteStore {
        let config = HaematiteConfig {
            fold_bytes: usize::MAX / 4,
            fold_interval: Duration::from_secs(3600),
            ..HaematiteConfig::default()
        };
        HaematiteStore::open(dir, config).unwrap()
    }

    /// As the copies of an entry: all of one's bytes, or of some of them.
    fn copies() -> Vec<(Arc<str>, StoredBatch)> {
        let message = |byte: u8| Message { payload: vec![byte; 400_000].into(), ..Message::default() };
        let frame = Frame::encode(&[1, 2, 3].map(message));
        let copy = |number: usize| {
            let frame = if number.is_multiple_of(2) { frame.clone() } else { frame.pick(&[0, 2]) };
            let batch = StoredBatch { first_seq: 0, time_ms: 7, schema_id: 0, expires: false, frame };
            (Arc::from(format!("t{number}:0")), batch)
        };
        (0..COPIES).map(copy).collect()
    }

    #[tokio::test]
    async fn the_batches_of_a_large_commit_take_no_memory_until_they_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let (at_once, one_by_one) = (open(&dir.path().join("a")), open(&dir.path().join("b")));
        let mark = Some(Bytes::from_static(b"1"));
        at_once.commit(WriteBatch { appends: copies(), applied: mark.clone(), ..WriteBatch::default() }).await.unwrap();
        {
            let state = at_once.engine.shared.state.lock();
            assert!(state.active.bytes() > 50 << 20, "they count as what they will take");
            let encoded = state.active.entries().values().flatten().filter_map(|value| match value {
                Value::Encoded(bytes) => Some(bytes.len()),
                Value::Batch(_) => None,
            });
            assert!(encoded.sum::<usize>() < 100_000);
        }
        // Readers do not know the difference.
        for (stream, batch) in copies().into_iter().take(2) {
            assert_eq!(at_once.read_batches(&stream, 0, 1).await.unwrap(), [batch]);
        }
        for copy in copies() {
            let applied = mark.clone();
            one_by_one.commit(WriteBatch { appends: vec![copy], applied, ..WriteBatch::default() }).await.unwrap();
        }
        assert_eq!(at_once.root_hash().await.unwrap(), one_by_one.root_hash().await.unwrap());
        for (stream, batch) in copies().into_iter().skip(COPIES - 2) {
            assert_eq!(at_once.read_batches(&stream, 0, 1).await.unwrap(), [batch]);
        }
        for store in [at_once, one_by_one] {
            store.close().await.unwrap();
        }
    }
}
