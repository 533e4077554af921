//! Walks a tree in the order of its keys and reads nothing that is not asked for.
//!
//! A batch may have a megabyte. Haematite's own range reads the entry behind each page as well, reads leaves ahead on
//! threads that it starts for it, and copies every value; read like that, a megabyte costs more than twice its hash and
//! its decompression. Here a large value is handed out as a part of the node that it came in.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use haematite::{Hash, InternalNode, LeafNode, Node};
use parking_lot::Mutex;

use super::{database::failed, nodes::Nodes};
use crate::store::StoreError;

/// A smaller value is copied, so that it does not keep a whole leaf in memory.
const SHARED_VALUE: usize = 16 << 10;
/// Readers that are kept for the next walk: opening one syncs a directory.
const KEPT: usize = 4;

/// What walks of one state read through, each with a cache of its own; none once the state is closed.
pub(super) struct Readers {
    free: Mutex<Option<Vec<Nodes>>>,
}

impl Default for Readers {
    fn default() -> Self {
        Self { free: Mutex::new(Some(Vec::new())) }
    }
}

impl Readers {
    /// An open reader would keep the database from closing.
    pub(super) fn close(&self) {
        self.free.lock().take();
    }

    /// Lends a reader of the nodes of the state at `path`. Blocks. `cache_bytes` are those of all readers together.
    pub(super) fn lend<T>(
        &self,
        path: &Path,
        cache_bytes: usize,
        work: impl FnOnce(&Nodes) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // The one that was used last knows most.
        let free = self.free.lock().as_mut().and_then(Vec::pop);
        let nodes = match free {
            Some(nodes) => nodes,
            None => Nodes::open(path, (cache_bytes / KEPT).max(1))?,
        };
        let result = work(&nodes);
        if let Some(free) = self.free.lock().as_mut().filter(|free| free.len() < KEPT) {
            free.push(nodes);
        }
        result
    }

    /// A node that a reader has in memory, or can read.
    pub(super) fn remembered(&self, hash: &Hash) -> Option<Arc<Node>> {
        self.free.lock().iter().flatten().find_map(|nodes| nodes.read(hash).ok())
    }
}

/// A walk over the entries of `[from, to)`.
pub(super) struct Walk<'a> {
    nodes: &'a Nodes,
    to: &'a [u8],
    /// Internal nodes on the way down, each with the next child to visit.
    stack: Vec<(Arc<Node>, usize)>,
    /// The present leaf, and the next entry in it.
    leaf: Option<(Arc<Node>, usize)>,
}

impl<'a> Walk<'a> {
    pub(super) fn begin(nodes: &'a Nodes, root: Hash, from: &[u8], to: &'a [u8]) -> Result<Self, StoreError> {
        let mut walk = Self { nodes, to, stack: Vec::new(), leaf: None };
        if from < to {
            walk.descend(root, |node| node.children().partition_point(|(first, _)| &first[..] <= from).max(1) - 1)?;
            if let Some((leaf, at)) = &mut walk.leaf {
                *at = entries(leaf).partition_point(|(key, _)| &key[..] < from);
            }
        }
        Ok(walk)
    }

    /// The next entry's key.
    pub(super) fn peek(&mut self) -> Result<Option<&[u8]>, StoreError> {
        while self.leaf.as_ref().is_some_and(|(leaf, at)| *at == entries(leaf).len()) {
            self.leaf = None;
            self.advance()?;
        }
        let key = self.leaf.as_ref().map(|(leaf, at)| &entries(leaf)[*at].0[..]);
        Ok(key.filter(|key| *key < self.to))
    }

    /// The next entry.
    pub(super) fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, StoreError> {
        if self.peek()?.is_none() {
            return Ok(None);
        }
        Ok(self.leaf.as_mut().map(|(leaf, at)| {
            let index = std::mem::replace(at, *at + 1);
            let (key, value) = &entries(leaf)[index];
            let value = if value.len() < SHARED_VALUE {
                Bytes::copy_from_slice(value)
            } else {
                Bytes::from_owner(Value { leaf: leaf.clone(), index })
            };
            (Bytes::copy_from_slice(key), value)
        }))
    }

    /// Goes over the entry that was peeked at.
    pub(super) fn skip(&mut self) {
        if let Some((_, at)) = &mut self.leaf {
            *at += 1;
        }
    }

