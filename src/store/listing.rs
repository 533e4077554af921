//! Which batches a stream has. A batch may have a megabyte, and a value cannot be skipped without being read; so each
//! stream keeps a list of its batches beside them, in pieces, and removing a gigabyte reads some kilobytes.

use std::collections::BTreeMap;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{StoreError, keys, value::Value};

/// Batches in one piece. A piece is written again with every batch that it takes up, so it stays small.
const PIECE: usize = 256;

/// Some batches in a row, by their last sequence numbers. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    lasts: Vec<u64>,
}

impl Piece {
    pub(super) fn decode(key: &[u8], mut value: Bytes) -> Result<Self, StoreError> {
        let corrupt = |detail: &str| StoreError::Corrupt {
            what: format!("key {}", key.escape_ascii()),
            detail: detail.to_owned(),
        };
        if value.is_empty() || !value.len().is_multiple_of(8) {
            return Err(corrupt("it is no list of sequence numbers"));
        }
        let mut lasts = Vec::with_capacity(value.len() / 8);
        while value.has_remaining() {
            lasts.push(value.get_u64_le());
        }
        if !lasts.is_sorted_by(|one, next| one < next) {
            return Err(corrupt("its sequence numbers do not increase"));
        }
        Ok(Self { lasts })
    }

    fn encode(&self) -> Bytes {
        let mut value = BytesMut::with_capacity(self.lasts.len() * 8);
        self.lasts.iter().for_each(|last| value.put_u64_le(*last));
        value.freeze()
    }

    /// Where it is stored, and what is.
    pub(super) fn entry(&self, stream: &str) -> (Bytes, Option<Value>) {
        (keys::index(stream, self.lasts[0]), Some(self.encode().into()))
    }

    /// The newest piece of a stream once it has one more batch.
    pub(super) fn after(newest: Option<Self>, last: u64) -> Self {
        match newest {
            Some(mut piece) if piece.lasts.len() < PIECE => {
                piece.lasts.push(last);
                piece
            }
            _ => Self { lasts: vec![last] },
        }
    }

    /// The pieces that take its place once batches of it are replaced by others, or by none; none where it has none of
    /// those that are replaced.
    pub(super) fn replacing(&self, replaced: &BTreeMap<u64, Vec<u64>>) -> Option<Vec<Self>> {
        let (first, last) = (self.lasts[0], self.lasts[self.lasts.len() - 1]);
        replaced.range(first..=last).next()?;
        let of = |last: &u64| replaced.get(last).cloned().unwrap_or_else(|| vec![*last]);
        let lasts: Vec<u64> = self.lasts.iter().flat_map(of).collect();
        Some(lasts.chunks(PIECE).map(|lasts| Self { lasts: lasts.to_vec() }).collect())
    }

    /// Whether another piece holds later batches.
    pub(super) fn is_followed_by(&self, other: Option<&Self>) -> bool {
        other.is_some_and(|other| other.lasts[0] > self.lasts[self.lasts.len() - 1])
    }

    /// The batches that end below `up_to`, and what is left without them.
    pub(super) fn split(mut self, up_to: u64) -> (Vec<u64>, Option<Self>) {
        let rest = self.lasts.split_off(self.lasts.partition_point(|last| *last < up_to));
        (self.lasts, Some(Self { lasts: rest }).filter(|piece| !piece.lasts.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_grow_to_their_size_and_come_back_from_their_bytes() {
        let mut piece = None;
        for last in 0..=PIECE as u64 {
            piece = Some(Piece::after(piece, last * 10));
        }
        assert_eq!(piece, Some(Piece { lasts: vec![PIECE as u64 * 10] }), "a full piece is followed by another");
        let piece = Piece { lasts: vec![9, 19, 29] };
        let (key, value) = piece.entry("orders:0");
        assert_eq!(Piece::decode(&key, value.unwrap().bytes()).unwrap(), piece);
        for damaged in [&[][..], &[1; 7], &[5, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]] {
            Piece::decode(b"key", Bytes::copy_from_slice(damaged)).unwrap_err();
        }
    }

    #[test]
    fn a_batch_that_reaches_beyond_the_cut_stays() {
        let piece = Piece { lasts: vec![9, 19, 29] };
        assert_eq!(piece.clone().split(20), (vec![9, 19], Some(Piece { lasts: vec![29] })));
        assert_eq!(piece.clone().split(19), (vec![9], Some(Piece { lasts: vec![19, 29] })));
        assert_eq!(piece.split(u64::MAX), (vec![9, 19, 29], None));
    }
}
