//! One haematite database with one named branch: everything that touches haematite's own types for writing.
//!
//! Haematite deletes a key at the price of reading, checking and building its leaf again, so a stream of many batches
//! took a minute to go, and so would the idempotency keys that a busy channel forgets in a minute. Its tree can also lose a
//! whole range, of which only the two ends are read; but a branch has no such operation. So ranges of many keys are cut out
//! of the tree first, a second branch begins at what is left, and the other changes are committed there. It is the state
//! from that commit on: until then it has none, and is dropped when it is found at the next open.

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
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::{
    HaematiteConfig,
    memtable::{Cuts, Entries},
    nodes::Nodes,
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

/// Bytes by which it is tried whether a file system takes any.
const PROBE: usize = 4096;

/// Changes of more bytes than this go into the tree in pieces.
const PIECE: usize = 24 << 20;

/// Bytes of nodes that are kept in memory while keys are deleted singly.
const SINGLY_CACHE_BYTES: usize = 1 << 20;

/// Deletes in a row that are cut out of the tree rather than made one by one: beginning a branch takes a few syncs.
const RUN: usize = 64;

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

/// Whether the file system of a directory has no room for another file, and in which way.
fn no_room(dir: &Path) -> Option<String> {
    let room = rustix::fs::statvfs(dir).ok()?;
    let dir = dir.display();
    // Some file systems have no table of files to fill, and say so by a size of 0.
    if room.f_files > 0 && room.f_favail == 0 {
        return Some(format!("the file system of {dir} has no free inodes: remove files, or make it larger"));
    }
    (room.f_bavail == 0).then(|| format!("the file system of {dir} is full: remove files, or make it larger"))
}

/// What the file system of a directory says to a write that it refuses. The library keeps to itself what it was told.
fn write_refusal(dir: &Path) -> Option<String> {
    // A file without a name leaves nothing behind.
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
        // Not every file system has such files.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => return None,
        opened => opened,
    };
    let written = file.and_then(|file| {
        rustix::io::write(&file, &[0; PROBE])?;
        rustix::fs::fsync(&file)
    });
    let error = std::io::Error::from(written.err()?);
    Some(format!("a write to {} is refused: {error}", dir.display()))
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

/// Deletes of the claims of one channel with no other change between them. They are lost from the first on, without leaving
/// any out, so the tree has nothing else between the first of them and the last. That is not so of batches, which compaction
/// takes from the middle of a stream: whoever deletes many of them says so by a cut.
struct Run<'a> {
    first: &'a [u8],
    last: &'a [u8],
    keys: Vec<&'a [u8]>,
}

fn runs(changes: &Entries) -> Vec<Run<'_>> {
    let (mut found, mut keys): (Vec<Run<'_>>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    for (key, value) in changes {
        let row = keys::claims_row(key);
        let deleted = value.is_none() && row.is_some();
        if !deleted || keys.last().is_some_and(|last| keys::claims_row(last) != row) {
            found.extend(Run::of(std::mem::take(&mut keys)));
        }
        if deleted {
            keys.push(key);
        }
    }
    found.extend(Run::of(keys));
    found
}

