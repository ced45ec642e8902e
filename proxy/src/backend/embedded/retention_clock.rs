//! The clock of retention.
//!
//! Retention deletes data, so it does not trust a wall clock that jumps. If the wall clock were set forward by mistake,
//! or by a bad real-time clock at boot, all messages would expire. The retention clock follows the wall clock as long
//! as both advance alike. If the wall clock is ahead, also after a long stop of the broker, the retention clock catches
//! up at twice the normal speed, so that at most two days of messages expire in a day. Its time is stored for the next
//! start.

use std::time::{Duration, Instant};

use fjall::PersistMode;

use super::damage::is_damage;
use super::keys;
use super::store::{Store, corrupt, unavailable};
use crate::service::ServiceError;

/// The least tolerance, because clocks are adjusted now and then.
const MIN_TOLERANCE: Duration = Duration::from_secs(1);

/// The clock of retention.
pub(super) struct RetentionClock {
    /// In ms since 1970.
    now: u64,
    advanced_at: Instant,
    /// How far the wall clock may be ahead and still be trusted.
    tolerance: Duration,
    /// Whether the wall clock is further ahead than the tolerance. This was logged then.
    is_behind: bool,
}

impl RetentionClock {
    /// Continues with the stored time, or with the time of the wall clock if none is stored.
    ///
    /// The tolerance is a hundredth of `keep`, the retention of messages.
    pub(super) fn load(store: &Store, wall: u64, keep: Duration) -> Result<Self, ServiceError> {
        let stored = match store.state()?.get(keys::RETENTION_CLOCK) {
            Err(error) if is_damage(&error) => {
                tracing::error!(
                    "the stored time of the retention clock is damaged: it begins with the wall clock"
                );
                None
            }
            stored => stored.map_err(|e| unavailable(&e))?,
        };
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

    /// Advances to the time of the wall clock, as far as that is plausible. Returns the new time in ms since 1970.
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
                    "the wall clock is ahead of the retention clock, because it was set forward or the broker was stopped: \
                     messages expire more slowly until the retention clock has caught up"
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
    fn the_clock_follows_a_steady_wall_clock() {
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
    fn the_clock_catches_up_after_a_stop() {
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
    fn nothing_expires_after_the_clock_was_set_back() {
        let mut clock = clock(10 * millis(HOUR));
        assert_eq!(clock.advance_by(HOUR, 5 * millis(HOUR)), 5 * millis(HOUR));
    }
}
