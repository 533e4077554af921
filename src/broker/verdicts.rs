//! Filters that say the same are judged once for a batch, however many subscriptions have them: what one of them found out
//! is kept until the next batch comes.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::BrokerError;
use crate::model::{ChannelId, MessageView, Predicate, StoredBatch};

/// Dead entries go when there are so many more entries than there were after the last time.
const SPARE: usize = 64;

/// The filters of all live subscriptions, by their canonical text.
#[derive(Default)]
pub(super) struct Verdicts {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    filters: HashMap<(ChannelId, String), Weak<Shared>>,
    /// When there are so many, the dead ones go.
    most: usize,
}

/// One filter of one channel, for all who have it.
pub(super) struct Shared {
    predicate: Predicate,
    newest: Mutex<Option<(Identity, Arc<[bool]>)>>,
}

/// Which batch it was. Where its bytes are tells a whole one from its parts; they are not kept for it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    first_seq: u64,
    time_ms: u64,
    bytes: (usize, usize),
}

impl Identity {
    fn of(batch: &StoredBatch) -> Self {
        let bytes = batch.frame.bytes();
        Self { first_seq: batch.first_seq, time_ms: batch.time_ms, bytes: (bytes.as_ptr() as usize, bytes.len()) }
    }
}

impl Verdicts {
    /// The filter of a channel that says what this one says.
    pub(super) fn share(&self, channel: ChannelId, predicate: Predicate) -> Arc<Shared> {
        let mut known = self.known.lock();
        if known.filters.len() >= known.most {
            known.filters.retain(|_, filter| filter.strong_count() > 0);
            known.most = 2 * known.filters.len() + SPARE;
        }
        let entry = known.filters.entry((channel, predicate.to_string())).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let shared = Arc::new(Shared { predicate, newest: Mutex::default() });
            *entry = Arc::downgrade(&shared);
            shared
        })
    }
}

impl Shared {
    /// Which messages of a batch it lets through. Who comes while another one judges does so too: subscriptions that are at
    /// different places of the channel do not wait for each other.
    ///
    /// # Errors
    /// When a message cannot be read.
    pub(super) fn of(&self, batch: &StoredBatch) -> Result<Arc<[bool]>, BrokerError> {
        let identity = Identity::of(batch);
        let Some(mut newest) = self.newest.try_lock() else { return self.judge(batch) };
        if let Some((known, verdicts)) = &*newest
            && *known == identity
        {
            return Ok(verdicts.clone());
        }
        let verdicts = self.judge(batch)?;
        *newest = Some((identity, verdicts.clone()));
        Ok(verdicts)
    }

    fn judge(&self, batch: &StoredBatch) -> Result<Arc<[bool]>, BrokerError> {
        let judged = batch.frame.messages().map(|message| {
            let message = message.map_err(|error| BrokerError::Internal { reason: error.to_string() })?;
            Ok(self.predicate.matches(&MessageView::of(&message)))
        });
        judged.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Frame, proto::v1::Message};

    const CHANNEL: ChannelId = ChannelId(7);

    fn batch(first_seq: u64, payload: &'static str) -> StoredBatch {
        let frame = Frame::encode([&Message { payload: payload.into(), ..Message::default() }]);
        StoredBatch { first_seq, time_ms: 7, schema_id: 3, expires: false, frame }
    }

    fn filter(text: &str) -> Predicate {
        text.parse().unwrap()
    }

    #[test]
    fn filters_that_say_the_same_are_one_as_long_as_somebody_has_it() {
        let verdicts = Verdicts::default();
        let one = verdicts.share(CHANNEL, filter("$payload == 1"));
        assert!(Arc::ptr_eq(&one, &verdicts.share(CHANNEL, filter("  $payload==1"))));
        assert!(!Arc::ptr_eq(&one, &verdicts.share(CHANNEL, filter("$payload == 2"))));
        assert!(!Arc::ptr_eq(&one, &verdicts.share(ChannelId(8), filter("$payload == 1"))));
        drop(one);
        for number in 0..10 * SPARE {
            verdicts.share(CHANNEL, filter(&format!("$payload == {number}")));
        }
        assert!(verdicts.known.lock().filters.len() <= 2 * SPARE);
    }

    #[test]
    fn a_batch_is_judged_once_and_another_one_anew() {
        let shared = Verdicts::default().share(CHANNEL, filter("$payload == 1"));
        let (one, other) = (batch(0, "1"), batch(1, "2"));
        let first = shared.of(&one).unwrap();
        assert!(Arc::ptr_eq(&first, &shared.of(&one.clone()).unwrap()));
        assert_eq!((&*first, &*shared.of(&other).unwrap()), (&[true][..], &[false][..]));
        assert_eq!(&*shared.of(&one).unwrap(), [true]);
    }
}
