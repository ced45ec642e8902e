//! How fast a client consumes.

use std::time::{Duration, Instant};

/// How much a client consumes in a second.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the second began that is counted.
    since: Option<Instant>,
    now: usize,
    before: usize,
}

impl Pace {
    /// The client has consumed so many messages.
    pub(super) fn consumed(&mut self, count: usize, now: Instant) {
        const SECOND: Duration = Duration::from_secs(1);
        let elapsed = self.since.map_or(SECOND, |since| now.duration_since(since));
        if elapsed >= SECOND {
            self.before = if elapsed < SECOND * 2 { self.now } else { 0 };
            (self.now, self.since) = (0, Some(now));
        }
        self.now += count;
    }

    /// In this second or the one before, whichever is more.
    pub(super) fn per_second(&self) -> usize {
        self.now.max(self.before)
    }
}
