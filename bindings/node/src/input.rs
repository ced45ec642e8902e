//! Plain objects from JavaScript, and their conversion to the core's values. Fields that are not set have the
//! core's defaults.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use napi::bindgen_prelude::{Either, Error, Result, Status, Uint8Array, Uint8ArraySlice};
use napi_derive::napi;
use rocketmq_thin_bridge as bridge;

#[napi(object, object_to_js = false)]
pub struct ClientOptions {
    pub endpoints: Vec<String>,
    pub namespace: Option<String>,
    pub credentials: Option<Credentials>,
    pub tls: Option<Either<bool, Tls>>,
    pub startup: Option<String>,
    pub request_timeout_ms: Option<f64>,
    pub operation_timeout_ms: Option<f64>,
    pub startup_timeout_ms: Option<f64>,
    pub retry: Option<RetryOptions>,
}

#[napi(object, object_to_js = false)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: String,
    pub session_token: Option<String>,
    /// Milliseconds since 1970.
    pub expires_at: Option<f64>,
}

/// A text in PEM format.
type Pem = Either<Uint8Array, String>;

fn pem_bytes(pem: Pem) -> Vec<u8> {
    match pem {
        Either::A(bytes) => bytes.to_vec(),
        Either::B(text) => text.into_bytes(),
    }
}

#[napi(object, object_to_js = false)]
pub struct Tls {
    pub ca: Option<Pem>,
    pub cert: Option<Pem>,
    pub key: Option<Pem>,
    pub server_name: Option<String>,
    pub dangerously_skip_verification: Option<bool>,
}

#[napi(object, object_to_js = false)]
pub struct RetryOptions {
    pub max_attempts: Option<u32>,
    pub initial_ms: Option<f64>,
    pub max_ms: Option<f64>,
}

#[napi(object, object_to_js = false)]
pub struct ProducerOptions {
    pub topics: Option<Vec<String>>,
    pub max_in_flight_messages: Option<u32>,
    pub max_in_flight_bytes: Option<f64>,
    pub compress_above: Option<f64>,
}

#[napi(object, object_to_js = false)]
pub struct SimpleConsumerOptions {
    pub group: String,
    pub subscriptions: Option<Vec<Either<String, Subscription>>>,
    pub lite: Option<String>,
    pub max_body_size: Option<f64>,
}

#[napi(object, object_to_js = false)]
pub struct PushConsumerOptions {
    pub group: String,
    pub subscriptions: Option<Vec<Either<String, Subscription>>>,
    pub lite: Option<String>,
    pub concurrency: Option<u32>,
    pub max_cached_messages: Option<u32>,
    pub max_cached_bytes: Option<f64>,
    pub invisible_ms: Option<f64>,
    pub max_rate: Option<f64>,
    pub max_body_size: Option<f64>,
}

#[napi(object, object_to_js = false)]
pub struct StreamOptions {
    pub max_messages: Option<u32>,
    pub max_bytes: Option<f64>,
    pub invisible_ms: Option<f64>,
}

#[napi(object)]
pub struct Subscription {
    pub topic: String,
    pub tags: Option<Vec<String>>,
    pub sql: Option<String>,
}

/// Where a group starts in a lite topic. Has one field.
#[napi(object, object_to_js = false)]
pub struct OffsetOption {
    pub policy: Option<String>,
    pub offset: Option<f64>,
    pub tail: Option<f64>,
    /// Milliseconds since 1970.
    pub timestamp: Option<f64>,
}

#[napi(object, object_to_js = false)]
pub struct ReceiveOptions {
    pub max_messages: Option<u32>,
    pub invisible_ms: Option<f64>,
    pub await_ms: Option<f64>,
}

#[napi(object, object_to_js = false)]
pub struct Message<'env> {
    pub topic: String,
    pub body: Either<Uint8ArraySlice<'env>, String>,
    pub tag: Option<String>,
    pub keys: Option<Vec<String>>,
    pub properties: Option<BTreeMap<String, String>>,
    pub message_group: Option<String>,
    /// Milliseconds since 1970.
    pub deliver_at: Option<f64>,
    pub delay_ms: Option<f64>,
    pub priority: Option<i32>,
    pub lite_topic: Option<String>,
}

