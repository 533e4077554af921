//! A store that fails when it is told to: for tests of whatever stands on a store.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::watch;

use super::{
    DurableStore, StateHash, StoreError, StoreInstall, StoreParts, StoreSnapshot, StoreUsage, StoredEntry,
    StreamBounds, WriteBatch,
};
use crate::{meter::Reading, model::StoredBatch};

/// Passes everything on to another store, except what it was told to refuse.
pub struct FaultyStore {
    inner: Arc<dyn DurableStore>,
    commits: AtomicBool,
    removes: AtomicBool,
    flushes: AtomicBool,
    reads: AtomicBool,
    refused: AtomicU64,
    hashes_held: watch::Sender<bool>,
    stalled: watch::Sender<bool>,
}

impl FaultyStore {
    /// Over a store; nothing is refused yet.
    pub fn new(inner: Arc<dyn DurableStore>) -> Self {
        Self {
            inner,
            commits: AtomicBool::default(),
            removes: AtomicBool::default(),
            flushes: AtomicBool::default(),
            reads: AtomicBool::default(),
            refused: AtomicU64::default(),
            hashes_held: watch::Sender::new(false),
            stalled: watch::Sender::new(false),
        }
    }

    /// Refuses commits, appends and number changes from now on, or no longer.
    pub fn fail_commits(&self, fail: bool) {
        self.commits.store(fail, Ordering::SeqCst);
    }

    /// Refuses removals.
    pub fn fail_removes(&self, fail: bool) {
        self.removes.store(fail, Ordering::SeqCst);
    }

    /// Refuses flushes.
    pub fn fail_flushes(&self, fail: bool) {
        self.flushes.store(fail, Ordering::SeqCst);
    }

    /// Refuses reads.
    pub fn fail_reads(&self, fail: bool) {
        self.reads.store(fail, Ordering::SeqCst);
    }

    /// Holds the hashes of checkpoints back from now on, or lets them go.
    pub fn hold_hashes(&self, hold: bool) {
        self.hashes_held.send_replace(hold);
    }

    /// Has commits wait from now on, as a disk does that does not answer, or lets them go.
    pub fn stall_commits(&self, stall: bool) {
        self.stalled.send_replace(stall);
    }

    /// How many calls were refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::SeqCst)
    }

    fn check(&self, fault: &AtomicBool, action: &'static str) -> Result<(), StoreError> {
        if !fault.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.refused.fetch_add(1, Ordering::SeqCst);
        Err(StoreError::Failed { action, reason: "injected fault".into() })
    }
}

#[async_trait]
impl DurableStore for FaultyStore {
    async fn append(&self, stream_key: &str, payload: Bytes, expected_seq: u64) -> Result<u64, StoreError> {
        self.check(&self.commits, "append")?;
        self.inner.append(stream_key, payload, expected_seq).await
    }

    async fn read_from(&self, stream_key: &str, offset: u64, limit: usize) -> Result<Vec<StoredEntry>, StoreError> {
        self.check(&self.reads, "read")?;
        self.inner.read_from(stream_key, offset, limit).await
    }

    async fn cas(&self, key: &str, old: Option<u64>, new: u64) -> Result<(), StoreError> {
        self.check(&self.commits, "change a number")?;
        self.inner.cas(key, old, new).await
    }

    async fn read_value(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.check(&self.reads, "read")?;
        self.inner.read_value(key).await
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<StoredEntry>, StoreError> {
        self.check(&self.reads, "read")?;
        self.inner.scan(prefix).await
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.check(&self.flushes, "flush")?;
        self.inner.flush().await
    }

    async fn commit(&self, batch: WriteBatch) -> Result<(), StoreError> {
        self.check(&self.commits, "commit")?;
        let _ = self.stalled.subscribe().wait_for(|stalled| !stalled).await; // a store that is gone holds nothing up
        self.inner.commit(batch).await
    }

    async fn read_batches(
        &self,
        stream_key: &str,
        from_seq: u64,
        max_bytes: usize,
    ) -> Result<Vec<StoredBatch>, StoreError> {
        self.check(&self.reads, "read")?;
        self.inner.read_batches(stream_key, from_seq, max_bytes).await
    }

    async fn bounds(&self, stream_key: &str) -> Result<Option<StreamBounds>, StoreError> {
        self.check(&self.reads, "read")?;
        self.inner.bounds(stream_key).await
    }

    async fn remove(&self, stream_key: &str, up_to: u64) -> Result<(), StoreError> {
        self.check(&self.removes, "remove")?;
        self.inner.remove(stream_key, up_to).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.check(&self.reads, "read")?;
        self.inner.get(key).await
    }

    async fn range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.check(&self.reads, "read")?;
        self.inner.range(prefix, after, limit).await
    }

    async fn applied(&self) -> Result<Option<Bytes>, StoreError> {
        self.inner.applied().await
    }

    async fn durable_applied(&self) -> Result<Option<Bytes>, StoreError> {
        self.inner.durable_applied().await
    }

    async fn snapshot(&self) -> Result<Arc<dyn StoreSnapshot>, StoreError> {
        self.check(&self.flushes, "flush")?;
        self.inner.snapshot().await
    }

    async fn install(&self) -> Result<Box<dyn StoreInstall>, StoreError> {
        self.check(&self.commits, "install")?;
        self.inner.install().await
    }

    async fn installed(&self) {
        self.inner.installed().await;
    }

    fn checkpoint(&self) -> BoxFuture<'static, Result<(StateHash, Option<Bytes>), StoreError>> {
        if let Err(error) = self.check(&self.flushes, "flush") {
            return std::future::ready(Err(error)).boxed();
        }
        let (hash, mut held) = (self.inner.checkpoint(), self.hashes_held.subscribe());
        async move {
            let _ = held.wait_for(|held| !held).await; // a store that is gone holds nothing back
            hash.await
        }
        .boxed()
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
        let injected = self.flushes.load(Ordering::SeqCst).then(|| "cannot flush: injected fault".to_owned());
        injected.or_else(|| self.inner.failure())
    }

    async fn close(&self) -> Result<(), StoreError> {
        let flushed = self.check(&self.flushes, "flush");
        self.inner.close().await.and(flushed)
    }
}
