//! Files of keys that are open only while they are used, so many at once at most: a node with a thousand of them must not
//! take the descriptors that its log and its store need. One that has not been used for longest is closed for the next one,
//! roughly; whoever reads from it opens it again.

use std::{
    collections::{HashMap, VecDeque},
    fs::{File, Metadata},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use super::files::KeyFile;
use crate::model::Limits;

/// See the module; one for a directory.
pub(super) struct OpenFiles {
    most: usize,
    /// Those that are open, each at least once; whoever is in front is looked at first.
    ring: Mutex<VecDeque<Weak<OnUse>>>,
    /// All that somebody holds, open or not.
    known: Mutex<HashMap<PathBuf, Weak<OnUse>>>,
    /// That have lost their names, and so stay open.
    kept: AtomicUsize,
}

/// One of them.
pub(super) struct OnUse {
    path: PathBuf,
    is: Mark,
    file: Mutex<Option<Arc<File>>>,
    /// It was read since it was looked at.
    used: AtomicBool,
    /// It has no name any more, by which it could be opened again.
    kept: AtomicBool,
    of: Arc<OpenFiles>,
}

/// By which a file is known again: the name may be another's by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Mark {
    fn of(file: &Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino(), bytes: file.len(), changed: (file.mtime(), file.mtime_nsec()) }
    }
}

impl OpenFiles {
    pub(super) fn of_at_most(most: usize) -> Arc<Self> {
        let (ring, known) = (Mutex::default(), Mutex::default());
        Arc::new(Self { most: most.max(1), ring, known, kept: AtomicUsize::new(0) })
    }

    /// Opens one. Blocks.
    pub(super) fn open(self: &Arc<Self>, path: PathBuf) -> io::Result<Arc<OnUse>> {
        let file = File::open(&path)?;
        let is = Mark::of(&file.metadata()?);
        let file = Mutex::new(Some(Arc::new(file)));
        let (used, kept) = (AtomicBool::new(true), AtomicBool::new(false));
        let opened = Arc::new(OnUse { path: path.clone(), is, file, used, kept, of: self.clone() });
        self.known.lock().insert(path, Arc::downgrade(&opened));
        self.enter(&opened);
        Ok(opened)
    }

    /// Whoever holds the file of this name can read it, although it is about to lose its name. Only some can be kept so;
    /// the others cannot be read any more, which is found when it is tried.
    pub(super) fn keep(&self, path: &Path) {
        let held = self.known.lock().remove(path).and_then(|held| held.upgrade());
        let Some(held) = held.filter(|_| self.kept.load(Ordering::Relaxed) < Limits::KEPT_KEY_FILES) else { return };
        // First, so that nobody closes it in between.
        if !held.kept.swap(true, Ordering::AcqRel) {
            self.kept.fetch_add(1, Ordering::Relaxed);
        }
        if let Ok(file) = held.file() {
            *held.file.lock() = Some(file);
        }
    }

    /// One more is open: others are closed for it.
    fn enter(&self, opened: &Arc<OnUse>) {
        let mut closed = Vec::new();
        {
            let mut ring = self.ring.lock();
            ring.push_back(Arc::downgrade(opened));
            let mut looks = 2 * ring.len();
            while ring.len() > self.most && looks > 0 {
                looks -= 1;
                let Some(first) = ring.pop_front() else { break };
                let Some(first) = first.upgrade().filter(|first| !first.kept.load(Ordering::Acquire)) else { continue };
                if first.used.swap(false, Ordering::Relaxed) {
                    ring.push_back(Arc::downgrade(&first));
                } else {
                    closed.push(first);
                }
            }
        }
        for file in closed {
            file.close();
        }
    }
}

impl OnUse {
    fn file(self: &Arc<Self>) -> io::Result<Arc<File>> {
        self.used.store(true, Ordering::Relaxed);
        if let Some(file) = &*self.file.lock() {
            return Ok(file.clone());
        }
        let file = File::open(&self.path)?;
        if Mark::of(&file.metadata()?) != self.is {
            return Err(io::Error::other("another file has its name by now"));
        }
        let file = Arc::new(file);
        *self.file.lock() = Some(file.clone());
        self.of.enter(self);
        Ok(file)
    }

    fn close(&self) {
        let mut file = self.file.lock();
        if !self.kept.load(Ordering::Acquire) {
            *file = None;
        }
    }
}

impl KeyFile for Arc<OnUse> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.is.bytes)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file()?.read_exact_at(buffer, offset)
    }
}

impl Drop for OnUse {
    fn drop(&mut self) {
        if *self.kept.get_mut() {
            self.of.kept.fetch_sub(1, Ordering::Relaxed);
        }
        let mut known = self.of.known.lock();
        if known.get(&self.path).is_some_and(|known| known.strong_count() == 0) {
            known.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(file: &Arc<OnUse>) -> io::Result<u8> {
        let mut byte = [0];
        file.read_at(&mut byte, 0)?;
        Ok(byte[0])
    }

    fn is_open(file: &Arc<OnUse>) -> bool {
        file.file.lock().is_some()
    }

    /// So many files, each with its number in it, of which two may be open.
    fn files(dir: &Path, count: u8) -> Vec<Arc<OnUse>> {
        let open = OpenFiles::of_at_most(2);
        let file = |number: u8| {
            let path = dir.join(number.to_string());
            fs::write(&path, [number]).unwrap();
            open.open(path).unwrap()
        };
        (0..count).map(file).collect()
    }

    #[test]
    fn however_many_files_are_held_few_are_open_and_all_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path(), 20);
        for _ in 0..3 {
            for (number, file) in (0..).zip(&files) {
                assert_eq!(read(file).unwrap(), number);
                assert!(files.iter().filter(|file| is_open(file)).count() <= 2);
            }
        }
    }

    #[test]
    fn a_closed_file_that_loses_its_name_stays_readable_for_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path(), 5);
        assert!(!is_open(&files[0]));
        files[0].of.keep(&files[0].path);
        fs::remove_file(&files[0].path).unwrap();
        for _ in 0..3 {
            assert!(files.iter().map(|file| read(file).unwrap()).eq(0..5));
        }
        let of = files[0].of.clone();
        assert_eq!(of.kept.load(Ordering::Relaxed), 1);
        drop(files);
        assert_eq!((of.kept.load(Ordering::Relaxed), of.known.lock().len()), (0, 0));
    }

    #[test]
    fn another_file_of_the_same_name_is_not_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path(), 5);
        assert!(!is_open(&files[0]));
        fs::write(dir.path().join("new"), [9, 9]).unwrap();
        fs::rename(dir.path().join("new"), &files[0].path).unwrap();
        assert!(read(&files[0]).is_err());
    }
}
