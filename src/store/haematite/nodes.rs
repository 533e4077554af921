//! The tree as files: which nodes a root reaches, and in which two roots differ.
//!
//! Haematite keeps each node in an immutable file named by its hash and says how to find it, but not how many bytes
//! a state takes nor which of them still live. Walking over internal nodes tells both without reading a value: a
//! leaf's hash stands in its parent, all leaves lie equally deep (haematite's own rebuilds rely on that), and a
//! subtree with the same hash is the same subtree.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use haematite::{DiskStore, Hash, InternalNode, Node, NodeCacheBudget};

use super::{
    check,
    database::{self, failed},
};
use crate::store::StoreError;

/// Called for each node; stops the walk by an error.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&Hash) -> Result<(), StoreError>;

/// Reads the nodes of one state beside its owner. To be dropped before the database closes.
pub(super) struct Nodes {
    store: DiskStore,
    dir: PathBuf,
}

impl Nodes {
    /// Over a state's directory. Blocks, as everything here does.
    pub(super) fn open(state: &Path, cache_bytes: usize) -> Result<Self, StoreError> {
        let budget = NodeCacheBudget::bytes(cache_bytes).map_err(|error| failed("size the cache", &error))?;
        let dir = database::nodes_dir(state);
        let store = DiskStore::new(&dir, budget).map_err(|error| failed("open the nodes of a state", &error))?;
        Ok(Self { store, dir })
    }

    /// The file of a node.
    pub(super) fn file(&self, hash: &Hash) -> PathBuf {
        hash.node_file_in(&self.dir)
    }

    /// Bytes that a node takes.
    pub(super) fn size(&self, hash: &Hash) -> Result<u64, StoreError> {
        let path = self.file(hash);
        let metadata = fs::metadata(&path);
        metadata.map(|metadata| metadata.len()).map_err(|error| match check::is_damage(&error) {
            true => check::damaged(&path, hash, error.to_string()),
            false => StoreError::Failed { action: "size a node", reason: format!("{}: {error}", path.display()) },
        })
    }

    /// Bytes of all node files, whether they live or not.
    pub(super) fn all_bytes(&self) -> Result<u64, StoreError> {
        let sum = || -> std::io::Result<u64> {
            let mut bytes = 0;
            for prefix in fs::read_dir(&self.dir)? {
                let prefix = prefix?;
                if prefix.file_type()?.is_dir() {
                    for file in fs::read_dir(prefix.path())? {
                        bytes += file?.metadata()?.len();
                    }
                }
            }
            Ok(bytes)
        };
        sum().map_err(|error| failed("size a state", &error))
    }

    /// Visits every node that a root reaches. Leaves are not read.
    pub(super) fn walk(&self, root: Hash, visit: Visit<'_>) -> Result<(), StoreError> {
        let mut stack = vec![(root, self.height(root)?)];
        while let Some((hash, level)) = stack.pop() {
            visit(&hash)?;
            if level > 0 {
                let children = self.children(&hash, level)?;
                stack.extend(children.into_iter().map(|child| (child, level - 1)));
            }
        }
        Ok(())
    }

    /// Whether a root reaches a node.
    pub(super) fn reaches(&self, root: Hash, wanted: &Hash) -> Result<bool, StoreError> {
        let mut found = false;
        let walked = self.walk(root, &mut |hash| {
            found |= hash == wanted;
            // Any error ends the walk.
            if found { Err(StoreError::Closed) } else { Ok(()) }
        });
        if found { Ok(true) } else { walked.map(|()| false) }
    }

    /// Whether every node that a root reaches is there. What is in leaves is not looked at.
    pub(super) fn is_whole(&self, root: Hash) -> Result<(), StoreError> {
        self.walk(root, &mut |hash| self.size(hash).map(drop))
    }

    /// Visits the nodes that only `old` reaches, and those that only `new` reaches. The cost is that of what differs.
    pub(super) fn difference(&self, old: Hash, new: Hash, gone: Visit<'_>, fresh: Visit<'_>) -> Result<(), StoreError> {
        if old == new {
            return Ok(());
        }
        let (old_height, new_height) = (self.height(old)?, self.height(new)?);
        // Internal nodes of the level above that are on one side only.
        let (mut old_parents, mut new_parents) = (Vec::new(), Vec::new());
        for level in (0..=old_height.max(new_height)).rev() {
            let mut only_new = HashSet::new();
            for parent in new_parents.drain(..) {
                only_new.extend(self.children(&parent, level + 1)?);
            }
            if level == new_height {
                only_new.insert(new);
            }
            let mut only_old = Vec::new();
            let mut sort_out = |hash: Hash| {
                if only_new.remove(&hash) {
                    return Ok(());
                }
                if level > 0 {
                    only_old.push(hash); // a dropped stream may have had very many leaves: those are not kept
                }
                gone(&hash)
            };
            for parent in old_parents.drain(..) {
                self.children(&parent, level + 1)?.into_iter().try_for_each(&mut sort_out)?;
            }
            if level == old_height {
                sort_out(old)?;
            }
            only_new.iter().try_for_each(&mut *fresh)?;
            old_parents = only_old;
            new_parents.extend(only_new);
        }
        Ok(())
    }

    /// Levels above the leaves.
    fn height(&self, root: Hash) -> Result<usize, StoreError> {
        let (mut height, mut hash) = (0, root);
        while let Node::Internal(internal) = &*self.read(&hash)? {
            hash = first_child(&hash, internal)?;
            height += 1;
        }
        Ok(height)
    }

    fn children(&self, hash: &Hash, level: usize) -> Result<Vec<Hash>, StoreError> {
        let unexpected =
            |detail: &str| Err(StoreError::Corrupt { what: format!("node {hash}"), detail: detail.into() });
        let node = self.read(hash)?;
        let Node::Internal(internal) = &*node else {
            return unexpected("a leaf where the tree has an internal node");
        };
        // All else stands on leaves being equally deep, so one in each group is looked at.
        if level == 1 && !matches!(&*self.read(&first_child(hash, internal)?)?, Node::Leaf(_)) {
            return unexpected("its children are internal nodes where the tree has leaves");
        }
        Ok(internal.children().iter().map(|(_, child)| *child).collect())
    }

    /// A node, checked against its hash.
    pub(super) fn read(&self, hash: &Hash) -> Result<Arc<Node>, StoreError> {
        let damaged = |detail: String| check::damaged(&self.file(hash), hash, detail);
        match self.store.get(hash) {
            Ok(Some(node)) => Ok(node),
            Ok(None) => Err(damaged("it is missing".into())),
            Err(haematite::StoreError::Io(error)) if !check::is_damage(&error) => Err(StoreError::Failed {
                action: "read a node",
                reason: format!("{}: {error}", self.file(hash).display()),
            }),
            Err(error) => Err(damaged(error.to_string())),
        }
    }
}

fn first_child(hash: &Hash, internal: &InternalNode) -> Result<Hash, StoreError> {
    let first = internal.children().first().map(|(_, child)| *child);
    first.ok_or_else(|| StoreError::Corrupt { what: format!("node {hash}"), detail: "it has no children".into() })
}
