//! Who did what to the cluster, who failed to log in and who was denied something: records in the channel `$audit`, to which
//! nobody but the nodes publishes, and lines of the log.
//!
//! Nothing waits for its record: records stand in a bounded queue, and one task publishes them, through the log as all
//! messages are. What the queue has no room for, or what cannot be published, is counted, and is still in the node's log.
//! Whoever is refused can send requests as fast as the node answers, so that records of refusals are few for each address,
//! and take no more than half of the queue from those of acts. A record names things and says what became of them; it holds
//! no payload, no key and no secret.

mod record;
mod writing;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::mpsc, time::Instant};

pub(super) use self::record::{Fate, Record, Who, shortened};
pub use self::writing::AuditWriter;
use crate::{
    budget::Origin,
    model::{Limits, Quota},
    quota::Meter,
};

/// Records of refusals of one address.
const RATE: Quota = Quota { messages_per_second: Some(2), bytes_per_second: None };
/// An address of which nothing was refused for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Takes records. Cloning shares it.
#[derive(Clone)]
pub struct Audit {
    shared: Arc<Shared>,
}

struct Shared {
    /// None where no channel is written, and records are lines of the log only.
    queue: Option<mpsc::Sender<Record>>,
    refusals: Mutex<HashMap<Origin, Refusals>>,
    counters: Counters,
}

/// Of one address.
struct Refusals {
    meter: Meter,
    /// Without a record since the last one.
    skipped: u64,
    last: Instant,
}

#[derive(Default)]
struct Counters {
    written: AtomicU64,
    no_room: AtomicU64,
    not_published: AtomicU64,
    held_back: AtomicU64,
    too_many: AtomicU64,
}

/// What became of records since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// In the channel.
    pub written: u64,
    /// Records for which the queue had no room.
    pub no_room: u64,
    /// Records that could not be published.
    pub not_published: u64,
    /// Records that a node of an earlier version held back.
    pub held_back: u64,
    /// Refusals of addresses of which there were too many.
    pub too_many: u64,
}

impl Audit {
    /// Keeps no channel: acts and refusals are lines of the log.
    pub fn lines_only() -> Self {
        Self::with(None)
    }

    /// With the queue of a channel that somebody else writes.
    fn queued() -> (Self, mpsc::Receiver<Record>) {
        let (queue, waiting) = mpsc::channel(Limits::AUDIT_WAITING);
        (Self::with(Some(queue)), waiting)
    }

    fn with(queue: Option<mpsc::Sender<Record>>) -> Self {
        Self { shared: Arc::new(Shared { queue, refusals: Mutex::default(), counters: Counters::default() }) }
    }

    /// What became of records so far.
    pub fn audited(&self) -> Audited {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { written, no_room, not_published, held_back, too_many } = &self.shared.counters;
        Audited {
            written: of(written),
            no_room: of(no_room),
            not_published: of(not_published),
            held_back: of(held_back),
            too_many: of(too_many),
        }
    }

    /// Something was done, or was to be.
    pub(super) fn act(&self, record: Record) {
        record.log();
        self.take(record, 0);
    }

    /// Somebody was refused. Of each address only some refusals are recorded.
    pub(super) fn refused(&self, from: &Origin, record: impl FnOnce() -> Record) {
        match self.sample(from) {
            Some(skipped) => {
                let record = Record { skipped, ..record() };
                record.log();
                self.take(record, Limits::AUDIT_WAITING / 2);
            }
            None => {
                self.shared.counters.too_many.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Puts a record into the queue if so many more would find room there.
    fn take(&self, record: Record, spare: usize) {
        let Some(queue) = &self.shared.queue else { return };
        if queue.capacity() <= spare || queue.try_send(record).is_err() {
            self.shared.counters.no_room.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many refusals of an address had no record before this one; none where this one has none either.
    fn sample(&self, from: &Origin) -> Option<u64> {
        let (mut refusals, now) = (self.shared.refusals.lock(), Instant::now());
        if refusals.len() >= Limits::GUESSING_ADDRESSES && !refusals.contains_key(from) {
            refusals.retain(|_, known| now.duration_since(known.last) < FORGOTTEN);
            if refusals.len() >= Limits::GUESSING_ADDRESSES {
                return None;
            }
        }
        let fresh = || Refusals { meter: Meter::default(), skipped: 0, last: now };
        let known = refusals.entry(from.clone()).or_insert_with(fresh);
        known.last = now;
        if known.meter.take(RATE, 1, 0, now).is_ok() {
            return Some(std::mem::take(&mut known.skipped));
        }
        known.skipped += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(act: &'static str) -> Record {
        Record {
            time_ms: 0,
            act: act.into(),
            on: "channel:orders".into(),
            fate: Fate::Denied,
            code: None,
            who: record::Who::default(),
            from: "10.0.0.1".into(),
            detail: String::new(),
            skipped: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_refused_over_and_over_has_few_records_and_the_next_one_counts_the_others() {
        let (audit, mut waiting) = Audit::queued();
        let from = Origin::of("10.0.0.1:1");
        for _ in 0..100 {
            audit.refused(&from, || record("publish"));
        }
        audit.refused(&Origin::of("10.0.0.2:1"), || record("publish"));
        tokio::time::advance(Duration::from_secs(1)).await;
        audit.refused(&from, || record("publish"));
        let skipped: Vec<u64> = std::iter::from_fn(|| waiting.try_recv().ok()).map(|record| record.skipped).collect();
        assert_eq!(skipped, [0, 0, 0, 98]);
        assert_eq!(audit.audited(), Audited { too_many: 98, ..Audited::default() });
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_leave_half_of_the_queue_to_acts_and_what_finds_no_room_is_counted() {
        let (audit, waiting) = Audit::queued();
        for number in 0..Limits::AUDIT_WAITING {
            audit.refused(&Origin::of(&format!("n{number}:1")), || record("publish"));
        }
        let half = Limits::AUDIT_WAITING / 2;
        assert_eq!((waiting.len(), audit.audited().no_room), (half, half as u64));
        for _ in 0..=half {
            audit.act(record("channel.create"));
        }
        assert_eq!((waiting.len(), audit.audited().no_room), (Limits::AUDIT_WAITING, half as u64 + 1));
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_addresses_are_remembered_and_no_more() {
        let audit = Audit::lines_only();
        for number in 0..=Limits::GUESSING_ADDRESSES {
            audit.refused(&Origin::of(&format!("n{number}:1")), || record("publish"));
        }
        assert_eq!(audit.shared.refusals.lock().len(), Limits::GUESSING_ADDRESSES);
        assert_eq!(audit.audited().too_many, 1);
        tokio::time::advance(FORGOTTEN).await;
        audit.refused(&Origin::of("new:1"), || record("publish"));
        assert_eq!(audit.shared.refusals.lock().len(), 1);
    }
}
