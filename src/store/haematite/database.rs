//! One haematite database with one named branch: everything that touches haematite's own types for writing.
//!
//! Haematite deletes a key at the price of reading, checking and building its leaf again, so a stream of many batches
//! took a minute to go, and so would the idempotency keys that a busy channel forgets in a minute. Its tree can also lose a
//! whole range, of which only the two ends are read; but a branch has no such operation. So ranges of many keys are cut out
//! of the tree first, a second branch begins at what is left, and the other changes are committed there. It is the state
//! from that commit on: until then it has none, and is dropped when it is found at the next open.

#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    fmt::Display,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use haematite::{
    BranchHandle, BranchKind, BranchRefStore, BranchRegistry, BranchView, CommitDurability, CommitRequest, Database,
    DatabaseConfig, DiskStore, Hash, NodeCacheBudget, NodeStore as _, ReclaimStart, Retention, RuntimeOptions,
    TreePolicy, create_branch_with_kind, db::branches::BranchDatabase, tree::delete_range,
};

use super::{
    config::HaematiteConfig,
    memtable::{Cuts, Entries},
    nodes::Nodes,
    refusal::{no_room, write_refusal},
    runs::{RUN, Run, runs},
    scan::Walk,
};
use crate::{
    files::WAY_OUT,
    store::{StateHash, StoreError, keys, value::Value},
};

/// There is one shard: streams, keys and mark commit together.
pub(super) const SHARD: usize = 0;
/// After every key: ours begin with a letter.
pub(super) const END: &[u8] = b"\x7f";

/// Where haematite records which tree each branch is.
const REFS: &str = "branches";
/// The state is one of these branches; the other comes and goes.
const BRANCHES: [&str; 2] = ["state", "state-cut"];

/// Bytes of nodes that are kept in memory while keys are deleted singly.
const SINGLY_CACHE_BYTES: usize = 1 << 20;

/// Changes of more bytes than this go into the tree in pieces.
const PIECE: usize = 24 << 20;

pub(super) struct OpenDatabase {
    dir: PathBuf,
    cache: NodeCacheBudget,
    policy: TreePolicy,
    database: BranchDatabase,
    refs: BranchRefStore,
    registry: BranchRegistry,
    branch: BranchHandle,
    /// Which of the branches it is.
    name: &'static str,
    /// Commits need increasing timestamps; they are no part of the state's hash.
    timestamp: u64,
    fresh: bool,
    /// See [`PIECE`].
    piece: usize,
}

/// Where a database's only shard keeps its nodes.
pub(super) fn nodes_dir(dir: &Path) -> PathBuf {
    dir.join(format!("shard-{SHARD}")).join("store")
}

pub(super) fn failed(action: &'static str, error: &impl Display) -> StoreError {
    StoreError::Failed { action, reason: error.to_string() }
}

