//! The delay levels that brokers have by default (Apache's `messageDelayLevel`).

use std::time::Duration;

/// The delays in seconds, beginning with level 1.
const DELAYS: [u64; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];

/// The level of the first retry. Each further retry has the next level.
const FIRST_RETRY_LEVEL: i32 = 3;

/// The delay of a level. Levels above the last one have the delay of the last one. `None` (no delay) for 0 and negative
/// levels.
#[must_use]
pub fn duration(level: i32) -> Option<Duration> {
    let index = usize::try_from(level).ok()?.checked_sub(1)?;
    let seconds = DELAYS.get(index).or(DELAYS.last())?;
    Some(Duration::from_secs(*seconds))
}

/// The level with which a message is delivered again after this many retries. This is the consumer's `level`, unless that
/// is 0: then the delay grows with each retry.
#[must_use]
pub fn for_retry(level: i32, retries: i32) -> i32 {
    if level == 0 { FIRST_RETRY_LEVEL.saturating_add(retries) } else { level }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_begin_with_one_and_the_last_is_the_longest() {
        let seconds = |level| duration(level).map(|delay| delay.as_secs());
        assert_eq!(
            [-1, 0, 1, 3, 18, 99].map(seconds),
            [None, None, Some(1), Some(10), Some(7200), Some(7200)]
        );
    }
}