/// Converts milliseconds to a duration.
pub(crate) fn millis(millis: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(millis / 1000.0).map_err(|error| {
        Error::new(Status::InvalidArg, format!("{millis} ms is not a valid duration: {error}"))
    })
}

/// Converts the milliseconds of a JavaScript `Date`, which are whole numbers, to a point in time.
fn time(millis: f64) -> Result<SystemTime> {
    // Converted through an integer, because seconds as a floating-point number would lose precision.
    let since_1970 = (0.0..=8.64e15).contains(&millis).then(|| Duration::from_millis(millis as u64));
    since_1970.and_then(|since_1970| UNIX_EPOCH.checked_add(since_1970)).ok_or_else(|| {
        Error::new(
            Status::InvalidArg,
            format!("{millis} is not a point in time of 1970 or later, in milliseconds since 1970"),
        )
    })
}

fn millis_or(value: Option<f64>, default: Duration) -> Result<Duration> {
    value.map_or(Ok(default), millis)
}

pub(crate) fn close_deadline(deadline_ms: Option<f64>) -> Result<Duration> {
    millis_or(deadline_ms, bridge::CLOSE_DEADLINE)
}

impl TryFrom<ClientOptions> for bridge::ClientOptions {
    type Error = Error;

    fn try_from(options: ClientOptions) -> Result<Self> {
        let mut client = Self::new(options.endpoints.join(",")).language(bridge::Language::NodeJs);
        client.namespace = options.namespace.unwrap_or(client.namespace);
        client.credentials = options.credentials.map(TryInto::try_into).transpose()?;
        client.tls = match options.tls {
            None => client.tls,
            Some(Either::A(false)) => bridge::Tls::off(),
            Some(Either::A(true)) => bridge::Tls::system_roots(),
            Some(Either::B(tls)) => tls.into(),
        };
        client.startup = match options.startup.as_deref() {
            None => client.startup,
            Some("eager") => bridge::Startup::Eager,
            Some("wait") => bridge::Startup::Wait,
            Some("lazy") => bridge::Startup::Lazy,
            Some(other) => {
                let message = format!("startup must be eager, wait or lazy, not {other:?}");
                return Err(Error::new(Status::InvalidArg, message));
            }
        };
        client.request_timeout = millis_or(options.request_timeout_ms, client.request_timeout)?;
        client.operation_timeout = millis_or(options.operation_timeout_ms, client.operation_timeout)?;
        client.startup_timeout = millis_or(options.startup_timeout_ms, client.startup_timeout)?;
        client.retry = options.retry.map_or(Ok(client.retry), TryInto::try_into)?;
        Ok(client)
    }
}

impl TryFrom<Credentials> for bridge::Credentials {
    type Error = Error;

    fn try_from(given: Credentials) -> Result<Self> {
        let mut credentials = Self::new(given.access_key, given.secret_key);
        credentials.session_token = given.session_token;
        credentials.expires_at = given.expires_at.map(time).transpose()?;
        Ok(credentials)
    }
}

impl From<Tls> for bridge::Tls {
    fn from(given: Tls) -> Self {
        let mut tls = given.ca.map_or_else(Self::system_roots, |ca| Self::ca(pem_bytes(ca)));
        if given.cert.is_some() || given.key.is_some() {
            let pem = |pem: Option<Pem>| pem.map(pem_bytes).unwrap_or_default();
            tls = tls.client_certificate(pem(given.cert), pem(given.key));
        }
        if let Some(name) = given.server_name {
            tls = tls.server_name(name);
        }
        if given.dangerously_skip_verification == Some(true) {
            tls = tls.dangerously_skip_verification();
        }
        tls
    }
}

impl TryFrom<RetryOptions> for bridge::RetryOptions {
    type Error = Error;

