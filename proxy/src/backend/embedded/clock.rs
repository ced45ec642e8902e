//! The broker's clock. Leases and timers are stored in its unit, milliseconds since 1970.

use std::time::{SystemTime, UNIX_EPOCH};

/// The current time, in ms since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
