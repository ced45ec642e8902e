//! Conversion of times to and from milliseconds since the Unix epoch, which RocketMQ uses.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The milliseconds since the Unix epoch; negative for earlier times.
#[must_use]
pub fn millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

/// The time this many milliseconds after 1970; 1970 if the system can't represent it.
#[must_use]
pub fn time(millis: i64) -> SystemTime {
    let distance = Duration::from_millis(millis.unsigned_abs());
    let time = if millis < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}
