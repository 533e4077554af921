//! What the log does to its files, one call for each step, so that a test can fail each of them, or cut the power behind it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::Arc,
};

/// How the units' data is made durable.
pub type Sync = Arc<dyn Fn(&File) -> io::Result<()> + Send + std::marker::Sync>;

pub(super) trait Medium: Send + std::marker::Sync {
    /// Makes an empty file.
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
    }

    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    /// Makes room in a file. Where the file system cannot, writing makes it.
    fn reserve(&self, file: &File, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the data of a file durable, and its length.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Makes all of a file durable that is not of the log yet.
    fn sync_new(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    /// Bytes that may still be written to the disk of a directory.
    fn free(&self, dir: &Path) -> io::Result<u64> {
        let space = rustix::fs::statvfs(dir)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

/// The disk, with another way to make units durable.
pub(super) struct Real(pub(super) Sync);

impl Medium for Real {
    fn sync(&self, file: &File) -> io::Result<()> {
        (self.0)(file)
    }
}
