//! A value on its way into the tree.
//!
//! Rules may make a thousand copies of some megabytes in one log entry. An entry of an earlier log may make more of them
//! than memory holds, and a node has to get past it all the same. So the copies of such an entry stay what they are until
//! they are written: a few numbers, and bytes that they share. Each is encoded when its turn comes, or when it is read.

use std::sync::Arc;

use bytes::Bytes;

use crate::{codec, model::StoredBatch};

/// Bytes, or what they will encode. Cloning shares them.
#[derive(Clone, Debug)]
pub enum Value {
    Encoded(Bytes),
    Batch(Arc<StoredBatch>),
}

impl Value {
    /// How many bytes are stored.
    pub fn len(&self) -> usize {
        match self {
            Self::Encoded(bytes) => bytes.len(),
            Self::Batch(batch) => codec::encoded_batch_len(batch),
        }
    }

    /// What is stored. A batch is encoded for each call.
    pub fn bytes(&self) -> Bytes {
        match self {
            Self::Encoded(bytes) => bytes.clone(),
            Self::Batch(batch) => codec::encode_batch(batch),
        }
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        Self::Encoded(bytes)
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Encoded(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Frame, proto::v1::Message};

    #[test]
    fn a_batch_that_is_not_encoded_yet_is_stored_as_one_that_is() {
        let message = |payload: &'static [u8]| Message { payload: payload.into(), ..Message::default() };
        let frame = Frame::encode(&[message(b"one"), message(b""), message(b"three")]);
        for (frame, expires) in [(frame.pick(&[0, 2]), false), (frame.pick(&[1]), true), (frame, false)] {
            let batch = StoredBatch { first_seq: 7, time_ms: 8, schema_id: 9, expires, frame };
            let encoded = codec::encode_batch(&batch);
            let value = Value::Batch(Arc::new(batch));
            assert_eq!((value.len(), value.bytes()), (encoded.len(), encoded));
        }
    }
}
