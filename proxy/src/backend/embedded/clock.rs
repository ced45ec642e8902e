//! The broker's clock. Its unit is milliseconds since 1970, "ms" for short. Times in memory and in stored records are
//! in this unit.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The current time, in ms.
pub(super) fn now() -> u64 {
    #[cfg(test)]
    if let Some(now) = controlled::wall() {
        return now;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The current time in ms, by a monotonic clock. It is set to the wall clock at its first use, and later steps of
/// the wall clock do not affect it. Leases in memory use this clock.
pub(super) fn monotonic() -> u64 {
    #[cfg(test)]
    if let Some(now) = controlled::monotonic() {
        return now;
    }
    static START: LazyLock<(u64, Instant)> = LazyLock::new(|| (now(), Instant::now()));
    let (wall, start) = *START;
    wall.saturating_add(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// Makes work that runs on another thread use the clock of this thread. Only tests control a thread's clock.
#[cfg(not(test))]
pub(super) fn inherited<F>(work: F) -> F {
    work
}

#[cfg(test)]
pub(super) use controlled::inherited;

/// A clock that a test sets, for its own thread and the threads that the broker starts from it.
#[cfg(test)]
pub(super) mod controlled {
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

    /// Clocks that stand still unless they are changed.
    pub(in super::super) struct Clock {
        monotonic: AtomicU64,
        /// How far the wall clock was set forward.
        step: AtomicI64,
    }

    thread_local! {
        static CLOCK: RefCell<Option<Arc<Clock>>> = const { RefCell::new(None) };
    }

    impl Clock {
        /// The time by the monotonic clock.
        pub(in super::super) fn now(&self) -> u64 {
            self.monotonic.load(Ordering::SeqCst)
        }

        /// Advances both clocks.
        pub(in super::super) fn advance(&self, time: u64) {
            self.monotonic.fetch_add(time, Ordering::SeqCst);
        }

        /// Sets the wall clock forward, or back if `time` is negative.
        pub(in super::super) fn step(&self, time: i64) {
            self.step.fetch_add(time, Ordering::SeqCst);
        }
    }

    pub(super) fn monotonic() -> Option<u64> {
        CLOCK.with_borrow(|clock| clock.as_ref().map(|clock| clock.now()))
    }

    pub(super) fn wall() -> Option<u64> {
        let step = CLOCK.with_borrow(|clock| clock.as_ref().map(|clock| clock.step.load(Ordering::SeqCst)));
        Some(monotonic()?.saturating_add_signed(step?))
    }

    /// Makes this thread use clocks of its own, which both begin with this time.
    pub(in super::super) fn begin(now: u64) -> Arc<Clock> {
        let clock = Arc::new(Clock { monotonic: AtomicU64::new(now), step: AtomicI64::new(0) });
        CLOCK.set(Some(clock.clone()));
        clock
    }

    pub(in super::super) fn inherited<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
        let clock = CLOCK.with_borrow(Clone::clone);
        move || {
            CLOCK.set(clock);
            work()
        }
    }
}
