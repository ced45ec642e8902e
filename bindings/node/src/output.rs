//! Plain objects for JavaScript, from which the package creates its classes.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use napi::bindgen_prelude::{BufferSlice, Either, Env, Result};
use napi_derive::napi;
use rocketmq_thin_bridge as bridge;

#[napi(object, object_from_js = false)]
pub struct Failure {
    pub kind: &'static str,
    pub code: Option<i32>,
    pub retryable: bool,
    pub maybe_delivered: bool,
    pub operation: &'static str,
    /// The reason, without the operation, kind, code and endpoint.
    pub message: String,
    /// Operation, reason, kind, code and endpoint on one line.
    pub summary: String,
    pub endpoint: Option<String>,
    pub request_id: Option<String>,
    /// The chain of causes, outermost first.
    pub causes: Vec<String>,
}

impl From<bridge::Error> for Failure {
    fn from(error: bridge::Error) -> Self {
        Self {
            kind: error.kind().name(),
            code: error.code(),
            retryable: error.retryable(),
            maybe_delivered: error.maybe_delivered(),
            operation: error.operation(),
            message: error.message().to_owned(),
            summary: error.to_string(),
            endpoint: error.endpoint().map(str::to_owned),
            request_id: error.request_id().map(str::to_owned),
            causes: bridge::causes(&error).collect(),
        }
    }
}

#[napi(object, object_from_js = false)]
pub struct Receipt {
    pub message_id: String,
    pub topic: String,
    pub queue_offset: i64,
    pub transaction_id: String,
    pub recall_handle: Option<String>,
}

impl From<bridge::Receipt> for Receipt {
    fn from(receipt: bridge::Receipt) -> Self {
        Self {
            message_id: receipt.message_id,
            topic: receipt.topic,
            queue_offset: receipt.queue_offset,
            transaction_id: receipt.transaction_id,
            recall_handle: receipt.recall_handle,
        }
    }
}

#[napi(object, object_from_js = false)]
pub struct CloseReport {
    pub flushed: u32,
    pub abandoned: u32,
    pub handled: u32,
    pub given_back: u32,
    pub elapsed_ms: f64,
}

impl From<bridge::CloseReport> for CloseReport {
    fn from(report: bridge::CloseReport) -> Self {
        Self {
            flushed: saturating_u32(report.flushed),
            abandoned: saturating_u32(report.abandoned),
            handled: saturating_u32(report.handled),
            given_back: saturating_u32(report.given_back),
            elapsed_ms: report.elapsed.as_secs_f64() * 1000.0,
        }
    }
}

#[napi(object, object_from_js = false)]
pub struct Delivery<'env> {
    pub message_id: String,
    pub topic: String,
    pub body: BufferSlice<'env>,
    pub tag: Option<String>,
    pub keys: Vec<String>,
    /// Alternating names and values.
    pub properties: Vec<String>,
    pub message_group: Option<String>,
    pub deliver_at: Option<f64>,
    pub priority: Option<i32>,
    pub lite_topic: Option<String>,
    pub dead_letter_origin: Option<DeadLetterOrigin>,
    pub trace_parent: Option<String>,
    pub born_at: Option<f64>,
    pub born_host: String,
    pub stored_at: Option<f64>,
    pub attempt: u32,
    pub corrupted: bool,
    pub queue_id: i32,
    pub queue_offset: i64,
}

impl<'env> Delivery<'env> {
    /// Moves the content out of `delivery`, which keeps its lease. The body is copied into a JavaScript
    /// buffer.
    pub(crate) fn take_from(env: &'env Env, delivery: &mut bridge::Delivery) -> Result<Self> {
        Ok(Self {
            message_id: std::mem::take(&mut delivery.message_id),
            topic: std::mem::take(&mut delivery.topic),
            body: BufferSlice::copy_from(env, std::mem::take(&mut delivery.body))?,
            tag: delivery.tag.take(),
            keys: std::mem::take(&mut delivery.keys),
            properties: flatten(std::mem::take(&mut delivery.properties)),
            message_group: delivery.message_group.take(),
            deliver_at: delivery.deliver_at.map(unix_millis),
            priority: delivery.priority,
            lite_topic: delivery.lite_topic.take(),
            dead_letter_origin: delivery.dead_letter_origin.take().map(Into::into),
            trace_parent: delivery.trace_parent.take(),
            born_at: delivery.born_at.map(unix_millis),
            born_host: std::mem::take(&mut delivery.born_host),
            stored_at: delivery.stored_at.map(unix_millis),
            attempt: delivery.attempt,
            corrupted: delivery.corrupted,
            queue_id: delivery.queue_id,
            queue_offset: delivery.queue_offset,
        })
    }
}