impl<'a> Run<'a> {
    /// None when they are too few.
    fn of(keys: Vec<&'a [u8]>) -> Option<Self> {
        let (first, last) = (*keys.first()?, *keys.last()?);
        (keys.len() >= RUN).then_some(Self { first, last, keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::Cut;

    fn open(dir: &Path) -> OpenDatabase {
        OpenDatabase::open(dir, &HaematiteConfig::default()).unwrap()
    }

    fn root_of(database: &OpenDatabase) -> StateHash {
        root(&database.view().unwrap()).unwrap()
    }

    fn batch(stream: &str, last: u64) -> (Bytes, Option<Value>) {
        // Several to a leaf, and some leaves of their own.
        let len = if last.is_multiple_of(7) { 70_000 } else { 9_000 };
        (keys::batch(stream, last), Some(vec![u8::try_from(last % 251).unwrap(); len].into()))
    }

    fn delete(stream: &str, last: u64) -> (Bytes, Option<Value>) {
        (keys::batch(stream, last), None)
    }

    fn value(bytes: &'static [u8]) -> Option<Value> {
        Some(Bytes::from_static(bytes).into())
    }

    fn filled(dir: &Path) -> OpenDatabase {
        let mut database = open(dir);
        let mut changes: Entries = (0..400).map(|last| batch("b:0", last)).collect();
        changes.extend((0..50).flat_map(|last| [batch("a:0", last), batch("c:0", last)]));
        changes.insert(keys::mark(), value(b"1"));
        database.write(&changes).unwrap();
        database
    }

    /// As `write`, a delete at a time.
    fn write_singly(database: &mut OpenDatabase, changes: &Entries) {
        for (key, value) in changes {
            database.write(&Entries::from([(key.clone(), value.clone())])).unwrap();
        }
    }

    /// Of the batches of a stream that end below a number.
    fn cut(stream: &str, up_to: u64, keys: usize) -> Cut {
        Cut { range: keys::batch(stream, 0)..keys::batch(stream, up_to), keys }
    }

    fn cuts(all: impl IntoIterator<Item = Cut>) -> Cuts {
        let mut cuts = Cuts::default();
        all.into_iter().for_each(|cut| cuts.add(cut));
        cuts
    }

    #[test]
    fn a_range_that_is_cut_out_leaves_the_tree_that_single_deletes_would_leave() {
        let dir = tempfile::tempdir().unwrap();
        let mark = || (keys::mark(), value(b"2"));
        // Written again by a later stream of the same name.
        let again = || [7, 150, 399].map(|last| (keys::batch("b:0", last), value(b"another")));
        let few = || (0..9).map(|last| delete("a:0", last));
        let rests: Vec<Entries> = vec![
            Entries::from([mark()]),
            again().into_iter().chain(few()).chain([mark()]).collect(),
            again().into_iter().chain(few()).collect(),
            Entries::new(),
        ];
        for (number, (up_to, rest)) in
            [333, 400].iter().flat_map(|up_to| rests.iter().map(move |rest| (*up_to, rest))).enumerate()
        {
            let path = dir.path().join(format!("cut{number}"));
            let mut database = filled(&path);
            let nothing = Cut { range: keys::batch("n:0", 0)..keys::batches_end("n:0"), keys: usize::MAX };
            // Where nothing else changes there is nothing to commit to another branch.
            let others = if rest.is_empty() { 0 } else { 20 };
            database.write_after(&cuts([cut("b:0", up_to, 400), cut("c:0", others, 20), nothing]), rest).unwrap();
            assert_eq!(database.name == BRANCHES[1], others > 0, "it took the way of the cut");
            let named = (0..up_to).map(|last| delete("b:0", last)).chain((0..others).map(|last| delete("c:0", last)));
            let mut single = filled(&dir.path().join(format!("single{number}")));
            write_singly(&mut single, &named.chain(rest.clone()).collect());
            assert_eq!(root_of(&database), root_of(&single), "case {number}");
            database.close();
            assert_eq!(root_of(&open(&path)), root_of(&single), "case {number} after a restart");
        }
    }

    #[test]
    fn batches_that_are_deleted_from_the_middle_of_a_stream_leave_those_between_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = filled(&dir.path().join("state"));
        let mark = (keys::mark(), value(b"2"));
        database.write(&(0..400).step_by(2).map(|last| delete("b:0", last)).chain([mark]).collect()).unwrap();
        let view = database.view().unwrap();
        let there = |last: &u64| get(&view, &keys::batch("b:0", *last)).unwrap().is_some();
        assert!((0..400).filter(there).eq((1..400).step_by(2)));
    }

    #[test]
    fn a_cut_state_is_found_again_and_cut_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let mut database = filled(&path);
        for end in [100, 200, 300] {
            let mark = (keys::mark(), Some(Value::from(Bytes::from(end.to_string()))));
            database.write_after(&cuts([cut("b:0", end, 100)]), &Entries::from([mark])).unwrap();
            let root = root_of(&database);
            database.close();
            database = open(&path);
            assert_eq!(root_of(&database), root);
            let view = database.view().unwrap();
            assert_eq!(get(&view, &keys::mark()).unwrap(), Some(Bytes::from(end.to_string())));
            assert_eq!(get(&view, &keys::batch("b:0", end - 1)).unwrap(), None);
            assert!(get(&view, &keys::batch("b:0", end)).unwrap().is_some());
        }
    }

    #[test]
    fn a_crash_before_the_commit_to_the_new_branch_leaves_the_old_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let mut database = filled(&path);
        let before = root_of(&database);
        let mut nodes = DiskStore::new(nodes_dir(&path), database.cache).unwrap();
        let (from, to) = (keys::batch("b:0", 0), keys::batch("b:0", 300));
        let current = database.branch.shard_current_root(SHARD).unwrap();
        let cut = delete_range(&mut nodes, current, &from, &to, database.policy).unwrap();
        nodes.sync_dirty_dirs().unwrap();
        drop(nodes);
        let roots = BTreeMap::from([(SHARD, cut)]);
        let timestamp = haematite::current_timestamp().max(database.timestamp + 1);
        let OpenDatabase { refs, registry, .. } = &mut database;
        drop(create_branch_with_kind(BRANCHES[1], roots, BranchKind::Work, refs, registry, timestamp).unwrap());
        database.close();
        let database = open(&path);
        assert_eq!((database.name, root_of(&database)), (BRANCHES[0], before));
        assert!(database.refs.get(BRANCHES[1]).is_none(), "what was begun is gone");
    }

