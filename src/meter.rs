//! How long things take: histograms that a node's parts observe into and that monitoring reads. It is at the bottom of the
//! imports, so every part can use it. An observation takes no lock and allocates nothing: it looks for its bucket and adds to
//! two numbers.

#[cfg(test)]
mod tests;

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The upper bounds of the buckets in microseconds: what takes longer than the last one has a bucket of its own.
pub const BOUNDS_MICROS: [u64; 17] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// Buckets of a histogram.
pub const BUCKETS: usize = BOUNDS_MICROS.len() + 1;

/// How often an exemplar of one bucket is looked for: that costs more than an observation.
const LOOK_MS: u64 = 1_000;

/// How long something took each time that it was done, in buckets.
#[derive(Debug)]
#[repr(align(64))]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    nanoseconds: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// What was observed in each bucket alone.
    pub counts: [u64; BUCKETS],
    /// The time of all of it.
    pub sum: Duration,
    /// The newest exemplar of each bucket that has one.
    pub exemplars: Vec<(usize, Exemplar)>,
}

/// One of the things that a bucket counts, by which it can be found elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// The trace that it belongs to: 32 hexadecimal digits.
    pub trace_id: String,
    /// How long it took.
    pub took: Duration,
    /// When it was done, milliseconds since the Unix epoch.
    pub at_ms: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: array::from_fn(|_| AtomicU64::new(0)), nanoseconds: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Takes note of something that took so long.
    pub fn observe(&self, took: Duration) {
        self.add(took);
    }

    /// Takes note of something that began then and is done now.
    pub fn since(&self, begun: Instant) {
        self.add(begun.elapsed());
    }

    /// Gives the number of the bucket.
    fn add(&self, took: Duration) -> usize {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // A bucket takes what is exactly its bound too.
        let bucket = BOUNDS_MICROS.partition_point(|bound| *bound * 1_000 < nanoseconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        bucket
    }

    /// As it is now. What is observed meanwhile may be in the counts and not yet in the sum.
    pub fn read(&self) -> Reading {
        Reading {
            counts: array::from_fn(|bucket| self.counts[bucket].load(Ordering::Relaxed)),
            sum: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)),
            exemplars: Vec::new(),
        }
    }
}

/// What so great a share of the times counted in these buckets was at most, in milliseconds, as if they were spread evenly in
/// each bucket; none where nothing was counted. Of what took longer than the last bound only that bound is known.
pub fn quantile_ms(counts: &[u64; BUCKETS], share: f64) -> Option<f64> {
    let all: u64 = counts.iter().sum();
    let wanted = share * all as f64;
    let mut before = 0.0;
    for (bucket, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let count = *count as f64;
        if before + count >= wanted {
            let low = bucket.checked_sub(1).map_or(0, |below| BOUNDS_MICROS[below]) as f64;
            let high = BOUNDS_MICROS.get(bucket).map_or(low, |bound| *bound as f64);
            return Some((low + (high - low) * (wanted - before) / count) / 1_000.0);
        }
        before += count;
    }
    None
}

impl Reading {
    /// Everything that was observed.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// A histogram that keeps an exemplar of each bucket.
#[derive(Debug)]
pub struct TracedHistogram {
    times: Histogram,
    /// What the times of `looked_ms` count from.
    begun: Instant,
    examples: [Example; BUCKETS],
}

#[derive(Debug, Default)]
struct Example {
    /// When one was looked for last; 0: never.
    looked_ms: AtomicU64,
    newest: Mutex<Option<Exemplar>>,
}

impl Default for TracedHistogram {
    fn default() -> Self {
        Self { times: Histogram::default(), begun: Instant::now(), examples: array::from_fn(|_| Example::default()) }
    }
}

impl TracedHistogram {
    /// Takes note of something that began then and is done now. `trace` gives the id of its trace and the time of day in
    /// milliseconds; it is asked at most once a second for each bucket.
    pub fn since(&self, begun: Instant, trace: impl FnOnce() -> Option<(String, u64)>) {
        self.until(Instant::now(), begun, trace);
    }

    fn until(&self, now: Instant, begun: Instant, trace: impl FnOnce() -> Option<(String, u64)>) {
        let took = now.saturating_duration_since(begun);
        let bucket = self.times.add(took);
        let at = u64::try_from(now.saturating_duration_since(self.begun).as_millis()).unwrap_or(u64::MAX);
        let (example, looked) = (&self.examples[bucket], at.saturating_add(1));
        let before = example.looked_ms.load(Ordering::Relaxed);
        if before != 0 && looked.saturating_sub(before) < LOOK_MS {
            return;
        }
        let mine = example.looked_ms.compare_exchange(before, looked, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if mine && let Some((trace_id, at_ms)) = trace() {
            *example.newest.lock() = Some(Exemplar { trace_id, took, at_ms });
        }
    }

    /// As it is now.
    pub fn read(&self) -> Reading {
        let newest = self.examples.iter().map(|example| example.newest.lock().clone());
        let exemplars = newest.enumerate().filter_map(|(bucket, newest)| Some((bucket, newest?))).collect();
        Reading { exemplars, ..self.times.read() }
    }
}

/// What a node measures, but for what its log and its store measure themselves.
#[derive(Debug, Default)]
pub struct Meters {
    /// A publish from its acceptance to its acknowledgement, on the node that was asked, where that does not wait for its
    /// delivery.
    pub publish_to_commit: TracedHistogram,
    /// The same where it does.
    pub publish_to_delivery: TracedHistogram,
    /// Entries from their arrival at the log until they are durable on this node.
    pub append: Histogram,
    /// A committed command, applied and stored.
    pub apply: Histogram,
    /// New messages from the moment that their entry, which is committed, is taken up until they are in an inbox.
    pub fan_out: Histogram,
    /// A publisher's wait, after the commit, to know whether its messages were handed on.
    pub delivery: Histogram,
    /// A publish that is passed on to the leader, until the answer is there.
    pub forward: Histogram,
    /// The check of a request's messages against a schema, with the wait for its turn.
    pub check: Histogram,
}
