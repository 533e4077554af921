//! What filters make of batches. Subscriptions of a channel mostly have few different filters, so a batch is judged once for
//! all that have the same one. And judging has half of the cores at most, which those who ask take turns for (`turns`):
//! thousands of filters of one client hold up each other, and neither publishers nor the filters of others.

use std::{collections::VecDeque, sync::Arc, thread, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    error::BrokerError,
    turns::{Asker, Turn, Turns},
};
use crate::model::{Frame, MessageView, Predicate, StoredBatch};

/// Batches that are remembered: who looks through them holds up others.
const BATCHES: usize = 64;
/// Bytes of them; the newest one always is.
const BYTES: usize = 4 << 20;
/// Filters that are remembered for each of them.
const FILTERS: usize = 64;
/// Messages that are judged before others on the same thread have their turn.
const SLICE: usize = 64;

/// A predicate, and the text by which equal ones are known.
pub(super) struct Judgement {
    predicate: Predicate,
    text: String,
}

impl From<Predicate> for Judgement {
    fn from(predicate: Predicate) -> Self {
        let text = predicate.to_string();
        Self { predicate, text }
    }
}

/// See the module; one for a node.
pub(super) struct Verdicts {
    recent: Mutex<VecDeque<Recent>>,
    turns: Turns,
}

/// One batch, as all followers of its channel share it.
struct Recent {
    frame: Frame,
    by_filter: Vec<(String, Arc<[bool]>)>,
}

impl Default for Verdicts {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { recent: Mutex::default(), turns: Turns::new(cores / 2) }
    }
}

impl Verdicts {
    /// A turn to judge.
    pub(super) async fn turn(&self, asker: &Asker) -> Result<Turn, BrokerError> {
        let turn = self.turns.take(asker).await;
        turn.ok_or_else(|| BrokerError::Internal { reason: "no filter is judged any more".to_owned() })
    }

    /// Whether somebody asks for so much that publishers should not wait for it.
    pub(super) fn is_crowded_by(&self, asker: &Asker) -> bool {
        self.turns.is_crowded_by(asker)
    }

    /// For each message of a batch whether it passes, and how long that took, nothing where it was known. `shared`: other
    /// subscriptions get the very same batch.
    ///
    /// # Errors
    /// `Internal` for a batch that cannot be read.
    pub(super) async fn of(
        &self,
        asker: &Asker,
        filter: &Judgement,
        batch: &StoredBatch,
        shared: bool,
    ) -> Result<(Arc<[bool]>, Duration), BrokerError> {
        if let Some(known) = self.known(filter, &batch.frame) {
            return Ok((known, Duration::ZERO));
        }
        let broken = |error: prost::DecodeError| BrokerError::Internal { reason: error.to_string() };
        let _turn = self.turn(asker).await?;
        // Whoever was before may have judged it for all.
        if let Some(known) = self.known(filter, &batch.frame) {
            return Ok((known, Duration::ZERO));
        }
        // Without what others do on this thread meanwhile.
        let (mut spent, mut began) = (Duration::ZERO, Instant::now());
        let mut verdicts = Vec::with_capacity(batch.frame.count() as usize);
        for message in batch.frame.messages() {
            let message = message.map_err(broken)?;
            verdicts.push(filter.predicate.matches(&MessageView::of(&message)));
            if verdicts.len().is_multiple_of(SLICE) {
                spent += began.elapsed();
                tokio::task::yield_now().await;
                began = Instant::now();
            }
        }
        let verdicts = Arc::from(verdicts);
        if shared {
            self.remember(filter, &batch.frame, &verdicts);
        }
        Ok((verdicts, spent + began.elapsed()))
    }

    fn known(&self, filter: &Judgement, frame: &Frame) -> Option<Arc<[bool]>> {
        let recent = self.recent.lock();
        // Memory that is remembered is not given back, and nobody writes to it.
        let known = recent.iter().rev().find(|recent| recent.frame.is_same(frame))?;
        known.by_filter.iter().find(|(text, _)| *text == filter.text).map(|(_, verdicts)| verdicts.clone())
    }

