//! A state as it was at one moment, to be sent to another node or kept elsewhere.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use haematite::Hash;

use super::{check, config::HaematiteConfig, database, nodes::Nodes, scan::Walk, shared::Shared, view::View};
use crate::store::{PartHash, StateHash, StoreError, StoreSnapshot, engine::Page};

pub(super) struct Snapshot {
    pub(super) shared: Arc<Shared>,
    pub(super) view: Arc<View>,
    pub(super) hash: StateHash,
    pub(super) applied: Option<Bytes>,
    pub(super) config: HaematiteConfig,
}

#[async_trait]
impl StoreSnapshot for Snapshot {
    fn applied(&self) -> Option<Bytes> {
        self.applied.clone()
    }

    fn root_hash(&self) -> StateHash {
        self.hash
    }

    async fn page(&self, after: Option<&[u8]>, max_bytes: usize) -> Result<Page, StoreError> {
        let (view, cache_bytes) = (self.view.clone(), self.config.cache_bytes);
        let from = Bytes::from(after.map_or(vec![0], |after| [after, &[0]].concat()));
        self.shared
            .reading(move || {
                let root = database::root_node(&view)?;
                view.dir.read(cache_bytes, |nodes| {
                    let mut walk = Walk::begin(nodes, root, &from, database::END)?;
                    let (mut page, mut bytes) = (Page::new(), 0);
                    while bytes < max_bytes
                        && let Some((key, value)) = walk.next()?
                    {
                        bytes += key.len() + value.len();
                        page.push((key, value));
                    }
                    Ok(page)
                })
            })
            .await
    }

    async fn parts(&self) -> Result<Option<Vec<PartHash>>, StoreError> {
        let (view, cache) = (self.view.clone(), self.config.accounting_cache_bytes);
        self.shared
            .reading(move || {
                let nodes = Nodes::open(&view.dir.path, cache)?;
                let mut parts = Vec::new();
                nodes.walk(database::root_node(&view)?, &mut |hash| {
                    parts.push(hash.into_bytes());
                    Ok(())
                })?;
                // Equal subtrees are one.
                parts.sort_unstable();
                parts.dedup();
                Ok(Some(parts))
            })
            .await
    }

    async fn part(&self, hash: PartHash) -> Result<Bytes, StoreError> {
        let view = self.view.clone();
        let read = move || check::read_file(&database::nodes_dir(&view.dir.path), &Hash::from_bytes(hash));
        self.shared.reading(read).await.map(|(_, bytes)| bytes.into())
    }
}
