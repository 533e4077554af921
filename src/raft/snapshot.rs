//! A whole state on its way from one node to another: pages of raw store entries behind a head that says what
//! they add up to. The receiver stages them beside its own state and swaps only when the hash is right.

use std::{io, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::types::Mark;
use crate::{
    codec,
    store::{DurableStore, StateHash, StoreError, StoreInstall, StoreSnapshot},
};

/// About how many bytes of entries travel in one chunk.
const PAGE_BYTES: usize = 1 << 20;

/// What openraft passes around as a snapshot.
pub(super) enum SnapshotData {
    /// A view of this node's store, to be sent.
    View(Arc<dyn StoreSnapshot>),
    /// A received state, complete but not yet in force, and its expected hash.
    Staged(Box<dyn StoreInstall>, StateHash),
}

/// What the first chunk says of all the others.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) mark: Mark,
    pub(super) hash: [u8; 32],
}

impl Head {
    pub(super) fn of(view: &Arc<dyn StoreSnapshot>) -> io::Result<Self> {
        let mark = match view.applied() {
            Some(bytes) => Mark::decode(&bytes)?,
            None => Mark::default(),
        };
        Ok(Self { mark, hash: view.root_hash().0 })
    }

    pub(super) fn encode(&self) -> Bytes {
        codec::encode_record(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, codec::CodecError> {
        codec::decode_record("snapshot head", bytes)
    }
}

/// Cuts a view into encoded pages.
pub(super) struct Pages {
    view: Arc<dyn StoreSnapshot>,
    after: Option<Bytes>,
}

impl Pages {
    pub(super) fn new(view: Arc<dyn StoreSnapshot>) -> Self {
        Self { view, after: None }
    }

    /// The next page; none at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let page = self.view.page(self.after.as_deref(), PAGE_BYTES).await.map_err(io::Error::other)?;
        let Some((last, _)) = page.last() else { return Ok(None) };
        self.after = Some(last.clone());
        Ok(Some(codec::encode_record(&page)))
    }
}

/// Collects pages into a staged state.
pub(super) struct Staging {
    install: Box<dyn StoreInstall>,
    hash: StateHash,
}

impl Staging {
    pub(super) async fn begin(store: &Arc<dyn DurableStore>, hash: StateHash) -> io::Result<Self> {
        let install = store.install().await.map_err(io::Error::other)?;
        Ok(Self { install, hash })
    }

    /// Puts the state in force, if it is what it should be.
    pub(super) async fn finish(self) -> Result<(), StoreError> {
        self.install.finish(self.hash).await
    }

    pub(super) async fn put(&mut self, page: &[u8]) -> io::Result<()> {
        let page = codec::decode_record("snapshot page", page).map_err(io::Error::other)?;
        self.install.put(page).await.map_err(io::Error::other)
    }

    pub(super) fn complete(self) -> SnapshotData {
        SnapshotData::Staged(self.install, self.hash)
    }
}
