//! What a subscription's filter makes of batches: runs of consecutive messages that it lets through, and now and then
//! word of how far it has looked, so that who resumes elsewhere need not look there again.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{BrokerError, verdicts::Judgement};
use crate::model::{Predicate, StoredBatch};

/// Word is given after this many messages that were not let through.
const SKIPPED_MESSAGES: u64 = 1000;
/// Word is given after this many bytes of them.
const SKIPPED_BYTES: usize = 1 << 20;
/// Word is given so long after the first of them, also when there are few.
const SKIPPED_FOR: Duration = Duration::from_secs(1);

/// The filter that a request carries as text; an empty one is none.
///
/// # Errors
/// `InvalidArgument` for what is no predicate: it names the column.
pub fn filter_of(text: &str) -> Result<Option<Predicate>, BrokerError> {
    predicate_of(text).map_err(|reason| BrokerError::InvalidArgument { reason })
}

/// The same with nothing but the reason.
pub(super) fn predicate_of(text: &str) -> Result<Option<Predicate>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| format!("the predicate is wrong at {error}"))
}

/// A filter and what it has not told yet.
pub(super) struct Filter {
    judgement: Judgement,
    /// Let through, not yet handed on.
    runs: VecDeque<StoredBatch>,
    skipped: Skipped,
    /// There were pages of the store since word was given at the tail.
    paged: bool,
}

/// What was not let through since the newest run, or since word was given.
#[derive(Default)]
struct Skipped {
    messages: u64,
    bytes: usize,
    since: Option<Instant>,
}

impl Filter {
    pub(super) fn new(predicate: Predicate) -> Self {
        Self { judgement: predicate.into(), runs: VecDeque::new(), skipped: Skipped::default(), paged: false }
    }

    /// By which a batch is judged.
    pub(super) fn judgement(&self) -> &Judgement {
        &self.judgement
    }

    /// Looks at a batch, and at what was judged of its messages.
    pub(super) fn look(&mut self, batch: StoredBatch, verdicts: &[bool]) {
        for (wanted, run) in batch.runs(verdicts) {
            if wanted {
                self.runs.push_back(run);
                // It tells by itself what was skipped before it.
                self.skipped = Skipped::default();
            } else {
                self.skipped.messages += u64::from(run.frame.count());
                self.skipped.bytes += run.frame.len();
                self.skipped.since.get_or_insert_with(Instant::now);
            }
        }
    }

    /// The next run that was let through.
    pub(super) fn pop(&mut self) -> Option<StoredBatch> {
        self.runs.pop_front()
    }

    /// What it looks at next comes from the store.
    pub(super) fn page(&mut self) {
        self.paged = true;
    }

    /// Whether word has to be given now, nothing being left to hand on.
    pub(super) fn has_word(&self, at_tail: bool) -> bool {
        let Skipped { messages, bytes, since } = &self.skipped;
        *messages >= SKIPPED_MESSAGES
            || *bytes >= SKIPPED_BYTES
            || at_tail && *messages > 0 && self.paged
            || since.is_some_and(|since| since.elapsed() >= SKIPPED_FOR)
    }

    /// Word is given.
    pub(super) fn told(&mut self, at_tail: bool) {
        self.skipped = Skipped::default();
        self.paged &= !at_tail;
    }

    /// When word has to be given at the latest.
    pub(super) fn word_due(&self) -> Option<Instant> {
        self.skipped.since.map(|since| since + SKIPPED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Frame, proto::v1::Message};

    fn batch(first_seq: u64, payloads: &[&'static str]) -> StoredBatch {
        let messages = payloads.iter().map(|payload| Message { payload: (*payload).into(), ..Message::default() });
        let frame = Frame::encode(&messages.collect::<Vec<_>>());
        StoredBatch { first_seq, time_ms: 7, schema_id: 3, expires: false, frame }
    }

    fn filter() -> Filter {
        Filter::new("$payload == 1".parse().unwrap())
    }

    /// Has a filter look at a batch whose messages `1` pass.
    fn look(filter: &mut Filter, batch: StoredBatch) {
        let passes: Vec<bool> = batch.frame.messages().map(|message| *message.unwrap().payload == *b"1").collect();
        filter.look(batch, &passes);
    }

    #[test]
    fn a_batch_is_cut_into_runs_of_consecutive_messages() {
        let mut filter = filter();
        look(&mut filter, batch(10, &["0", "1", "1", "0", "0", "1"]));
        let runs: Vec<_> = std::iter::from_fn(|| filter.pop()).collect();
        assert_eq!(runs, [batch(11, &["1", "1"]), batch(15, &["1"])]);
        look(&mut filter, batch(16, &["1", "1"]));
        assert_eq!(filter.pop(), Some(batch(16, &["1", "1"])));
        look(&mut filter, batch(18, &["0", "no JSON"]));
        assert_eq!(filter.pop(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn word_is_given_after_many_messages_many_bytes_some_time_and_at_the_tail() {
        let mut filter = filter();
        assert!(!filter.has_word(true));
        look(&mut filter, batch(0, &["0"; SKIPPED_MESSAGES as usize - 1]));
        assert!(!filter.has_word(true));
        look(&mut filter, batch(999, &["0"]));
        assert!(filter.has_word(false));
        filter.told(true);
        assert!(!filter.has_word(false));

        let large: &'static str = Box::leak("0".repeat(SKIPPED_BYTES).into_boxed_str());
        look(&mut filter, batch(1000, &[large]));
        assert!(filter.has_word(false));
        filter.told(true);

        look(&mut filter, batch(1001, &["0"]));
        tokio::time::sleep_until(filter.word_due().unwrap()).await;
        assert!(filter.has_word(false));
        filter.told(true);
        assert_eq!(filter.word_due(), None);

        filter.page();
        filter.told(false);
        look(&mut filter, batch(1002, &["0"]));
        assert!(!filter.has_word(false) && filter.has_word(true));
        filter.told(true);
        look(&mut filter, batch(1003, &["0", "1", "0"]));
        assert!(!filter.has_word(true), "at the tail only after a catch-up");
    }
}
