//! The options of a client.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use super::{Credentials, CredentialsProvider, LONGEST_WAIT, Language, RetryOptions, Tls};
use crate::interceptor::Interceptor;

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
    /// The addresses of one service, separated by `,` or `;`. One reachable address is enough. Default:
    /// `127.0.0.1:8081`.
    ///
    /// Each address is `host:port`, `host` (port 8081), `[::1]:port`, `http://host:port`, or `https://host:port`,
    /// which turns TLS on.
    pub endpoints: String,
    /// The namespace of every topic and group: at most 8192 bytes of printable ASCII. Default: empty, which means no
    /// namespace.
    pub namespace: String,
    /// The credentials that sign each request. Default: `None`.
    pub credentials: Option<Credentials>,
    /// Provides credentials, and replaces them when they expire or are refused. Default: `None`.
    ///
    /// If [`credentials`](Self::credentials) is set as well, the provider is first called when those must be replaced.
    pub credentials_provider: Option<CredentialsProvider>,
    /// Whether and how connections are encrypted. Default: only for endpoints written as `https://`.
    pub tls: Tls,
    /// Whether the client waits for its servers when it starts. Default: [`Startup::Eager`].
    pub startup: Startup,
    /// How long one request waits for its response. For a long poll, this is added to its wait. Default: 3 s.
    pub request_timeout: Duration,
    /// How long a call may take, including all attempts and pauses. Default: 10 s.
    pub operation_timeout: Duration,
    /// How long connecting, or creating a producer or consumer, may take. Default: 10 s. Not used with
    /// [`Startup::Lazy`].
    pub startup_timeout: Duration,
    /// How often and how fast failed requests are retried. Default: see [`RetryOptions`].
    pub retry: RetryOptions,
    /// The language of the application, as reported to the server. Default: Rust. Set by language bindings.
    pub language: Language,
    /// Hooks that are called before and after every send, receive and settlement. Default: none.
    pub interceptors: Vec<Arc<dyn Interceptor>>,
}

impl ClientOptions {
    /// The default options for the servers at `endpoints`.
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

    /// Sets [`credentials_provider`](Self::credentials_provider).
    ///
    /// ```
    /// # use rocketmq_thin::{ClientOptions, Credentials};
    /// let options = ClientOptions::new("h:8081").credentials_provider(async || {
    ///     let access_key = std::env::var("ACCESS_KEY")?;
    ///     Ok(Credentials::new(access_key, std::env::var("SECRET_KEY")?))
    /// });
    /// ```
    #[must_use]
    pub fn credentials_provider<F, R>(mut self, provider: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<Credentials, Box<dyn StdError + Send + Sync>>> + Send + 'static,
    {
        self.credentials_provider = Some(CredentialsProvider::new(provider));
        self
    }

    /// Sets [`tls`](Self::tls).
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Sets [`startup`](Self::startup).
    #[must_use]
    pub fn startup(mut self, startup: Startup) -> Self {
        self.startup = startup;
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

    /// Adds an interceptor to the [`interceptors`](Self::interceptors).
    #[must_use]
    pub fn interceptor(mut self, interceptor: Arc<dyn Interceptor>) -> Self {
        self.interceptors.push(interceptor);
        self
    }

    /// Why the options can't be used; `None` if they can.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        if self.request_timeout.is_zero() {
            Some("the request timeout is 0")
        } else if self.operation_timeout.is_zero() {
            Some("the operation timeout is 0")
        } else if self.startup_timeout.is_zero() && self.startup != Startup::Lazy {
            Some("the startup timeout is 0; to start without servers, choose a lazy startup")
        } else if self.retry.max_attempts == 0 {
            Some("the number of attempts is 0; 1 means no retries")
        } else {
            None
        }
    }

    /// The same options with durations limited to [`LONGEST_WAIT`], so that sums of durations can't overflow.
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
            credentials_provider: None,
            tls: Tls::off(),
            startup: Startup::Eager,
            request_timeout: Duration::from_secs(3),
            operation_timeout: Duration::from_secs(10),
            startup_timeout: Duration::from_secs(10),
            retry: RetryOptions::default(),
            language: Language::Rust,
            interceptors: Vec::new(),
        }
    }
}

/// Whether a client waits for its servers when it starts, and what it does if they can't be reached.
///
/// `connect` always checks the options first. It returns a permanent failure at once, except with `Lazy`: for instance if
/// the server speaks another protocol, or its certificate is not trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Startup {
    /// `connect` fails within about a second if nothing listens at any of the addresses, if connections are closed at
    /// once, or if no host name can be resolved. Other temporary failures are retried until
    /// [`startup_timeout`](ClientOptions::startup_timeout).
    #[default]
    Eager,
    /// Like `Eager`, but `connect` also waits for servers that do not listen yet, until
    /// [`startup_timeout`](ClientOptions::startup_timeout).
    Wait,
    /// `connect` returns at once, and so does the creation of a producer or consumer. Each call waits for a connection
    /// until its own timeout, and its error then names the cause.
    Lazy,
}
