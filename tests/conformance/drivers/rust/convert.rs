//! Between JSON and the client's own types.

use std::{
    collections::BTreeMap,
    error::Error as _,
    iter::successors,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rocketmq_thin::{
    ClientOptions, CloseReport, Credentials, Delivery, Error, Filter, Message, OffsetOption, Receipt,
    ReceiveOptions, Startup, Subscription, Tls,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client;

/// The options of `connect`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    endpoints: String,
    namespace: Option<String>,
    credentials: Option<Keys>,
    tls: Option<Value>,
    request_timeout_ms: Option<u64>,
    operation_timeout_ms: Option<u64>,
    startup_timeout_ms: Option<u64>,
    startup: Option<String>,
    credentials_provider: Option<Vec<Value>>,
    pub(crate) interceptor: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    access_key: String,
    secret_key: String,
    session_token: Option<String>,
}

impl From<Keys> for Credentials {
    fn from(keys: Keys) -> Self {
        let mut credentials = Self::new(keys.access_key, keys.secret_key);
        credentials.session_token = keys.session_token;
        credentials
    }
}

impl From<Options> for ClientOptions {
    fn from(given: Options) -> Self {
        let mut options = Self::new(given.endpoints);
        let set = |place: &mut Duration, given: Option<u64>| {
            if let Some(given) = given {
                *place = Duration::from_millis(given);
            }
        };
        set(&mut options.request_timeout, given.request_timeout_ms);
        set(&mut options.operation_timeout, given.operation_timeout_ms);
        set(&mut options.startup_timeout, given.startup_timeout_ms);
        options.namespace = given.namespace.unwrap_or(options.namespace);
        options.credentials = given.credentials.map(Into::into);
        if let Some(list) = given.credentials_provider {
            options = options.credentials_provider(client::provider(list));
        }
        if given.startup.as_deref() == Some("lazy") {
            options.startup = Startup::Lazy;
        }
        match given.tls {
            None => {}
            Some(Value::Object(tls)) => options.tls = client::tls(&tls),
            Some(_) => options.tls = Tls::system_roots(),
        }
        options
    }
}

/// One of a consumer's subscriptions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subscribed {
    topic: String,
    tags: Option<Vec<String>>,
    sql: Option<String>,
}

impl From<Subscribed> for Subscription {
    fn from(given: Subscribed) -> Self {
        let filter = match (given.tags, given.sql) {
            (Some(tags), _) => Filter::Tags(tags),
            (None, Some(sql)) => Filter::Sql(sql),
            (None, None) => Filter::All,
        };
        Self::new(given.topic, filter)
    }
}

/// A message to send.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sent {
    topic: String,
    body: String,
    tag: Option<String>,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    properties: BTreeMap<String, String>,
    message_group: Option<String>,
    deliver_at_ms: Option<u64>,
    delay_ms: Option<u64>,
    priority: Option<i32>,
    lite_topic: Option<String>,
}

impl TryFrom<Sent> for Message {
    type Error = Value;

    fn try_from(given: Sent) -> Result<Self, Value> {
        let body = BASE64_STANDARD.decode(&given.body).map_err(|error| foreign(&error))?;
        let mut message = Self::new(given.topic, body);
        message.tag = given.tag;
        message.keys = given.keys;
        message.properties = given.properties.into_iter().collect();
        message.message_group = given.message_group;
        message.deliver_at = given.deliver_at_ms.map(|time| UNIX_EPOCH + Duration::from_millis(time));
        message.delay = given.delay_ms.map(Duration::from_millis);
        message.priority = given.priority;
        message.lite_topic = given.lite_topic;
        Ok(message)
    }
}

/// The part of a `receive` request that is the client's options.
#[derive(Deserialize)]
pub(crate) struct Wanted {
    max_messages: Option<u32>,
    invisible_ms: Option<u64>,
    await_ms: Option<u64>,
}

impl From<Wanted> for ReceiveOptions {
    fn from(given: Wanted) -> Self {
        let default = Self::default();
        let or = |given: Option<u64>, default| given.map_or(default, Duration::from_millis);
        default
            .max_messages(given.max_messages.unwrap_or(default.max_messages))
            .invisible_duration(or(given.invisible_ms, default.invisible_duration))
            .await_duration(or(given.await_ms, default.await_duration))
    }
}

