//! The broker's clock. Leases and timers are stored in its unit, milliseconds since 1970.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The current time, in ms since 1970.
pub(super) fn now() -> u64 {
    #[cfg(test)]
    if let Some(now) = controlled::now() {
        return now;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The current time in ms since 1970, by a clock that steps of the wall clock do not move: it agrees with the wall
/// clock at its first use and runs on by itself. Leases in memory end by this clock.
pub(super) fn monotonic() -> u64 {
    #[cfg(test)]
    if let Some(now) = controlled::now() {
        return now;
    }
    static START: LazyLock<(u64, Instant)> = LazyLock::new(|| (now(), Instant::now()));
    let (wall, start) = *START;
    wall.saturating_add(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// Makes work for another thread use the clock of this one, which tests control.
#[cfg(not(test))]
pub(super) fn inherited<F>(work: F) -> F {
    work
}

#[cfg(test)]
pub(super) use controlled::inherited;

/// A clock that a test sets, for its thread and those that the broker starts from it.
#[cfg(test)]
pub(super) mod controlled {
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    thread_local! {
        static CLOCK: RefCell<Option<Arc<AtomicU64>>> = const { RefCell::new(None) };
    }

    pub(super) fn now() -> Option<u64> {
        CLOCK.with_borrow(|clock| clock.as_ref().map(|clock| clock.load(Ordering::SeqCst)))
    }

    /// Makes this thread use a clock that only the returned value moves. It is in ms since 1970.
    pub(in super::super) fn begin(now: u64) -> Arc<AtomicU64> {
        let clock = Arc::new(AtomicU64::new(now));
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
