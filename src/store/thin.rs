//! Removing records from inside a stream: what is left of a batch becomes batches of its own, each where it was.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use bytes::Bytes;

use super::{
    StoreError,
    engine::{Changes, End, Engine, Layered, PAGE, decode_batch},
    keys,
    listing::Piece,
};
use crate::codec;

/// Sorts what is to be removed by stream: two changes of one stream in one commit must not undo each other.
pub(super) fn by_stream(thins: Vec<(Arc<str>, Vec<Range<u64>>)>) -> BTreeMap<Arc<str>, Vec<Range<u64>>> {
    let mut streams: BTreeMap<Arc<str>, Vec<Range<u64>>> = BTreeMap::new();
    for (stream, ranges) in thins {
        streams.entry(stream).or_default().extend(ranges.into_iter().filter(|range| !range.is_empty()));
    }
    streams.values_mut().for_each(|ranges| ranges.sort_unstable_by_key(|range| range.start));
    streams
}

impl<E: Engine> Layered<E> {
    /// Removes records by ranges in order; gives what is left of the stream. `changes` may hold a cut of it.
    pub(super) async fn thin(
        &self,
        stream: &str,
        mut end: End,
        ranges: &[Range<u64>],
        changes: &mut Changes,
    ) -> Result<End, StoreError> {
        let batches_end = keys::batches_end(stream);
        // The new batches of each one that is replaced, by their last sequence numbers.
        let mut replaced: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let (mut from, mut left) = (end.bounds.first, ranges);
        while let Some(range) = left.first() {
            if range.end <= from {
                left = &left[1..];
                continue;
            }
            let first_key = keys::batch(stream, range.start.max(from));
            let page = self.engine.range(&first_key, &batches_end, 1, usize::MAX).await?;
            let Some((key, value)) = page.into_iter().next() else { break };
            let batch = decode_batch(&key, &value)?;
            let kept = batch.without(left);
            if kept.first() != Some(&batch) {
                if kept.last().is_none_or(|run| run.end_seq() < batch.end_seq()) {
                    changes.push((key, None));
                }
                let stored = |run: &_| (keys::batch(stream, last_of(run)), Some(codec::encode_batch(run)));
                changes.extend(kept.iter().map(stored));
                replaced.insert(last_of(&batch), kept.iter().map(last_of).collect());
            }
            from = batch.end_seq();
        }
        if replaced.is_empty() {
            return Ok(end);
        }
        let mut newest = None;
        for (key, piece) in self.pieces(stream, changes).await? {
            let changed = piece.replacing(&replaced);
            match changed {
                None => newest = Some(piece),
                Some(pieces) => {
                    changes.push((key, None));
                    changes.extend(pieces.iter().map(|piece| piece.entry(stream)));
                    newest = pieces.into_iter().last().or(newest);
                }
            }
        }
        end.newest = newest;
        Ok(end)
    }

    /// All pieces of a stream's list by their keys, as `changes` leave them.
    async fn pieces(&self, stream: &str, changes: &Changes) -> Result<BTreeMap<Bytes, Piece>, StoreError> {
        let (begin, to) = (keys::index(stream, 0), keys::index_end(stream));
        let (mut from, mut pieces) = (begin.clone(), BTreeMap::new());
        loop {
            let page = self.engine.range(&from, &to, PAGE, usize::MAX).await?;
            let Some((last, _)) = page.last() else { break };
            from = keys::after_prefix(last);
            for (key, value) in page {
                pieces.insert(key.clone(), Piece::decode(&key, value)?);
            }
        }
        for (key, value) in changes.iter().filter(|(key, _)| (&begin..&to).contains(&key)) {
            match value {
                Some(value) => pieces.insert(key.clone(), Piece::decode(key, value.clone())?),
                None => pieces.remove(key),
            };
        }
        Ok(pieces)
    }
}

fn last_of(batch: &crate::model::StoredBatch) -> u64 {
    batch.end_seq() - 1
}
