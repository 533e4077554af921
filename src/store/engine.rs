//! What a store needs of the place that keeps its keys, and the store's whole logic over it: [`Layered`].
//!
//! Memory and disk differ only in the [`Engine`]; streams, bounds, conflicts and cuts are written once.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::future::BoxFuture;
use parking_lot::RwLock;
use tokio::sync::Mutex;

use super::{
    DurableStore, StateHash, StoreError, StoreInstall, StoreParts, StoreSnapshot, StoreUsage, StoredEntry,
    StreamBounds, WriteBatch, keys, listing::Piece, thin, value::Value,
};
use crate::{
    codec,
    meter::Reading,
    model::{Frame, FrameBuilder, StoredBatch},
};

/// Keys read at a time while something is walked.
pub(super) const PAGE: usize = 1024;
/// How far back a piece of the list of a stream's batches is looked for first.
const BACK: u64 = 1 << 10;
/// Streams of which it is remembered where they end, at about two kilobytes each. Of others it is looked up.
const MOST_ENDS: usize = 1 << 15;
/// Batches of one commit that have more bytes than this are encoded one by one, when they are written: see [`Value`].
const ENCODED_AT_ONCE: usize = 8 << 20;

/// An ordered key space. Writes are atomic and visible at once; they are durable from the next flush on.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
    /// Entries of `[from, to)` in order, at most `limit`, and no more once `max_bytes` of values are reached.
    async fn range(&self, from: &[u8], to: &[u8], limit: usize, max_bytes: usize) -> Result<Page, StoreError>;
    /// As `range`, but only of what needs no disk; may lack older keys.
    fn recent(&self, from: &[u8], to: &[u8], max_bytes: usize) -> Page;
    async fn write(&self, changes: Changes) -> Result<(), StoreError>;
    async fn flush(&self) -> Result<(), StoreError>;
    /// A key's value as a power cut would leave it.
    async fn durable(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
    /// Pins the state as it is when this is called; see [`DurableStore::checkpoint`].
    fn checkpoint(&self) -> BoxFuture<'static, Result<(StateHash, Option<Bytes>), StoreError>>;
    async fn snapshot(&self) -> Result<Arc<dyn StoreSnapshot>, StoreError>;
    async fn install(&self) -> Result<Box<dyn StoreInstall>, StoreError>;
    fn parts(&self) -> Option<Arc<dyn StoreParts>> {
        None
    }
    fn usage(&self) -> Option<StoreUsage>;
    /// See [`DurableStore::folds`].
    fn folds(&self) -> Option<Reading> {
        None
    }
    /// See [`DurableStore::failure`].
    fn failure(&self) -> Option<String> {
        None
    }
    async fn close(&self) -> Result<(), StoreError>;
}

pub type Page = Vec<(Bytes, Bytes)>;

/// A [`DurableStore`] over any engine.
pub struct Layered<E> {
    pub(super) engine: E,
    /// Serializes commits, and saves them looking up where a stream ends.
    ends: Mutex<HashMap<Arc<str>, End>>,
    /// Below it, batches of a stream were written again: there, what is recent may have gaps that older records fill.
    thinned: RwLock<HashMap<Arc<str>, u64>>,
}

/// Where a stream ends.
#[derive(Clone)]
pub(super) struct End {
    pub(super) bounds: StreamBounds,
    /// Of the list of its batches; none while it has no batch.
    pub(super) newest: Option<Piece>,
}

impl<E: Engine> Layered<E> {
    pub(super) fn over(engine: E) -> Self {
        Self { engine, ends: Mutex::default(), thinned: RwLock::default() }
    }

    /// Where a stream ends, as this commit has left it, as it is known, or as it is stored.
    async fn end(
        &self,
        moved: &HashMap<Arc<str>, Option<End>>,
        ends: &HashMap<Arc<str>, End>,
        stream: &str,
    ) -> Result<Option<End>, StoreError> {
        if let Some(end) = moved.get(stream) {
            return Ok(end.clone());
        }
        if let Some(end) = ends.get(stream) {
            return Ok(Some(end.clone()));
        }
        let Some(bounds) = self.stored_bounds(stream).await? else { return Ok(None) };
        let newest = self.last_piece(stream, bounds.next).await?.map(|(_, piece)| piece);
        Ok(Some(End { bounds, newest }))
    }

