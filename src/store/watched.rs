//! A store whose reads are watched: what cannot be read is a failure of the node, not only of the request that asked.
//!
//! A damaged file is found by whoever happens to read it. The one who asks gets the error; the node has to know as well,
//! so that it leads no longer and clients go where the data is whole. The reads that failed are tried again from time to
//! time, because the file may be mended or go: when all of them work, the node is well again.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::{
    DurableStore, StateHash, StoreError, StoreInstall, StoreParts, StoreSnapshot, StoreUsage, StoredEntry,
    StreamBounds, WriteBatch,
};
use crate::{
    health::{Health, Part},
    meter::Reading,
    model::StoredBatch,
};

/// Failed reads that are remembered to be tried again. Others are found when these work.
const REMEMBERED: usize = 16;

/// Passes everything on to another store, and tells the node's health what cannot be read.
pub struct WatchedStore {
    inner: Arc<dyn DurableStore>,
    health: Health,
    failed: Mutex<Vec<Read>>,
}

/// What was to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Read {
    Batches { key: String, from: u64, max_bytes: usize },
    Entries { key: String, from: u64, limit: usize },
    Bounds { key: String },
    Key(Bytes),
    Range { prefix: Bytes, after: Option<Bytes>, limit: usize },
}

impl WatchedStore {
    /// Over a store.
    pub fn new(inner: Arc<dyn DurableStore>, health: Health) -> Self {
        Self { inner, health, failed: Mutex::default() }
    }

    /// Tries again what could not be read. The node is well in this regard once all of it can be.
    pub async fn read_again(&self) {
        let failed = self.failed.lock().clone();
        for read in failed {
            let result = match &read {
                Read::Batches { key, from, max_bytes } => {
                    self.inner.read_batches(key, *from, *max_bytes).await.map(drop)
                }
                Read::Entries { key, from, limit } => self.inner.read_from(key, *from, *limit).await.map(drop),
                Read::Bounds { key } => self.inner.bounds(key).await.map(drop),
                Read::Key(key) => self.inner.get(key).await.map(drop),
                Read::Range { prefix, after, limit } => {
                    self.inner.range(prefix, after.as_deref(), *limit).await.map(drop)
                }
            };
            if result.is_ok() {
                self.failed.lock().retain(|other| *other != read);
            }
        }
        if self.failed.lock().is_empty() {
            self.health.set(Part::Data, None);
        }
    }

    /// Remembers a read that failed because of what is stored, or of the disk.
    fn watch<T>(&self, result: Result<T, StoreError>, read: impl FnOnce() -> Read) -> Result<T, StoreError> {
        if let Err(error @ (StoreError::Corrupt { .. } | StoreError::Damaged { .. } | StoreError::Failed { .. })) =
            &result
        {
            let mut failed = self.failed.lock();
            let read = read();
            if failed.len() < REMEMBERED && !failed.contains(&read) {
                failed.push(read);
            }
            // One reason stays until all is well: which read fails first is chance.
            if self.health.of(Part::Data).is_none() {
                self.health.set(Part::Data, Some(format!("stored data cannot be read: {error}")));
            }
        }
        result
    }
}

#[async_trait]
impl DurableStore for WatchedStore {
    async fn append(&self, stream_key: &str, payload: Bytes, expected_seq: u64) -> Result<u64, StoreError> {
        self.inner.append(stream_key, payload, expected_seq).await
    }

    async fn read_from(&self, stream_key: &str, offset: u64, limit: usize) -> Result<Vec<StoredEntry>, StoreError> {
        let read = self.inner.read_from(stream_key, offset, limit).await;
        self.watch(read, || Read::Entries { key: stream_key.to_owned(), from: offset, limit })
    }

    async fn cas(&self, key: &str, old: Option<u64>, new: u64) -> Result<(), StoreError> {
        self.inner.cas(key, old, new).await
    }

    async fn read_value(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.inner.read_value(key).await
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<StoredEntry>, StoreError> {
        self.inner.scan(prefix).await
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.inner.flush().await
    }

    async fn commit(&self, batch: WriteBatch) -> Result<(), StoreError> {
        self.inner.commit(batch).await
    }

    async fn read_batches(
        &self,
        stream_key: &str,
        from_seq: u64,
        max_bytes: usize,
    ) -> Result<Vec<StoredBatch>, StoreError> {
        let read = self.inner.read_batches(stream_key, from_seq, max_bytes).await;
        self.watch(read, || Read::Batches { key: stream_key.to_owned(), from: from_seq, max_bytes })
    }

    async fn bounds(&self, stream_key: &str) -> Result<Option<StreamBounds>, StoreError> {
        self.watch(self.inner.bounds(stream_key).await, || Read::Bounds { key: stream_key.to_owned() })
    }

    async fn remove(&self, stream_key: &str, up_to: u64) -> Result<(), StoreError> {
        self.inner.remove(stream_key, up_to).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.watch(self.inner.get(key).await, || Read::Key(Bytes::copy_from_slice(key)))
    }

    async fn range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let read = self.inner.range(prefix, after, limit).await;
        let (prefix, after) = (Bytes::copy_from_slice(prefix), after.map(Bytes::copy_from_slice));
        self.watch(read, || Read::Range { prefix, after, limit })
    }

    async fn applied(&self) -> Result<Option<Bytes>, StoreError> {
        self.inner.applied().await
    }

    async fn durable_applied(&self) -> Result<Option<Bytes>, StoreError> {
        self.inner.durable_applied().await
    }

    async fn snapshot(&self) -> Result<Arc<dyn StoreSnapshot>, StoreError> {
        self.inner.snapshot().await
    }

    async fn install(&self) -> Result<Box<dyn StoreInstall>, StoreError> {
        self.inner.install().await
    }

    async fn installed(&self) {
        self.inner.installed().await;
    }

    fn checkpoint(&self) -> BoxFuture<'static, Result<(StateHash, Option<Bytes>), StoreError>> {
        self.inner.checkpoint()
    }

    fn parts(&self) -> Option<Arc<dyn StoreParts>> {
        self.inner.parts()
    }

    fn usage(&self) -> Option<StoreUsage> {
        self.inner.usage()
    }

    fn folds(&self) -> Option<Reading> {
        self.inner.folds()
    }

    fn failure(&self) -> Option<String> {
        self.inner.failure()
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{FaultyStore, MemoryStore};

    #[tokio::test]
    async fn what_cannot_be_read_is_a_failure_of_the_node_until_it_can_be() {
        let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        let health = Health::default();
        let store = WatchedStore::new(faulty.clone(), health.clone());
        store.read_batches("orders:0", 0, 1).await.unwrap();
        assert!(health.may_lead());
        faulty.fail_reads(true);
        store.read_batches("orders:0", 3, 1).await.unwrap_err();
        store.get(b"key").await.unwrap_err();
        let reason = health.of(Part::Data).unwrap();
        assert!(reason.contains("injected fault"), "{reason}");
        store.read_again().await;
        assert_eq!(health.of(Part::Data), Some(reason));
        faulty.fail_reads(false);
        store.read_again().await;
        assert!(health.failures().is_empty());
    }
}
