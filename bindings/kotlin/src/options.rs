//! The options as Kotlin passes them. An option that is absent has the core's default.

use std::time::Duration;

use rocketmq_thin_bridge as core;

/// How a client connects to its servers.
#[derive(uniffi::Record)]
pub(crate) struct ConnectOptions {
    endpoints: String,
    namespace: Option<String>,
    credentials: Option<AccessKey>,
    encryption: Option<Encryption>,
    request_timeout: Option<Duration>,
    operation_timeout: Option<Duration>,
    startup_timeout: Option<Duration>,
    max_attempts: Option<u32>,
}

#[derive(uniffi::Record)]
pub(crate) struct AccessKey {
    access_key: String,
    secret_key: String,
    session_token: Option<String>,
}

impl From<AccessKey> for core::Credentials {
    fn from(given: AccessKey) -> Self {
        let mut credentials = Self::new(given.access_key, given.secret_key);
        credentials.session_token = given.session_token;
        credentials
    }
}

#[derive(uniffi::Enum)]
pub(crate) enum Encryption {
    Off,
    SystemRoots,
    Ca { pem: Vec<u8> },
}

impl From<Encryption> for core::Tls {
    fn from(given: Encryption) -> Self {
        match given {
            Encryption::Off => Self::off(),
            Encryption::SystemRoots => Self::system_roots(),
            Encryption::Ca { pem } => Self::ca(pem),
        }
    }
}

impl From<ConnectOptions> for core::ClientOptions {
    fn from(given: ConnectOptions) -> Self {
        let mut options = Self::new(given.endpoints).language(core::Language::Kotlin);
        replace(&mut options.namespace, given.namespace);
        options.credentials = given.credentials.map(Into::into);
        replace(&mut options.tls, given.encryption.map(Into::into));
        replace(&mut options.request_timeout, given.request_timeout);
        replace(&mut options.operation_timeout, given.operation_timeout);
        replace(&mut options.startup_timeout, given.startup_timeout);
        replace(&mut options.retry.max_attempts, given.max_attempts);
        options
    }
}

/// Which topics a producer sends to, and how much it sends at once.
#[derive(uniffi::Record)]
pub(crate) struct SendOptions {
    topics: Vec<String>,
    max_in_flight_messages: Option<u64>,
    max_in_flight_bytes: Option<u64>,
}

impl From<SendOptions> for core::ProducerOptions {
    fn from(given: SendOptions) -> Self {
        let mut options = Self::new(given.topics);
        replace(
            &mut options.max_in_flight_messages,
            given.max_in_flight_messages.map(|count| count as usize),
        );
        replace(&mut options.max_in_flight_bytes, given.max_in_flight_bytes.map(|bytes| bytes as usize));
        options
    }
}

/// What a simple consumer receives.
#[derive(uniffi::Record)]
pub(crate) struct ConsumeOptions {
    group: String,
    subscriptions: Vec<TopicFilter>,
    max_body_size: Option<u64>,
}

#[derive(uniffi::Record)]
pub(crate) struct TopicFilter {
    topic: String,
    filter: MessageFilter,
}

impl From<TopicFilter> for core::Subscription {
    fn from(given: TopicFilter) -> Self {
        Self::new(given.topic, given.filter.into())
    }
}

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
        replace(&mut options.decode.max_body_size, given.max_body_size.map(|bytes| bytes as usize));
        options
    }
}

fn replace<T>(default: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *default = given;
    }
}
