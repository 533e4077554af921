//! A batch of messages that stays encoded.
//!
//! A [`Frame`] is the protobuf encoding of `liminal.v1.MessageBatch`: for each message the tag of field 1, its
//! length and its bytes. The publisher encodes it; the leader concatenates frames (concatenating encodings of a
//! message with one repeated field is again its encoding); the log, the store, the fan-out and the subscribers'
//! streams carry those bytes as they are. Nothing on the way decodes more than it has to look at.

use std::{ops::Range, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint};
use serde::{Deserialize, Serialize};

use crate::v1::{Header, Message};

/// The field number of `MessageBatch.messages`.
const MESSAGES: u32 = 1;

/// Encoded messages and their number. Cloning shares the bytes, and so does [`Frame::pick`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Whole", into = "Whole")]
pub struct Frame {
    bytes: Bytes,
    count: u32,
    /// Which of the bytes are the frame's, where not all of them are.
    picked: Option<Arc<Picked>>,
}

/// Records of another frame.
#[derive(Debug)]
struct Picked {
    /// Neighbours are one.
    ranges: Vec<Range<usize>>,
    len: usize,
}

/// A frame as it is recorded.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Frame")]
struct Whole {
    bytes: Bytes,
    count: u32,
}

impl From<Whole> for Frame {
    fn from(Whole { bytes, count }: Whole) -> Self {
        Self::of(bytes, count)
    }
}

impl From<Frame> for Whole {
    fn from(frame: Frame) -> Self {
        Self { bytes: frame.bytes(), count: frame.count }
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.len() == other.len() && self.bytes() == other.bytes()
    }
}

impl Eq for Frame {}

/// Bytes that are no encoding of a `MessageBatch`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("byte {offset} of the batch does not begin a message: {reason}")]
pub struct InvalidFrame {
    offset: usize,
    reason: String,
}

impl Frame {
    /// Takes encoded bytes after walking over the records. The messages inside are not decoded.
    ///
    /// # Errors
    /// When the bytes are no sequence of length-delimited records of field 1.
    pub fn parse(bytes: Bytes) -> Result<Self, InvalidFrame> {
        let (mut rest, mut count) = (&bytes[..], 0);
        while !rest.is_empty() {
            let offset = bytes.len() - rest.len();
            let len = record_len(&mut rest).map_err(|reason| InvalidFrame { offset, reason })?;
            rest = &rest[len..];
            count += 1;
        }
        Ok(Self::of(bytes, count))
    }

    fn of(bytes: Bytes, count: u32) -> Self {
        Self { bytes, count, picked: None }
    }

    /// The encoded messages of bytes that may be no batch, found while they are walked over.
    pub fn parse_records(mut bytes: Bytes) -> impl Iterator<Item = Result<Bytes, InvalidFrame>> {
        let whole = bytes.len();
        std::iter::from_fn(move || {
            if bytes.is_empty() {
                return None;
            }
            let offset = whole - bytes.len();
            let record = take_record(&mut bytes).map_err(|reason| InvalidFrame { offset, reason });
            if record.is_err() {
                bytes.clear();
            }
            Some(record)
        })
    }

    /// Takes bytes that are known to encode `count` messages, because a checksum over both was right.
    pub fn trusted(bytes: Bytes, count: u32) -> Self {
        Self::of(bytes, count)
    }

    /// Encodes messages.
    pub fn encode<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Self {
        let mut builder = FrameBuilder::default();
        for message in messages {
            builder.push(message);
        }
        builder.finish()
    }

    /// The encoded batch. Those of a frame that was picked are put together for each call.
    pub fn bytes(&self) -> Bytes {
        match &self.picked {
            None => self.bytes.clone(),
            Some(picked) => {
                let mut bytes = BytesMut::with_capacity(picked.len);
                self.write(&mut bytes);
                bytes.freeze()
            }
        }
    }

