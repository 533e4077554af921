//! Files whose blocks are written already, for segments to come.
//!
//! Space that was only reserved costs a sync a second write: the file system has to note that the block is written now. So
//! a purged segment's file is not deleted but becomes the next segment, and while there is none, a thread writes zeros to
//! a file of its own. Whoever writes to the log never waits for either: where no spare is ready, space is reserved.
//!
//! A file becomes a spare in this order: its segment is durably purged; it gets another name; the name is durable; what it
//! lacks is written. Only then may its header be overwritten, which says to which segment it belongs (see `writer`). Whatever
//! a power cut leaves of that, a file that is called a segment is one.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::{index::Obsolete, medium::Medium, writer};

/// How many are kept.
pub(super) const SPARES: usize = 2;
/// How the names of spares end.
const SUFFIX: &str = "spare";
/// The file that zeros are written to.
const ZEROS: &str = "zeros";

/// Zeros are written and synced in pieces of this size, so that the log's own sync never waits for many.
const PIECE: u64 = 256 << 10;
/// Between two pieces the disk is left alone for so many times as long as one took,
const RESTS: u32 = 4;
/// and for no less than this.
const SHORTEST_REST: Duration = Duration::from_millis(1);

/// No file becomes a spare where less than so many of them have room.
const LEFT: u64 = 8;

/// How long readers of a purged file are waited for, and how often they are looked for.
const READERS: Duration = Duration::from_secs(10);
const READERS_STEP: Duration = Duration::from_millis(5);

/// The spare files of a log, and the thread that prepares them. It begins when there is something to do.
pub(super) struct Spares {
    dir: PathBuf,
    medium: Arc<dyn Medium>,
    /// Length of a file.
    size: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ready: Vec<PathBuf>,
    waiting: VecDeque<Job>,
    /// The thread prepares one.
    working: bool,
    thread: Option<JoinHandle<()>>,
    closing: bool,
}

enum Job {
    /// A purged segment, under its new name, and how its readers know it.
    Recycle(PathBuf, Option<Arc<File>>),
    /// A new file.
    Zeros,
}

impl State {
    fn count(&self) -> usize {
        self.ready.len() + self.waiting.len() + usize::from(self.working)
    }
}

impl Spares {
    /// Finds the spares that an earlier process left.
    pub(super) fn open(dir: &Path, medium: Arc<dyn Medium>, size: u64) -> io::Result<Arc<Self>> {
        let (mut left, mut needless) = (VecDeque::new(), Vec::new());
        for file in dir.read_dir()? {
            let path = file?.path();
            if path.extension().is_some_and(|end| end == SUFFIX) {
                if left.len() < SPARES { left.push_back(path) } else { needless.push(path) }
            } else if path.file_name().is_some_and(|name| name == ZEROS) {
                needless.push(path);
            }
        }
        for path in needless {
            if let Err(error) = medium.remove(&path) {
                tracing::warn!(%error, file = %path.display(), "cannot delete a spare file of the log");
            }
        }
        let state = State::default();
        let spares =
            Arc::new(Self { dir: dir.to_owned(), medium, size, state: Mutex::new(state), changed: Condvar::new() });
        left.into_iter().for_each(|path| spares.add(&mut spares.state.lock(), Job::Recycle(path, None)));
        Ok(spares)
    }

    /// One that can be used at once.
    pub(super) fn take(&self) -> Option<PathBuf> {
        self.state.lock().ready.pop()
    }

    /// Takes the file of a purged segment, unless there are enough of them.
    pub(super) fn recycle(self: &Arc<Self>, obsolete: Obsolete) -> Result<(), Obsolete> {
        let mut state = self.state.lock();
        let path = self.dir.join(format!("{:016x}.{SUFFIX}", obsolete.number));
        if state.closing
            || obsolete.distrusted
            || state.count() >= SPARES
            || self.medium.rename(&writer::path(&self.dir, obsolete.number), &path).is_err()
        {
            return Err(obsolete);
        }
        self.add(&mut state, Job::Recycle(path, obsolete.file));
        Ok(())
    }

    /// Has one made if there is none, because the present segment fills up.
    pub(super) fn want(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.count() == 0 && !state.closing {
            self.add(&mut state, Job::Zeros);
        }
    }