    async fn stored_bounds(&self, stream: &str) -> Result<Option<StreamBounds>, StoreError> {
        let Some(mut value) = self.engine.get(&keys::bounds(stream)).await? else { return Ok(None) };
        if value.len() != 16 {
            return Err(StoreError::Corrupt { what: format!("bounds of `{stream}`"), detail: "wrong length".into() });
        }
        Ok(Some(StreamBounds { first: value.get_u64_le(), next: value.get_u64_le() }))
    }

    /// Deletes the batches of a stream that end below `up_to`; gives what is left of it. What that costs does not grow
    /// with their number.
    async fn cut(&self, stream: &str, end: End, up_to: u64, changes: &mut Changes) -> Result<End, StoreError> {
        // It holds the newest batch that goes, and all before it go as a whole.
        let Some((key, piece)) = self.last_piece(stream, up_to).await? else { return Ok(end) };
        let first_piece = keys::index(stream, 0);
        let alone = self.engine.range(&first_piece, &key, 1, usize::MAX).await?.is_empty();
        let followed = piece.is_followed_by(end.newest.as_ref());
        let (gone, rest) = piece.split(up_to);
        let batches = if alone {
            changes.writes.push((key, None));
            gone.len()
        } else {
            changes.cuts.push(Cut { range: first_piece..keys::index(stream, up_to), keys: usize::MAX });
            usize::MAX
        };
        changes.cuts.push(Cut { range: keys::batch(stream, 0)..keys::batch(stream, up_to), keys: batches });
        // A batch begins where the one before it ends, or later where the stream was thinned.
        let first = gone.last().map_or(end.bounds.first, |last| last + 1);
        let (first, newest) = match rest {
            Some(rest) => {
                changes.writes.push(rest.entry(stream));
                (first, if rest.is_followed_by(end.newest.as_ref()) { end.newest } else { Some(rest) })
            }
            None if followed => (first, end.newest),
            None => (end.bounds.next, None),
        };
        Ok(End { bounds: StreamBounds { first, ..end.bounds }, newest })
    }

    /// The last piece of the list of a stream's batches whose first batch ends below `up_to`.
    pub(super) async fn last_piece(&self, stream: &str, up_to: u64) -> Result<Option<(Bytes, Piece)>, StoreError> {
        // There is no reading backwards, so it is looked for from further and further back.
        let (mut back, to) = (BACK, keys::index(stream, up_to));
        let mut from = loop {
            let from = keys::index(stream, up_to.saturating_sub(back));
            if back >= up_to || !self.engine.range(&from, &to, 1, usize::MAX).await?.is_empty() {
                break from;
            }
            back = back.saturating_mul(8);
        };
        let mut found = None;
        loop {
            let mut page = self.engine.range(&from, &to, PAGE, usize::MAX).await?;
            let whole = page.len() < PAGE;
            found = page.pop().or(found);
            match &found {
                Some((key, _)) if !whole => from = keys::after_prefix(key),
                _ => break,
            }
        }
        found.map(|(key, value)| Piece::decode(&key, value).map(|piece| (key, piece))).transpose()
    }
}

/// What is written together.
#[derive(Debug, Default)]
pub struct Changes {
    /// Done first.
    pub cuts: Vec<Cut>,
    /// Keys to set, or to delete (`None`).
    pub writes: Vec<(Bytes, Option<Value>)>,
}

/// A range of keys to delete.
#[derive(Clone, Debug)]
pub struct Cut {
    pub range: Range<Bytes>,
    /// About how many there are; more where nobody has counted them.
    pub keys: usize,
}

pub(super) fn decode_batch(key: &[u8], value: &Bytes) -> Result<StoredBatch, StoreError> {
    codec::decode_batch(value)
        .map_err(|error| StoreError::Corrupt { what: format!("key {}", key.escape_ascii()), detail: error.to_string() })
}

fn encode_bounds(bounds: StreamBounds) -> Bytes {
    let mut value = BytesMut::with_capacity(16);
    value.put_u64_le(bounds.first);
    value.put_u64_le(bounds.next);
    value.freeze()
}

#[async_trait]
impl<E: Engine> DurableStore for Layered<E> {
    async fn append(&self, stream_key: &str, payload: Bytes, expected_seq: u64) -> Result<u64, StoreError> {
        let mut frame = FrameBuilder::default();
        frame.push_record(&payload);
        let batch =
            StoredBatch { first_seq: expected_seq, time_ms: 0, schema_id: 0, expires: false, frame: frame.finish() };
        if expected_seq > 0 && self.bounds(stream_key).await?.is_none() {
            return Err(StoreError::SequenceConflict { stream: stream_key.into(), expected: expected_seq, actual: 0 });
        }
        self.commit(WriteBatch { appends: vec![(stream_key.into(), batch)], ..WriteBatch::default() }).await?;
        Ok(expected_seq + 1)
    }

