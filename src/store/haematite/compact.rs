//! Gives the disk back what no longer lives: *compaction by rotation*.
//!
//! Haematite can reclaim space by itself, at many milliseconds of CPU for every live node, so it is told to keep all
//! that it writes. Instead the nodes that the live root reaches are hard-linked into the directory of the next state
//! and `CURRENT` is pointed there; the old directory goes, and with it what only old roots reached. No value is
//! read, written or held in memory, so the cost is that of making one directory entry for each live node, and a disk
//! that is nearly full can still be emptied.
//!
//! The walk runs on a thread of its own from a pinned root while folds go on. The folding thread then links what they
//! added, lets a fresh database adopt the root, and swaps. A crash before `CURRENT` is renamed leaves the old state,
//! one after it the new; the other directory is removed at the next start, or once nobody reads it any more.
//!
//! How much lives is known exactly after each fold from the nodes in which the roots before and after it differ. A
//! file beside `CURRENT` carries the count over a restart. It is only a hint: it names the root that it was taken at,
//! what it missed is made up from there, and without it the nodes are counted again in the background.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use haematite::Hash;

use super::{
    HaematiteConfig, Shared, StateDir, View, check, current,
    database::{self, OpenDatabase, failed},
    nodes::Nodes,
};
use crate::store::{StoreError, StoreUsage};

const USAGE: &str = "USAGE";

/// Bytes of a state at a root.
#[derive(Clone, Copy, Debug)]
struct Count {
    root: Hash,
    live: u64,
    disk: u64,
}

/// What the folding thread knows of the space that its state takes, and what it does about it.
pub(super) struct Space {
    shared: Arc<Shared>,
    config: HaematiteConfig,
    dir: Arc<StateDir>,
    nodes: Nodes,
    /// None until it is counted.
    count: Option<Count>,
    /// Bytes that the database had written when `count` was taken; none before the first fold of this process.
    written: Option<u64>,
    task: Option<Task>,
    /// After a failure: how much garbage makes another try worth its while.
    retry_above: u64,
    /// Counting failed, and would again, when so many nodes had been healed.
    uncountable: Option<u64>,
}

/// Work on a thread of its own.
struct Task {
    thread: JoinHandle<Result<Done, StoreError>>,
    cancelled: Arc<AtomicBool>,
}

enum Done {
    Counted(Count),
    Linked(Linked),
}

/// The next state, with everything that lived at a root.
struct Linked {
    dir: PathBuf,
    root: Hash,
    bytes: u64,
}

/// The state that took the place of another.
pub(super) struct Rotated {
    pub(super) database: OpenDatabase,
    pub(super) dir: Arc<StateDir>,
    pub(super) view: Arc<View>,
    count: Count,
}

impl Space {
    /// Begins with what was known of a state when it was last open. `fresh`: nothing was ever written to it.
    pub(super) fn open(
        shared: Arc<Shared>,
        config: HaematiteConfig,
        dir: Arc<StateDir>,
        view: &View,
        fresh: bool,
    ) -> Result<Self, StoreError> {
        let nodes = Nodes::open(&dir.path, config.accounting_cache_bytes)?;
        let root = database::root_node(view)?;
        let count = if fresh {
            let bytes = nodes.size(&root)?;
            Some(Count { root, live: bytes, disk: bytes })
        } else {
            load(&dir.path)
        };
        let space =
            Self { shared, config, dir, nodes, count, written: None, task: None, retry_above: 0, uncountable: None };
        space.publish();
        Ok(space)
    }

    /// Whether something runs that [`Space::step`] should soon be called for.
    pub(super) fn is_busy(&self) -> bool {
        self.task.is_some()
    }

    /// Takes the newest root into account.
    pub(super) fn folded(&mut self, database: &OpenDatabase, view: &View) {
        let advanced = database::root_node(view).and_then(|root| self.advance(root, database.bytes_written()));
        if let Err(error) = advanced {
            tracing::warn!(%error, "cannot tell how much of the state lives; counting again");
            self.shared.notice(&error);
            self.count = None;
        }
        self.publish();
    }