/// The subscription of a `subscribe` request.
pub(crate) fn subscription(request: Value) -> Result<Subscription, Value> {
    let field = |name: &str| request.get(name).cloned().unwrap_or_default();
    let given = json!({"topic": field("topic"), "tags": field("tags"), "sql": field("sql")});
    let given: Subscribed = serde_json::from_value(given).map_err(|error| foreign(&error))?;
    Ok(given.into())
}

/// The position in the field `from` of a `subscribe_lite` request.
pub(crate) fn offset_option(from: &Value) -> Result<OffsetOption, Value> {
    let number = |field: &str| from[field].as_u64();
    Ok(match (from.as_str(), number("offset"), number("tail"), number("timestamp_ms")) {
        (Some("last"), ..) => OffsetOption::Last,
        (Some("min"), ..) => OffsetOption::Min,
        (Some("max"), ..) => OffsetOption::Max,
        (_, Some(offset), ..) => OffsetOption::Offset(offset),
        (_, _, Some(messages), _) => OffsetOption::Tail(messages),
        (.., Some(time)) => OffsetOption::Timestamp(UNIX_EPOCH + Duration::from_millis(time)),
        _ => return Err(foreign(&format!("from: {from}"))),
    })
}

pub(crate) fn receipt(receipt: &Receipt) -> Value {
    json!({
        "message_id": receipt.message_id,
        "topic": receipt.topic,
        "queue_offset": receipt.queue_offset,
        "transaction_id": receipt.transaction_id,
        "recall_handle": receipt.recall_handle,
    })
}

/// Since the epoch.
fn milliseconds(time: SystemTime) -> Option<u64> {
    u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

pub(crate) fn delivery(name: &str, delivery: &Delivery) -> Value {
    json!({
        "delivery": name,
        "message_id": delivery.message_id,
        "topic": delivery.topic,
        "body": BASE64_STANDARD.encode(&delivery.body),
        "tag": delivery.tag,
        "keys": delivery.keys,
        "properties": delivery.properties.iter().cloned().collect::<BTreeMap<_, _>>(),
        "attempt": delivery.attempt,
        "message_group": delivery.message_group,
        "deliver_at_ms": delivery.deliver_at.and_then(milliseconds),
        "priority": delivery.priority,
        "lite_topic": delivery.lite_topic,
        "dead_letter_origin": delivery.dead_letter_origin.as_ref().map(|origin| {
            json!({"topic": origin.topic, "message_id": origin.message_id})
        }),
        "trace_parent": delivery.trace_parent,
        "corrupted": delivery.corrupted,
    })
}

pub(crate) fn report(report: &CloseReport) -> Value {
    json!({
        "flushed": report.flushed,
        "abandoned": report.abandoned,
        "handled": report.handled,
        "given_back": report.given_back,
        "elapsed_ms": u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX),
    })
}

pub(crate) fn error(error: &Error) -> Value {
    json!({
        "kind": error.kind().name(),
        "code": error.code(),
        "retryable": error.retryable(),
        "maybe_delivered": error.maybe_delivered(),
        "operation": error.operation(),
        "message": error.message(),
        "causes": successors(error.source(), |&cause| cause.source()).map(ToString::to_string).collect::<Vec<_>>(),
        "shown": error.to_string(),
    })
}

/// Results of single messages, in their order.
pub(crate) fn results<T>(results: Vec<Result<T, Error>>, show: impl Fn(T) -> Value) -> Value {
    let result = |result: Result<T, Error>| match result {
        Ok(value) => json!({"ok": show(value)}),
        Err(failed) => json!({"error": error(&failed)}),
    };
    json!({"results": results.into_iter().map(result).collect::<Vec<_>>()})
}

/// Something that is no error of the library.
pub(crate) fn foreign(error: &dyn std::fmt::Display) -> Value {
    json!({"kind": "Foreign", "message": error.to_string()})
}