    async fn read_from(&self, stream_key: &str, offset: u64, limit: usize) -> Result<Vec<StoredEntry>, StoreError> {
        let mut entries = Vec::new();
        let mut from = offset;
        while entries.len() < limit {
            let batches = self.read_batches(stream_key, from, 1 << 20).await?;
            let Some(last) = batches.last() else { break };
            from = last.end_seq();
            entries.extend(batches.iter().flat_map(entries_of));
        }
        entries.truncate(limit);
        Ok(entries)
    }

    async fn cas(&self, key: &str, old: Option<u64>, new: u64) -> Result<(), StoreError> {
        let _serialize = self.ends.lock().await;
        let actual = self.read_value(key).await?;
        if actual != old {
            return Err(StoreError::CasConflict { key: key.into(), expected: old, actual });
        }
        let writes = vec![(keys::number(key), Some(new.to_le_bytes().to_vec().into()))];
        self.engine.write(Changes { writes, ..Changes::default() }).await
    }

    async fn read_value(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let Some(value) = self.engine.get(&keys::number(key)).await? else { return Ok(None) };
        let corrupt = |_| StoreError::Corrupt { what: format!("number `{key}`"), detail: "wrong length".into() };
        value.as_ref().try_into().map(u64::from_le_bytes).map(Some).map_err(corrupt)
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<StoredEntry>, StoreError> {
        let (mut from, mut entries) = (keys::bounds(prefix), Vec::new());
        let end = keys::after_prefix(&from);
        loop {
            let page = self.engine.range(&from, &end, PAGE, usize::MAX).await?;
            let Some((last, _)) = page.last() else { return Ok(entries) };
            from = [last, &[0][..]].concat().into();
            for (key, _) in &page {
                let Some(stream) = keys::bounded_stream(key) else { continue };
                entries.extend(self.read_from(stream, 0, usize::MAX).await?);
            }
        }
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.engine.flush().await
    }

    async fn commit(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let mut ends = self.ends.lock().await;
        let mut changes = Changes::default();
        let mut moved: HashMap<Arc<str>, Option<End>> = HashMap::new();
        for stream in batch.drops {
            if let Some(end) = self.end(&moved, &ends, &stream).await? {
                let next = end.bounds.next;
                self.cut(&stream, end, next, &mut changes).await?;
            }
            changes.writes.push((keys::bounds(&stream), None));
            moved.insert(stream, None);
        }
        // Two cuts of one stream are the further one.
        let mut removes: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for (stream, up_to) in batch.removes {
            let furthest = removes.entry(stream).or_default();
            *furthest = up_to.max(*furthest);
        }
        for (stream, up_to) in removes {
            let Some(end) = self.end(&moved, &ends, &stream).await? else { continue };
            let up_to = up_to.min(end.bounds.next);
            let end = self.cut(&stream, end, up_to, &mut changes).await?;
            changes.writes.push((keys::bounds(&stream), Some(encode_bounds(end.bounds).into())));
            moved.insert(stream, Some(end));
        }
        for (stream, ranges) in thin::by_stream(batch.thins) {
            let Some(end) = self.end(&moved, &ends, &stream).await? else { continue };
            let (end, below) = self.thin(&stream, end, &ranges, &mut changes).await?;
            if below > 0 {
                let mut thinned = self.thinned.write();
                let seq = thinned.entry(stream.clone()).or_default();
                *seq = below.max(*seq);
            }
            moved.insert(stream, Some(end));
        }
        let encoded: usize = batch.appends.iter().map(|(_, appended)| appended.frame.len()).sum();
        for (stream, appended) in batch.appends {
            let present = self.end(&moved, &ends, &stream).await?;
            if let Some(end) = &present
                && end.bounds.next != appended.first_seq
            {
                let (expected, actual) = (appended.first_seq, end.bounds.next);
                return Err(StoreError::SequenceConflict { stream: stream.to_string(), expected, actual });
            }
            if appended.frame.is_empty() {
                continue;
            }
            let bounds = StreamBounds {
                first: present.as_ref().map_or(appended.first_seq, |end| end.bounds.first),
                next: appended.end_seq(),
            };
            let newest = Piece::after(present.and_then(|end| end.newest), bounds.next - 1);
            let value = if encoded > ENCODED_AT_ONCE {
                Value::Batch(Arc::new(appended))
            } else {
                codec::encode_batch(&appended).into()
            };
            changes.writes.push((keys::batch(&stream, bounds.next - 1), Some(value)));
            changes.writes.push((keys::bounds(&stream), Some(encode_bounds(bounds).into())));
            changes.writes.push(newest.entry(&stream));
            moved.insert(stream, Some(End { bounds, newest: Some(newest) }));
        }
        let plain = |range: Range<Bytes>| keys::plain(&range.start)..keys::plain(&range.end);
        changes.cuts.extend(batch.cuts.into_iter().map(|range| Cut { range: plain(range), keys: usize::MAX }));
        changes.writes.extend(batch.puts.into_iter().map(|(key, value)| (keys::plain(&key), value.map(Value::from))));
        changes.writes.extend(batch.applied.map(|mark| (keys::mark(), Some(mark.into()))));
        self.engine.write(changes).await?;
        if ends.len() > MOST_ENDS {
            ends.clear();
        }
        for (stream, end) in moved {
            match end {
                Some(end) => ends.insert(stream, end),
                None => {
                    self.thinned.write().remove(&stream);
                    ends.remove(&stream)
                }
            };
        }
        Ok(())
    }

    async fn read_batches(
        &self,
        stream_key: &str,
        from_seq: u64,
        max_bytes: usize,
    ) -> Result<Vec<StoredBatch>, StoreError> {
        let (from, end) = (keys::batch(stream_key, from_seq), keys::batches_end(stream_key));
        let mut recent = self.engine.recent(&from, &end, max_bytes);
        // Looked at afterwards: a stream is noted as thinned before it is.
        if self.thinned.read().get(stream_key).is_some_and(|seq| from_seq < *seq) {
            recent.clear();
        }
        // What is recent reaches to the stream's end without a gap: enough if it begins early enough.
        let page = match recent.first() {
            Some((key, value)) if decode_batch(key, value)?.first_seq <= from_seq => recent,
            _ => self.engine.range(&from, &end, PAGE, max_bytes).await?,
        };
        page.iter().map(|(key, value)| Ok(decode_batch(key, value)?.from_seq(from_seq))).collect()
    }

    async fn bounds(&self, stream_key: &str) -> Result<Option<StreamBounds>, StoreError> {
        self.stored_bounds(stream_key).await
    }

    async fn remove(&self, stream_key: &str, up_to: u64) -> Result<(), StoreError> {
        self.commit(WriteBatch { removes: vec![(stream_key.into(), up_to)], ..WriteBatch::default() }).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.engine.get(&keys::plain(key)).await
    }

    async fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Page, StoreError> {
        let (from, to) = keys::plain_range(prefix, after);
        let page = self.engine.range(&from, &to, limit, usize::MAX).await?;
        Ok(page.into_iter().map(|(key, value)| (key.slice(1..), value)).collect())
    }

    async fn applied(&self) -> Result<Option<Bytes>, StoreError> {
        self.engine.get(&keys::mark()).await
    }

    async fn durable_applied(&self) -> Result<Option<Bytes>, StoreError> {
        self.engine.durable(&keys::mark()).await
    }

    async fn snapshot(&self) -> Result<Arc<dyn StoreSnapshot>, StoreError> {
        self.engine.snapshot().await
    }

    async fn install(&self) -> Result<Box<dyn StoreInstall>, StoreError> {
        self.engine.install().await
    }

    async fn installed(&self) {
        self.ends.lock().await.clear();
    }

    fn checkpoint(&self) -> BoxFuture<'static, Result<(StateHash, Option<Bytes>), StoreError>> {
        self.engine.checkpoint()
    }

    fn parts(&self) -> Option<Arc<dyn StoreParts>> {
        self.engine.parts()
    }

    fn usage(&self) -> Option<StoreUsage> {
        self.engine.usage()
    }

    fn folds(&self) -> Option<Reading> {
        self.engine.folds()
    }

    fn failure(&self) -> Option<String> {
        self.engine.failure()
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.engine.close().await
    }
}

fn entries_of(batch: &StoredBatch) -> Vec<StoredEntry> {
    let entry = |(seq, payload)| StoredEntry { seq, payload, timestamp: batch.time_ms };
    (batch.first_seq..).zip(Frame::records(&batch.frame)).map(entry).collect()
}

#[cfg(test)]
mod tests;
