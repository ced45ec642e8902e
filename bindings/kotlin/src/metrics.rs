//! Metrics of a client, as uniffi records.

use std::collections::HashMap;
use std::time::SystemTime;

use rocketmq_thin_bridge as core;

use crate::outcome::Outcome;
use crate::registry::CLIENTS;

/// All metrics of a client.
#[derive(uniffi::Record)]
pub(crate) struct MetricsReport {
    /// When counting began.
    since: SystemTime,
    /// When the values were read.
    at: SystemTime,
    metrics: Vec<MetricReport>,
}

/// A metric, with a point for each set of labels.
#[derive(uniffi::Record)]
pub(crate) struct MetricReport {
    name: String,
    description: String,
    unit: String,
    points: Vec<PointReport>,
}

/// The value of a metric for one set of labels.
#[derive(uniffi::Record)]
pub(crate) struct PointReport {
    labels: HashMap<String, String>,
    value: ValueReport,
}

/// The value of a point.
#[derive(uniffi::Enum)]
pub(crate) enum ValueReport {
    Counter { count: i64 },
    Gauge { value: i64 },
    Histogram { bounds: Vec<f64>, counts: Vec<i64>, sum: f64 },
}

impl From<core::Metrics> for MetricsReport {
    fn from(metrics: core::Metrics) -> Self {
        Self {
            since: metrics.since,
            at: metrics.at,
            metrics: metrics.metrics.into_iter().filter_map(MetricReport::new).collect(),
        }
    }
}

impl MetricReport {
    fn new(metric: core::Metric) -> Option<Self> {
        let points: Option<Vec<_>> = metric.points.into_iter().map(PointReport::new).collect();
        Some(Self {
            name: metric.name.to_owned(),
            description: metric.description.to_owned(),
            unit: metric.unit.to_owned(),
            points: points?,
        })
    }
}

impl PointReport {
    /// `None` for a kind of value that this binding does not know.
    fn new(point: core::MetricPoint) -> Option<Self> {
        let value = match point.value {
            core::MetricValue::Counter(count) => ValueReport::Counter { count: count.cast_signed() },
            core::MetricValue::Gauge(value) => ValueReport::Gauge { value: value.cast_signed() },
            core::MetricValue::Histogram(histogram) => ValueReport::Histogram {
                bounds: histogram.bounds.to_vec(),
                counts: histogram.counts.into_iter().map(u64::cast_signed).collect(),
                sum: histogram.sum,
            },
            _ => return None,
        };
        let labels = point.labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Some(Self { labels, value })
    }
}

/// Returns all metrics of a client.
#[uniffi::export]
pub(crate) fn client_metrics(client: i64) -> Outcome {
    let metrics = || Some(CLIENTS.get(client)?.metrics());
    Outcome::from_result(metrics(), |metrics| Outcome::Metrics { metrics: metrics.into() })
}
