//! The thread that owns the database and folds memtables into it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
};

use tokio::sync::oneshot;

use super::{HaematiteConfig, Shared, State, database::OpenDatabase};
use crate::store::StoreError;

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
        thread.map_err(|error| super::database::failed("start the folding thread", &error))?;
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
        let frozen = {
            let mut state = self.shared.state.lock();
            if state.frozen.is_none() && !state.active.is_empty() {
                state.active_bytes = 0;
                state.frozen = Some(Arc::new(std::mem::take(&mut state.active)));
            }
            state.frozen.clone()
        };
        let Some(frozen) = frozen else { return Ok(()) };
        self.database.write(&frozen)?;
        let view = self.database.view()?;
        {
            let mut state = self.shared.state.lock();
            state.view = Some(view);
            state.frozen = None;
        }
        self.shared.folded.notify_waiters();
        // What a failed fold left over may have kept newer changes waiting.
        let waiting = self.shared.state.lock().active_bytes > self.config.fold_bytes;
        if waiting { self.fold() } else { Ok(()) }
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