    fn try_from(options: RetryOptions) -> Result<Self> {
        let default = Self::default();
        Ok(default
            .max_attempts(options.max_attempts.unwrap_or(default.max_attempts))
            .initial(millis_or(options.initial_ms, default.initial)?)
            .max(millis_or(options.max_ms, default.max)?))
    }
}

impl From<ProducerOptions> for bridge::ProducerOptions {
    fn from(options: ProducerOptions) -> Self {
        let mut producer = Self::default();
        if let Some(topics) = options.topics {
            producer.topics = topics;
        }
        if let Some(messages) = options.max_in_flight_messages {
            producer.max_in_flight_messages = messages as usize;
        }
        if let Some(bytes) = options.max_in_flight_bytes {
            producer.max_in_flight_bytes = bytes as usize;
        }
        producer.compress_above = options.compress_above.map(|bytes| bytes as usize);
        producer
    }
}

impl TryFrom<SimpleConsumerOptions> for bridge::SimpleConsumerOptions {
    type Error = Error;

    fn try_from(options: SimpleConsumerOptions) -> Result<Self> {
        let mut consumer = match options.lite {
            Some(topic) => Self::lite(options.group, topic),
            None => Self::new(options.group, subscriptions(options.subscriptions)?),
        };
        if let Some(size) = options.max_body_size {
            consumer.decode.max_body_size = size as usize;
        }
        Ok(consumer)
    }
}

impl TryFrom<PushConsumerOptions> for bridge::PushConsumerOptions {
    type Error = Error;

    fn try_from(options: PushConsumerOptions) -> Result<Self> {
        let mut consumer = match options.lite {
            Some(topic) => Self::lite(options.group, topic),
            None => Self::new(options.group, subscriptions(options.subscriptions)?),
        };
        if let Some(messages) = options.concurrency {
            consumer.concurrency = messages as usize;
        }
        if let Some(messages) = options.max_cached_messages {
            consumer.max_cached_messages = messages as usize;
        }
        if let Some(bytes) = options.max_cached_bytes {
            consumer.max_cached_bytes = bytes as usize;
        }
        consumer.invisible_duration = millis_or(options.invisible_ms, consumer.invisible_duration)?;
        consumer.max_rate = options.max_rate;
        if let Some(size) = options.max_body_size {
            consumer.decode.max_body_size = size as usize;
        }
        Ok(consumer)
    }
}

impl TryFrom<StreamOptions> for bridge::StreamOptions {
    type Error = Error;

    fn try_from(options: StreamOptions) -> Result<Self> {
        let mut stream = Self::default();
        if let Some(messages) = options.max_messages {
            stream.max_messages = messages as usize;
        }
        if let Some(bytes) = options.max_bytes {
            stream.max_bytes = bytes as usize;
        }
        stream.invisible_duration = millis_or(options.invisible_ms, stream.invisible_duration)?;
        Ok(stream)
    }
}

impl TryFrom<OffsetOption> for bridge::OffsetOption {
    type Error = Error;

    fn try_from(given: OffsetOption) -> Result<Self> {
        let OffsetOption { policy, offset, tail, timestamp } = given;
        match (policy.as_deref(), offset, tail, timestamp) {
            (Some("last"), None, None, None) => Ok(Self::Last),
            (Some("min"), None, None, None) => Ok(Self::Min),
            (Some("max"), None, None, None) => Ok(Self::Max),
            (None, Some(offset), None, None) => Ok(Self::Offset(offset as u64)),
            (None, None, Some(tail), None) => Ok(Self::Tail(tail as u64)),
            (None, None, None, Some(timestamp)) => Ok(Self::Timestamp(time(timestamp)?)),
            _ => Err(Error::new(Status::InvalidArg, "there is no such offset option")),
        }
    }
}

fn subscriptions(given: Option<Vec<Either<String, Subscription>>>) -> Result<Vec<bridge::Subscription>> {
    given.unwrap_or_default().into_iter().map(subscription).collect()
}

