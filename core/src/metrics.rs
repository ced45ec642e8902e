//! The public types of metrics: a snapshot of what the client has counted.

mod histogram;
mod recorder;

use std::time::SystemTime;

pub(crate) use recorder::{CachedMessage, ConsumeSeries, Recorder, SendSeries};

/// Everything a [`Client`](crate::Client) has counted since it was created.
///
/// Names and labels of the first six metrics are those of Apache's clients. Times are in milliseconds. Every point also
/// has the label `client_id`.
///
/// | metric | kind | labels | meaning |
/// |---|---|---|---|
/// | `rocketmq_send_cost_time` | histogram | `topic`, `invocation_status` | from the moment a message is queued to its result, with retries |
/// | `rocketmq_delivery_latency` | histogram | `topic`, `consumer_group` | from the server's delivery of a message to its arrival, by the clocks of both |
/// | `rocketmq_await_time` | histogram | `topic`, `consumer_group` | from the arrival of a message to the start of its handler (push consumers) |
/// | `rocketmq_process_time` | histogram | `topic`, `consumer_group`, `invocation_status` | how long its handler ran (push consumers) |
/// | `rocketmq_consumer_cached_messages` | gauge | `topic`, `consumer_group` | messages that wait for a handler or run in one (push consumers) |
/// | `rocketmq_consumer_cached_bytes` | gauge | `topic`, `consumer_group` | the size of their bodies |
/// | `rocketmq_client_received_messages` | counter | `topic`, `consumer_group` | messages received |
/// | `rocketmq_client_settled_messages` | counter | `topic`, `consumer_group`, `operation`, `invocation_status` | acks, retries (`nack`), changes of the invisible time, dead letters |
/// | `rocketmq_client_errors` | counter | `operation`, `error_kind` | operations that failed after all retries; for receives, each failed request |
/// | `rocketmq_client_retries` | counter | `operation` | requests that were sent again |
/// | `rocketmq_client_in_flight` | gauge | | sends, acks and changes of the invisible time without a result yet |
/// | `rocketmq_client_connections` | gauge | | open connections |
/// | `rocketmq_client_connections_opened` | counter | | connections opened so far |
///
/// `invocation_status` is `success` or `failure`. Beyond 1,000 topics of producers, or 1,000 pairs of group and topic of
/// consumers, all further ones are counted together under the topic `(other)`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// When counting began.
    pub since: SystemTime,
    /// When this snapshot was taken.
    pub at: SystemTime,
    /// Each metric once, in the order of the table above. A metric without values has no points.
    pub metrics: Vec<Metric>,
}

impl Metrics {
    /// The metric with this name, if there is one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.name == name)
    }
}

/// One metric with a point for each set of labels.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, such as `rocketmq_send_cost_time`.
    pub name: &'static str,
    /// What it measures, in a few words.
    pub description: &'static str,
    /// `ms`, `By` for bytes, or a word in braces for a count of things, such as `{message}`.
    pub unit: &'static str,
    /// Its values.
    pub points: Vec<MetricPoint>,
}

impl Metric {
    /// The sum of all points. For a histogram, the number of recorded values.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.points.iter().map(|point| point.value.total()).sum()
    }

    /// The first point that has all of these labels.
    #[must_use]
    pub fn point(&self, labels: &[(&str, &str)]) -> Option<&MetricPoint> {
        self.points.iter().find(|point| labels.iter().all(|(name, value)| point.label(name) == Some(value)))
    }
}

/// The value of a metric for one set of labels.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MetricPoint {
    /// Names and values, in the order of the table at [`Metrics`]; `client_id` is the last.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: MetricValue,
}

impl MetricPoint {
    /// The value of a label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }
}

/// The value of a point, by the kind of its metric.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MetricValue {
    /// A count that only grows.
    Counter(u64),
    /// The current value.
    Gauge(u64),
    /// A distribution of values.
    Histogram(Histogram),
}

impl MetricValue {
    fn total(&self) -> u64 {
        match self {
            Self::Counter(count) | Self::Gauge(count) => *count,
            Self::Histogram(histogram) => histogram.count(),
        }
    }
}

/// The distribution of values since [`Metrics::since`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Histogram {
    /// The inclusive upper bound of each bucket except the last, ascending.
    pub bounds: &'static [f64],
    /// The number of values in each bucket. Has one element more than `bounds`, for values above all bounds.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: f64,
}

impl Histogram {
    /// The number of recorded values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}
