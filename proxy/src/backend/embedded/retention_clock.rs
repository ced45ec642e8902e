//! The time that retention goes by.
//!
//! Retention deletes data, so it doesn't trust a wall clock that jumps: after a step forward, by mistake or from a bad
//! real-time clock at boot, everything would be expired. Its time follows the wall clock as long as both advance alike.
//! When the wall clock is ahead, also after a long stop of the broker, it catches up at twice the speed of time: then no
//! more than two days of messages expire in a day. The time is stored, so that a restart doesn't forget it.

use std::time::{Duration, Instant};

use fjall::PersistMode;

use super::keys;
use super::store::{Store, corrupt, unavailable};
use crate::service::ServiceError;

/// How far ahead the wall clock may run without a doubt, at least: clocks are adjusted.
const MIN_TOLERANCE: Duration = Duration::from_secs(1);

/// The time that retention goes by.
pub(super) struct RetentionClock {
    /// In ms since 1970.
    now: u64,
    advanced_at: Instant,
    /// How far ahead the wall clock may run without a doubt.
    tolerance: Duration,
    /// It was logged that the wall clock is ahead.
    is_behind: bool,
}

impl RetentionClock {
    /// Continues with the time that was stored last, or with the wall clock's.
    ///
    /// A step forward that is small compared with the time that messages are kept is accepted.
    pub(super) fn load(store: &Store, wall: u64, keep: Duration) -> Result<Self, ServiceError> {
        let stored = store.state()?.get(keys::RETENTION_CLOCK).map_err(|e| unavailable(&e))?;
        let now = match stored {
            Some(value) => {
                u64::from_be_bytes(value.as_ref().try_into().map_err(|_| corrupt("retention clock"))?)
            }
            None => wall,
        };
        Ok(Self::new(now, keep))
    }

    fn new(now: u64, keep: Duration) -> Self {
        let tolerance = (keep / 100).max(MIN_TOLERANCE);
        Self { now, advanced_at: Instant::now(), tolerance, is_behind: false }
    }

    /// Stores the time for the next start.
    pub(super) fn save(&self, store: &Store) -> Result<(), ServiceError> {
        let state = store.state()?;
        let mut batch = state.batch(PersistMode::Buffer);
        batch.insert(&state, keys::RETENTION_CLOCK, self.now.to_be_bytes());
        batch.commit().map_err(|e| unavailable(&e))
    }

    /// Advances to the wall clock's time, as far as that is plausible. Returns the new time.
    pub(super) fn advance(&mut self, wall: u64) -> u64 {
        let elapsed = self.advanced_at.elapsed();
        self.advanced_at = Instant::now();
        self.advance_by(elapsed, wall)
    }

    fn advance_by(&mut self, elapsed: Duration, wall: u64) -> u64 {
        let trusted = self.now.saturating_add(millis(elapsed + self.tolerance));
        let was_behind = std::mem::replace(&mut self.is_behind, wall > trusted);
        if !self.is_behind {
            self.now = wall;
        } else {
            if !was_behind {
                tracing::warn!(
                    ahead = ?Duration::from_millis(wall - self.now),
                    "the wall clock was set forward, or the broker was stopped that long: messages expire by the \
                     time that passes until retention has caught up"
                );
            }
            self.now = self.now.saturating_add(2 * millis(elapsed)).min(wall);
        }
        self.now
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn clock(now: u64) -> RetentionClock {
        RetentionClock::new(now, 72 * HOUR)
    }

    #[test]
    fn it_follows_a_steady_wall_clock() {
        let mut clock = clock(1_000_000);
        for hour in 1..100 {
            let wall = 1_000_000 + hour * millis(HOUR);
            assert_eq!(clock.advance_by(HOUR, wall), wall);
        }
    }

    #[test]
    fn a_step_forward_expires_messages_at_twice_the_speed_of_time() {
        let mut clock = clock(0);
        let year = 24 * 365 * millis(HOUR);
        assert_eq!(clock.advance_by(HOUR, year), 2 * millis(HOUR));
        assert_eq!(clock.advance_by(HOUR, year + millis(HOUR)), 4 * millis(HOUR));
        // Set back again.
        assert_eq!(clock.advance_by(HOUR, 3 * millis(HOUR)), 3 * millis(HOUR));
    }

    #[test]
    fn it_catches_up_after_a_stop() {
        let mut clock = clock(0);
        let stopped = 10 * millis(HOUR);
        for hour in 1..=10 {
            assert!(
                clock.advance_by(HOUR, stopped + hour * millis(HOUR)) < stopped + hour * millis(HOUR) + 1
            );
        }
        assert_eq!(clock.now, 2 * stopped);
    }

    #[test]
    fn a_clock_that_is_set_back_expires_nothing_more() {
        let mut clock = clock(10 * millis(HOUR));
        assert_eq!(clock.advance_by(HOUR, 5 * millis(HOUR)), 5 * millis(HOUR));
    }
}
