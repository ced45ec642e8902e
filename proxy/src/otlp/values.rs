//! Small messages of OTLP.

use std::time::{SystemTime, UNIX_EPOCH};

use rocketmq_thin_proto::otlp;
use rocketmq_thin_proto::otlp::any_value::Value;

/// An attribute with a text.
pub(super) fn text(name: &str, value: impl Into<String>) -> otlp::KeyValue {
    attribute(name, Value::StringValue(value.into()))
}

/// An attribute.
pub(super) fn attribute(name: &str, value: Value) -> otlp::KeyValue {
    otlp::KeyValue { key: name.to_owned(), value: Some(otlp::AnyValue { value: Some(value) }) }
}

/// This library.
pub(super) fn scope() -> otlp::InstrumentationScope {
    otlp::InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Nanoseconds since the epoch.
pub(super) fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