    fn advance(&mut self, root: Hash, written: u64) -> Result<(), StoreError> {
        let before = self.written.replace(written);
        let Some(count) = &mut self.count else { return Ok(()) };
        let (mut gone, mut fresh) = (0, 0);
        let nodes = &self.nodes;
        nodes.difference(
            count.root,
            root,
            &mut |hash| {
                gone += nodes.size(hash)?;
                Ok(())
            },
            &mut |hash| {
                fresh += nodes.size(hash)?;
                Ok(())
            },
        )?;
        count.live = (count.live + fresh).saturating_sub(gone);
        // A process that was killed may have folded after it last said so: what is new to us was then written.
        count.disk += before.map_or(fresh, |before| written.saturating_sub(before));
        count.root = root;
        save(&self.dir.path, count);
        Ok(())
    }

    fn publish(&self) {
        let usage = self.count.map(|count| StoreUsage { live_bytes: count.live, disk_bytes: count.disk });
        self.shared.state.lock().usage = usage;
    }

    /// Begins, continues or finishes what is due. Gives the state to go on with when one has taken the place of the
    /// live one, whose name is then in `CURRENT`.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when nobody can tell which state a power cut would leave.
    pub(super) fn step(&mut self, database: &OpenDatabase, view: &Arc<View>) -> Result<Option<Rotated>, StoreError> {
        match self.task.take_if(|task| task.thread.is_finished()) {
            None if self.task.is_some() => Ok(None),
            None => {
                if let Err(error) = self.begin(view) {
                    self.failed(&error);
                }
                Ok(None)
            }
            Some(task) => match join(task) {
                Ok(Done::Counted(count)) => {
                    self.count = Some(count);
                    self.folded(database, view);
                    Ok(None)
                }
                Ok(Done::Linked(linked)) => {
                    let target = linked.dir.clone();
                    match self.adopt(linked, view) {
                        Ok(rotated) => self.swap(rotated),
                        Err(error) => {
                            current::abandon(&target);
                            self.failed(&error);
                            Ok(None)
                        }
                    }
                }
                Err(error) => {
                    self.failed(&error);
                    Ok(None)
                }
            },
        }
    }

    fn failed(&mut self, error: &StoreError) {
        tracing::warn!(%error, "cannot compact the state; it is kept as it is");
        self.shared.notice(error);
        if self.count.is_none() {
            self.uncountable = Some(self.shared.damages.healed());
        }
        let garbage = self.count.map_or(0, |count| count.disk.saturating_sub(count.live));
        self.retry_above = garbage.saturating_add(self.config.compact_garbage);
    }

    fn begin(&mut self, view: &Arc<View>) -> Result<(), StoreError> {
        let (state, config, pinned) = (self.dir.path.clone(), self.config.clone(), view.clone());
        match self.count {
            None if self.uncountable.is_none_or(|healed| healed < self.shared.damages.healed()) => {
                self.task = Some(Task::start(move |cancelled| count(&state, &config, &pinned, cancelled))?);
            }
            Some(count) if self.is_worthwhile(&count) => {
                let target = self.shared.next_state()?;
                tracing::info!(live = count.live, disk = count.disk, to = %target.display(), "compacting the state");
                self.task = Some(Task::start(move |cancelled| {
                    let linked = link_all(&state, &target, &config, &pinned, cancelled);
                    if linked.is_err() {
                        current::abandon(&target);
                    }
                    linked.map(Done::Linked)
                })?);
            }
            _ => {}
        }
        Ok(())
    }

    fn is_worthwhile(&self, count: &Count) -> bool {
        let garbage = count.disk.saturating_sub(count.live);
        count.disk > count.live.saturating_mul(self.config.compact_factor)
            && garbage > self.config.compact_garbage.max(self.retry_above)
    }

