//! Tells whether the disk answers at once. Only then may a short write run on an async thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::clock;

/// A write to the cache of the operating system that takes longer waits for the disk.
const MAX_SHORT_WRITE: Duration = Duration::from_millis(10);
/// A commit with an fsync that takes longer, in ms, shows that the disk does not respond.
const MAX_COMMIT_MS: u64 = 100;
/// How long the disk counts as slow after a short write that took too long, in ms. Doubled each time it happens again.
const FIRST_PAUSE_MS: u64 = 1_000;
const MAX_PAUSE_MS: u64 = 60_000;

/// What recent writes have shown. Times are in ms of [`clock::monotonic`].
#[derive(Debug, Default)]
pub(super) struct DiskLatency {
    /// When the running commit of messages began; 0 if none is running.
    commit_since: AtomicU64,
    slow_until: AtomicU64,
    /// The length of the last pause. 0 if the last short write was quick.
    pause: AtomicU64,
}

impl DiskLatency {
    /// Whether a short write is unlikely to wait for the disk.
    pub(super) fn is_low(&self) -> bool {
        let now = clock::monotonic();
        let since = self.commit_since.load(Ordering::Relaxed);
        now >= self.slow_until.load(Ordering::Relaxed)
            && (since == 0 || now.saturating_sub(since) < MAX_COMMIT_MS)
    }

    /// Runs a commit of messages. There is one at a time. Returns how long it took, too.
    pub(super) fn commit<T>(&self, commit: impl FnOnce() -> T) -> (T, Duration) {
        let start = Instant::now();
        self.commit_since.store(clock::monotonic(), Ordering::Relaxed);
        let result = commit();
        self.commit_since.store(0, Ordering::Relaxed);
        (result, start.elapsed())
    }

    /// Runs a short write. If it takes long, others should not be tried for a while.
    pub(super) fn short_write<T>(&self, write: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = write();
        self.note_short_write(start.elapsed());
        result
    }

    /// Notes how long a short write took.
    pub(super) fn note_short_write(&self, took: Duration) {
        let before = self.pause.load(Ordering::Relaxed);
        if took <= MAX_SHORT_WRITE {
            if before > 0 {
                self.pause.store(0, Ordering::Relaxed);
            }
            return;
        }
        let pause = (before * 2).clamp(FIRST_PAUSE_MS, MAX_PAUSE_MS);
        self.pause.store(pause, Ordering::Relaxed);
        self.slow_until.store(clock::monotonic().saturating_add(pause), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_write_is_followed_by_longer_and_longer_pauses() {
        let clock = clock::controlled::begin(1_000_000);
        let disk = DiskLatency::default();
        assert!(disk.is_low());
        let slow = MAX_SHORT_WRITE * 2;
        for pause in [1_000, 2_000, 4_000] {
            disk.note_short_write(slow);
            clock.fetch_add(pause - 1, Ordering::SeqCst);
            assert!(!disk.is_low(), "{pause}");
            clock.fetch_add(1, Ordering::SeqCst);
            assert!(disk.is_low(), "{pause}");
        }
        disk.note_short_write(Duration::ZERO);
        disk.note_short_write(slow);
        clock.fetch_add(FIRST_PAUSE_MS, Ordering::SeqCst);
        assert!(disk.is_low(), "a quick write ends the series");
    }

    #[test]
    fn a_commit_that_does_not_end_shows_a_slow_disk() {
        let clock = clock::controlled::begin(1_000_000);
        let disk = DiskLatency::default();
        let ((), _) = disk.commit(|| {
            assert!(disk.is_low());
            clock.fetch_add(MAX_COMMIT_MS, Ordering::SeqCst);
            assert!(!disk.is_low());
        });
        assert!(disk.is_low());
    }
}
