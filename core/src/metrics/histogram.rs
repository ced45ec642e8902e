//! A histogram that several threads can record to.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::Histogram;

/// The inclusive upper bound of each bucket except the last, in milliseconds.
pub(super) type Bounds = [f64; 7];

/// Counts durations. A snapshot is not atomic: it may include the count of a value without its sum.
#[derive(Debug)]
pub(super) struct AtomicHistogram {
    bounds: &'static Bounds,
    counts: [AtomicU64; 8],
    /// In microseconds. Overflows after half a million years in total.
    sum: AtomicU64,
}

impl AtomicHistogram {
    pub(super) fn new(bounds: &'static Bounds) -> Self {
        Self { bounds, counts: Default::default(), sum: AtomicU64::new(0) }
    }

    pub(super) fn record(&self, value: Duration) {
        let millis = value.as_secs_f64() * 1000.0;
        let bucket = self.bounds.iter().take_while(|bound| millis > **bound).count();
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }

    /// The current counts; `None` if no value was recorded.
    pub(super) fn snapshot(&self) -> Option<Histogram> {
        let counts: Vec<u64> = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let sum = self.sum.load(Ordering::Relaxed) as f64 / 1000.0;
        counts.iter().any(|count| *count > 0).then_some(Histogram { bounds: self.bounds, counts, sum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        const BOUNDS: Bounds = [1.0, 5.0, 10.0, 20.0, 50.0, 200.0, 500.0];
        let histogram = AtomicHistogram::new(&BOUNDS);
        assert_eq!(histogram.snapshot(), None);
        for micros in [0, 1000, 1001, 5000, 500_000, 500_001, 9_000_000] {
            histogram.record(Duration::from_micros(micros));
        }
        let Histogram { counts, sum, .. } = histogram.snapshot().unwrap();
        assert_eq!(counts, [2, 2, 0, 0, 0, 0, 1, 2]);
        assert!((sum - 10_007.002).abs() < 1e-6, "{sum}");
    }
}
