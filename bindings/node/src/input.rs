//! Plain objects from JavaScript. A field that is left out has the core's default.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use napi::bindgen_prelude::{Either, Error, Result, Status, Uint8Array, Uint8ArraySlice};
use napi_derive::napi;
use rocketmq_thin_bridge as bridge;

#[napi(object, object_to_js = false)]
pub struct ClientOptions {
    pub endpoints: Vec<String>,
    pub namespace: Option<String>,
    pub credentials: Option<Credentials>,
    pub tls: Option<Either<bool, CertificateAuthorities>>,
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
}

#[napi(object, object_to_js = false)]
pub struct CertificateAuthorities {
    pub ca: Either<Uint8Array, String>,
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
    pub max_in_flight_bytes: Option<u32>,
}

#[napi(object, object_to_js = false)]
pub struct SimpleConsumerOptions {
    pub group: String,
    pub subscriptions: Vec<Either<String, Subscription>>,
    pub max_body_size: Option<u32>,
}

#[napi(object, object_to_js = false)]
pub struct Subscription {
    pub topic: String,
    pub tags: Option<Vec<String>>,
    pub sql: Option<String>,
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
}

/// The content of a delivery that is put back.
#[napi(object, object_to_js = false)]
pub struct Content {
    pub body: Uint8Array,
    pub tag: Option<String>,
    pub keys: Vec<String>,
    /// Alternating names and values.
    pub properties: Vec<String>,
    pub message_group: Option<String>,
    pub born_host: String,
}

impl Content {
    /// The delivery with its content.
    pub(crate) fn restore(self, mut delivery: bridge::Delivery) -> bridge::Delivery {
        delivery.body = Bytes::copy_from_slice(&self.body);
        delivery.tag = self.tag;
        delivery.keys = self.keys;
        let pairs = self.properties.chunks_exact(2);
        delivery.properties = pairs.map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        delivery.message_group = self.message_group;
        delivery.born_host = self.born_host;
        delivery
    }
}

/// A duration from JavaScript's milliseconds.
pub(crate) fn millis(millis: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(millis / 1000.0)
        .map_err(|error| Error::new(Status::InvalidArg, format!("{millis} ms: {error}")))
}

fn millis_or(given: Option<f64>, default: Duration) -> Result<Duration> {
    given.map_or(Ok(default), millis)
}

pub(crate) fn close_deadline(deadline_ms: Option<f64>) -> Result<Duration> {
    millis_or(deadline_ms, bridge::CLOSE_DEADLINE)
}

impl TryFrom<ClientOptions> for bridge::ClientOptions {
    type Error = Error;

    fn try_from(options: ClientOptions) -> Result<Self> {
        let mut client = Self::new(options.endpoints.join(",")).language(bridge::Language::NodeJs);
        client.namespace = options.namespace.unwrap_or(client.namespace);
        client.credentials = options.credentials.map(Into::into);
        client.tls = match options.tls {
            None => client.tls,
            Some(Either::A(false)) => bridge::Tls::off(),
            Some(Either::A(true)) => bridge::Tls::system_roots(),
            Some(Either::B(CertificateAuthorities { ca })) => bridge::Tls::ca(match ca {
                Either::A(bytes) => bytes.to_vec(),
                Either::B(text) => text.into_bytes(),
            }),
        };
        client.request_timeout = millis_or(options.request_timeout_ms, client.request_timeout)?;
        client.operation_timeout = millis_or(options.operation_timeout_ms, client.operation_timeout)?;
        client.startup_timeout = millis_or(options.startup_timeout_ms, client.startup_timeout)?;
        client.retry = options.retry.map_or(Ok(client.retry), TryInto::try_into)?;
        Ok(client)
    }
}

impl From<Credentials> for bridge::Credentials {
    fn from(Credentials { access_key, secret_key, session_token }: Credentials) -> Self {
        let mut credentials = Self::new(access_key, secret_key);
        credentials.session_token = session_token;
        credentials
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
        producer
    }
}

impl TryFrom<SimpleConsumerOptions> for bridge::SimpleConsumerOptions {
    type Error = Error;

    fn try_from(options: SimpleConsumerOptions) -> Result<Self> {
        let subscriptions =
            options.subscriptions.into_iter().map(subscription).collect::<Result<Vec<_>>>()?;
        let mut consumer = Self::new(options.group, subscriptions);
        if let Some(size) = options.max_body_size {
            consumer.decode.max_body_size = size as usize;
        }
        Ok(consumer)
    }
}

fn subscription(given: Either<String, Subscription>) -> Result<bridge::Subscription> {
    let Subscription { topic, tags, sql } = match given {
        Either::A(topic) => return Ok(topic.into()),
        Either::B(subscription) => subscription,
    };
    let filter = match (tags, sql) {
        (None, None) => bridge::Filter::All,
        (Some(tags), None) => bridge::Filter::Tags(tags),
        (None, Some(sql)) => bridge::Filter::Sql(sql),
        (Some(_), Some(_)) => {
            return Err(Error::new(Status::InvalidArg, format!("{topic}: both tags and sql are given")));
        }
    };
    Ok(bridge::Subscription::new(topic, filter))
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

impl From<Message<'_>> for bridge::Message {
    fn from(message: Message<'_>) -> Self {
        let body = match message.body {
            // Copied, because JavaScript may reuse its buffer as soon as the call returns.
            Either::A(bytes) => Bytes::copy_from_slice(&bytes),
            Either::B(text) => text.into(),
        };
        let mut sent = Self::new(message.topic, body);
        sent.tag = message.tag;
        sent.keys = message.keys.unwrap_or_default();
        sent.properties = message.properties.unwrap_or_default().into_iter().collect();
        sent
    }
}