    /// Whether it is the very same messages in the very same memory.
    pub fn is_same(&self, other: &Self) -> bool {
        let picked = match (&self.picked, &other.picked) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (Some(_), None) | (None, Some(_)) => false,
        };
        picked && self.bytes.as_ptr() == other.bytes.as_ptr() && self.bytes.len() == other.bytes.len()
    }

    /// The bytes that it keeps in memory, of which not all may be its own.
    #[doc(hidden)]
    pub fn held(&self) -> &Bytes {
        &self.bytes
    }

    /// How many bytes the encoded batch has.
    pub fn len(&self) -> usize {
        self.picked.as_ref().map_or(self.bytes.len(), |picked| picked.len)
    }

    /// Writes the encoded batch.
    pub fn write(&self, out: &mut impl BufMut) {
        match &self.picked {
            None => out.put_slice(&self.bytes),
            Some(picked) => picked.ranges.iter().for_each(|range| out.put_slice(&self.bytes[range.clone()])),
        }
    }

    /// How many messages it holds.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The encoded messages one by one, sharing the frame's bytes.
    pub fn records(&self) -> impl Iterator<Item = Bytes> + use<> {
        let mut rest = self.bytes();
        // `parse` and `FrameBuilder` are the only ways to make a frame, so every record is whole.
        std::iter::from_fn(move || take_record(&mut rest).ok())
    }

    /// How many bytes of a frame a message takes: see [`Frame::sizes`].
    pub fn size_of(message: &Message) -> u64 {
        let length = message.encoded_len();
        (1 + prost::length_delimiter_len(length) + length) as u64
    }

    /// How many bytes of the frame each message takes, tag and length included.
    pub fn sizes(&self) -> impl Iterator<Item = u64> + use<> {
        let mut rest = self.bytes();
        // Whole by construction: see `records`.
        std::iter::from_fn(move || {
            let before = rest.len();
            take_record(&mut rest).ok().map(|_| (before - rest.len()) as u64)
        })
    }

    /// The decoded messages, payloads sharing the frame's bytes.
    pub fn messages(&self) -> impl Iterator<Item = Result<Message, prost::DecodeError>> + use<> {
        self.records().map(Message::decode)
    }

    /// The frame without its first `n` messages.
    #[must_use]
    pub fn skip(&self, n: u32) -> Self {
        if n == 0 {
            return self.clone();
        }
        let (n, bytes) = (n.min(self.count), self.bytes());
        let mut rest = &bytes[..];
        for _ in 0..n {
            // Whole by construction: see `records`.
            rest = record_len(&mut rest).map_or(&[], |len| &rest[len..]);
        }
        Self::of(bytes.slice(bytes.len() - rest.len()..), self.count - n)
    }

    /// The frame's first `n` messages.
    #[must_use]
    pub fn take(&self, n: u32) -> Self {
        if n >= self.count {
            return self.clone();
        }
        let (bytes, tail) = (self.bytes(), self.skip(n));
        Self::of(bytes.slice(..bytes.len() - tail.len()), self.count - tail.count)
    }

    /// A copy that shares no memory with the frame that it was cut out of.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self::of(Bytes::copy_from_slice(&self.bytes()), self.count)
    }

    /// The frame's first messages, as many as fit into `bytes`, but at least one.
    #[must_use]
    pub fn take_bytes(&self, bytes: usize) -> Self {
        if self.len() <= bytes {
            return self.clone();
        }
        let whole = self.bytes();
        let (mut rest, mut end, mut count) = (&whole[..], 0, 0);
        while let Ok(len) = record_len(&mut rest) {
            rest = &rest[len..];
            let next = whole.len() - rest.len();
            if count > 0 && next > bytes {
                break;
            }
            (end, count) = (next, count + 1);
        }
        Self::of(whole.slice(..end), count)
    }

    /// The messages at these positions, given in increasing order, without a copy of them: the frame keeps all bytes of
    /// the one that it was picked out of for as long as it lives. For many that are picked out of one.
    #[must_use]
    pub fn pick(&self, positions: &[u32]) -> Self {
        if positions.len() == self.count as usize {
            return self.clone();
        }
        let (bytes, mut ranges) = (self.bytes(), Vec::<Range<usize>>::new());
        let (mut begin, mut len, mut count) = (0, 0, 0);
        let mut wanted = positions.iter().peekable();
        for (position, size) in (0u32..).zip(self.sizes()) {
            // Of bytes that are in memory.
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if wanted.next_if(|next| **next == position).is_some() {
                match ranges.last_mut().filter(|last| last.end == begin) {
                    Some(last) => last.end += size,
                    None => ranges.push(begin..begin + size),
                }
                (len, count) = (len + size, count + 1);
            }
            begin += size;
        }
        Self { bytes, count, picked: Some(Arc::new(Picked { ranges, len })) }
    }

    /// The messages at these positions, given in increasing order.
    #[must_use]
    pub fn select(&self, positions: &[u32]) -> Self {
        if positions.len() == self.count as usize {
            return self.clone();
        }
        let mut builder = FrameBuilder::default();
        let mut wanted = positions.iter().peekable();
        for (position, record) in (0u32..).zip(self.records()) {
            if wanted.next_if(|next| **next == position).is_some() {
                builder.push_record(&record);
            }
        }
        builder.finish()
    }

    /// The frame without the messages at these positions, given in increasing order.
    #[must_use]
    pub fn without(&self, positions: &[u32]) -> Self {
        if positions.is_empty() {
            return self.clone();
        }
        let mut builder = FrameBuilder::default();
        let mut dropped = positions.iter().peekable();
        for (position, record) in (0u32..).zip(self.records()) {
            if dropped.next_if(|next| **next == position).is_none() {
                builder.push_record(&record);
            }
        }
        builder.finish()
    }
}