    /// Brings the next state up to date and opens it.
    fn adopt(&self, linked: Linked, view: &View) -> Result<Rotated, StoreError> {
        let root = database::root_node(view)?;
        let mut links = Links::new(&self.nodes, &linked.dir);
        let (mut gone, nodes) = (0, &self.nodes);
        nodes.difference(
            linked.root,
            root,
            &mut |hash| {
                gone += nodes.size(hash)?;
                Ok(())
            },
            &mut |hash| links.add(hash),
        )?;
        let disk = linked.bytes + links.sync()?;
        let database = OpenDatabase::adopt(&linked.dir, &self.config, root)?;
        let view = database.view().and_then(|view| {
            let found = database::root_node(&view)?;
            if found == root {
                return Ok(view);
            }
            let detail = format!("its hash is {found}, not {root}");
            Err(StoreError::Corrupt { what: "the compacted state".into(), detail })
        });
        let synced = view.and_then(|view| sync_rest(&linked.dir).map(|()| view));
        match synced {
            Ok(view) => {
                let dir = Arc::new(StateDir::new(linked.dir));
                let view = Arc::new(View::new(view, dir.clone()));
                Ok(Rotated { database, dir, view, count: Count { root, live: disk.saturating_sub(gone), disk } })
            }
            Err(error) => {
                database.close();
                Err(error)
            }
        }
    }

    fn swap(&mut self, rotated: Rotated) -> Result<Option<Rotated>, StoreError> {
        match current::make_current(&rotated.dir.path, &self.dir.path) {
            Ok(()) => {}
            Err(current::SwapError::Unchanged(error)) => {
                rotated.dir.retire();
                let Rotated { database, dir, view, .. } = rotated;
                drop(view);
                database.close();
                drop(dir);
                self.failed(&error);
                return Ok(None);
            }
            Err(current::SwapError::Unknown(error)) => return Err(error),
        }
        let Count { live, disk, .. } = rotated.count;
        tracing::info!(live, disk, "compacted the state");
        save(&rotated.dir.path, &rotated.count);
        Ok(Some(rotated))
    }

    /// The space of the state that took the place of this one, whose files are let go of.
    pub(super) fn follow(self, rotated: &Rotated) -> Result<Self, StoreError> {
        let (shared, config) = (self.shared.clone(), self.config.clone());
        self.close();
        let nodes = Nodes::open(&rotated.dir.path, config.accounting_cache_bytes)?;
        let written = Some(rotated.database.bytes_written());
        let (dir, count) = (rotated.dir.clone(), Some(rotated.count));
        let space = Self { shared, config, dir, nodes, count, written, task: None, retry_above: 0, uncountable: None };
        space.publish();
        Ok(space)
    }

    /// Lets go of the state's files and ends what runs.
    pub(super) fn close(self) {
        if let Some(task) = self.task {
            task.cancelled.store(true, Ordering::Relaxed);
            if let Ok(Done::Linked(linked)) = join(task) {
                current::abandon(&linked.dir);
            }
        }
    }
}

impl Task {
    fn start(work: impl FnOnce(&AtomicBool) -> Result<Done, StoreError> + Send + 'static) -> Result<Self, StoreError> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let seen = cancelled.clone();
        let thread = std::thread::Builder::new().name("liminal-compact".into()).spawn(move || work(&seen));
        Ok(Self { thread: thread.map_err(|error| failed("start the compacting thread", &error))?, cancelled })
    }
}

fn join(task: Task) -> Result<Done, StoreError> {
    let panicked = |_| Err(failed("compact the state", &"its thread panicked"));
    task.thread.join().unwrap_or_else(panicked)
}

fn go_on(cancelled: &AtomicBool) -> Result<(), StoreError> {
    if cancelled.load(Ordering::Relaxed) { Err(StoreError::Closed) } else { Ok(()) }
}

fn count(state: &Path, config: &HaematiteConfig, view: &View, cancelled: &AtomicBool) -> Result<Done, StoreError> {
    let nodes = Nodes::open(state, config.accounting_cache_bytes)?;
    let (root, mut live) = (database::root_node(view)?, 0);
    nodes.walk(root, &mut |hash| {
        go_on(cancelled)?;
        live += nodes.size(hash)?;
        Ok(())
    })?;
    Ok(Done::Counted(Count { root, live, disk: nodes.all_bytes()? }))
}

