//! The broker's clock: milliseconds since 1970, which is what leases and timers are written in.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