/// Cuts one record off the front and returns its message bytes.
fn take_record(rest: &mut Bytes) -> Result<Bytes, String> {
    let mut slice = &rest[..];
    let len = record_len(&mut slice)?;
    rest.advance(rest.len() - slice.len());
    Ok(rest.split_to(len))
}

/// Takes one record's head off the front and returns the length of the message, all of which is there.
fn record_len(rest: &mut &[u8]) -> Result<usize, String> {
    let (tag, wire_type) = decode_key(rest).map_err(|error| error.to_string())?;
    if tag != MESSAGES || wire_type != WireType::LengthDelimited {
        return Err(format!("expected field {MESSAGES}, found field {tag} of wire type {wire_type:?}"));
    }
    let len = decode_varint(rest).map_err(|error| error.to_string())?;
    match usize::try_from(len) {
        Ok(len) if len <= rest.len() => Ok(len),
        _ => Err(format!("a message of {len} bytes with only {} left", rest.len())),
    }
}

/// Collects messages or whole frames into one frame.
#[derive(Debug, Default)]
pub struct FrameBuilder {
    bytes: BytesMut,
    count: u32,
}

impl FrameBuilder {
    /// Encodes a message at the end.
    pub fn push(&mut self, message: &Message) {
        self.header(message.encoded_len());
        message.encode_raw(&mut self.bytes);
    }

    /// Adds a message that is encoded already.
    pub fn push_record(&mut self, record: &[u8]) {
        self.header(record.len());
        self.bytes.put_slice(record);
    }

    /// Adds all messages of a frame.
    pub fn push_frame(&mut self, frame: &Frame) {
        frame.write(&mut self.bytes);
        self.count += frame.count;
    }

    /// Encoded bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Messages so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The frame of all that was added.
    pub fn finish(self) -> Frame {
        Frame::of(self.bytes.freeze(), self.count)
    }

    fn header(&mut self, len: usize) {
        self.bytes.reserve(1 + encoded_len_varint(len as u64) + len);
        encode_key(MESSAGES, WireType::LengthDelimited, &mut self.bytes);
        encode_varint(len as u64, &mut self.bytes);
        self.count += 1;
    }
}

