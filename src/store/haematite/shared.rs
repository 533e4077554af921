//! What readers and the folding thread share: the memtables, the tree below them, and how both are read as one.

use std::{
    cmp,
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::{
    current,
    damages::Damages,
    database,
    memtable::{MemTable, Overlay},
    scan::Walk,
    view::View,
};
use crate::{
    meter::Histogram,
    store::{StateHash, StoreError, StoreUsage, engine::Page, value::Value},
};

/// Entries looked at in one step of a range read, at most.
pub(super) const STEP: usize = 1024;

pub(super) struct Shared {
    pub(super) root: PathBuf,
    pub(super) state: Mutex<State>,
    /// After every fold.
    pub(super) folded: Notify,
    /// Number of the next state to be made beside the live one.
    pub(super) next_state: AtomicU64,
    pub(super) cache_bytes: usize,
    pub(super) damages: Damages,
    /// How long it took to write each memtable into the tree.
    pub(super) folds: Histogram,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) active: MemTable,
    /// On their way into the tree, oldest first; each stays until it is there.
    pub(super) frozen: VecDeque<Frozen>,
    /// The tree as of the newest fold; none once the store is closed.
    pub(super) view: Option<Arc<View>>,
    /// None until it is counted.
    pub(super) usage: Option<StoreUsage>,
    /// Why the newest fold failed; none when it did not.
    pub(super) failure: Option<String>,
}

/// A hash and a mark.
pub(super) type Checkpointed = Result<(StateHash, Option<Bytes>), StoreError>;

/// A memtable that takes no more changes.
pub(super) struct Frozen {
    pub(super) changes: Arc<MemTable>,
    /// Who wants the hash of the state that ends with these changes.
    pub(super) checkpoints: Vec<oneshot::Sender<Checkpointed>>,
}

impl State {
    pub(super) fn view(&self) -> Result<Arc<View>, StoreError> {
        self.view.clone().ok_or(StoreError::Closed)
    }

    /// What the memtables say of a key: nothing, that it is deleted, or its value.
    pub(super) fn memory(&self, key: &[u8]) -> Option<Option<Value>> {
        self.newest_first().find_map(|table| table.get(key))
    }

    fn newest_first(&self) -> impl Iterator<Item = &MemTable> {
        [&self.active].into_iter().chain(self.frozen.iter().rev().map(|frozen| &*frozen.changes))
    }

    /// What the memtables say of a range, the newer ones first in force; at most `limit` entries.
    pub(super) fn overlay(&self, from: &[u8], to: &[u8], limit: usize) -> Overlay {
        Overlay::of(self.newest_first(), (from, to), limit)
    }

    /// Closes the memtable, if there is anything in it.
    pub(super) fn freeze(&mut self) {
        if !self.active.is_empty() {
            let changes = Arc::new(std::mem::take(&mut self.active));
            self.frozen.push_back(Frozen { changes, checkpoints: Vec::new() });
        }
    }

    /// Bytes that wait behind the memtable that is being folded.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.active.bytes() + self.frozen.iter().skip(1).map(|frozen| frozen.changes.bytes()).sum::<usize>()
    }
}

impl Shared {
    /// The directory for another state beside the live one, which nobody else is given.
    pub(super) fn next_state(&self) -> Result<PathBuf, StoreError> {
        let state = self.root.join(format!("state-{:06}", self.next_state.fetch_add(1, Ordering::Relaxed)));
        current::begin(&state)?;
        Ok(state)
    }

    /// A range over memtables and tree. Blocks.
    pub(super) fn range(&self, from: &[u8], to: &[u8], limit: usize, max_bytes: usize) -> Result<Page, StoreError> {
        let (mut page, mut bytes, mut cursor) = (Page::new(), 0, Bytes::copy_from_slice(from));
        while cursor < to && page.len() < limit && bytes < max_bytes {
            // Each step sees one moment: what leaves the memtables is in the view that is taken with them.
            let (Overlay { entries, cuts }, view) = {
                let state = self.state.lock();
                (state.overlay(&cursor, to, STEP), state.view()?)
            };
            let end = match entries.last_key_value() {
                Some((last, _)) if entries.len() == STEP => [last, &[0][..]].concat().into(),
                _ => Bytes::copy_from_slice(to),
            };
            let root = database::root_node(&view)?;
            view.dir.read(self.cache_bytes, |nodes| {
                // What the tree still has of a cut is stepped over.
                let after_cut = |at: &[u8]| cuts.end_around(at).cloned();
                let from = after_cut(&cursor).unwrap_or_else(|| cursor.clone());
                let mut tree = Walk::begin(nodes, root, &from, &end)?;
                let mut newer = entries.into_iter().peekable();
                while page.len() < limit && bytes < max_bytes {
                    while let Some(behind) = tree.peek()?.and_then(after_cut) {
                        tree = Walk::begin(nodes, root, &behind, &end)?;
                    }
                    let order = match (tree.peek()?, newer.peek()) {
                        (None, None) => break,
                        (Some(stored), Some((newer, _))) => stored.cmp(newer),
                        (Some(_), None) => cmp::Ordering::Less,
                        (None, Some(_)) => cmp::Ordering::Greater,
                    };
                    if order == cmp::Ordering::Equal {
                        tree.skip();
                    }
                    let next = if order == cmp::Ordering::Less { tree.next()? } else { newer.next().and_then(present) };
                    let Some((key, value)) = next else { continue };
                    bytes += value.len();
                    page.push((key, value));
                }
                Ok(())
            })?;
            cursor = end;
        }
        Ok(page)
    }
}

/// An entry of a memtable, unless it says that there is none.
pub(super) fn present((key, value): (Bytes, Option<Value>)) -> Option<(Bytes, Bytes)> {
    Some((key, value?.bytes()))
}
