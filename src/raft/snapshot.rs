//! A whole state on its way from one node to another, behind a head that says what it adds up to. A store that knows
//! parts (the nodes of a tree) names them all, and sends those that the receiver lacks; another sends pages of raw
//! entries. The receiver stages them beside its own state and swaps only when the hash is right.

use std::{io, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::encoding::{Mark, TypeConfig};
use crate::{
    codec,
    store::{DurableStore, PartHash, StateHash, StoreError, StoreInstall, StoreSnapshot},
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

pub(super) type SnapshotOf = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotData>;

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
    /// Empty where the state comes in pages.
    parts: Vec<PartHash>,
}

impl Staging {
    pub(super) async fn begin(store: &Arc<dyn DurableStore>, hash: StateHash) -> io::Result<Self> {
        let install = store.install().await.map_err(io::Error::other)?;
        Ok(Self { install, hash, parts: Vec::new() })
    }

    /// Checks that the state is what it should be, and makes it durable.
    pub(super) async fn check(&mut self) -> Result<(), StoreError> {
        self.install.check(self.hash).await
    }

    /// Puts the state in force, if it is what it should be.
    pub(super) async fn finish(mut self) -> Result<(), StoreError> {
        self.install.finish(self.hash).await
    }

    /// Takes what this node has already of a state that comes in parts; gives the positions of the others.
    pub(super) async fn expect_parts(&mut self, hashes: &[u8]) -> io::Result<Vec<u32>> {
        let (parts, rest) = hashes.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(io::Error::other(format!("the parts' hashes have {} bytes too many", rest.len())));
        }
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        self.parts = parts.to_vec();
        self.install.lacking(self.parts.clone()).await.map_err(io::Error::other)
    }

    /// Takes a page, or a part by its position.
    pub(super) async fn put(&mut self, part: u32, data: Bytes) -> io::Result<()> {
        if self.parts.is_empty() {
            let page = codec::decode_record("snapshot page", &data).map_err(io::Error::other)?;
            return self.install.put(page).await.map_err(io::Error::other);
        }
        let hash = self.parts.get(part as usize).ok_or_else(|| io::Error::other("there is no such part"))?;
        self.install.put_part(*hash, data).await.map_err(io::Error::other)
    }

    pub(super) fn complete(self) -> SnapshotData {
        SnapshotData::Staged(self.install, self.hash)
    }
}
