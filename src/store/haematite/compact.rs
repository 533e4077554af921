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

#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use haematite::Hash;

use super::{
    config::HaematiteConfig,
    current,
    database::{self, OpenDatabase, failed},
    links::{Links, sync_rest},
    nodes::Nodes,
    shared::Shared,
    usage::{Count, load, save},
    view::{StateDir, View},
};
use crate::store::{StoreError, StoreUsage};

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
