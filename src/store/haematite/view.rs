//! A moment of the tree, which can be read for as long as anybody holds it: its directory stays until then.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use haematite::BranchView;

use super::{
    database,
    nodes::Nodes,
    scan::{Readers, Walk},
};
use crate::store::StoreError;

/// The directory of a state, which stays as long as somebody reads it.
pub(super) struct StateDir {
    pub(super) path: PathBuf,
    pub(super) retired: AtomicBool,
    pub(super) readers: Readers,
}

impl StateDir {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, retired: AtomicBool::new(false), readers: Readers::default() }
    }

    /// Another state is live: this one goes with its last reader, or at the next start.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Lends a reader of the state's nodes. Blocks. `cache_bytes` are those of all readers together.
    pub(super) fn read<T>(
        &self,
        cache_bytes: usize,
        work: impl FnOnce(&Nodes) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.readers.lend(&self.path, cache_bytes, work)
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        if *self.retired.get_mut() {
            let path = std::mem::take(&mut self.path);
            // The last reader may be a task, and many files take a while.
            std::thread::spawn(move || remove(&path));
        }
    }
}

/// A moment of the tree, and a claim on the files that it is read from.
pub(super) struct View {
    pub(super) tree: BranchView,
    /// After the tree: its files go last.
    pub(super) dir: Arc<StateDir>,
}

impl View {
    pub(super) fn new(tree: BranchView, dir: Arc<StateDir>) -> Self {
        Self { tree, dir }
    }

    /// The value under a key. Blocks.
    pub(super) fn get(&self, cache_bytes: usize, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
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

/// Removes a state that nobody uses; the next start removes what is left of it.
pub(super) fn remove(state: &Path) {
    if let Err(error) = fs::remove_dir_all(state)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, dir = %state.display(), "cannot remove a state that is not live");
    }
}
