//! The options of clients, producers and consumers. All defaults of the client are defined here.

mod consumer;
mod endpoints;
mod push_consumer;

use std::{
    fmt,
    time::{Duration, Instant},
};

pub use consumer::{
    DecodeOptions, Filter, ReceiveOptions, SimpleConsumerOptions, StreamOptions, Subscription,
};
pub(crate) use endpoints::{Access, Address, Endpoints};
pub use push_consumer::PushConsumerOptions;

/// The default deadline of a close: 20 seconds.
pub const CLOSE_DEADLINE: Duration = Duration::from_secs(20);

/// How long an orphan check may take. Afterwards it counts as undecided, and others take its place.
pub(crate) const ORPHAN_CHECK_TIMEOUT: Duration = Duration::from_secs(60);

/// Longer waits, such as `Duration::MAX`, are cut to this, so that computing a deadline can't overflow.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// The end of a wait that begins at `start`.
pub(crate) fn deadline(start: Instant, wait: Duration) -> Instant {
    start + wait.min(LONGEST_WAIT)
}

/// How a [`Client`](crate::Client) connects to its servers.
///
/// ```
/// # use rocketmq_thin::ClientOptions;
/// let options = ClientOptions::new("10.0.0.7:8081,10.0.0.8:8081").namespace("prod");
/// assert_eq!(options.request_timeout.as_secs(), 3);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientOptions {
    /// The addresses of one service, separated by `,` or `;`. One that answers is enough. Default:
    /// `127.0.0.1:8081`.
    ///
    /// Each is `host:port`, `host` (port 8081), `[::1]:port`, `http://host:port`, or `https://host:port`,
    /// which turns TLS on.
    pub endpoints: String,
    /// The namespace of every topic and group. Default: empty, which means none.
    pub namespace: String,
    /// The credentials that sign each request. Default: none.
    pub credentials: Option<Credentials>,
    /// Whether and how connections are encrypted. Default: only to endpoints written as `https://`.
    pub tls: Tls,
    /// How long one attempt waits for its answer. A long poll waits this much longer than it asked for. Default: 3 s.
    pub request_timeout: Duration,
    /// How long a call may take, including all attempts and pauses. Default: 10 s.
    pub operation_timeout: Duration,
    /// How long connecting, or making a producer or consumer, may take. Default: 10 s.
    pub startup_timeout: Duration,
    /// How often and how fast a failed attempt is repeated. Default: see [`RetryOptions`].
    pub retry: RetryOptions,
    /// The language of the application, as told to the server. Default: Rust. Set by language bindings.
    pub language: Language,
}

impl ClientOptions {
    /// The defaults for the servers at `endpoints`.
    #[must_use]
    pub fn new(endpoints: impl Into<String>) -> Self {
        Self { endpoints: endpoints.into(), ..Self::default() }
    }

    /// Sets [`namespace`](Self::namespace).
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Sets [`credentials`](Self::credentials).
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Sets [`tls`](Self::tls).
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Sets [`request_timeout`](Self::request_timeout).
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Sets [`operation_timeout`](Self::operation_timeout).
    #[must_use]
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = timeout;
        self
    }

    /// Sets [`startup_timeout`](Self::startup_timeout).
    #[must_use]
    pub fn startup_timeout(mut self, timeout: Duration) -> Self {
        self.startup_timeout = timeout;
        self
    }

    /// Sets [`retry`](Self::retry).
    #[must_use]
    pub fn retry(mut self, retry: RetryOptions) -> Self {
        self.retry = retry;
        self
    }

    /// Sets [`language`](Self::language).
    #[must_use]
    pub fn language(mut self, language: Language) -> Self {
        self.language = language;
        self
    }

    /// The same options with no duration above [`LONGEST_WAIT`], so that adding them up can't overflow.
    pub(crate) fn bounded(self) -> Self {
        let bound = |duration: Duration| duration.min(LONGEST_WAIT);
        Self {
            request_timeout: bound(self.request_timeout),
            operation_timeout: bound(self.operation_timeout),
            startup_timeout: bound(self.startup_timeout),
            retry: RetryOptions {
                initial: bound(self.retry.initial),
                max: bound(self.retry.max),
                ..self.retry
            },
            ..self
        }
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            endpoints: "127.0.0.1:8081".to_owned(),
            namespace: String::new(),
            credentials: None,
            tls: Tls::Off,
            request_timeout: Duration::from_secs(3),
            operation_timeout: Duration::from_secs(10),
            startup_timeout: Duration::from_secs(10),
            retry: RetryOptions::default(),
            language: Language::Rust,
        }
    }
}

/// An access key and its secret, as issued by the server's administrator.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name the server knows.
    pub access_key: String,
    /// The key that signs each request. It is never sent.
    pub secret_key: String,
    /// The token of temporary credentials.
    pub session_token: Option<String>,
}

impl Credentials {
    /// Permanent credentials.
    #[must_use]
    pub fn new(access_key: impl Into<String>, secret_key: impl Into<String>) -> Self {
        Self { access_key: access_key.into(), secret_key: secret_key.into(), session_token: None }
    }

    /// Sets [`session_token`](Self::session_token).
    #[must_use]
    pub fn session_token(mut self, token: impl Into<String>) -> Self {
        self.session_token = Some(token.into());
        self
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// Whether and how connections are encrypted. The server's certificate is always verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Plaintext, except to endpoints written as `https://`, which use the system's roots.
    #[default]
    Off,
    /// TLS with the certificate authorities that the machine trusts.
    SystemRoots,
    /// TLS with these certificate authorities only.
    Ca {
        /// One or more certificates in PEM form.
        pem: Vec<u8>,
    },
}

/// How failed attempts are repeated within [`ClientOptions::operation_timeout`].
///
/// Each pause is random, between zero and a limit that doubles from `initial` to `max`. Limits that the server
/// sends replace these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryOptions {
    /// The maximum number of attempts of one call. Default: 16. With 1, a request that a server may have received
    /// is not repeated. Attempts to reach a server that can't be reached don't count.
    pub max_attempts: u32,
    /// The limit of the first pause. Default: 20 ms.
    pub initial: Duration,
    /// The limit that later pauses grow to. Default: 1 s.
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
pub enum Language {
    /// Rust.
    #[default]
    Rust,
    /// Python.
    Python,
    /// Node.js.
    NodeJs,
    /// Kotlin. Servers list its connections as Java, because the names they accept there have no Kotlin.
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
    /// Topics that must exist when the producer is made. It can send to others as well. Default: none.
    pub topics: Vec<String>,
    /// The maximum number of messages in flight; further sends wait. Default: 4096.
    pub max_in_flight_messages: usize,
    /// The maximum size of all bodies in flight, in bytes; further sends wait. Default: 64 MiB.
    pub max_in_flight_bytes: usize,
    /// Bodies of more bytes than this are sent in gzip form, if that is smaller. Consumers get the plain body back.
    /// Default: none, which means that nothing is compressed.
    pub compress_above: Option<usize>,
}

impl ProducerOptions {
    /// The defaults for a producer of `topics`.
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
