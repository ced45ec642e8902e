//! Whether a client reaches its servers, and what it has counted.

use std::collections::HashMap;
use std::time::SystemTime;

use rocketmq_thin_bridge as core;

use crate::completions::submit;
use crate::error::Failure;
use crate::outcome::Outcome;
use crate::registry::{CLIENTS, Registry};

static STATUS_CHANGES: Registry<core::StatusChanges> = Registry::new();

/// The health of a client.
#[derive(uniffi::Record)]
pub(crate) struct HealthReport {
    status: String,
    error: Option<Failure>,
    connections: i32,
    endpoints: Vec<EndpointReport>,
}

/// The health of one address.
#[derive(uniffi::Record)]
pub(crate) struct EndpointReport {
    endpoint: String,
    status: String,
    error: Option<Failure>,
    connections: i32,
}

impl From<core::Health> for HealthReport {
    fn from(health: core::Health) -> Self {
        Self {
            status: health.status.name().to_owned(),
            error: health.error.map(Into::into),
            connections: number(health.connections),
            endpoints: health.endpoints.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<core::EndpointHealth> for EndpointReport {
    fn from(health: core::EndpointHealth) -> Self {
        Self {
            endpoint: health.endpoint,
            status: health.status.name().to_owned(),
            error: health.error.map(Into::into),
            connections: number(health.connections),
        }
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Everything that a client has counted.
#[derive(uniffi::Record)]
pub(crate) struct MetricsReport {
    since: SystemTime,
    at: SystemTime,
    metrics: Vec<MetricReport>,
}

/// One metric.
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
    /// `None` if this crate does not know the kind of the value.
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

/// The present health of a client.
#[uniffi::export]
pub(crate) fn client_health(client: i64) -> Outcome {
    let health = || Some(CLIENTS.get(client)?.health());
    Outcome::answer(health(), |health| Outcome::Health { health: health.into() })
}

/// Everything that a client has counted.
#[uniffi::export]
pub(crate) fn client_metrics(client: i64) -> Outcome {
    let metrics = || Some(CLIENTS.get(client)?.metrics());
    Outcome::answer(metrics(), |metrics| Outcome::Metrics { metrics: metrics.into() })
}

/// The changes of a client's status from now on.
#[uniffi::export]
pub(crate) fn client_status_changes(client: i64) -> Outcome {
    let changes = || Some(CLIENTS.get(client)?.status_changes());
    Outcome::answer(changes(), |changes| {
        Outcome::made(STATUS_CHANGES.insert(changes), |key| STATUS_CHANGES.remove(key))
    })
}

/// Waits for the next change of a client's status.
#[uniffi::export]
pub(crate) fn next_status_change(changes: i64) -> i64 {
    submit(|| Some(STATUS_CHANGES.get(changes)?.next()))
}