fn link_all(
    state: &Path,
    target: &Path,
    config: &HaematiteConfig,
    view: &View,
    cancelled: &AtomicBool,
) -> Result<Linked, StoreError> {
    OpenDatabase::prepare(target, config)?;
    let nodes = Nodes::open(state, config.accounting_cache_bytes)?;
    let root = database::root_node(view)?;
    let mut links = Links::new(&nodes, target);
    nodes.walk(root, &mut |hash| {
        go_on(cancelled)?;
        links.add(hash)
    })?;
    let bytes = links.sync()?;
    Ok(Linked { dir: target.to_owned(), root, bytes })
}

/// Puts nodes of one state into the directory of another.
pub(super) struct Links<'a> {
    from: &'a Nodes,
    into: PathBuf,
    /// Directories whose new entries a power cut could still take.
    unsynced: BTreeSet<PathBuf>,
    bytes: u64,
}

impl<'a> Links<'a> {
    pub(super) fn new(from: &'a Nodes, target: &Path) -> Self {
        Self { from, into: database::nodes_dir(target), unsynced: BTreeSet::new(), bytes: 0 }
    }

    pub(super) fn add(&mut self, hash: &Hash) -> Result<(), StoreError> {
        let (source, target) = (self.from.file(hash), hash.node_file_in(&self.into));
        let linked = self.link(&source, &target).map_err(|error| StoreError::Failed {
            action: "link a node",
            reason: format!("{} as {}: {error}", source.display(), target.display()),
        });
        self.bytes += linked?;
        Ok(())
    }

    fn link(&mut self, source: &Path, target: &Path) -> io::Result<u64> {
        if let Some(prefix) = target.parent()
            && !self.unsynced.contains(prefix)
        {
            // As private as haematite makes them.
            match fs::DirBuilder::new().mode(0o700).create(prefix) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => self.unsynced.insert(prefix.to_owned()),
            };
        }
        match fs::hard_link(source, target) {
            // Nodes are named by their content.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
            // Not every file system has hard links, or as many as are asked for.
            Err(_) => {
                fs::copy(source, target)?;
                File::open(target)?.sync_all()?;
            }
            Ok(()) => {}
        }
        Ok(fs::metadata(target)?.len())
    }

    /// Makes the links durable and says how many bytes they hold.
    pub(super) fn sync(&self) -> Result<u64, StoreError> {
        let synced = self.unsynced.iter().chain([&self.into]).try_for_each(|dir| File::open(dir)?.sync_all());
        synced.map_err(|error| failed("sync linked nodes", &error))?;
        Ok(self.bytes)
    }
}

/// Makes everything of a state but its nodes durable, whatever haematite has synced by itself.
pub(super) fn sync_rest(state: &Path) -> Result<(), StoreError> {
    fn sync(dir: &Path, nodes: &Path) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            match path.is_dir() {
                true if path == nodes => {}
                true => sync(&path, nodes)?,
                false => File::open(&path)?.sync_all()?,
            }
        }
        File::open(dir)?.sync_all()
    }
    sync(state, &database::nodes_dir(state)).map_err(|error| failed("sync a compacted state", &error))
}

/// Removes a state that nobody uses; the next start removes what is left of it.
pub(super) fn remove(state: &Path) {
    if let Err(error) = fs::remove_dir_all(state)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, dir = %state.display(), "cannot remove a state that is not live");
    }
}

fn usage_file(state: &Path) -> PathBuf {
    state.with_file_name(USAGE)
}

fn state_name(state: &Path) -> &str {
    state.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Not synced: what a crash takes is counted again.
fn save(state: &Path, count: &Count) {
    let text = format!("{} {} {} {}\n", state_name(state), count.root, count.live, count.disk);
    let (path, temporary) = (usage_file(state), state.with_file_name("USAGE.new"));
    if let Err(error) = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &path)) {
        tracing::warn!(%error, path = %path.display(), "cannot note how much of the state lives");
    }
}

