//! The broker's clock. Leases and timers are stored in its unit, milliseconds since 1970.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The current time, in ms since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The current time in ms since 1970, by a clock that steps of the wall clock do not move: it agrees with the wall
/// clock at its first use and runs on by itself. Leases in memory end by this clock.
pub(super) fn monotonic() -> u64 {
    static START: LazyLock<(u64, Instant)> = LazyLock::new(|| (now(), Instant::now()));
    let (wall, start) = *START;
    wall.saturating_add(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
}
