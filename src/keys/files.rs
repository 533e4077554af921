//! Where files of keys are: in a directory, or in memory for nodes that have no disk. A file is written whole and then
//! never changed; what it holds can be made again from the store, so losing one costs time and nothing else. There may be
//! more of them than the process may have open, so those in a directory are open only while they are used (`open_files`).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::open_files::OpenFiles;
use crate::model::Limits;

/// A place for them.
pub trait KeyFiles: Send + Sync + 'static {
    /// The names of all.
    ///
    /// # Errors
    /// When the place cannot be looked into.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Opens one for reading. It stays readable for as long as it is held, even when it is removed or replaced.
    ///
    /// # Errors
    /// When it is not there or cannot be opened.
    fn open(&self, name: &str) -> io::Result<Arc<dyn KeyFile>>;

    /// Begins one. Nothing has its name before [`NewFile::publish`].
    ///
    /// # Errors
    /// When it cannot be made.
    fn create(&self, name: &str) -> io::Result<Box<dyn NewFile>>;

    /// Removes one, if it is there.
    ///
    /// # Errors
    /// When it stays.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Whether reading and writing may take time, and so has to be kept off the threads that must not wait.
    fn is_disk(&self) -> bool;
}

/// One of them.
pub trait KeyFile: Send + Sync {
    /// Its bytes.
    ///
    /// # Errors
    /// When it cannot be looked at.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has none.
    ///
    /// # Errors
    /// As [`KeyFile::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills a buffer with what is at a place.
    ///
    /// # Errors
    /// When it cannot be read, or ends before.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// One that is being written. Dropped, it leaves nothing.
pub trait NewFile: Write + Send {
    /// Gives it its name, durably and with all that was written. Another one of that name is replaced.
    ///
    /// # Errors
    /// When it cannot be made durable.
    fn publish(&mut self) -> io::Result<()>;
}

/// Files in a directory of their own.
pub struct KeyDirectory {
    dir: PathBuf,
    /// Names the next file that is written.
    next: AtomicU64,
    open: Arc<OpenFiles>,
}

const UNFINISHED: &str = ".new";
/// So much is written between two syncs: a large file that is synced at its end would make the log's syncs wait for it.
const SYNC: usize = 4 << 20;

impl KeyDirectory {
    /// Removes what a crash left unfinished. The directory is made with the first file: most nodes never have one, and one
    /// whose disk is full has to start all the same. Blocks.
    ///
    /// # Errors
    /// When it is there and cannot be looked into.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let open = OpenFiles::of_at_most(Limits::OPEN_KEY_FILES);
        let files = Self { dir: dir.to_owned(), next: AtomicU64::new(0), open };
        for name in files.all()?.iter().filter(|name| name.ends_with(UNFINISHED)) {
            files.remove(name)?;
        }
        Ok(files)
    }

    fn all(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }
}

impl KeyFiles for KeyDirectory {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = self.all()?;
        names.retain(|name| !name.ends_with(UNFINISHED));
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn KeyFile>> {
        Ok(Arc::new(self.open.open(self.dir.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn NewFile>> {
        fs::create_dir_all(&self.dir)?;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let unfinished = self.dir.join(format!("{number}{UNFINISHED}"));
            match File::create_new(&unfinished) {
                // Of a node that this process had before, and that is about to end.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => {
                    let path = self.dir.join(name);
                    let open = self.open.clone();
                    return Ok(Box::new(Unfinished { file, unfinished, path, open, unsynced: 0, published: false }));
                }
            }
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.dir.join(name);
        self.open.keep(&path);
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn is_disk(&self) -> bool {
        true
    }
}

struct Unfinished {
    file: File,
    unfinished: PathBuf,
    path: PathBuf,
    open: Arc<OpenFiles>,
    unsynced: usize,
    published: bool,
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= SYNC {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl NewFile for Unfinished {
    fn publish(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        self.open.keep(&self.path);
        fs::rename(&self.unfinished, &self.path)?;
        self.published = true;
        let dir = self.path.parent().ok_or_else(|| io::Error::other("a file without a directory"))?;
        File::open(dir)?.sync_all()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.unfinished); // or the next start does it
        }
    }
}

/// Files in memory.
#[derive(Clone, Default)]
pub struct KeyMemory {
    files: Arc<Mutex<BTreeMap<String, Arc<Vec<u8>>>>>,
}

impl KeyFiles for KeyMemory {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn KeyFile>> {
        let file = self.files.lock().get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(file)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn NewFile>> {
        Ok(Box::new(InMemory { files: self.clone(), name: name.to_owned(), bytes: Vec::new() }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().remove(name);
        Ok(())
    }

    fn is_disk(&self) -> bool {
        false
    }
}

impl KeyFile for Vec<u8> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.as_slice().len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = from.checked_add(buffer.len()).and_then(|to| self.get(from..to));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

struct InMemory {
    files: KeyMemory,
    name: String,
    bytes: Vec<u8>,
}

impl Write for InMemory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for InMemory {
    fn publish(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.bytes);
        self.files.files.lock().insert(self.name.clone(), Arc::new(bytes));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_once_it_is_whole_and_stays_readable_when_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let places: [Box<dyn KeyFiles>; 2] =
            [Box::new(KeyDirectory::open(&dir.path().join("keys")).unwrap()), Box::new(KeyMemory::default())];
        for files in places {
            let mut new = files.create("one").unwrap();
            new.write_all(b"content").unwrap();
            assert!(files.open("one").is_err());
            new.publish().unwrap();
            drop(files.create("two").unwrap());
            let file = files.open("one").unwrap();
            assert_eq!((files.names().unwrap(), file.len().unwrap()), (vec!["one".to_owned()], 7));
            files.remove("one").unwrap();
            files.remove("one").unwrap();
            let mut read = [0; 4];
            file.read_at(&mut read, 3).unwrap();
            assert_eq!(&read, b"tent");
            assert!(file.read_at(&mut read, 4).is_err() && files.open("one").is_err());
        }
    }

    #[test]
    fn what_a_crash_left_unfinished_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("7.new"), b"half").unwrap();
        fs::write(dir.path().join("whole"), b"whole").unwrap();
        assert_eq!(KeyDirectory::open(dir.path()).unwrap().names().unwrap(), ["whole"]);
    }
}
