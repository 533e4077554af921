//! What openraft takes from `base2histogram` 0.2.3, without the memory that the crate takes.
//!
//! Once it makes a histogram, the crate keeps tables for all sixteen precisions that it knows: 26 MiB in every process.
//! openraft makes one, of how many entries it sends at a time, and shows it only with its feature `runtime-stats`, which
//! liminal does not ask for. Here a histogram is as precise as a power of two and has 65 buckets. This package goes when
//! a version of the crate makes only the table that it uses.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::{fmt, marker::PhantomData};

/// How often values of each bit length were recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; 65],
    _slots: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self { counts: [0; 65], _slots: PhantomData }
    }
}

impl<T> Histogram<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value so many times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let bits = u64::BITS - value.leading_zeros();
        self.counts[bits as usize] += count;
    }

    /// The least value that a part of all values is below, rounded up to the largest of its bit length; 0 when there are
    /// none.
    pub fn percentile(&self, part: f64) -> u64 {
        let rank = (self.total() as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bits = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        bits.map_or(0, |bits| u64::MAX.checked_shr(u64::BITS - bits as u32).unwrap_or(0))
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The usual percentiles.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

/// The usual percentiles of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named for what it is")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p10, p50, p90, p99, p99_9, .. } = self;
        write!(f, "{samples} samples, p10 {p10}, p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p99_9}")
    }
}

/// Several histograms, a line each.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart {
    lines: Vec<(String, PercentileStats)>,
}

impl AsciiChart {
    /// With none.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more.
    pub fn add<T>(mut self, name: impl Into<String>, histogram: Histogram<T>) -> Self {
        self.lines.push((name.into(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|(name, stats)| writeln!(f, "{name}: {stats}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_at_most_twice_the_value() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile(0.5), 0);
        for value in [0, 1, 5, 8, 1000, u64::MAX] {
            histogram.record(value);
        }
        let found = [0.01, 0.33, 0.5, 0.66, 0.83, 1.0].map(|part| histogram.percentile(part));
        assert_eq!(found, [0, 1, 7, 15, 1023, u64::MAX]);
        assert_eq!(histogram.percentile_stats().samples, 6);
    }
}
