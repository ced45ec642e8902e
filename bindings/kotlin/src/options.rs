//! Options, as uniffi records. Options that are `None` have the core's defaults.

use std::time::Duration;

use rocketmq_thin_bridge as core;

use crate::credentials::AccessKey;

/// How a client connects to its servers.
#[derive(uniffi::Record)]
pub(crate) struct ConnectOptions {
    endpoints: String,
    namespace: Option<String>,
    credentials: Option<AccessKey>,
    encryption: Option<Encryption>,
    startup: Option<StartupMode>,
    request_timeout: Option<Duration>,
    operation_timeout: Option<Duration>,
    startup_timeout: Option<Duration>,
    max_attempts: Option<u32>,
    initial_retry_delay: Option<Duration>,
    max_retry_delay: Option<Duration>,
}

/// The encryption of connections.
#[derive(uniffi::Record)]
pub(crate) struct Encryption {
    roots: Roots,
    client_certificate: Option<ClientCertificate>,
    server_name: Option<String>,
    skip_verification: bool,
}

/// Whether connections are encrypted, and which certificate authorities are trusted.
#[derive(uniffi::Enum)]
pub(crate) enum Roots {
    Off,
    System,
    Ca { pem: Vec<u8> },
}

/// The client's certificate and private key, in PEM format.
#[derive(uniffi::Record)]
pub(crate) struct ClientCertificate {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl From<Encryption> for core::Tls {
    fn from(given: Encryption) -> Self {
        let mut tls = match given.roots {
            Roots::Off => Self::off(),
            Roots::System => Self::system_roots(),
            Roots::Ca { pem } => Self::ca(pem),
        };
        if let Some(ClientCertificate { certificate, key }) = given.client_certificate {
            tls = tls.client_certificate(certificate, key);
        }
        if let Some(name) = given.server_name {
            tls = tls.server_name(name);
        }
        if given.skip_verification { tls.dangerously_skip_verification() } else { tls }
    }
}

/// Whether a client waits for its servers when it starts.
#[derive(uniffi::Enum)]
pub(crate) enum StartupMode {
    Eager,
    Wait,
    Lazy,
}

impl From<StartupMode> for core::Startup {
    fn from(given: StartupMode) -> Self {
        match given {
            StartupMode::Eager => Self::Eager,
            StartupMode::Wait => Self::Wait,
            StartupMode::Lazy => Self::Lazy,
        }
    }
}

impl From<ConnectOptions> for core::ClientOptions {
    fn from(given: ConnectOptions) -> Self {
        let mut options = Self::new(given.endpoints).language(core::Language::Kotlin);
        replace(&mut options.namespace, given.namespace);
        options.credentials = given.credentials.map(Into::into);
        replace(&mut options.tls, given.encryption.map(Into::into));
        replace(&mut options.startup, given.startup.map(Into::into));
        replace(&mut options.request_timeout, given.request_timeout);
        replace(&mut options.operation_timeout, given.operation_timeout);
        replace(&mut options.startup_timeout, given.startup_timeout);
        replace(&mut options.retry.max_attempts, given.max_attempts);
        replace(&mut options.retry.initial, given.initial_retry_delay);
        replace(&mut options.retry.max, given.max_retry_delay);
        options
    }
}

/// Options of a producer.
#[derive(uniffi::Record)]
pub(crate) struct SendOptions {
    topics: Vec<String>,
    max_in_flight_messages: Option<u64>,
    max_in_flight_bytes: Option<u64>,
    compress_above: Option<u64>,
}

impl From<SendOptions> for core::ProducerOptions {
    fn from(given: SendOptions) -> Self {
        let mut options = Self::new(given.topics);
        replace(
            &mut options.max_in_flight_messages,
            given.max_in_flight_messages.map(|count| count as usize),
        );
        replace(&mut options.max_in_flight_bytes, given.max_in_flight_bytes.map(|bytes| bytes as usize));
        options.compress_above = given.compress_above.map(|bytes| bytes as usize);
        options
    }
}

/// Options of a simple consumer.
#[derive(uniffi::Record)]
pub(crate) struct ConsumeOptions {
    group: String,
    subscriptions: Vec<TopicFilter>,
    bind_topic: Option<String>,
    max_body_size: Option<u64>,
}

/// A subscription: a topic and its filter.
#[derive(uniffi::Record)]
pub(crate) struct TopicFilter {
    topic: String,
    filter: MessageFilter,
}

impl TopicFilter {
    /// Returns `None` for a kind of filter that this binding does not know.
    pub(crate) fn new(subscription: core::Subscription) -> Option<Self> {
        let filter = match subscription.filter {
            core::Filter::All => MessageFilter::All,
            core::Filter::Tags(tags) => MessageFilter::Tags(tags),
            core::Filter::Sql(expression) => MessageFilter::Sql(expression),
            _ => return None,
        };
        Some(Self { topic: subscription.topic, filter })
    }
}

impl From<TopicFilter> for core::Subscription {
    fn from(given: TopicFilter) -> Self {
        Self::new(given.topic, given.filter.into())
    }
}

/// Which messages of a topic a subscription selects.
#[derive(uniffi::Enum)]
pub(crate) enum MessageFilter {
    All,
    Tags(Vec<String>),
    Sql(String),
}

impl From<MessageFilter> for core::Filter {
    fn from(given: MessageFilter) -> Self {
        match given {
            MessageFilter::All => Self::All,
            MessageFilter::Tags(tags) => Self::Tags(tags),
            MessageFilter::Sql(expression) => Self::Sql(expression),
        }
    }
}

impl From<ConsumeOptions> for core::SimpleConsumerOptions {
    fn from(given: ConsumeOptions) -> Self {
        let mut options = Self::new(given.group, given.subscriptions);
        options.bind_topic = given.bind_topic;
        replace(&mut options.decode.max_body_size, given.max_body_size.map(|bytes| bytes as usize));
        options
    }
}

/// Options of a push consumer.
#[derive(uniffi::Record)]
pub(crate) struct HandleOptions {
    group: String,
    subscriptions: Vec<TopicFilter>,
    bind_topic: Option<String>,
    concurrency: Option<u64>,
    max_cached_messages: Option<u64>,
    max_cached_bytes: Option<u64>,
    invisible_duration: Option<Duration>,
    max_rate: Option<f64>,
    max_body_size: Option<u64>,
}

impl From<HandleOptions> for core::PushConsumerOptions {
    fn from(given: HandleOptions) -> Self {
        let mut options = Self::new(given.group, given.subscriptions);
        options.bind_topic = given.bind_topic;
        replace(&mut options.concurrency, given.concurrency.map(|count| count as usize));
        replace(&mut options.max_cached_messages, given.max_cached_messages.map(|count| count as usize));
        replace(&mut options.max_cached_bytes, given.max_cached_bytes.map(|bytes| bytes as usize));
        replace(&mut options.invisible_duration, given.invisible_duration);
        options.max_rate = given.max_rate;
        replace(&mut options.decode.max_body_size, given.max_body_size.map(|bytes| bytes as usize));
        options
    }
}

/// Replaces a default by `value`, unless that is `None`.
pub(crate) fn replace<T>(default: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *default = value;
    }
}
