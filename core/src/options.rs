//! What a user of the client decides, and the only place where the client's defaults stand.

mod endpoints;

use std::{
    fmt,
    time::{Duration, Instant},
};

pub(crate) use endpoints::{Access, Address, Endpoints};

/// How long a close waits where the caller doesn't say.
pub const CLOSE_DEADLINE: Duration = Duration::from_secs(20);

/// The longest wait there is: `Duration::MAX` means this, and not an overflow of the clock.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// The end of a wait that begins at `start`.
pub(crate) fn deadline(start: Instant, wait: Duration) -> Instant {
    start + wait.min(LONGEST_WAIT)
}

/// How a [`Client`](crate::Client) reaches and addresses its servers.
///
/// ```
/// # use rocketmq_thin::ClientOptions;
/// let options = ClientOptions { namespace: "prod".into(), ..ClientOptions::new("10.0.0.7:8081,10.0.0.8:8081") };
/// assert_eq!(options.request_timeout.as_secs(), 3);
/// ```
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The addresses of one service, separated by `,` or `;`; any one that answers is enough.
    ///
    /// Each is `host:port`, `host` (port 8081), `[::1]:port`, `http://host:port`, or `https://host:port`,
    /// which turns TLS on.
    pub endpoints: String,
    /// The namespace of every topic and group, or empty.
    pub namespace: String,
    /// Who we are to a server that asks.
    pub credentials: Option<Credentials>,
    /// Whether and how connections are encrypted.
    pub tls: Tls,
    /// How long one attempt waits for its answer. A long poll waits this much longer than it asked for.
    pub request_timeout: Duration,
    /// How long a call may take, all attempts and pauses together.
    pub operation_timeout: Duration,
    /// How long connecting and making a producer or consumer may take.
    pub startup_timeout: Duration,
    /// How often and how fast a failed attempt is repeated.
    pub retry: RetryOptions,
    /// The language of the application, told to the server.
    pub language: Language,
}

impl ClientOptions {
    /// The defaults for the servers at `endpoints`.
    #[must_use]
    pub fn new(endpoints: impl Into<String>) -> Self {
        Self { endpoints: endpoints.into(), ..Self::default() }
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

/// An access key and its secret, as the server's administrator gave them out.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name the server knows.
    pub access_key: String,
    /// The key that signs each request; it never travels.
    pub secret_key: String,
    /// The token of temporary credentials.
    pub session_token: Option<String>,
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
/// Pauses are random between nothing and a limit that doubles from `initial` to `max`. A server that sends
/// limits of its own replaces these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryOptions {
    /// The most attempts of one call; 1 never repeats what a server has answered or may have got. A server
    /// that can't be reached at all is waited for in any case.
    pub max_attempts: u32,
    /// The limit of the first pause.
    pub initial: Duration,
    /// The limit of every later pause.
    pub max: Duration,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self { max_attempts: 16, initial: Duration::from_millis(20), max: Duration::from_secs(1) }
    }
}

/// The application's language, as the server's lists of connections show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// Rust.
    #[default]
    Rust,
    /// Python.
    Python,
    /// Node.js.
    NodeJs,
    /// Kotlin, which servers list as Java because they know no Kotlin.
    Kotlin,
}

/// What a [`Producer`](crate::Producer) sends and how much of it at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerOptions {
    /// Topics whose existence is checked before the producer is handed out. Others may be sent to as well.
    pub topics: Vec<String>,
    /// The most messages under way; a send beyond waits for its turn.
    pub max_in_flight_messages: usize,
    /// The most bytes of bodies under way; a send beyond waits for its turn.
    pub max_in_flight_bytes: usize,
}

impl ProducerOptions {
    /// The defaults for a producer of `topics`.
    #[must_use]
    pub fn new<T: Into<String>>(topics: impl IntoIterator<Item = T>) -> Self {
        Self { topics: topics.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self { topics: Vec::new(), max_in_flight_messages: 4096, max_in_flight_bytes: 64 * 1024 * 1024 }
    }
}

/// What a [`SimpleConsumer`](crate::SimpleConsumer) receives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimpleConsumerOptions {
    /// The consumer group; its members share the messages.
    pub group: String,
    /// The topics and which of their messages. All members of a group must say the same here.
    pub subscriptions: Vec<Subscription>,
    /// How their bodies are unpacked.
    pub decode: DecodeOptions,
}

impl SimpleConsumerOptions {
    /// A consumer in `group` of `subscriptions`.
    #[must_use]
    pub fn new<S: Into<Subscription>>(
        group: impl Into<String>,
        subscriptions: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            group: group.into(),
            subscriptions: subscriptions.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }
}

/// How received bodies are unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    /// The largest body after decompression, in bytes; a larger one is delivered as corrupted.
    pub max_body_size: usize,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { max_body_size: 64 * 1024 * 1024 }
    }
}

/// One topic and which of its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topic.
    pub topic: String,
    /// Which of its messages.
    pub filter: Filter,
}

impl Subscription {
    /// The messages of `topic` that pass `filter`.
    #[must_use]
    pub fn new(topic: impl Into<String>, filter: Filter) -> Self {
        Self { topic: topic.into(), filter }
    }
}

impl From<&str> for Subscription {
    /// All messages of the topic.
    fn from(topic: &str) -> Self {
        Self::new(topic, Filter::All)
    }
}

impl From<String> for Subscription {
    /// All messages of the topic.
    fn from(topic: String) -> Self {
        Self::new(topic, Filter::All)
    }
}

/// Which messages of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// All.
    #[default]
    All,
    /// Those with one of these tags.
    Tags(Vec<String>),
    /// Those whose properties satisfy this SQL-92 expression, such as `amount > 100 AND region = 'eu'`.
    Sql(String),
}

/// How much one receive asks for and how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveOptions {
    /// The most deliveries of one call. Servers give at most 32.
    pub max_messages: u32,
    /// How long the deliveries are hidden from others before they come again; servers allow 10 s to 12 h.
    pub invisible_duration: Duration,
    /// How long to wait for the first message. Servers wait 5 s to 20 s.
    pub await_duration: Duration,
}

impl Default for ReceiveOptions {
    fn default() -> Self {
        Self {
            max_messages: 32,
            invisible_duration: Duration::from_secs(30),
            await_duration: Duration::from_secs(20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_for_ever_is_no_overflow() {
        let start = Instant::now();
        assert!(deadline(start, Duration::MAX) > start);
        assert_eq!(deadline(start, Duration::from_secs(3)), start + Duration::from_secs(3));
    }
}
