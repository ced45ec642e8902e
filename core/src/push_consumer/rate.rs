//! A token bucket, which limits the number of messages per second.

use std::time::{Duration, Instant};

/// A token bucket. It holds the tokens of a tenth of a second, and at least one.
#[derive(Debug)]
pub(super) struct TokenBucket {
    /// Tokens per second.
    rate: f64,
    capacity: f64,
    tokens: f64,
    updated: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub(super) fn new(rate: f64, now: Instant) -> Self {
        let capacity = (rate / 10.0).max(1.0);
        Self { rate, capacity, tokens: capacity, updated: now }
    }

    /// Whether there is a token.
    pub(super) fn has_token(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.updated);
        self.tokens = (self.tokens + elapsed.as_secs_f64() * self.rate).min(self.capacity);
        self.updated = self.updated.max(now);
        self.tokens >= 1.0
    }

    /// Takes a token. There must be one.
    pub(super) fn take(&mut self) {
        self.tokens -= 1.0;
    }

    /// Returns a token that was taken.
    pub(super) fn put_back(&mut self) {
        self.tokens = (self.tokens + 1.0).min(self.capacity);
    }

    /// When the next token is available.
    pub(super) fn next_token(&self) -> Instant {
        // Adds a nanosecond, because rounding may leave a part of the token missing.
        let missing = Duration::try_from_secs_f64((1.0 - self.tokens).max(0.0) / self.rate);
        let missing = missing.unwrap_or(Duration::MAX).saturating_add(Duration::from_nanos(1));
        crate::options::deadline(self.updated, missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many tokens are taken within `time`, if each is taken as soon as it is available.
    fn taken(rate: f64, time: Duration) -> usize {
        let start = Instant::now();
        let (mut bucket, mut now, mut count) = (TokenBucket::new(rate, start), start, 0);
        while now <= start + time {
            if bucket.has_token(now) {
                bucket.take();
                count += 1;
            } else {
                now = bucket.next_token();
            }
        }
        count
    }

    #[test]
    fn tokens_come_at_the_given_rate() {
        for (rate, seconds, expected) in [(0.5, 9, 5..=5), (1.0, 3, 3..=4), (1000.0, 2, 2090..=2101)] {
            let count = taken(rate, Duration::from_secs(seconds));
            assert!(expected.contains(&count), "{count} at a rate of {rate} in {seconds} s");
        }
    }

    #[test]
    fn tokens_do_not_pile_up() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10.0, start);
        let much_later = start + Duration::from_secs(3600);
        assert!(bucket.has_token(much_later));
        bucket.take();
        assert!(!bucket.has_token(much_later));
    }
}