    /// Goes over what is left of the present leaf to the next one.
    pub(super) fn next_leaf(&mut self) -> Result<(), StoreError> {
        self.leaf = None;
        self.advance()
    }

    /// To the next leaf, unless it is beyond the end.
    fn advance(&mut self) -> Result<(), StoreError> {
        while let Some((node, next)) = self.stack.last_mut() {
            match internal(node).and_then(|node| node.children().get(*next)) {
                Some((first, _)) if &first[..] >= self.to => return Ok(()),
                Some((_, child)) => {
                    *next += 1;
                    let child = *child;
                    return self.descend(child, |_| 0);
                }
                None => drop(self.stack.pop()),
            }
        }
        Ok(())
    }

    /// Down to a leaf, at each internal node to the child that is chosen.
    fn descend(&mut self, hash: Hash, choose: impl Fn(&InternalNode) -> usize) -> Result<(), StoreError> {
        let mut hash = hash;
        loop {
            let node = self.nodes.read(&hash)?;
            let Some(parent) = internal(&node) else {
                self.leaf = Some((node, 0));
                return Ok(());
            };
            let index = choose(parent);
            let child = parent.children().get(index).map(|(_, child)| *child);
            hash = child.ok_or_else(|| failed("walk a tree", &format!("node {hash} has no children")))?;
            self.stack.push((node, index + 1));
        }
    }
}

fn internal(node: &Node) -> Option<&InternalNode> {
    match node {
        Node::Internal(internal) => Some(internal),
        Node::Leaf(_) => None,
    }
}

fn entries(node: &Node) -> &[(Vec<u8>, Vec<u8>)] {
    match node {
        Node::Leaf(leaf) => LeafNode::entries(leaf),
        Node::Internal(_) => &[],
    }
}

/// A value in the leaf that it lies in.
struct Value {
    leaf: Arc<Node>,
    index: usize,
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        &entries(&self.leaf)[self.index].1
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            config::HaematiteConfig,
            database::{self, OpenDatabase},
            memtable::Entries,
            view::StateDir,
        },
        *,
    };

    fn key(number: u32) -> Bytes {
        Bytes::from(format!("k{number:05}"))
    }

    /// Values from a few bytes to some hundred kilobytes: leaves of many entries, and of one.
    fn value(number: u32) -> Bytes {
        let len = if number.is_multiple_of(50) { 300 << 10 } else { 200 + number as usize % 100 };
        vec![number as u8; len].into()
    }

    #[test]
    fn a_walk_gives_what_lies_between_its_ends_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = OpenDatabase::open(&dir.path().join("state"), &HaematiteConfig::default()).unwrap();
        let all: Entries = (0..3000).map(|number| (key(number * 2), Some(value(number).into()))).collect();
        database.write(&all).unwrap();
        let view = database.view().unwrap();
        let root = database::root_node(&view).unwrap();
        let state = StateDir::new(dir.path().join("state"));
        for (from, to) in [(0, 6000), (0, 1), (7, 8), (99, 2001), (100, 2000), (5998, 9000), (6000, 9000), (20, 20)] {
            let (from, to) = (key(from), key(to));
            let walked = state.read(1 << 20, |nodes| {
                let mut walk = Walk::begin(nodes, root, &from, &to)?;
                let mut found = Vec::new();
                while let Some((key, value)) = walk.next()? {
                    found.push((key, value));
                }
                assert_eq!(walk.peek()?, None);
                Ok(found)
            });
            let expected = all.range(from.clone()..to.clone());
            let expected: Vec<_> =
                expected.map(|(key, value)| (key.clone(), value.as_ref().unwrap().bytes())).collect();
            assert!(walked.unwrap() == expected, "{from:?} to {to:?}");
        }
        drop(view);
        state.readers.close();
        database.close();
    }

    #[test]
    fn a_reader_that_comes_back_after_the_close_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        OpenDatabase::open(&path, &HaematiteConfig::default()).unwrap().close();
        let state = StateDir::new(path);
        state.read(1 << 20, |_| Ok(())).unwrap();
        assert_eq!(state.readers.free.lock().as_ref().map(Vec::len), Some(1));
        state
            .read(1 << 20, |_| {
                state.readers.close();
                Ok(())
            })
            .unwrap();
        assert!(state.readers.free.lock().is_none());
    }
}