fn load(state: &Path) -> Option<Count> {
    let text = fs::read_to_string(usage_file(state)).ok()?;
    let [name, root, live, disk] = text.split_whitespace().collect::<Vec<_>>().try_into().ok()?;
    if name != state_name(state) {
        return None;
    }
    Some(Count { root: check::hash_in(root)?, live: live.parse().ok()?, disk: disk.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::atomic::AtomicU64};

    use bytes::Bytes;
    use parking_lot::Mutex;
    use tokio::sync::Notify;

    use super::*;
    use crate::store::haematite::{database::SHARD, healing::Damages, memtable::Entries};

    /// The folding thread's part, one step at a time.
    struct Folding {
        database: OpenDatabase,
        space: Space,
        view: Arc<View>,
        dir: Arc<StateDir>,
        content: BTreeMap<Bytes, Bytes>,
    }

    fn value(number: u64) -> Bytes {
        let blocks = (0..500_u64).flat_map(|block| *blake3::hash(&(number << 16 | block).to_le_bytes()).as_bytes());
        blocks.collect::<Vec<u8>>().into()
    }

    fn key(number: u64) -> Bytes {
        format!("p{number:05}").into()
    }

    impl Folding {
        fn begin(root: &Path) -> Self {
            let config = HaematiteConfig { compact_garbage: 64 << 10, ..HaematiteConfig::default() };
            let shared = Arc::new(Shared {
                root: root.to_owned(),
                state: Mutex::default(),
                folded: Notify::new(),
                next_state: AtomicU64::new(2),
                cache_bytes: config.cache_bytes,
                damages: Damages::default(),
            });
            let name = current::find(root, None).unwrap().name;
            let database = OpenDatabase::open(&root.join(&name), &config).unwrap();
            current::establish(root, None).unwrap();
            let dir = Arc::new(StateDir::new(root.join(name)));
            let view = Arc::new(View::new(database.view().unwrap(), dir.clone()));
            let space = Space::open(shared, config, dir.clone(), &view, true).unwrap();
            Self { database, space, view, dir, content: BTreeMap::new() }
        }

        fn fold(&mut self, changes: impl Iterator<Item = (u64, Option<u64>)>) {
            let changes: Entries = changes.map(|(k, v)| (key(k), v.map(|number| value(number).into()))).collect();
            self.database.write(&changes).unwrap();
            self.view = Arc::new(View::new(self.database.view().unwrap(), self.dir.clone()));
            self.space.folded(&self.database, &self.view);
            for (key, value) in changes {
                match value {
                    Some(value) => self.content.insert(key, value.bytes()),
                    None => self.content.remove(&key),
                };
            }
        }

        /// Begins a compaction of what is there now and lets its thread come to the end.
        fn link(&mut self) {
            assert!(self.space.step(&self.database, &self.view).unwrap().is_none());
            let task = self.space.task.as_ref().expect("enough is garbage");
            while !task.thread.is_finished() {
                std::thread::yield_now();
            }
        }

        fn step(&mut self) -> Option<Rotated> {
            self.space.step(&self.database, &self.view).unwrap()
        }
    }

    fn content(view: &View) -> BTreeMap<Bytes, Bytes> {
        let page = view.range_page(SHARD, &[0], database::END, usize::MAX).unwrap();
        page.entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
    }

    /// As the next start would find it, but without removing anything.
    fn live_name(root: &Path) -> String {
        let text = fs::read_to_string(root.join("CURRENT")).unwrap();
        text.lines().find_map(|line| line.strip_prefix("live ")).unwrap().to_owned()
    }

    fn live_bytes(state: &Path, root: Hash) -> u64 {
        let nodes = Nodes::open(state, 1 << 20).unwrap();
        let mut bytes = 0;
        nodes
            .walk(root, &mut |hash| {
                bytes += nodes.size(hash)?;
                Ok(())
            })
            .unwrap();
        bytes
    }

    #[test]
    fn what_is_folded_between_the_walk_and_the_swap_is_in_the_next_state() {
        let root = tempfile::tempdir().unwrap();
        let mut folding = Folding::begin(root.path());
        folding.fold((0..200).map(|n| (n, Some(n))));
        folding.fold((20..200).map(|n| (n, None)));
        folding.link();
        // New, replaced and deleted, in several folds, one of which takes back what another did.
        folding.fold((100..150).map(|n| (n, Some(n + 1000))));
        folding.fold((0..5).map(|n| (n, Some(n + 2000))).chain((5..10).map(|n| (n, None))));
        folding.fold((100..110).map(|n| (n, None)));
        let old = database::root_node(&folding.view).unwrap();
        let rotated = folding.step().expect("a next state");
        assert_eq!(database::root_node(&rotated.view).unwrap(), old);
        assert_eq!(content(&rotated.view), folding.content);
        assert_eq!(content(&folding.view), folding.content, "the old one can still be read");
        assert_eq!(live_name(root.path()), "state-000002");
        assert_eq!(rotated.count.live, live_bytes(&rotated.dir.path, old));
        // The next state stands by itself: the old one's files are gone.
        let Folding { database, space, view, dir, content: expected } = folding;
        space.follow(&rotated).unwrap().close();
        drop(view);
        database.close();
        remove(&dir.path);
        let Rotated { database, dir, view, .. } = rotated;
        drop(view);
        database.close();
        let config = HaematiteConfig::default();
        let database = OpenDatabase::open(&dir.path, &config).unwrap();
        let view = View::new(database.view().unwrap(), dir.clone());
        assert_eq!(content(&view), expected);
        drop(view);
        database.close();
    }

    #[test]
    fn a_next_state_that_would_lack_a_node_is_not_made_live() {
        let root = tempfile::tempdir().unwrap();
        let mut folding = Folding::begin(root.path());
        folding.fold((0..200).map(|n| (n, Some(n))));
        folding.fold((20..200).map(|n| (n, None)));
        folding.link();
        folding.fold((300..301).map(|n| (n, Some(n))));
        // A node that only the newest root reaches disappears: the compaction must fail, not the state.
        let mut fresh = Vec::new();
        let now = database::root_node(&folding.view).unwrap();
        let nodes = &folding.space.nodes;
        nodes
            .walk(now, &mut |hash| {
                fresh.push(*hash);
                Ok(())
            })
            .unwrap();
        let linked = database::nodes_dir(&root.path().join("state-000002"));
        let missing = fresh.iter().find(|hash| !hash.node_file_in(&linked).exists()).expect("something new");
        let (file, aside) = (nodes.file(missing), root.path().join("aside"));
        fs::rename(&file, &aside).unwrap();
        let stepped = folding.step();
        fs::rename(&aside, &file).unwrap();
        assert!(stepped.is_none());
        assert_eq!(live_name(root.path()), "state-000001");
        assert_eq!(content(&folding.view), folding.content);
        assert!(folding.space.retry_above > 0 && !root.path().join("state-000002").exists());
        let Folding { database, space, view, .. } = folding;
        space.close();
        drop(view);
        database.close();
    }

    #[test]
    fn the_running_count_is_what_a_walk_finds_whatever_was_folded() {
        let root = tempfile::tempdir().unwrap();
        let mut folding = Folding::begin(root.path());
        for round in 0..25_u64 {
            let from = round * 37 % 90;
            // Deleted and written again with the same content: nodes come back to life.
            let keep = move |n: u64| (n + round).is_multiple_of(3).then_some(n);
            folding.fold((from..from + 30).map(|n| (n, keep(n))));
            let count = folding.space.count.expect("counted");
            assert_eq!(count.live, live_bytes(&folding.dir.path, count.root), "round {round}");
            assert!(count.live <= count.disk, "{count:?} in round {round}");
            assert_eq!(count.disk, folding.space.nodes.all_bytes().unwrap(), "round {round}");
        }
        let Folding { database, space, view, .. } = folding;
        space.close();
        drop(view);
        database.close();
    }
}