pub(crate) fn subscription(given: Either<String, Subscription>) -> Result<bridge::Subscription> {
    let Subscription { topic, tags, sql } = match given {
        Either::A(topic) => return Ok(topic.into()),
        Either::B(subscription) => subscription,
    };
    let filter = match (tags, sql) {
        (None, None) => bridge::Filter::All,
        (Some(tags), None) => bridge::Filter::Tags(tags),
        (None, Some(sql)) => bridge::Filter::Sql(sql),
        (Some(_), Some(_)) => {
            return Err(Error::new(
                Status::InvalidArg,
                format!("the subscription of {topic} has both tags and sql"),
            ));
        }
    };
    Ok(bridge::Subscription::new(topic, filter))
}

impl Subscription {
    /// Converts a subscription for JavaScript; `None` if its filter is of a kind that this crate does not know.
    pub(crate) fn new(subscription: bridge::Subscription) -> Option<Self> {
        let bridge::Subscription { topic, filter, .. } = subscription;
        let (tags, sql) = match filter {
            bridge::Filter::All => (None, None),
            bridge::Filter::Tags(tags) => (Some(tags), None),
            bridge::Filter::Sql(sql) => (None, Some(sql)),
            _ => return None,
        };
        Some(Self { topic, tags, sql })
    }
}

impl TryFrom<ReceiveOptions> for bridge::ReceiveOptions {
    type Error = Error;

    fn try_from(options: ReceiveOptions) -> Result<Self> {
        let default = Self::default();
        Ok(default
            .max_messages(options.max_messages.unwrap_or(default.max_messages))
            .invisible_duration(millis_or(options.invisible_ms, default.invisible_duration)?)
            .await_duration(millis_or(options.await_ms, default.await_duration)?))
    }
}

impl TryFrom<Message<'_>> for bridge::Message {
    type Error = Error;

    fn try_from(message: Message<'_>) -> Result<Self> {
        let body = match message.body {
            // Copied, because JavaScript may reuse its buffer as soon as the call returns.
            Either::A(bytes) => Bytes::copy_from_slice(&bytes),
            Either::B(text) => text.into(),
        };
        let mut sent = Self::new(message.topic, body);
        sent.tag = message.tag;
        sent.keys = message.keys.unwrap_or_default();
        sent.properties = message.properties.unwrap_or_default().into_iter().collect();
        sent.message_group = message.message_group;
        sent.deliver_at = message.deliver_at.map(time).transpose()?;
        sent.delay = message.delay_ms.map(millis).transpose()?;
        sent.priority = message.priority;
        sent.lite_topic = message.lite_topic;
        Ok(sent)
    }
}

/// Converts the name of a decision about a transaction.
pub(crate) fn decision(name: &str) -> Result<bridge::Decision> {
    match name {
        "commit" => Ok(bridge::Decision::Commit),
        "rollback" => Ok(bridge::Decision::Rollback),
        "unknown" => Ok(bridge::Decision::Unknown),
        _ => Err(Error::new(
            Status::InvalidArg,
            format!("the decision must be commit, rollback or unknown, not {name:?}"),
        )),
    }
}

/// Converts the name of a handler's result. `after_ms` is the delay of a retry; `None` leaves it to the
/// group's policy.
pub(crate) fn consume_result(name: &str, after_ms: Option<f64>) -> Result<bridge::ConsumeResult> {
    match (name, after_ms) {
        ("ack", _) => Ok(bridge::ConsumeResult::Ack),
        ("retry", None) => Ok(bridge::ConsumeResult::Retry),
        ("retry", Some(after)) => Ok(bridge::ConsumeResult::RetryAfter(millis(after)?)),
        ("deadLetter", _) => Ok(bridge::ConsumeResult::DeadLetter),
        _ => {
            let message = format!("the result must be ack, retry or deadLetter, not {name:?}");
            Err(Error::new(Status::InvalidArg, message))
        }
    }
}
