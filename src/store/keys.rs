//! How streams, bounds, plain keys, numbers and the applied mark lie in one ordered key space.
//!
//! The first byte says what a key is. A stream's name ends with a zero byte, which no channel name contains, so no
//! stream is a prefix of another. A batch lies under its **last** sequence number, big endian: the first key at or
//! after `s` is then the batch that contains `s`.

use bytes::{BufMut as _, Bytes, BytesMut};

const BOUNDS: u8 = b'b';
const MARK: u8 = b'm';
const NUMBER: u8 = b'n';
const PLAIN: u8 = b'p';
const STREAM: u8 = b's';
const INDEX: u8 = b'i';

/// How plain keys begin that hold what a channel remembers of its idempotency keys, followed by the channel's number and by
/// a sequence number, each in 8 bytes. They are removed from the first on, leaving none out.
pub const CLAIMS: &[u8] = b"claims/";

pub(super) fn mark() -> Bytes {
    Bytes::from_static(&[MARK])
}

pub(super) fn number(key: &str) -> Bytes {
    tagged(NUMBER, key.as_bytes())
}

pub(super) fn plain(key: &[u8]) -> Bytes {
    tagged(PLAIN, key)
}

/// Where the plain keys begin and end that begin with a prefix and come after one of them.
pub(super) fn plain_range(prefix: &[u8], after: Option<&[u8]>) -> (Bytes, Bytes) {
    let start = plain(prefix);
    let end = after_prefix(&start);
    let from = after.map_or(start, |after| [&plain(after)[..], &[0]].concat().into());
    (from, end)
}

pub(super) fn bounds(stream: &str) -> Bytes {
    tagged(BOUNDS, stream.as_bytes())
}

/// The stream that a bounds key speaks of.
pub(super) fn bounded_stream(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(&[BOUNDS])?).ok()
}

pub(super) fn batch(stream: &str, last_seq: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(stream.len() + 10);
    key.put_u8(STREAM);
    key.put_slice(stream.as_bytes());
    key.put_u8(0);
    key.put_u64(last_seq);
    key.freeze()
}

/// What a key of claims belongs to, all of which are removed in a row: what comes before its sequence number. None for any
/// other key.
pub(super) fn claims_row(key: &[u8]) -> Option<&[u8]> {
    let channel = key.strip_prefix(&[PLAIN])?.strip_prefix(CLAIMS)?;
    (channel.len() == 16).then(|| &key[..key.len() - 8])
}

/// A piece of the list of a stream's batches, by the first of them.
pub(super) fn index(stream: &str, last_seq: u64) -> Bytes {
    let mut key = batch(stream, last_seq).to_vec();
    key[0] = INDEX;
    key.into()
}

/// The end of those pieces.
pub(super) fn index_end(stream: &str) -> Bytes {
    let mut key = batches_end(stream).to_vec();
    key[0] = INDEX;
    key.into()
}

/// The end of a stream's batches.
pub(super) fn batches_end(stream: &str) -> Bytes {
    let mut key = batch(stream, u64::MAX).to_vec();
    key.push(0);
    key.into()
}

/// The first key after all that begin with `prefix`.
pub(super) fn after_prefix(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(&[u8::MAX; 16])
}

fn tagged(tag: u8, key: &[u8]) -> Bytes {
    [&[tag], key].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_one_stream_lie_together_in_order() {
        let mut keys =
            [batch("a", 256), batch("a", 2), batch("ab", 0), batch("b", 0), batches_end("a"), batch("a", u64::MAX)];
        keys.sort();
        let expected =
            [batch("a", 2), batch("a", 256), batch("a", u64::MAX), batches_end("a"), batch("ab", 0), batch("b", 0)];
        assert_eq!(keys, expected);
    }

    #[test]
    fn a_prefix_ends_before_the_next_key() {
        assert_eq!(after_prefix(b"pa"), &b"pb"[..]);
        assert_eq!(after_prefix(b"p\xff"), &b"q"[..]);
    }
}