    /// Ends the thread. What it was preparing goes on at the next start, or is deleted then.
    pub(super) fn close(&self) {
        let thread = {
            let mut state = self.state.lock();
            state.closing = true;
            self.changed.notify_all();
            state.thread.take()
        };
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that prepares files for the log panicked");
        }
    }

    fn add(self: &Arc<Self>, state: &mut State, job: Job) {
        if state.thread.is_none() {
            let spares = self.clone();
            let thread = std::thread::Builder::new().name("liminal-spares".into()).spawn(move || spares.run());
            match thread {
                Ok(thread) => state.thread = Some(thread),
                // The log goes on without; the next one may begin.
                Err(error) => {
                    tracing::warn!(%error, "cannot start the thread that prepares files for the log");
                    if let Job::Recycle(path, _) = job {
                        let _ = self.medium.remove(&path);
                    }
                    return;
                }
            }
        }
        state.waiting.push_back(job);
        self.changed.notify_all();
    }

    fn run(&self) {
        let mut state = self.state.lock();
        while !state.closing {
            let Some(job) = state.waiting.pop_front() else {
                self.changed.wait(&mut state);
                continue;
            };
            state.working = true;
            drop(state);
            let made = self.prepare(job);
            state = self.state.lock();
            state.working = false;
            state.ready.extend(made);
            self.changed.notify_all();
        }
    }

    /// None where there is no spare in the end, which is nobody's error: without one, space is reserved.
    fn prepare(&self, job: Job) -> Option<PathBuf> {
        let (path, made) = match job {
            Job::Recycle(path, file) => {
                let made = self.refit(&path, file);
                (path, made)
            }
            Job::Zeros => {
                let path = self.dir.join(ZEROS).with_extension(SUFFIX);
                (self.dir.join(ZEROS), self.zeros(&path).map(|()| path))
            }
        };
        match made {
            Ok(path) => Some(path),
            Err(error) => {
                if error.kind() != io::ErrorKind::Interrupted {
                    tracing::debug!(%error, file = %path.display(), "a file for the log could not be prepared");
                    let _ = self.medium.remove(&path); // what stays is found at the next start
                }
                None
            }
        }
    }

    /// Makes a purged file as long as all others.
    fn refit(&self, path: &Path, readers: Option<Arc<File>>) -> io::Result<PathBuf> {
        self.medium.sync_dir(&self.dir)?;
        self.await_readers(readers)?;
        let file = File::options().read(true).write(true).open(path)?;
        let found = file.metadata()?;
        if found.nlink() > 1 {
            return Err(io::Error::other("it has another name, perhaps in a copy"));
        }
        if found.len() > self.size {
            return Err(io::Error::other("it is longer than others"));
        }
        self.look_for_room()?;
        self.fill(&file, found.len())?;
        Ok(path.to_owned())
    }

    /// Nobody finds the file any more, but who had found it before may still read from it.
    fn await_readers(&self, readers: Option<Arc<File>>) -> io::Result<()> {
        let Some(mut file) = readers else { return Ok(()) };
        let give_up = Instant::now() + READERS;
        while Arc::get_mut(&mut file).is_none() {
            if Instant::now() > give_up {
                return Err(io::Error::other("it is still being read"));
            }
            self.rest(READERS_STEP)?;
        }
        Ok(())
    }

    fn zeros(&self, ready: &Path) -> io::Result<()> {
        self.look_for_room()?;
        let path = self.dir.join(ZEROS);
        let file = self.medium.create(&path)?;
        self.medium.reserve(&file, self.size)?;
        self.fill(&file, 0)?;
        self.medium.sync_new(&file)?;
        // Whether its name is durable says nothing: it is not of the log.
        self.medium.rename(&path, ready)
    }

    fn look_for_room(&self) -> io::Result<()> {
        let (free, least) = (self.medium.free(&self.dir)?, self.size * LEFT);
        if free < least {
            return Err(io::Error::other(format!("the disk has {free} bytes left, less than {least}")));
        }
        Ok(())
    }

    /// Writes zeros from a place to the end.
    fn fill(&self, file: &File, from: u64) -> io::Result<()> {
        let piece = PIECE.min(self.size);
        let zeros = vec![0; usize::try_from(piece).map_err(io::Error::other)?];
        let mut at = from;
        while at < self.size {
            let begun = Instant::now();
            let len = piece.min(self.size - at);
            // As long as a piece, which fits in memory.
            self.medium.write(file, &zeros[..len as usize], at)?;
            self.medium.sync(file)?;
            at += len;
            self.rest((begun.elapsed() * RESTS).max(SHORTEST_REST))?;
        }
        Ok(())
    }

    /// Waits, unless the log ends.
    fn rest(&self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.closing {
            if self.changed.wait_until(&mut state, end).timed_out() {
                return Ok(());
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "the log ends"))
    }
}

#[cfg(test)]
impl Spares {
    /// Waits until nothing is being prepared, and says how many are ready.
    pub(super) fn settled(&self) -> usize {
        let mut state = self.state.lock();
        while state.working || !state.waiting.is_empty() {
            self.changed.wait(&mut state);
        }
        state.ready.len()
    }
}