#[napi(object, object_from_js = false)]
pub struct DeadLetterOrigin {
    pub topic: String,
    pub message_id: String,
}

impl From<bridge::DeadLetterOrigin> for DeadLetterOrigin {
    fn from(origin: bridge::DeadLetterOrigin) -> Self {
        Self { topic: origin.topic, message_id: origin.message_id }
    }
}

/// The message of an orphan check.
#[napi(object, object_from_js = false)]
pub struct OrphanedMessage<'env> {
    pub message_id: String,
    pub transaction_id: String,
    pub topic: String,
    pub body: BufferSlice<'env>,
    pub tag: Option<String>,
    pub keys: Vec<String>,
    /// Alternating names and values.
    pub properties: Vec<String>,
}

impl<'env> OrphanedMessage<'env> {
    pub(crate) fn new(
        env: &'env Env,
        message: &bridge::Message,
        message_id: &str,
        transaction_id: &str,
    ) -> Result<Self> {
        Ok(Self {
            message_id: message_id.to_owned(),
            transaction_id: transaction_id.to_owned(),
            topic: message.topic.clone(),
            body: BufferSlice::copy_from(env, &message.body)?,
            tag: message.tag.clone(),
            keys: message.keys.clone(),
            properties: flatten(message.properties.clone()),
        })
    }
}

/// Returns alternating names and values.
fn flatten(properties: Vec<(String, String)>) -> Vec<String> {
    properties.into_iter().flat_map(|(name, value)| [name, value]).collect()
}

#[napi(object, object_from_js = false)]
pub struct Health {
    pub status: &'static str,
    pub error: Option<Failure>,
    pub connections: u32,
    pub endpoints: Vec<EndpointHealth>,
}

#[napi(object, object_from_js = false)]
pub struct EndpointHealth {
    pub endpoint: String,
    pub status: &'static str,
    pub error: Option<Failure>,
    pub connections: u32,
}

impl From<bridge::Health> for Health {
    fn from(health: bridge::Health) -> Self {
        Self {
            status: health.status.name(),
            error: health.error.map(Into::into),
            connections: saturating_u32(health.connections),
            endpoints: health.endpoints.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<bridge::EndpointHealth> for EndpointHealth {
    fn from(health: bridge::EndpointHealth) -> Self {
        Self {
            endpoint: health.endpoint,
            status: health.status.name(),
            error: health.error.map(Into::into),
            connections: saturating_u32(health.connections),
        }
    }
}

#[napi(object, object_from_js = false)]
pub struct Metric {
    pub name: &'static str,
    pub description: &'static str,
    pub unit: &'static str,
    pub points: Vec<MetricPoint>,
}

#[napi(object, object_from_js = false)]
pub struct MetricPoint {
    pub labels: HashMap<&'static str, String>,
    pub value: Either<f64, Histogram>,
}

#[napi(object, object_from_js = false)]
pub struct Histogram {
    pub bounds: Vec<f64>,
    pub counts: Vec<f64>,
    pub sum: f64,
}

impl From<bridge::Metric> for Metric {
    fn from(metric: bridge::Metric) -> Self {
        let bridge::Metric { name, description, unit, points, .. } = metric;
        Self { name, description, unit, points: points.into_iter().map(Into::into).collect() }
    }
}

impl From<bridge::MetricPoint> for MetricPoint {
    fn from(point: bridge::MetricPoint) -> Self {
        let value = match point.value {
            bridge::MetricValue::Counter(count) | bridge::MetricValue::Gauge(count) => {
                Either::A(number(count))
            }
            bridge::MetricValue::Histogram(histogram) => Either::B(Histogram {
                bounds: histogram.bounds.to_vec(),
                counts: histogram.counts.into_iter().map(number).collect(),
                sum: histogram.sum,
            }),
            _ => Either::A(f64::NAN),
        };
        Self { labels: point.labels.into_iter().collect(), value }
    }
}

/// A log record of a client.
#[napi(object, object_from_js = false)]
pub struct LogRecord {
    pub level: &'static str,
    pub message: String,
    pub fields: HashMap<&'static str, String>,
}

impl From<bridge::LogRecord> for LogRecord {
    fn from(record: bridge::LogRecord) -> Self {
        let bridge::LogRecord { level, message, fields } = record;
        Self { level: level.name(), message, fields: fields.into_iter().collect() }
    }
}

/// Converts to a JavaScript number, which is exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "JavaScript's numbers have this precision")]
fn number(count: u64) -> f64 {
    count as f64
}

fn saturating_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Converts to the milliseconds of a JavaScript `Date`.
fn unix_millis(time: SystemTime) -> f64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_secs_f64() * 1000.0,
        Err(before) => before.duration().as_secs_f64() * -1000.0,
    }
}
