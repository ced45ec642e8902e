//! The options of clients, producers and consumers. All defaults of the client are defined here.

mod client;
mod consumer;
mod credentials;
mod endpoints;
mod offset;
mod push_consumer;
mod tls;

use std::time::{Duration, Instant};

pub use client::{ClientOptions, Startup};
pub use consumer::{
    DecodeOptions, Filter, ReceiveOptions, SimpleConsumerOptions, StreamOptions, Subscription,
};
pub use credentials::{Credentials, CredentialsProvider};
pub(crate) use endpoints::{Access, Address, Endpoints};
pub use offset::OffsetOption;
pub use push_consumer::PushConsumerOptions;
pub use tls::Tls;
pub(crate) use tls::{ClientCertificate, Roots};

use crate::error::{Error, ErrorKind, Result};

/// The default deadline of a close: 20 seconds.
pub const CLOSE_DEADLINE: Duration = Duration::from_secs(20);

/// How long an orphan check may take: 60 seconds. After that it counts as undecided, and other checks may start.
pub const ORPHAN_CHECK_TIMEOUT: Duration = Duration::from_secs(60);

/// Longer waits, such as `Duration::MAX`, are limited to this, so that the computation of a deadline can't overflow.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// The end of a wait that begins at `start`, with `wait` limited to [`LONGEST_WAIT`].
pub(crate) fn deadline(start: Instant, wait: Duration) -> Instant {
    start + wait.min(LONGEST_WAIT)
}

/// Refuses options that have a flaw.
///
/// # Errors
///
/// `InvalidOptions` with the flaw as its message.
pub(crate) fn check(operation: &'static str, flaw: Option<&'static str>) -> Result<()> {
    flaw.map_or(Ok(()), |flaw| Err(Error::new(ErrorKind::InvalidOptions, operation, flaw)))
}

/// How failed requests are retried within [`ClientOptions::operation_timeout`].
///
/// Each pause is random, between zero and a limit that doubles from `initial` to `max`. If the server sends such
/// limits, they replace these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryOptions {
    /// The maximum number of attempts of one call. Default: 16. With 1, a request that a server may have received
    /// is not retried. Attempts that failed because no connection could be opened don't count.
    pub max_attempts: u32,
    /// The limit of the first pause. Default: 20 ms.
    pub initial: Duration,
    /// The maximum limit of later pauses. Default: 1 s.
    pub max: Duration,
}

impl RetryOptions {
    /// Sets [`max_attempts`](Self::max_attempts).
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets [`initial`](Self::initial).
    #[must_use]
    pub fn initial(mut self, limit: Duration) -> Self {
        self.initial = limit;
        self
    }

    /// Sets [`max`](Self::max).
    #[must_use]
    pub fn max(mut self, limit: Duration) -> Self {
        self.max = limit;
        self
    }
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self { max_attempts: 16, initial: Duration::from_millis(20), max: Duration::from_secs(1) }
    }
}

/// The language of the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Language {
    /// Rust.
    #[default]
    Rust,
    /// Python.
    Python,
    /// Node.js.
    NodeJs,
    /// Kotlin. Servers list its connections as Java, because they don't accept Kotlin as the language of a connection.
    Kotlin,
}

/// Which topics a [`Producer`](crate::Producer) sends to, and how much it sends at once.
///
/// ```
/// # use rocketmq_thin::ProducerOptions;
/// let several = ProducerOptions::new(["orders", "refunds"]);
/// let one = ProducerOptions::default().topic("orders").max_in_flight_messages(100);
/// assert_eq!(one.topics, ["orders"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerOptions {
    /// Topics that must exist when the producer is created. It can also send to other topics. Default: none.
    pub topics: Vec<String>,
    /// The maximum number of messages in flight, at least 1; further sends wait. Default: 4096.
    pub max_in_flight_messages: usize,
    /// The maximum total size of the bodies in flight, in bytes, at least 1; further sends wait. A larger body is sent
    /// alone. Default: 64 MiB. More than 4 GiB counts as 4 GiB.
    pub max_in_flight_bytes: usize,
    /// Bodies larger than this, in bytes, are compressed with gzip if that makes them smaller. Clients decompress them
    /// on receipt. Default: `None`, which means that nothing is compressed.
    pub compress_above: Option<usize>,
}

impl ProducerOptions {
    /// The default options for a producer of `topics`.
    #[must_use]
    pub fn new<T: Into<String>>(topics: impl IntoIterator<Item = T>) -> Self {
        Self { topics: topics.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Adds a topic.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topics.push(topic.into());
        self
    }

    /// Sets [`max_in_flight_messages`](Self::max_in_flight_messages).
    #[must_use]
    pub fn max_in_flight_messages(mut self, messages: usize) -> Self {
        self.max_in_flight_messages = messages;
        self
    }

    /// Sets [`max_in_flight_bytes`](Self::max_in_flight_bytes).
    #[must_use]
    pub fn max_in_flight_bytes(mut self, bytes: usize) -> Self {
        self.max_in_flight_bytes = bytes;
        self
    }

    /// Sets [`compress_above`](Self::compress_above).
    #[must_use]
    pub fn compress_above(mut self, bytes: usize) -> Self {
        self.compress_above = Some(bytes);
        self
    }

    /// Why the limits can't be used, if they can't.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        if self.max_in_flight_messages == 0 {
            Some("the limit of messages in flight is 0")
        } else if self.max_in_flight_bytes == 0 {
            Some("the limit of bytes in flight is 0")
        } else {
            None
        }
    }
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            topics: Vec::new(),
            max_in_flight_messages: 4096,
            max_in_flight_bytes: 64 * 1024 * 1024,
            compress_above: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_does_not_overflow() {
        let start = Instant::now();
        assert!(deadline(start, Duration::MAX) > start);
        assert_eq!(deadline(start, Duration::from_secs(3)), start + Duration::from_secs(3));
    }
}
