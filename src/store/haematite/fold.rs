//! The thread that owns the database and folds memtables into it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    check,
    compact::Space,
    config::HaematiteConfig,
    current::{self, SwapError},
    database::{self, OpenDatabase},
    memtable::MemTable,
    nodes::Nodes,
    scan::Walk,
    shared::{Checkpointed, Shared, State},
    view::{StateDir, View},
};
use crate::store::{StoreError, keys};

/// Requests that may wait for the thread; callers of `fold` block no runtime while they wait for a place.
const QUEUE: usize = 64;
/// How often to look whether the compacting thread is done.
const COMPACTION_POLL: Duration = Duration::from_millis(50);

/// How soon a fold that failed is tried again: somebody may have made room, or the disk be back.
const RETRY: Duration = Duration::from_secs(1);

type Reply = oneshot::Sender<Result<(), StoreError>>;

enum Job {
    /// The memtable is large.
    Wake,
    Fold(Reply),
    /// Make the complete state in another directory the live one and go on with it.
    Swap(PathBuf, Reply),
    Close(Reply),
}

/// A handle on the thread. The thread ends when it is told to, or when all handles are gone.
#[derive(Clone)]
pub(super) struct Folder {
    jobs: SyncSender<Job>,
}

impl Folder {
    /// Opens the database on a thread of its own and waits until it is open. Blocks.
    pub(super) fn start(shared: Arc<Shared>, dir: PathBuf, config: HaematiteConfig) -> Result<Self, StoreError> {
        let (jobs, receiver) = sync_channel(QUEUE);
        let (opened, is_open) = sync_channel(1);
        let thread = std::thread::Builder::new().name("liminal-fold".into()).spawn(move || {
            match Thread::open(shared, dir, config) {
                Ok(thread) => {
                    let _ = opened.send(Ok(())); // the opener waits
                    thread.run(&receiver);
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        });
        thread.map_err(|error| database::failed("start the folding thread", &error))?;
        is_open.recv().unwrap_or(Err(StoreError::Closed))?;
        Ok(Self { jobs })
    }

    pub(super) fn wake(&self) {
        let _ = self.jobs.try_send(Job::Wake); // a full queue wakes it anyway
    }

    pub(super) async fn fold(&self) -> Result<(), StoreError> {
        self.ask(Job::Fold).await
    }

    pub(super) async fn swap(&self, dir: PathBuf) -> Result<(), StoreError> {
        self.ask(|reply| Job::Swap(dir, reply)).await
    }

    pub(super) async fn close(&self) -> Result<(), StoreError> {
        self.ask(Job::Close).await
    }

    async fn ask(&self, job: impl FnOnce(Reply) -> Job) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let (jobs, job) = (self.jobs.clone(), job(reply));
        let sent = tokio::task::spawn_blocking(move || jobs.send(job).is_ok()).await;
        if !sent.unwrap_or(false) {
            return Err(StoreError::Closed);
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// The hash of a view, and the mark in it. Blocks.
pub(super) fn checkpoint(view: &View, cache_bytes: usize) -> Checkpointed {
    Ok((database::root(view)?, view.get(cache_bytes, &keys::mark())?))
}

struct Thread {
    shared: Arc<Shared>,
    database: OpenDatabase,
    dir: Arc<StateDir>,
    config: HaematiteConfig,
    /// None when the disk could not be looked at: the state is then kept as it is.
    space: Option<Space>,
}

impl Thread {
    fn open(shared: Arc<Shared>, dir: PathBuf, config: HaematiteConfig) -> Result<Self, StoreError> {
        let database = OpenDatabase::open(&dir, &config)?;
        let tree = database.view().map_err(|error| database::unreadable(&dir, &error))?;
        let dir = Arc::new(StateDir::new(dir));
        let view = Arc::new(View::new(tree, dir.clone()));
        *shared.state.lock() = State { view: Some(view.clone()), ..State::default() };
        let space = Space::open(shared.clone(), config.clone(), dir.clone(), &view, database.is_fresh());
        let space = space.inspect_err(|error| tracing::warn!(%error, "the state will not be compacted")).ok();
        Ok(Self { shared, database, dir, config, space })
    }

    fn run(mut self, jobs: &Receiver<Job>) {
        let mut due = Instant::now() + self.config.fold_interval;
        loop {
            let busy = self.space.as_ref().is_some_and(Space::is_busy);
            let wait = due.saturating_duration_since(Instant::now());
            match jobs.recv_timeout(if busy { wait.min(COMPACTION_POLL) } else { wait }) {
                Err(RecvTimeoutError::Timeout) if Instant::now() < due => {}
                Ok(Job::Wake) | Err(RecvTimeoutError::Timeout) => {
                    let pause = match self.fold() {
                        Ok(()) => self.config.fold_interval,
                        Err(error) => {
                            tracing::error!(%error, "cannot fold; the memtable is kept and folded later");
                            self.config.fold_interval.min(RETRY)
                        }
                    };
                    due = Instant::now() + pause;
                }
                Ok(Job::Fold(reply)) => {
                    let done = self.fold();
                    let pause = self.config.fold_interval;
                    due = Instant::now() + if done.is_ok() { pause } else { pause.min(RETRY) };
                    let _ = reply.send(done); // the caller may have given up
                }
                Ok(Job::Swap(dir, reply)) => {
                    let (thread, result) = self.swap(dir);
                    let _ = reply.send(result); // the installer may have given up
                    match thread {
                        Some(thread) => self = thread,
                        None => return,
                    }
                }
                Ok(Job::Close(reply)) => {
                    let result = self.fold();
                    self.close();
                    let _ = reply.send(result); // or the closer has gone
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.close();
                    return;
                }
            }
            match self.compact() {
                Some(thread) => self = thread,
                None => return,
            }
        }
    }

    /// Goes one step on with what gives disk space back. None when the store had to be closed.
    fn compact(mut self) -> Option<Self> {
        let view = self.shared.state.lock().view.clone();
        let (Some(space), Some(view)) = (&mut self.space, view) else { return Some(self) };
        let rotated = match space.step(&self.database, &view) {
            Ok(None) => return Some(self),
            Ok(Some(rotated)) => rotated,
            Err(error) => {
                tracing::error!(%error, "closing the store: it is unknown which state a power cut would leave");
                self.close();
                return None;
            }
        };
        drop(view);
        let Self { shared, database, dir, config, space } = self;
        shared.state.lock().view = Some(rotated.view.clone());
        let space = space.map(|space| space.follow(&rotated));
        dir.readers.close();
        database.close();
        dir.retire();
        let space = space.and_then(|space| {
            space.inspect_err(|error| tracing::warn!(%error, "the state will not be compacted again")).ok()
        });
        Some(Self { shared, database: rotated.database, dir: rotated.dir, config, space })
    }

    /// Folds everything, and notes whether that works.
    fn fold(&mut self) -> Result<(), StoreError> {
        let done = self.fold_all();
        let failure = |error: &StoreError| format!("{} cannot be flushed: {error}", self.dir.path.display());
        self.shared.state.lock().failure = done.as_ref().err().map(failure);
        done
    }

    fn fold_all(&mut self) -> Result<(), StoreError> {
        // First what a failed fold or a checkpoint left behind, then what was written since.
        self.drain()?;
        loop {
            self.shared.state.lock().freeze();
            self.drain()?;
            if self.shared.state.lock().active.bytes() <= self.config.fold_bytes {
                return Ok(());
            }
        }
    }

    /// Folds the closed memtables one by one: a checkpoint's hash is that of its own boundary.
    fn drain(&mut self) -> Result<(), StoreError> {
        loop {
            let oldest = self.shared.state.lock().frozen.front().map(|frozen| frozen.changes.clone());
            let Some(changes) = oldest else { return Ok(()) };
            let begun = Instant::now();
            let written =
                self.database.write_after(changes.cuts(), changes.entries()).and_then(|()| self.database.view());
            let view = match written {
                Ok(view) => Arc::new(View::new(view, self.dir.clone())),
                Err(error) => {
                    let error = self.unreadable(&changes, &error).unwrap_or(error);
                    self.shared.notice(&error);
                    // The changes are kept and folded later; who waits for a hash is better told now.
                    let mut state = self.shared.state.lock();
                    for checkpoint in state.frozen.iter_mut().flat_map(|frozen| frozen.checkpoints.drain(..)) {
                        let _ = checkpoint.send(Err(error.clone())); // or nobody waits any more
                    }
                    return Err(error);
                }
            };
            let folded = {
                let mut state = self.shared.state.lock();
                state.view = Some(view.clone());
                state.frozen.pop_front()
            };
            self.shared.folds.since(begun);
            self.shared.folded.notify_waiters();
            if let Some(space) = &mut self.space {
                space.folded(&self.database, &view);
            }
            for waiting in folded.into_iter().flat_map(|folded| folded.checkpoints) {
                let _ = waiting.send(checkpoint(&view, self.config.cache_bytes)); // or nobody waits any more
            }
        }
    }

    /// The node because of which changes could not be folded, where there is one: haematite does not always say which.
    fn unreadable(&self, changes: &MemTable, error: &StoreError) -> Option<StoreError> {
        let named = check::hash_in(&error.to_string());
        let store = database::nodes_dir(&self.dir.path);
        if let Some(error @ StoreError::Damaged { .. }) = named.and_then(|hash| check::read_file(&store, &hash).err()) {
            return Some(error);
        }
        let view = self.shared.state.lock().view.clone()?;
        let root = database::root_node(&view).ok()?;
        let nodes = Nodes::open(&self.dir.path, self.config.accounting_cache_bytes).ok()?;
        // A leaf that is written again may take from the one behind it.
        let walked = |key| Walk::begin(&nodes, root, key, database::END).and_then(|mut walk| walk.next_leaf());
        // Of a cut only the leaves at its ends are read.
        let ends = changes.cuts().iter().flat_map(|(cut, _)| [cut.start, cut.end]);
        changes.entries().keys().chain(ends).find_map(|key| walked(key).err())
    }

    fn close(self) {
        let Self { shared, database, dir, space, .. } = self;
        *shared.state.lock() = State::default();
        dir.readers.close();
        shared.folded.notify_waiters();
        if let Some(space) = space {
            space.close();
        }
        database.close();
    }

    /// The state is replaced: what the memtables hold belongs to the old one.
    fn swap(self, next: PathBuf) -> (Option<Self>, Result<(), StoreError>) {
        match current::make_current(&next, &self.dir.path) {
            Ok(()) => {}
            Err(SwapError::Unchanged(error)) => return (Some(self), Err(error)), // to be tried again
            Err(SwapError::Unknown(error)) => {
                self.close();
                return (None, Err(error));
            }
        }
        let (shared, dir, config) = (self.shared.clone(), self.dir.clone(), self.config.clone());
        self.close();
        match Self::open(shared.clone(), next, config) {
            Ok(thread) => {
                shared.folded.notify_waiters();
                dir.retire();
                (Some(thread), Ok(()))
            }
            Err(error) => (None, Err(error)),
        }
    }
}
