//! The levels of delay that brokers have by default (Apache's `messageDelayLevel`).

use std::time::Duration;

/// In seconds, beginning with level 1.
const LEVELS: [u64; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];

/// The level of a first retry. Later ones are longer.
const FIRST_RETRY: i32 = 3;

/// How long a level delays a message. Levels above the last one are the last one; 0 and less don't delay.
#[must_use]
pub fn duration(level: i32) -> Option<Duration> {
    let index = usize::try_from(level).ok()?.checked_sub(1)?;
    let seconds = LEVELS.get(index).or(LEVELS.last())?;
    Some(Duration::from_secs(*seconds))
}

/// The level of a message that was delivered again this often and could not be consumed: the consumer's choice, or a longer
/// one each time if it chooses none (0).
#[must_use]
pub fn of_retry(level: i32, retries: i32) -> i32 {
    if level == 0 { FIRST_RETRY.saturating_add(retries) } else { level }
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
