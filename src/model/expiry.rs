//! Messages with a time to live. Nobody is handed one once the log's time has passed its end; what is left of a batch
//! are runs of consecutive messages, with gaps between them where others were.

use bytes::Bytes;
use prost::Message as _;

use super::StoredBatch;
use crate::proto::v1::Message;

impl StoredBatch {
    /// The messages that may still be handed to anybody at the log's time `now_ms`, as runs of consecutive ones. A
    /// batch in which nothing expires is one run, and is not looked into.
    pub fn live_runs(&self, now_ms: u64) -> LiveRuns {
        LiveRuns { rest: (!self.frame.is_empty()).then(|| self.clone()), now_ms }
    }

    /// Whether a message of it expires after the one time and not after the other.
    pub fn expires_between(&self, after_ms: u64, until_ms: u64) -> bool {
        let in_it = |end: u64| after_ms < end && end <= until_ms;
        self.expires && self.frame.records().any(|record| end_ms(self.time_ms, record).is_some_and(in_it))
    }
}

/// See [`StoredBatch::live_runs`].
#[derive(Clone, Debug)]
pub struct LiveRuns {
    rest: Option<StoredBatch>,
    now_ms: u64,
}

impl Iterator for LiveRuns {
    type Item = StoredBatch;

    fn next(&mut self) -> Option<StoredBatch> {
        let rest = self.rest.take()?;
        if !rest.expires {
            return Some(rest);
        }
        let live = |record: &Bytes| end_ms(rest.time_ms, record.clone()).is_none_or(|end| end > self.now_ms);
        let mut records = rest.frame.records().map(|record| live(&record)).enumerate();
        let (begin, _) = records.find(|(_, live)| *live)?;
        let end = records.find(|(_, live)| !live).map_or(rest.frame.count() as usize, |(end, _)| end);
        let seq = |position: usize| rest.first_seq + position as u64;
        let tail = rest.from_seq(seq(begin));
        let run = StoredBatch { frame: tail.frame.take(u32::try_from(end - begin).unwrap_or(u32::MAX)), ..tail };
        self.rest = Some(rest.from_seq(seq(end))).filter(|rest| !rest.frame.is_empty());
        Some(run)
    }
}

/// Whether a message that was sequenced at `time_ms` is handed to nobody any more at the log's time `now_ms`.
pub fn has_expired(message: &Message, time_ms: u64, now_ms: u64) -> bool {
    message.ttl_ms > 0 && time_ms.saturating_add(message.ttl_ms) <= now_ms
}

/// From when on a message that was sequenced at `time_ms` has expired; none where it lives for ever.
fn end_ms(time_ms: u64, record: Bytes) -> Option<u64> {
    let ttl_ms = Message::decode(record).ok()?.ttl_ms;
    (ttl_ms > 0).then(|| time_ms.saturating_add(ttl_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Frame;

    fn batch(ttls: &[u64]) -> StoredBatch {
        let messages: Vec<_> = ttls.iter().map(|ttl_ms| Message { ttl_ms: *ttl_ms, ..Message::default() }).collect();
        let expires = ttls.iter().any(|ttl| *ttl > 0);
        StoredBatch { first_seq: 10, time_ms: 100, schema_id: 0, expires, frame: Frame::encode(&messages) }
    }

    fn runs(ttls: &[u64], now_ms: u64) -> Vec<(u64, u32)> {
        batch(ttls).live_runs(now_ms).map(|run| (run.first_seq, run.frame.count())).collect()
    }

    #[test]
    fn a_batch_in_which_nothing_expires_is_one_run_that_shares_its_bytes() {
        let batch = batch(&[0, 0]);
        let run = batch.live_runs(u64::MAX).next().unwrap();
        assert_eq!(run, batch);
        assert_eq!(run.frame.bytes().as_ptr(), batch.frame.bytes().as_ptr());
    }

    #[test]
    fn a_message_is_live_until_its_time_has_passed_and_leaves_a_gap() {
        assert_eq!(runs(&[0, 50, 0, 0], 149), [(10, 4)]);
        assert_eq!(runs(&[0, 50, 0, 0], 150), [(10, 1), (12, 2)]);
        assert_eq!(runs(&[50, 1, 90, 50], 150), [(12, 1)]);
        assert_eq!(runs(&[50, 50], 150), []);
        assert_eq!(runs(&[u64::MAX], u64::MAX - 1), [(10, 1)], "a time beyond all times never comes");
        assert_eq!(runs(&[], 0), []);
    }

    #[test]
    fn what_expires_in_a_span_of_time_is_found_without_cutting() {
        assert!(batch(&[0, 50]).expires_between(149, 150));
        assert!(!batch(&[0, 50]).expires_between(150, 900));
        assert!(!batch(&[0, 50]).expires_between(0, 149));
        assert!(!batch(&[0]).expires_between(0, u64::MAX));
    }
}
