//! Nodes of one state in the directory of another: a hard link each, so that no content is read or written.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use haematite::Hash;

use super::{
    database::{failed, nodes_dir},
    nodes::Nodes,
};
use crate::store::StoreError;

/// Puts nodes of one state into the directory of another.
pub(super) struct Links<'a> {
    from: &'a Nodes,
    into: PathBuf,
    /// Directories whose new entries a power cut could still take.
    unsynced: BTreeSet<PathBuf>,
    bytes: u64,
}

impl<'a> Links<'a> {
    pub(super) fn new(from: &'a Nodes, target: &Path) -> Self {
        Self { from, into: nodes_dir(target), unsynced: BTreeSet::new(), bytes: 0 }
    }

    pub(super) fn add(&mut self, hash: &Hash) -> Result<(), StoreError> {
        let (source, target) = (self.from.file(hash), hash.node_file_in(&self.into));
        let linked = self.link(&source, &target).map_err(|error| StoreError::Failed {
            action: "link a node",
            reason: format!("{} as {}: {error}", source.display(), target.display()),
        });
        self.bytes += linked?;
        Ok(())
    }

    fn link(&mut self, source: &Path, target: &Path) -> io::Result<u64> {
        if let Some(prefix) = target.parent()
            && !self.unsynced.contains(prefix)
        {
            // As private as haematite makes them.
            match fs::DirBuilder::new().mode(0o700).create(prefix) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => self.unsynced.insert(prefix.to_owned()),
            };
        }
        match fs::hard_link(source, target) {
            // Nodes are named by their content.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
            // Not every file system has hard links, or as many as are asked for.
            Err(_) => {
                fs::copy(source, target)?;
                File::open(target)?.sync_all()?;
            }
            Ok(()) => {}
        }
        Ok(fs::metadata(target)?.len())
    }

    /// Makes the links durable and says how many bytes they hold.
    pub(super) fn sync(&self) -> Result<u64, StoreError> {
        let synced = self.unsynced.iter().chain([&self.into]).try_for_each(|dir| File::open(dir)?.sync_all());
        synced.map_err(|error| failed("sync linked nodes", &error))?;
        Ok(self.bytes)
    }
}

/// Makes everything of a state but its nodes durable, whatever haematite has synced by itself.
pub(super) fn sync_rest(state: &Path) -> Result<(), StoreError> {
    fn sync(dir: &Path, nodes: &Path) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            match path.is_dir() {
                true if path == nodes => {}
                true => sync(&path, nodes)?,
                false => File::open(&path)?.sync_all()?,
            }
        }
        File::open(dir)?.sync_all()
    }
    sync(state, &nodes_dir(state)).map_err(|error| failed("sync a compacted state", &error))
}
