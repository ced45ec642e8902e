//! Tells whether the disk answers at once. Only then may a short write run on an async thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::clock;

/// A write to the page cache that takes longer has waited for the disk.
const MAX_SHORT_WRITE: Duration = Duration::from_millis(10);
/// While a commit with an fsync has run for longer than this, in ms, the disk counts as slow.
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
    /// The length of the last pause. Halved by each quick write of a request.
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

    /// Runs a commit of messages, and returns how long it took. Commits must not overlap.
    pub(super) fn commit<T>(&self, commit: impl FnOnce() -> T) -> (T, Duration) {
        let start = Instant::now();
        self.commit_since.store(clock::monotonic(), Ordering::Relaxed);
        let result = commit();
        self.commit_since.store(0, Ordering::Relaxed);
        (result, start.elapsed())
    }

    /// Notes how long a request wrote. If that was long, no other request should write for a while.
    pub(super) fn request_wrote(&self, took: Duration) {
        let before = self.pause.load(Ordering::Relaxed);
        if took > MAX_SHORT_WRITE {
            self.pause_for((before * 2).clamp(FIRST_PAUSE_MS, MAX_PAUSE_MS));
        } else if before > 0 {
            self.pause.store(before / 2, Ordering::Relaxed);
        }
    }

    /// Notes how long the thread wrote. During a pause, a long write shows that the disk is still slow. At other times the
    /// thread may have waited for fjall.
    pub(super) fn thread_wrote(&self, took: Duration) {
        if took > MAX_SHORT_WRITE && clock::monotonic() < self.slow_until.load(Ordering::Relaxed) {
            self.pause_for(self.pause.load(Ordering::Relaxed));
        }
    }

    fn pause_for(&self, pause: u64) {
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
            disk.request_wrote(slow);
            clock.advance(pause - 1);
            assert!(!disk.is_low(), "{pause}");
            clock.advance(1);
            assert!(disk.is_low(), "{pause}");
        }
        disk.request_wrote(Duration::ZERO);
        disk.request_wrote(slow);
        clock.advance(3_999);
        disk.thread_wrote(slow);
        clock.advance(3_999);
        assert!(!disk.is_low(), "the thread has met a slow disk in the pause");
        clock.advance(1);
        disk.thread_wrote(slow);
        assert!(disk.is_low(), "the thread may wait for fjall at other times");
        for _ in 0..12 {
            disk.request_wrote(Duration::ZERO);
        }
        disk.request_wrote(slow);
        clock.advance(FIRST_PAUSE_MS);
        assert!(disk.is_low(), "quick writes end the series");
    }

    #[test]
    fn a_commit_that_does_not_end_shows_a_slow_disk() {
        let clock = clock::controlled::begin(1_000_000);
        let disk = DiskLatency::default();
        let ((), _) = disk.commit(|| {
            assert!(disk.is_low());
            clock.advance(MAX_COMMIT_MS);
            assert!(!disk.is_low());
        });
        assert!(disk.is_low());
    }
}