/// What a header of a message says by which messages are told apart; none where it is missing or empty. Names are
/// compared as HTTP does, without their case.
pub fn header_key<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    header(&message.headers, name).filter(|value| !value.is_empty())
}

/// What the first header of a name says.
pub fn header<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
    headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &'static str) -> Message {
        Message { payload: Bytes::from_static(payload.as_bytes()), ..Message::default() }
    }

    fn payloads(frame: &Frame) -> Vec<String> {
        frame.messages().map(|m| String::from_utf8(m.unwrap().payload.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_frame_gives_back_its_messages_in_order() {
        let frame = Frame::encode(&[message("a"), message(""), message("c")]);
        assert_eq!(frame.count(), 3);
        assert_eq!(payloads(&Frame::parse(frame.bytes()).unwrap()), ["a", "", "c"]);
        assert_eq!(frame.sizes().collect::<Vec<_>>(), [5, 2, 5]);
    }

    #[test]
    fn frames_can_be_cut_and_thinned() {
        let frame = Frame::encode(&[message("a"), message("b"), message("c"), message("d")]);
        assert_eq!(payloads(&frame.skip(3)), ["d"]);
        assert_eq!(payloads(&frame.take(2)), ["a", "b"]);
        assert_eq!(payloads(&frame.without(&[0, 2])), ["b", "d"]);
        assert_eq!(payloads(&frame.select(&[0, 2])), ["a", "c"]);
        assert_eq!(frame.select(&[0, 1, 2, 3]), frame);
        assert!(frame.skip(9).is_empty());
        let two = frame.take(2).bytes().len();
        assert_eq!(payloads(&frame.take_bytes(two)), ["a", "b"]);
        assert_eq!(payloads(&frame.take_bytes(two + 1)), ["a", "b"]);
        assert_eq!(payloads(&frame.take_bytes(0)), ["a"]);
        assert_eq!(frame.take_bytes(1 << 20), frame);
    }

    #[test]
    fn a_frame_that_was_picked_out_of_another_is_like_a_copy_and_shares_its_bytes() {
        let frame = Frame::encode(&["a", "", "c", "dd", "e"].map(message));
        for positions in [&[][..], &[0], &[1, 2], &[0, 2, 3], &[4], &[0, 1, 2, 3, 4]] {
            let (picked, copied) = (frame.pick(positions), frame.select(positions));
            assert_eq!(picked, copied);
            assert_eq!((picked.bytes(), picked.len(), picked.count()), (copied.bytes(), copied.len(), copied.count()));
            assert_eq!(picked.sizes().collect::<Vec<_>>(), copied.sizes().collect::<Vec<_>>());
            assert_eq!((picked.skip(1), picked.take(2)), (copied.skip(1), copied.take(2)));
            assert_eq!((picked.take_bytes(6), picked.without(&[0])), (copied.take_bytes(6), copied.without(&[0])));
            assert_eq!(picked.pick(&[0]), copied.select(&[0]));
            let mut builder = FrameBuilder::default();
            builder.push_frame(&picked);
            assert_eq!(builder.finish(), copied);
            assert_eq!(picked.bytes.as_ptr(), frame.bytes.as_ptr(), "it has no bytes of its own");
            assert!(
                picked.is_same(&picked.skip(0)) && picked.is_same(&picked.take(9)) && !picked.is_same(&copied.apart())
            );
        }
        let ranges = |positions: &[u32]| frame.pick(positions).picked.unwrap().ranges.len();
        assert_eq!((ranges(&[0, 1, 2]), ranges(&[0, 2, 3])), (1, 2));
    }

    #[test]
    fn bytes_that_are_no_batch_are_refused_with_the_offset() {
        let mut bytes = Frame::encode(&[message("abc")]).bytes().to_vec();
        bytes.extend_from_slice(b"\x12\x01x");
        let error = Frame::parse(bytes.into()).unwrap_err();
        assert_eq!(error.offset, 7);
        assert!(Frame::parse(Bytes::from_static(b"\x0a\x7f")).is_err());
    }
}
