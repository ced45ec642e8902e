//! A histogram of durations, to which many threads can add concurrently.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets, in seconds. One more bucket has no upper bound.
const BOUNDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Counts durations by length. Adding a duration takes two atomic additions.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// The counts of a histogram at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramCounts {
    /// The upper bound of each bucket in seconds, and the number of durations in it. Each duration is in one bucket. The last
    /// bound is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of all durations, in seconds.
    pub sum: f64,
}

impl Histogram {
    /// Counts a duration.
    pub fn add(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// The current counts.
    #[must_use]
    pub fn counts(&self) -> HistogramCounts {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let counts = self.buckets.iter().map(|count| count.load(Ordering::Relaxed));
        HistogramCounts {
            buckets: bounds.zip(counts).collect(),
            sum: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64(),
        }
    }
}

impl HistogramCounts {
    /// The number of all durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_is_long_enough() {
        let histogram = Histogram::default();
        for ms in [0, 1, 2, 60_000, 60_001] {
            histogram.add(Duration::from_millis(ms));
        }
        let counts = histogram.counts();
        let found: Vec<_> = counts.buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(found, [(0.0005, 1), (0.001, 1), (0.0025, 1), (60.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((counts.count(), counts.sum), (5, 120.004));
    }
}
