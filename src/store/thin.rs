//! Removing records from inside a stream: what is left of a batch becomes batches of its own, each where it was.

use std::{
    collections::BTreeMap,
    ops::{Range, RangeInclusive},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    StoreError,
    engine::{Changes, End, Engine, Layered, PAGE, decode_batch},
    keys,
    listing::Piece,
    value::Value,
};
use crate::{codec, model::StoredBatch};

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
    /// Removes records by ranges in order; gives what is left of the stream, and below which number batches were written
    /// again. `changes` may hold a cut of it.
    pub(super) async fn thin(
        &self,
        stream: &str,
        mut end: End,
        ranges: &[Range<u64>],
        changes: &mut Changes,
    ) -> Result<(End, u64), StoreError> {
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
                    changes.writes.push((key, None));
                }
                let stored = |run: &_| (keys::batch(stream, last_of(run)), Some(Value::from(codec::encode_batch(run))));
                changes.writes.extend(kept.iter().map(stored));
                replaced.insert(last_of(&batch), kept.iter().map(last_of).collect());
            }
            from = batch.end_seq();
        }
        let Some((last, _)) = replaced.last_key_value() else { return Ok((end, 0)) };
        let thinned = last + 1;
        end.newest = self.relist(stream, end.newest, &replaced, changes).await?;
        Ok((end, thinned))
    }

    /// Lists the new batches in the place of those that they replace; gives the newest piece of the list.
    async fn relist(
        &self,
        stream: &str,
        newest: Option<Piece>,
        replaced: &BTreeMap<u64, Vec<u64>>,
        changes: &mut Changes,
    ) -> Result<Option<Piece>, StoreError> {
        let (Some((first, _)), Some((last, _))) = (replaced.first_key_value(), replaced.last_key_value()) else {
            return Ok(newest);
        };
        let mut lost_newest = false;
        let mut followed_by = newest.clone();
        for (key, piece) in self.pieces(stream, *first..=*last, changes).await? {
            let Some(pieces) = piece.replacing(replaced) else { continue };
            changes.writes.push((key, None));
            changes.writes.extend(pieces.iter().map(|piece| piece.entry(stream)));
            if newest.as_ref() == Some(&piece) {
                lost_newest = pieces.is_empty();
                followed_by = pieces.into_iter().last();
            }
        }
        if lost_newest {
            // Whoever empties a stream's end pays for it.
            let mut pieces = self.pieces(stream, 0..=u64::MAX, changes).await?;
            followed_by = pieces.pop_last().map(|(_, piece)| piece);
        }
        Ok(followed_by)
    }

    /// The pieces of a stream's list in which batches within a range of last sequence numbers may be, by their keys, as
    /// `changes` leave them.
    async fn pieces(
        &self,
        stream: &str,
        lasts: RangeInclusive<u64>,
        changes: &Changes,
    ) -> Result<BTreeMap<Bytes, Piece>, StoreError> {
        let (first, last) = lasts.into_inner();
        let to = if last == u64::MAX { keys::index_end(stream) } else { keys::index(stream, last + 1) };
        // A piece is found by the first batch in it, which may lie before any that is wanted.
        let before = self.last_piece(stream, first.saturating_add(1)).await?;
        let begin = before.map_or_else(|| keys::index(stream, first), |(key, _)| key);
        let (mut from, mut pieces) = (begin.clone(), BTreeMap::new());
        loop {
            let page = self.engine.range(&from, &to, PAGE, usize::MAX).await?;
            let Some((last, _)) = page.last() else { break };
            from = keys::after_prefix(last);
            for (key, value) in page {
                pieces.insert(key.clone(), Piece::decode(&key, value)?);
            }
        }
        for cut in &changes.cuts {
            pieces.retain(|key, _| !cut.range.contains(key));
        }
        for (key, value) in changes.writes.iter().filter(|(key, _)| (&begin..&to).contains(&key)) {
            match value {
                Some(value) => pieces.insert(key.clone(), Piece::decode(key, value.bytes())?),
                None => pieces.remove(key),
            };
        }
        Ok(pieces)
    }
}

fn last_of(batch: &StoredBatch) -> u64 {
    batch.end_seq() - 1
}