/// What haematite cannot open: the directory that it is in, and the way out.
pub(super) fn unreadable(dir: &Path, error: &dyn Display) -> StoreError {
    StoreError::Corrupt { what: dir.display().to_string(), detail: format!("{error}: {WAY_OUT}") }
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
        let Owner { mut database, .. } = Self::open_owner(dir, config)?;
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

    fn open_owner(dir: &Path, config: &HaematiteConfig) -> Result<Owner, StoreError> {
        let corrupt = |error: &dyn Display| unreadable(dir, error);
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
        let policy = owner.tree_policy();
        let database = BranchDatabase::new(owner, budget).map_err(|error| corrupt(&error))?;
        Ok(Owner { database, policy, cache: budget, fresh })
    }

    fn open_at(dir: &Path, config: &HaematiteConfig, adopted: Option<Hash>) -> Result<Self, StoreError> {
        let corrupt = |error: &dyn Display| unreadable(dir, error);
        let Owner { mut database, policy, cache, fresh } = Self::open_owner(dir, config)?;
        let mut refs =
            BranchRefStore::open_writing(dir.join(REFS), database.writer_lock()).map_err(|error| corrupt(&error))?;
        let registry = BranchRegistry::new();
        let timestamp = haematite::current_timestamp();
        let live = live_branch(&mut refs).map_err(|error| corrupt(&error))?;
        if live.is_none() && !fresh && adopted.is_none() {
            // A state is made with its branch in one go: else `current` takes it for unfinished.
            return Err(StoreError::Corrupt {
                what: dir.join(REFS).display().to_string(),
                detail: format!("the record of the live tree is missing (a `.ref` of this directory): {WAY_OUT}"),
            });
        }
        let name = live.unwrap_or(BRANCHES[0]);
        let branch = if live.is_some() {
            database.open_branch(name, &mut refs, &registry).map_err(|error| corrupt(&error))?
        } else {
            let roots: BTreeMap<_, _> = match adopted {
                Some(root) => BTreeMap::from([(SHARD, root)]),
                None => database.base_roots().map_err(|error| corrupt(&error))?,
            };
            create_branch_with_kind(name, roots, BranchKind::Work, &mut refs, &registry, timestamp)
                .map_err(|error| failed("create a branch", &error))?
        };
        let dir = dir.to_owned();
        Ok(Self { dir, cache, policy, database, refs, registry, branch, name, timestamp, fresh, piece: PIECE })
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
    pub(super) fn write(&mut self, changes: &Entries) -> Result<(), StoreError> {
        self.write_after(&Cuts::default(), changes)
    }

    /// The same after ranges were cut out of the tree.
    pub(super) fn write_after(&mut self, cuts: &Cuts, changes: &Entries) -> Result<(), StoreError> {
        let (runs, many) = (runs(changes), cuts.iter().any(|(_, keys)| keys >= RUN));
        if (many || !runs.is_empty()) && self.write_cutting(cuts, changes, &runs)? {
            return Ok(());
        }
        let branch = self.branch.clone();
        self.delete_singly(&branch, cuts.iter().map(|(cut, _)| cut))?;
        self.commit(&branch, changes.iter(), changes.contains_key(&keys::mark())).map(drop)
    }

    /// Deletes what the tree has of some ranges key by key: of few keys, of none, or of those that no other change comes
    /// with.
    fn delete_singly<'a>(
        &self,
        branch: &BranchHandle,
        ranges: impl Iterator<Item = Range<&'a Bytes>>,
    ) -> Result<(), StoreError> {
        let mut ranges = ranges.peekable();
        if ranges.peek().is_none() {
            return Ok(());
        }
        let root = branch.shard_current_root(SHARD).ok_or_else(|| failed("cut the tree", &"it has no root"))?;
        let nodes = Nodes::open(&self.dir, SINGLY_CACHE_BYTES)?;
        for range in ranges {
            let mut walk = Walk::begin(&nodes, root, range.start, range.end)?;
            while let Some(key) = walk.peek()? {
                branch.delete(SHARD, key).map_err(|error| failed("write a key", &error))?;
                walk.skip();
            }
        }
        Ok(())
    }

    /// Cuts the ranges of many keys and the runs out of the tree, begins the other branch there and commits the rest of the
    /// changes to it. False when nothing was written, because the tree has nothing in them or the rest changes nothing.
    fn write_cutting(&mut self, cuts: &Cuts, changes: &Entries, runs: &[Run<'_>]) -> Result<bool, StoreError> {
        let before = self.branch.shard_current_root(SHARD).ok_or_else(|| failed("cut the tree", &"it has no root"))?;
        let mut nodes = DiskStore::new(nodes_dir(&self.dir), self.cache)
            .map_err(|error| failed("open the nodes of a state", &error))?;
        let mut root = before;
        let large = cuts.iter().filter(|(_, keys)| *keys >= RUN);
        let ranges = large.map(|(cut, _)| (&cut.start[..], Cow::Borrowed(&cut.end[..])));
        let runs_of = runs.iter().map(|run| (run.first, Cow::Owned([run.last, &[0]].concat())));
        for (from, to) in ranges.chain(runs_of) {
            root = delete_range(&mut nodes, root, from, &to, self.policy)
                .map_err(|error| failed("cut the tree", &error))?;
        }
        if root == before {
            return Ok(false);
        }
        nodes.sync_dirty_dirs().map_err(|error| failed("sync the cut tree", &error))?;
        let [one, two] = BRANCHES;
        let other = if self.name == one { two } else { one };
        // Left behind by a try that failed.
        self.refs.remove(other).map_err(|error| failed("remove a branch", &error))?;
        self.timestamp = haematite::current_timestamp().max(self.timestamp + 1);
        let roots = BTreeMap::from([(SHARD, root)]);
        let kind = BranchKind::Work;
        let branch = create_branch_with_kind(other, roots, kind, &mut self.refs, &self.registry, self.timestamp)
            .map_err(|error| failed("create a branch", &error))?;
        self.delete_singly(&branch, cuts.iter().filter(|(_, keys)| *keys < RUN).map(|(cut, _)| cut))?;
        let cut: HashSet<&[u8]> = runs.iter().flat_map(|run| run.keys.iter().copied()).collect();
        let rest = changes.iter().filter(|(key, _)| !cut.contains(&key[..]));
        if !self.commit(&branch, rest, changes.contains_key(&keys::mark()))? {
            return Ok(false);
        }
        self.branch = branch;
        let old = std::mem::replace(&mut self.name, other);
        if let Err(error) = self.refs.remove(old) {
            tracing::warn!(%error, "a branch that is no longer the state was not removed; the next open does it");
        }
        Ok(true)
    }

    /// Whether anything changed. What is too much for memory goes into the tree piece by piece, and is the branch's state
    /// only once all of it is there: until then the branch's record names the tree as it was. Only what is `marked`: the
    /// mark comes last, because it changes for certain, and a commit that changes nothing leaves the record as it is.
    fn commit<'a>(
        &mut self,
        branch: &BranchHandle,
        changes: impl Iterator<Item = (&'a Bytes, &'a Option<Value>)>,
        marked: bool,
    ) -> Result<bool, StoreError> {
        let (mut mark, mut bytes, piece) = (None, 0, if marked { self.piece } else { usize::MAX });
        for (key, value) in changes {
            if *key == keys::mark() {
                mark = Some((key, value));
                continue;
            }
            let next = key.len() + value.as_ref().map_or(0, Value::len);
            if bytes > 0 && bytes + next > piece {
                self.advance(branch, false)?;
                bytes = 0;
            }
            put(branch, key, value.as_ref())?;
            bytes += next;
        }
        if let Some((key, value)) = mark {
            put(branch, key, value.as_ref())?;
        }
        self.advance(branch, true)
    }

    /// Takes what was put into the tree; `durably` makes that the branch's state. Whether anything changed.
    fn advance(&mut self, branch: &BranchHandle, durably: bool) -> Result<bool, StoreError> {
        self.timestamp = haematite::current_timestamp().max(self.timestamp + 1);
        let durability =
            if durably { CommitDurability::Durable { refs: &mut self.refs } } else { CommitDurability::Volatile };
        let request = CommitRequest { durability, extra_parents: &[], timestamp: self.timestamp, note: None };
        let outcome = self.database.commit(branch, &self.registry, request);
        let refused = || no_room(&self.dir).or_else(|| write_refusal(&nodes_dir(&self.dir)));
        outcome.map(|outcome| outcome.advanced).map_err(|error| match refused() {
            // The library then says something else, such as that a node is not valid.
            Some(why) => failed("commit to haematite", &format!("{why} ({error})")),
            None => failed("commit to haematite", &error),
        })
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

fn put(branch: &BranchHandle, key: &Bytes, value: Option<&Value>) -> Result<(), StoreError> {
    let written = match value {
        Some(value) => branch.put(SHARD, key, value.bytes()),
        None => branch.delete(SHARD, key),
    };
    written.map_err(|error| failed("write a key", &error))
}

/// What opening a database gives.
struct Owner {
    database: BranchDatabase,
    policy: TreePolicy,
    cache: NodeCacheBudget,
    fresh: bool,
}

/// The branch that is the state; none in a database that has none. Of two, the younger is, once anything was committed
/// to it; the other is removed.
fn live_branch(refs: &mut BranchRefStore) -> Result<Option<&'static str>, haematite::BranchRefError> {
    let [one, two] = BRANCHES;
    let committed = |name: &str| refs.get(name).map(|record| (record.created, record.seq));
    let (live, dead) = match (committed(one), committed(two)) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Ok(Some(one)),
        (None, Some(_)) => return Ok(Some(two)),
        (Some((first, seq)), Some((second, _))) if first > second => {
            if seq > 0 {
                (one, two)
            } else {
                (two, one)
            }
        }
        (Some(_), Some((_, seq))) => {
            if seq > 0 {
                (two, one)
            } else {
                (one, two)
            }
        }
    };
    refs.remove(dead)?;
    Ok(Some(live))
}
