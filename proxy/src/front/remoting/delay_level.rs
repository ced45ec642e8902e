//! The levels of delay that brokers have by default (Apache's `messageDelayLevel`).

use std::time::Duration;

/// In seconds, beginning with level 1.
const LEVELS: [u64; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];

/// How long a level delays a message. Levels above the last one are the last one; 0 and less don't delay.
pub(super) fn duration(level: i32) -> Option<Duration> {
    let index = usize::try_from(level).ok()?.checked_sub(1)?;
    let seconds = LEVELS.get(index).or(LEVELS.last())?;
    Some(Duration::from_secs(*seconds))
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
