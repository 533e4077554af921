//! Small files that say something about the rest of a directory: they are replaced whole, durably, and their content
//! carries a checksum, so that a cut or a flipped bit is never taken for what was written.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use rustix::{
    fs::Mode,
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, setrlimit},
};

/// What the owner may do with a directory.
const PRIVATE: Mode = Mode::RWXU;

/// What to do about a data directory that lacks something, or holds something else than was written.
pub(crate) const WAY_OUT: &str = "put back what was there; if it is lost, run `liminal cluster remove` for this node on \
                                  another one and start this one with an empty data directory, or restore a backup";

/// Whatever this process creates from now on is its user's alone: logs, states and backups hold what others published.
pub(crate) fn keep_private() {
    rustix::process::umask(PRIVATE.complement());
}

/// The process's memory holds secrets: the kernel does not write it to disk when the process crashes, and lets no other
/// process of its user look into it.
pub(crate) fn keep_memory_private() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Programs that collect dumps ask for the former, plain files for this.
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum })?)
}

/// Makes a directory that nobody but its owner can look into, or one that is there already.
pub(crate) fn private_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    if let Err(error) = fs::set_permissions(dir, fs::Permissions::from_mode(PRIVATE.as_raw_mode())) {
        // A volume may belong to another user.
        tracing::warn!(%error, path = %dir.display(), "the directory's mode cannot be set to 0700: others may read it");
    }
    Ok(())
}

/// Replaces a file durably: a crash leaves the old or the new content.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("a file without a directory"))?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    fs::write(&temporary, bytes)?;
    File::open(&temporary)?.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(dir)?.sync_all()
}

/// The checksum that such a file carries, as text.
pub(crate) fn checksum(content: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(content))
}
