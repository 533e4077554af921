//! Messages of one channel as a store keeps them: an encoded [`Frame`] with what all of its messages share.

use std::ops::Range;

use super::Frame;

/// Consecutive messages of one channel as they are stored: the n-th has the sequence number `first_seq + n`.
/// The boundaries come from the log, so they are the same on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBatch {
    /// Sequence number of the first message.
    pub first_seq: u64,
    /// Leader's time when it sequenced them, milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The channel's schema that they were checked against; 0 means none.
    pub schema_id: u64,
    /// Whether a message of it has a time to live.
    pub expires: bool,
    /// The messages; never empty in a store.
    pub frame: Frame,
}

impl StoredBatch {
    /// Sequence number after the last message.
    pub fn end_seq(&self) -> u64 {
        self.first_seq + u64::from(self.frame.count())
    }

    /// The messages from `seq` on; the batch itself when it begins there or later.
    #[must_use]
    pub fn from_seq(&self, seq: u64) -> Self {
        let skipped = u32::try_from(seq.saturating_sub(self.first_seq)).unwrap_or(u32::MAX).min(self.frame.count());
        Self { first_seq: self.first_seq + u64::from(skipped), frame: self.frame.skip(skipped), ..*self }
    }

    /// The batch in runs of neighbours that share a verdict, of which there is one for each message.
    pub fn runs(self, verdicts: &[bool]) -> impl Iterator<Item = (bool, Self)> {
        let mut rest = self;
        verdicts.chunk_by(|one, next| one == next).map(move |run| {
            // No longer than the batch.
            let count = u32::try_from(run.len()).unwrap_or(u32::MAX);
            let next = rest.from_seq(rest.first_seq + u64::from(count));
            let rest = std::mem::replace(&mut rest, next);
            (run[0], Self { frame: rest.frame.take(count), ..rest })
        })
    }

    /// What is left of the batch, in runs, without the messages of ranges, which are in the order of their starts.
    pub fn without(&self, ranges: &[Range<u64>]) -> Vec<Self> {
        let mut ranges = ranges.iter().peekable();
        let mut gone_to = 0;
        let kept: Vec<bool> = (self.first_seq..self.end_seq())
            .map(|seq| {
                while let Some(range) = ranges.next_if(|range| range.start <= seq) {
                    gone_to = range.end.max(gone_to);
                }
                seq >= gone_to
            })
            .collect();
        self.clone().runs(&kept).filter_map(|(kept, run)| kept.then_some(run)).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::proto::v1::Message;

    fn message(payload: &'static str) -> Message {
        Message { payload: Bytes::from_static(payload.as_bytes()), ..Message::default() }
    }

    fn payloads(frame: &Frame) -> Vec<String> {
        frame.messages().map(|m| String::from_utf8(m.unwrap().payload.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_batch_without_some_of_its_messages_is_the_runs_between_them() {
        let frame = Frame::encode(&["a", "b", "c", "d", "e"].map(message));
        let batch = StoredBatch { first_seq: 10, time_ms: 7, schema_id: 3, expires: false, frame };
        let left = |ranges: &[Range<u64>]| {
            let runs = batch.without(ranges);
            assert!(runs.iter().all(|run| (run.time_ms, run.schema_id) == (7, 3)));
            runs.iter().map(|run| (run.first_seq, payloads(&run.frame).concat())).collect::<Vec<_>>()
        };
        let run = |seq: u64, payloads: &str| (seq, payloads.to_owned());
        assert_eq!(left(&[0..10, 15..20]), [run(10, "abcde")]);
        assert_eq!(left(&[0..11, 12..14]), [run(11, "b"), run(14, "e")]);
        assert_eq!(left(&[11..14, 12..13]), [run(10, "a"), run(14, "e")], "ranges may overlap");
        assert_eq!(left(&[3..99, 12..13]), []);
    }
}
