//! One haematite database with one named branch: everything that touches haematite's own types for writing.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use haematite::{
    BranchHandle, BranchKind, BranchRefStore, BranchRegistry, BranchView, CommitDurability, CommitRequest, Database,
    DatabaseConfig, Hash, NodeCacheBudget, ReclaimStart, Retention, RuntimeOptions, create_branch_with_kind,
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
    fresh: bool,
}

/// Where a database's only shard keeps its nodes.
pub(super) fn nodes_dir(dir: &Path) -> PathBuf {
    dir.join(format!("shard-{SHARD}")).join("store")
}

pub(super) fn failed(action: &'static str, error: &impl Display) -> StoreError {
    StoreError::Failed { action, reason: error.to_string() }
}

pub(super) fn get(view: &BranchView, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
    view.get(key).map(|value| value.map(Bytes::from)).map_err(|error| failed("read a key", &error))
}

pub(super) fn root_node(view: &BranchView) -> Result<Hash, StoreError> {
    view.root(SHARD).ok_or_else(|| failed("hash the state", &"the branch has no root"))
}

pub(super) fn root(view: &BranchView) -> Result<StateHash, StoreError> {
    root_node(view).map(|root| StateHash(root.into_bytes()))
}

impl OpenDatabase {
    /// Opens or makes the database in a directory whose parent exists. Blocks.
    pub(super) fn open(dir: &Path, config: &HaematiteConfig) -> Result<Self, StoreError> {
        Self::open_at(dir, config, None)
    }

    /// Makes an empty database for [`OpenDatabase::adopt`]. Blocks.
    pub(super) fn prepare(dir: &Path, config: &HaematiteConfig) -> Result<(), StoreError> {
        let (mut database, _) = Self::open_owner(dir, config)?;
        let based = database.base_roots();
        if let Err(error) = database.close() {
            tracing::debug!(?error, "a haematite database was dropped instead of closed");
        }
        based.map(drop).map_err(|error| failed("create a database", &error))
    }

    /// Opens a prepared database whose state is a tree that was put among its nodes. Blocks.
    pub(super) fn adopt(dir: &Path, config: &HaematiteConfig, root: Hash) -> Result<Self, StoreError> {
        Self::open_at(dir, config, Some(root))
    }

    fn open_owner(dir: &Path, config: &HaematiteConfig) -> Result<(BranchDatabase, bool), StoreError> {
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
                // Reclaiming costs CPU for every live node, again and again: `compact` gives the space back.
                retention: Retention::KeepAll,
            };
            Database::create(settings, runtime).map_err(|error| failed("create a database", &error))?
        } else {
            Database::open(dir, runtime).map_err(|error| corrupt(&error))?
        };
        Ok((BranchDatabase::new(owner, budget).map_err(|error| corrupt(&error))?, fresh))
    }

    fn open_at(dir: &Path, config: &HaematiteConfig, adopted: Option<Hash>) -> Result<Self, StoreError> {
        let corrupt =
            |error: &dyn Display| StoreError::Corrupt { what: dir.display().to_string(), detail: error.to_string() };
        let (mut database, fresh) = Self::open_owner(dir, config)?;
        let mut refs = BranchRefStore::open_writing(dir.join("branches"), database.writer_lock())
            .map_err(|error| corrupt(&error))?;
        let registry = BranchRegistry::new();
        let timestamp = haematite::current_timestamp();
        let branch = if refs.get(BRANCH).is_some() {
            database.open_branch(BRANCH, &mut refs, &registry).map_err(|error| corrupt(&error))?
        } else {
            let roots: BTreeMap<_, _> = match adopted {
                Some(root) => BTreeMap::from([(SHARD, root)]),
                None => database.base_roots().map_err(|error| corrupt(&error))?,
            };
            create_branch_with_kind(BRANCH, roots, BranchKind::Work, &mut refs, &registry, timestamp)
                .map_err(|error| failed("create a branch", &error))?
        };
        Ok(Self { database, refs, registry, branch, timestamp, fresh })
    }

    /// Whether there was nothing before it was opened.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Bytes of nodes written since it was opened.
    pub(super) fn bytes_written(&self) -> u64 {
        self.database.store_counts().node_bytes_written
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
    pub(super) fn view(&self) -> Result<BranchView, StoreError> {
        let view = self.database.branch_reader().view(&self.branch);
        view.map_err(|error| failed("open a view", &error))
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