    fn remember(&self, filter: &Judgement, frame: &Frame, verdicts: &Arc<[bool]>) {
        let mut recent = self.recent.lock();
        if !recent.iter().any(|recent| recent.frame.is_same(frame)) {
            recent.push_back(Recent { frame: frame.clone(), by_filter: Vec::new() });
            let mut bytes: usize = recent.iter().map(|recent| recent.frame.len()).sum();
            while (bytes > BYTES || recent.len() > BATCHES)
                && recent.len() > 1
                && let Some(oldest) = recent.pop_front()
            {
                bytes -= oldest.frame.len();
            }
        }
        let known = recent.iter_mut().find(|recent| recent.frame.is_same(frame));
        if let Some(known) = known.filter(|known| known.by_filter.len() < FILTERS) {
            known.by_filter.push((filter.text.clone(), verdicts.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::Message;

    fn batch(payloads: &[&'static str]) -> StoredBatch {
        let messages = payloads.iter().map(|payload| Message { payload: (*payload).into(), ..Message::default() });
        let frame = Frame::encode(&messages.collect::<Vec<_>>());
        StoredBatch { first_seq: 0, time_ms: 7, schema_id: 3, expires: false, frame }
    }

    fn judgement(text: &str) -> Judgement {
        text.parse::<Predicate>().unwrap().into()
    }

    #[tokio::test]
    async fn equal_filters_of_one_batch_are_judged_once() {
        let verdicts = Verdicts::default();
        let shared = batch(&["1", "2", "1"]);
        let first = verdicts.of(&Asker::Node, &judgement("$payload == 1"), &shared, true).await.unwrap().0;
        assert_eq!(*first, [true, false, true]);
        let again = verdicts.of(&Asker::Node, &judgement("$payload  ==  1"), &shared.clone(), true).await.unwrap().0;
        assert!(Arc::ptr_eq(&first, &again), "another spelling of the same filter");
        let other = verdicts.of(&Asker::Node, &judgement("$payload == 2"), &shared, true).await.unwrap().0;
        assert_eq!(*other, [false, true, false]);
    }

    #[tokio::test]
    async fn other_memory_is_another_batch_and_what_nobody_shares_is_not_kept() {
        let verdicts = Verdicts::default();
        let filter = judgement("$payload == 1");
        let (one, other) = (batch(&["1"]), batch(&["2"]));
        assert_eq!(*verdicts.of(&Asker::Node, &filter, &one, true).await.unwrap().0, [true]);
        assert_eq!(*verdicts.of(&Asker::Node, &filter, &other, true).await.unwrap().0, [false]);
        verdicts.of(&Asker::Node, &filter, &batch(&["3"]), false).await.unwrap();
        assert_eq!(verdicts.recent.lock().len(), 2);
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded_in_batches_bytes_and_filters() {
        let verdicts = Verdicts::default();
        let large: &'static str = Box::leak("0".repeat(BYTES / 3).into_boxed_str());
        for _ in 0..10 {
            verdicts.of(&Asker::Node, &judgement("$payload == 1"), &batch(&[large]), true).await.unwrap();
        }
        assert!((1..=3).contains(&verdicts.recent.lock().len()));
        for _ in 0..2 * BATCHES {
            verdicts.of(&Asker::Node, &judgement("$payload == 1"), &batch(&["1"]), true).await.unwrap();
        }
        assert_eq!(verdicts.recent.lock().len(), BATCHES);
        let small = batch(&["1"]);
        for number in 0..2 * FILTERS {
            verdicts.of(&Asker::Node, &judgement(&format!("$payload == {number}")), &small, true).await.unwrap();
        }
        assert_eq!(verdicts.recent.lock().back().unwrap().by_filter.len(), FILTERS);
    }

    #[tokio::test]
    async fn a_judgement_lets_others_have_their_turn() {
        let verdicts = Verdicts::default();
        let long = batch(&["1"; 4 * SLICE]);
        let filter = judgement("$payload == 1");
        let mut judging = std::pin::pin!(verdicts.of(&Asker::Node, &filter, &long, true));
        assert!(futures::poll!(judging.as_mut()).is_pending(), "it does not judge all of it in one go");
        assert_eq!(judging.await.unwrap().0.len(), 4 * SLICE);
    }
}