    #[test]
    fn a_crash_after_the_commit_to_the_new_branch_leaves_the_new_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let records = || {
            let entries = std::fs::read_dir(path.join("branches")).unwrap().map(|entry| entry.unwrap().path());
            entries.filter(|entry| entry.is_file()).collect::<Vec<_>>()
        };
        let mut database = filled(&path);
        let old: Vec<_> = records().into_iter().map(|file| (std::fs::read(&file).unwrap(), file)).collect();
        let mark = (keys::mark(), value(b"2"));
        database.write_after(&cuts([cut("b:0", 300, 300)]), &Entries::from([mark])).unwrap();
        let after = root_of(&database);
        database.close();
        let removed: Vec<_> = old.into_iter().filter(|(_, file)| !file.exists()).collect();
        assert!(!removed.is_empty(), "the old branch's record is a file of its own");
        for (bytes, file) in removed {
            std::fs::write(file, bytes).unwrap();
        }
        let database = open(&path);
        assert_eq!((database.name, root_of(&database)), (BRANCHES[1], after));
        assert!(database.refs.get(BRANCHES[0]).is_none());
    }

    /// Some thirty pieces, in the way of the cut too.
    #[test]
    fn what_is_written_in_pieces_is_what_is_written_at_once_and_is_the_state_only_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["whole", "pieces"].map(|name| dir.path().join(name));
        let [mut whole, mut pieces] = [&paths[0], &paths[1]].map(|path| filled(path));
        pieces.piece = 100 << 10;
        for (number, cutting) in [false, true].into_iter().enumerate() {
            let mark = (keys::mark(), Some(Value::from(Bytes::from(format!("more {number}")))));
            let begin = 1000 * (number as u64 + 1);
            let mut changes: Entries = (begin..begin + 200).map(|last| batch("b:0", last)).chain([mark]).collect();
            changes.extend((0..9).map(|last| delete("c:0", last + 9 * number as u64)));
            let cut = cuts(cutting.then(|| cut("b:0", 300, 300)));
            // A try that was given up on the way.
            let before = root_of(&whole);
            let branch = pieces.branch.clone();
            for (key, value) in changes.iter().take(150) {
                put(&branch, key, value.as_ref()).unwrap();
            }
            pieces.advance(&branch, false).unwrap();
            assert_ne!(root_of(&pieces), before);
            drop(branch);
            pieces.close();
            pieces = open(&paths[1]);
            assert_eq!(root_of(&pieces), before, "nothing of it is there");
            pieces.piece = 100 << 10;
            whole.write_after(&cut, &changes).unwrap();
            pieces.write_after(&cut, &changes).unwrap();
            assert_eq!(root_of(&pieces), root_of(&whole));
            let root = root_of(&pieces);
            pieces.close();
            pieces = open(&paths[1]);
            pieces.piece = 100 << 10;
            assert_eq!(root_of(&pieces), root, "all of it is there");
        }
    }

    #[test]
    fn pieces_that_a_failure_has_left_behind_do_no_harm_to_the_next_try() {
        let dir = tempfile::tempdir().unwrap();
        let [mut whole, mut pieces] = ["whole", "pieces"].map(|name| filled(&dir.path().join(name)));
        pieces.piece = 100 << 10;
        let mark = (keys::mark(), value(b"2"));
        let changes: Entries = (1000..1200).map(|last| batch("b:0", last)).chain([mark]).collect();
        let branch = pieces.branch.clone();
        for (key, value) in changes.iter().filter(|(key, _)| **key != keys::mark()) {
            put(&branch, key, value.as_ref()).unwrap();
            pieces.advance(&branch, false).unwrap();
        }
        pieces.write(&changes).unwrap();
        whole.write(&changes).unwrap();
        let root = root_of(&whole);
        assert_eq!(root_of(&pieces), root);
        drop(branch);
        pieces.close();
        assert_eq!(root_of(&open(&dir.path().join("pieces"))), root, "and what was there before counts as written");
    }

    #[test]
    fn claims_that_a_channel_forgets_in_a_row_are_cut_out_too() {
        let claims =
            |channel: u64, seq: u64| keys::plain(&[keys::CLAIMS, &channel.to_be_bytes(), &seq.to_be_bytes()].concat());
        let mut changes: Entries = (0..200).map(|seq| (claims(1, seq), None)).collect();
        changes.extend((0..200).map(|seq| (claims(2, seq), if seq < 100 { None } else { value(b"keys") })));
        changes.insert(keys::plain(b"claims/x"), None);
        let found = runs(&changes);
        let ends: Vec<_> = found.iter().map(|run| (run.first, run.last, run.keys.len())).collect();
        assert_eq!(ends, [(&claims(1, 0)[..], &claims(1, 199)[..], 200), (&claims(2, 0)[..], &claims(2, 99)[..], 100)]);
        let dir = tempfile::tempdir().unwrap();
        let mark = |mark: &'static [u8]| (keys::mark(), value(mark));
        let all = (0..400).flat_map(|seq| [1, 2].map(|channel| (claims(channel, seq), value(b"keys"))));
        let all: Entries = all.chain([mark(b"1")]).collect();
        let gone: Entries = (0..300).map(|seq| (claims(1, seq), None)).chain([mark(b"2")]).collect();
        let [mut cut, mut single] = ["cut", "single"].map(|name| open(&dir.path().join(name)));
        for database in [&mut cut, &mut single] {
            database.write(&all).unwrap();
        }
        cut.write(&gone).unwrap();
        write_singly(&mut single, &gone);
        assert_eq!((cut.name, single.name), (BRANCHES[1], BRANCHES[0]), "one took the way of the cut");
        assert_eq!(root_of(&cut), root_of(&single));
    }

    #[test]
    fn a_write_that_is_refused_is_told_with_what_the_system_says() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(write_refusal(dir.path()), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the probe leaves nothing behind");
        let missing = dir.path().join("gone");
        let said = write_refusal(&missing).unwrap();
        assert!(said.contains("gone is refused: No such file") && said.contains("os error 2"), "{said}");
    }

    #[test]
    fn runs_end_where_claims_are_put_and_are_never_made_of_batches() {
        let claims = |seq: u64| keys::plain(&[keys::CLAIMS, &[0; 8], &seq.to_be_bytes()].concat());
        let few: Entries = (0..RUN as u64 - 1).map(|seq| (claims(seq), None)).collect();
        assert!(runs(&few).is_empty());
        let mut changes: Entries = (0..200).map(|seq| (claims(seq), None)).collect();
        changes.extend((0..200).map(|last| delete("b:0", last)));
        changes.extend([(claims(100), value(b"keys")), (keys::index("a:0", 0), None), (keys::plain(b"x"), None)]);
        let found = runs(&changes);
        let ends = |run: &Run<'_>| (run.first.to_vec(), run.last.to_vec(), run.keys.len());
        let expected = [(0, 99, 100), (101, 199, 99)];
        let expected = expected.map(|(first, last, count)| (claims(first).to_vec(), claims(last).to_vec(), count));
        assert_eq!(found.iter().map(ends).collect::<Vec<_>>(), expected);
    }
}
