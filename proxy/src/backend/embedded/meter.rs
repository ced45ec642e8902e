//! Counts recent events, for statistics.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::clock;
use crate::service::EventCounts;

/// Six complete slots for the last minute, and the current one.
type Minute = Slots<7, 10_000>;
/// Six complete slots for the last hour, and the current one.
type Hour = Slots<7, 600_000>;
/// 24 complete slots for the last day, and the current one.
type Day = Slots<25, 3_600_000>;

/// Counts events of the last minute, hour and day.
pub(super) struct Meter {
    minute: Minute,
    /// Most topics and groups are idle, so these are allocated by the first event.
    longer: OnceLock<Box<(Hour, Day)>>,
    /// When it was created, in ms of [`clock::monotonic`].
    since: u64,
}

/// Counts events in `N` slots of `MS` milliseconds each. Concurrent events at the start of a slot may be lost.
struct Slots<const N: usize, const MS: u64>([Slot; N]);

#[derive(Default)]
struct Slot {
    /// The time of the slot in units of the slots' duration.
    number: AtomicU64,
    count: AtomicU64,
}

impl<const N: usize, const MS: u64> Default for Slots<N, MS> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Slot::default()))
    }
}

impl<const N: usize, const MS: u64> Slots<N, MS> {
    fn add(&self, count: u64, now: u64) {
        let number = now / MS;
        let slot = &self.0[number as usize % N];
        if slot.number.swap(number, Ordering::Relaxed) != number {
            slot.count.store(0, Ordering::Relaxed);
        }
        slot.count.fetch_add(count, Ordering::Relaxed);
    }

    fn count(&self, now: u64) -> u64 {
        let recent = Self::start(now) / MS..=now / MS;
        let is_recent = |slot: &&Slot| recent.contains(&slot.number.load(Ordering::Relaxed));
        self.0.iter().filter(is_recent).map(|slot| slot.count.load(Ordering::Relaxed)).sum()
    }

    /// When the oldest slot began.
    fn start(now: u64) -> u64 {
        (now / MS).saturating_sub(N as u64 - 1) * MS
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self { minute: Slots::default(), longer: OnceLock::new(), since: clock::monotonic() }
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

    /// The events of the last minute, hour and day, each including what the oldest slot has in addition.
    pub(super) fn counts(&self) -> EventCounts {
        self.counts_at(clock::monotonic())
    }

    fn add_at(&self, count: u64, now: u64) {
        self.minute.add(count, now);
        let (hour, day) = &**self.longer.get_or_init(Box::default);
        hour.add(count, now);
        day.add(count, now);
    }

    fn rate_at(&self, now: u64) -> f64 {
        let measured = now.saturating_sub(self.since.max(Minute::start(now))).max(1000);
        self.minute.count(now) as f64 * 1000.0 / measured as f64
    }

    fn counts_at(&self, now: u64) -> EventCounts {
        let Some(longer) = self.longer.get() else { return EventCounts::default() };
        let (hour, day) = &**longer;
        EventCounts { minute: self.minute.count(now), hour: hour.count(now), day: day.count(now) }
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

    #[test]
    fn events_are_counted_for_a_day() {
        const HOUR: u64 = 3_600_000;
        let meter = Meter { since: 0, ..Meter::default() };
        assert_eq!(meter.counts_at(HOUR), EventCounts::default());
        meter.add_at(1, HOUR);
        meter.add_at(2, 20 * HOUR);
        assert_eq!(meter.counts_at(20 * HOUR), EventCounts { minute: 2, hour: 2, day: 3 });
        assert_eq!(meter.counts_at(20 * HOUR + HOUR / 2), EventCounts { minute: 0, hour: 2, day: 3 });
        assert_eq!(meter.counts_at(30 * HOUR), EventCounts { minute: 0, hour: 0, day: 2 });
    }
}
