//! The thread that owns the database and folds memtables into it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
};

use tokio::sync::oneshot;

use haematite::BranchView;

use super::{
    Checkpointed, HaematiteConfig, Shared, State,
    database::{self, OpenDatabase},
};
use crate::store::{StoreError, keys};

/// Requests that may wait for the thread; callers of `fold` block no runtime while they wait for a place.
const QUEUE: usize = 64;

type Reply = oneshot::Sender<Result<(), StoreError>>;

enum Job {
    /// The memtable is large.
    Wake,
    Fold(Reply),
    /// Go on with the database in another directory and remove the old one.
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
pub(super) fn checkpoint(view: &BranchView) -> Checkpointed {
    Ok((database::root(view)?, database::get(view, &keys::mark())?))
}

struct Thread {
    shared: Arc<Shared>,
    database: OpenDatabase,
    dir: PathBuf,
    config: HaematiteConfig,
}

impl Thread {
    fn open(shared: Arc<Shared>, dir: PathBuf, config: HaematiteConfig) -> Result<Self, StoreError> {
        let database = OpenDatabase::open(&dir, &config)?;
        *shared.state.lock() = State { view: Some(database.view()?), ..State::default() };
        Ok(Self { shared, database, dir, config })
    }

    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(self.config.fold_interval) {
                Ok(Job::Wake) | Err(RecvTimeoutError::Timeout) => {
                    if let Err(error) = self.fold() {
                        tracing::error!(%error, "cannot fold; the memtable is kept and folded later");
                    }
                }
                Ok(Job::Fold(reply)) => drop(reply.send(self.fold())),
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
        }
    }

    fn fold(&mut self) -> Result<(), StoreError> {
        // First what a failed fold or a checkpoint left behind, then what was written since.
        self.drain()?;
        loop {
            self.shared.state.lock().freeze();
            self.drain()?;
            if self.shared.state.lock().active_bytes <= self.config.fold_bytes {
                return Ok(());
            }
        }
    }

    /// Folds the closed memtables one by one: a checkpoint's hash is that of its own boundary.
    fn drain(&mut self) -> Result<(), StoreError> {
        loop {
            let oldest = self.shared.state.lock().frozen.front().map(|frozen| frozen.changes.clone());
            let Some(changes) = oldest else { return Ok(()) };
            let written = self.database.write(&changes).and_then(|()| self.database.view());
            let view = match written {
                Ok(view) => view,
                Err(error) => {
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
            self.shared.folded.notify_waiters();
            for waiting in folded.into_iter().flat_map(|folded| folded.checkpoints) {
                let _ = waiting.send(checkpoint(&view)); // or nobody waits any more
            }
        }
    }

    fn close(self) {
        *self.shared.state.lock() = State::default();
        self.shared.folded.notify_waiters();
        self.database.close();
    }

    /// The state is replaced: what the memtables hold belongs to the old one.
    fn swap(self, dir: PathBuf) -> (Option<Self>, Result<(), StoreError>) {
        let Self { shared, database, dir: old, config } = self;
        *shared.state.lock() = State::default();
        database.close();
        match Self::open(shared.clone(), dir, config) {
            Ok(thread) => {
                shared.folded.notify_waiters();
                if let Err(error) = std::fs::remove_dir_all(&old) {
                    tracing::warn!(%error, dir = %old.display(), "cannot remove a replaced state");
                }
                (Some(thread), Ok(()))
            }
            Err(error) => (None, Err(error)),
        }
    }
}
