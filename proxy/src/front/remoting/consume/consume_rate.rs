//! Measures how many messages a client consumes per second.

use std::time::{Duration, Instant};

/// The number of messages that a client consumes in a second.
#[derive(Debug, Default)]
pub(super) struct ConsumeRate {
    /// When the current second began. `None` before the first message.
    since: Option<Instant>,
    /// Messages in the current second, and in the one before.
    current: usize,
    previous: usize,
}

impl ConsumeRate {
    /// Counts messages that the client has consumed.
    pub(super) fn add(&mut self, count: usize, now: Instant) {
        const SECOND: Duration = Duration::from_secs(1);
        let elapsed = self.since.map_or(SECOND, |since| now.duration_since(since));
        if elapsed >= SECOND {
            self.previous = if elapsed < SECOND * 2 { self.current } else { 0 };
            (self.current, self.since) = (0, Some(now));
        }
        self.current += count;
    }

    /// The number of messages in the current second or in the one before, whichever is larger.
    pub(super) fn per_second(&self) -> usize {
        self.current.max(self.previous)
    }
}
