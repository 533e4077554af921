//! Why a file system takes nothing more: haematite keeps to itself what it was told.

use std::path::Path;

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

/// Bytes by which it is tried whether a file system takes any.
const PROBE: usize = 4096;

/// Whether the file system of a directory has no room for another file, and in which way.
pub(super) fn no_room(dir: &Path) -> Option<String> {
    let room = rustix::fs::statvfs(dir).ok()?;
    let dir = dir.display();
    // Some file systems have no table of files to fill, and say so by a size of 0.
    if room.f_files > 0 && room.f_favail == 0 {
        return Some(format!("the file system of {dir} has no free inodes: remove files, or make it larger"));
    }
    (room.f_bavail == 0).then(|| format!("the file system of {dir} is full: remove files, or make it larger"))
}

/// What the file system of a directory says to a write that it refuses.
pub(super) fn write_refusal(dir: &Path) -> Option<String> {
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
