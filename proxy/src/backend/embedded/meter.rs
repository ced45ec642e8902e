//! Measures the rate of events over the last minute, for statistics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::clock;

/// The duration of a slot, in ms.
const SLOT_MS: u64 = 10_000;
/// The slots of a minute, and the current one.
const SLOTS: usize = 7;

/// Counts events in slots of ten seconds. Concurrent events at the start of a slot may be lost.
pub(super) struct Meter {
    slots: [Slot; SLOTS],
    /// When it was created, in ms of [`clock::monotonic`].
    since: u64,
}

#[derive(Default)]
struct Slot {
    /// The time of the slot in units of [`SLOT_MS`].
    number: AtomicU64,
    count: AtomicU64,
}

impl Default for Meter {
    fn default() -> Self {
        Self { slots: Default::default(), since: clock::monotonic() }
    }
}

impl Meter {
    /// Counts events at the current time.
    pub(super) fn add(&self, count: usize) {
        self.add_at(count as u64, clock::monotonic());
    }

    /// The events per second over the last minute, or since the meter was created.
    pub(super) fn rate(&self) -> f64 {
        self.rate_at(clock::monotonic())
    }

    fn add_at(&self, count: u64, now: u64) {
        let number = now / SLOT_MS;
        let slot = &self.slots[number as usize % SLOTS];
        if slot.number.swap(number, Ordering::Relaxed) != number {
            slot.count.store(0, Ordering::Relaxed);
        }
        slot.count.fetch_add(count, Ordering::Relaxed);
    }

    fn rate_at(&self, now: u64) -> f64 {
        let current = now / SLOT_MS;
        let first = current.saturating_sub(SLOTS as u64 - 1);
        let is_recent = |slot: &&Slot| (first..=current).contains(&slot.number.load(Ordering::Relaxed));
        let count: u64 = self.slots.iter().filter(is_recent).map(|s| s.count.load(Ordering::Relaxed)).sum();
        let measured = now.saturating_sub(self.since.max(first * SLOT_MS)).max(1000);
        count as f64 * 1000.0 / measured as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_covers_the_last_minute() {
        let meter = Meter { since: 0, ..Meter::default() };
        for second in 0..300 {
            meter.add_at(5, second * 1000);
        }
        assert_eq!(meter.rate_at(300_000), 5.0);
        assert!(meter.rate_at(330_000) < 3.0);
        assert_eq!(meter.rate_at(400_000), 0.0);
    }

    #[test]
    fn the_rate_of_a_new_meter_covers_its_age() {
        let meter = Meter { since: 100_000, ..Meter::default() };
        meter.add_at(40, 101_000);
        assert_eq!(meter.rate_at(104_000), 10.0);
        assert_eq!(meter.rate_at(100_000), 40.0, "at least a second");
    }
}
