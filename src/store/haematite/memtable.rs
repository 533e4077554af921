//! Changes that are not in the tree yet.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::store::{StateHash, StoreError, value::Value};

pub(super) type MemTable = BTreeMap<Bytes, Option<Value>>;

/// A hash and a mark.
pub(super) type Checkpointed = Result<(StateHash, Option<Bytes>), StoreError>;

/// A memtable that takes no more changes.
pub(super) struct Frozen {
    pub(super) changes: Arc<MemTable>,
    pub(super) bytes: usize,
    /// Who wants the hash of the state that ends with these changes.
    pub(super) checkpoints: Vec<oneshot::Sender<Checkpointed>>,
}

/// An entry of a memtable, unless it says that there is none.
pub(super) fn present((key, value): (Bytes, Option<Value>)) -> Option<(Bytes, Bytes)> {
    Some((key, value?.bytes()))
}
