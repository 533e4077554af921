//! One haematite database with one named branch: everything that touches haematite's own types for writing.

use std::{collections::BTreeMap, fmt::Display, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use haematite::{
    BranchHandle, BranchKind, BranchRefStore, BranchRegistry, BranchView, CommitDurability, CommitRequest, Database,
    DatabaseConfig, NodeCacheBudget, ReclaimStart, Retention, RuntimeOptions, create_branch_with_kind,
    db::branches::BranchDatabase,
};

use super::{HaematiteConfig, MemTable};
use crate::store::{StateHash, StoreError};

/// There is one shard: streams, keys and mark commit together.
pub(super) const SHARD: usize = 0;
/// After every key: ours begin with a letter.
pub(super) const END: &[u8] = b"\x7f";

const BRANCH: &str = "state";

pub(super) struct OpenDatabase {
    database: BranchDatabase,
    refs: BranchRefStore,
    registry: BranchRegistry,
    branch: BranchHandle,
    /// Commits need increasing timestamps; they are no part of the state's hash.
    timestamp: u64,
}

pub(super) fn failed(action: &'static str, error: &impl Display) -> StoreError {
    StoreError::Failed { action, reason: error.to_string() }
}

pub(super) fn get(view: &BranchView, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
    view.get(key).map(|value| value.map(Bytes::from)).map_err(|error| failed("read a key", &error))
}

pub(super) fn root(view: &BranchView) -> Result<StateHash, StoreError> {
    let root = view.root(SHARD).ok_or_else(|| failed("hash the state", &"the branch has no root"))?;
    Ok(StateHash(root.into_bytes()))
}

impl OpenDatabase {
    /// Opens or makes the database in a directory whose parent exists. Blocks.
    pub(super) fn open(dir: &Path, config: &HaematiteConfig) -> Result<Self, StoreError> {
        let corrupt =
            |error: &dyn Display| StoreError::Corrupt { what: dir.display().to_string(), detail: error.to_string() };
        let budget = NodeCacheBudget::bytes(config.cache_bytes).map_err(|error| failed("size the cache", &error))?;
        let runtime =
            RuntimeOptions { long_wait_interval: Duration::from_secs(10), reclaim_start: ReclaimStart::AtOpen };
        let fresh = !dir.exists();
        let owner = if fresh {
            let settings = DatabaseConfig {
                data_dir: dir.to_owned(),
                shard_count: 1,
                distributed: None,
                executor_threads: Some(1),
                node_cache_budget: Some(budget),
                // Reclaiming costs CPU for every live node, again and again: see the module's description.
                retention: Retention::KeepAll,
            };
            Database::create(settings, runtime).map_err(|error| failed("create a database", &error))?
        } else {
            Database::open(dir, runtime).map_err(|error| corrupt(&error))?
        };
        let mut database = BranchDatabase::new(owner, budget).map_err(|error| corrupt(&error))?;
        let mut refs = BranchRefStore::open_writing(dir.join("branches"), database.writer_lock())
            .map_err(|error| corrupt(&error))?;
        let registry = BranchRegistry::new();
        let timestamp = haematite::current_timestamp();
        let branch = if refs.get(BRANCH).is_some() {
            database.open_branch(BRANCH, &mut refs, &registry).map_err(|error| corrupt(&error))?
        } else {
            let roots: BTreeMap<_, _> = database.base_roots().map_err(|error| corrupt(&error))?;
            create_branch_with_kind(BRANCH, roots, BranchKind::Work, &mut refs, &registry, timestamp)
                .map_err(|error| failed("create a branch", &error))?
        };
        Ok(Self { database, refs, registry, branch, timestamp })
    }

    /// Writes changes durably and all together. Blocks.
    pub(super) fn write(&mut self, changes: &MemTable) -> Result<(), StoreError> {
        for (key, value) in changes {
            let written = match value {
                Some(value) => self.branch.put(SHARD, key, value),
                None => self.branch.delete(SHARD, key),
            };
            written.map_err(|error| failed("write a key", &error))?;
        }
        self.timestamp = haematite::current_timestamp().max(self.timestamp + 1);
        let request = CommitRequest {
            durability: CommitDurability::Durable { refs: &mut self.refs },
            extra_parents: &[],
            timestamp: self.timestamp,
            note: None,
        };
        self.database
            .commit(&self.branch, &self.registry, request)
            .map(drop)
            .map_err(|error| failed("commit to haematite", &error))
    }

    /// The tree as it is now.
    pub(super) fn view(&self) -> Result<Arc<BranchView>, StoreError> {
        let view = self.database.branch_reader().view(&self.branch);
        view.map(Arc::new).map_err(|error| failed("open a view", &error))
    }

    /// Releases everything. Blocks.
    pub(super) fn close(self) {
        let Self { database, refs, registry, branch, .. } = self;
        drop((refs, registry, branch));
        if let Err(error) = database.close() {
            // A reader still holds a view: its files stay open until it is done.
            tracing::debug!(?error, "a haematite database was dropped instead of closed");
        }
    }
}
