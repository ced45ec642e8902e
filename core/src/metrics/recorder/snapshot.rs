//! Takes a snapshot of the counters. The names, units and descriptions of all metrics are here.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use super::{OPERATIONS, Recorder};
use crate::metrics::{Metric, MetricPoint, MetricValue, Metrics, histogram::AtomicHistogram};

/// The name, unit and description of a metric.
type Description = (&'static str, &'static str, &'static str);

const SEND_COST: Description =
    ("rocketmq_send_cost_time", "ms", "time from queueing a message to its result");
const LATENCY: Description = ("rocketmq_delivery_latency", "ms", "time from the server to the client");
const AWAIT: Description = ("rocketmq_await_time", "ms", "time from arrival to the start of the handler");
const PROCESS: Description = ("rocketmq_process_time", "ms", "time that the handler ran");
const CACHED_MESSAGES: Description =
    ("rocketmq_consumer_cached_messages", "{message}", "messages waiting for a handler or in one");
const CACHED_BYTES: Description =
    ("rocketmq_consumer_cached_bytes", "By", "size of the bodies of cached messages");
const RECEIVED: Description = ("rocketmq_client_received_messages", "{message}", "messages received");
const SETTLED_MESSAGES: Description = ("rocketmq_client_settled_messages", "{message}", "deliveries settled");
const ERRORS: Description = ("rocketmq_client_errors", "{operation}", "operations that failed for good");
const RETRIES: Description = ("rocketmq_client_retries", "{request}", "requests that were sent again");
const IN_FLIGHT: Description =
    ("rocketmq_client_in_flight", "{operation}", "operations without a result yet");
const CONNECTIONS: Description = ("rocketmq_client_connections", "{connection}", "open connections");
const CONNECTIONS_OPENED: Description =
    ("rocketmq_client_connections_opened", "{connection}", "connections opened so far");

const STATUS: [&str; 2] = ["success", "failure"];

impl Recorder {
    /// A snapshot for the client with this id. `in_flight` and `connections` are gauges that others count.
    pub(crate) fn snapshot(&self, client_id: &str, in_flight: usize, connections: usize) -> Metrics {
        let opened = self.connections_opened.load(Ordering::Relaxed);
        let mut metrics = vec![self.send_cost_time()];
        metrics.extend(self.consumer_metrics());
        metrics.extend([
            self.errors(),
            self.retries(),
            single(IN_FLIGHT, MetricValue::Gauge(in_flight as u64)),
            single(CONNECTIONS, MetricValue::Gauge(connections as u64)),
            single(CONNECTIONS_OPENED, MetricValue::Counter(opened)),
        ]);
        for point in metrics.iter_mut().flat_map(|metric| &mut metric.points) {
            point.labels.push(("client_id", client_id.to_owned()));
        }
        Metrics { since: self.since, at: SystemTime::now(), metrics }
    }

    fn send_cost_time(&self) -> Metric {
        let mut points = Vec::new();
        for (topic, series) in &*self.sends.read() {
            let labels = [("topic", topic.as_str())];
            extend_by_status(&mut points, &labels, |at| histogram(&series.cost_time[at]));
        }
        metric(SEND_COST, points)
    }

    fn consumer_metrics(&self) -> [Metric; 7] {
        let [mut latency, mut wait, mut process, mut messages, mut bytes, mut received, mut settled] =
            [(); 7].map(|()| Vec::new());
        let consumes = self.consumes.read();
        let all = consumes.iter().flat_map(|(group, topics)| topics.iter().map(move |it| (group, it)));
        for (group, (topic, series)) in all {
            let labels = [("topic", topic.as_str()), ("consumer_group", group.as_str())];
            let add = |points: &mut Vec<_>, value: Option<_>| {
                points.extend(value.map(|value| point(&labels, value)));
            };
            let count =
                |counter: &AtomicU64| Some(counter.load(Ordering::Relaxed)).filter(|count| *count > 0);
            add(&mut latency, histogram(&series.delivery_latency));
            let handled = histogram(&series.await_time);
            if handled.is_some() || count(&series.cached_messages).is_some() {
                add(&mut messages, Some(gauge(&series.cached_messages)));
                add(&mut bytes, Some(gauge(&series.cached_bytes)));
            }
            add(&mut wait, handled);
            extend_by_status(&mut process, &labels, |at| histogram(&series.process_time[at]));
            add(&mut received, count(&series.received).map(MetricValue::Counter));
            for (operation, counts) in OPERATIONS.into_iter().zip(&series.settled) {
                let labels = [labels[0], labels[1], ("operation", operation)];
                extend_by_status(&mut settled, &labels, |at| count(&counts[at]).map(MetricValue::Counter));
            }
        }
        [
            metric(LATENCY, latency),
            metric(AWAIT, wait),
            metric(PROCESS, process),
            metric(CACHED_MESSAGES, messages),
            metric(CACHED_BYTES, bytes),
            metric(RECEIVED, received),
            metric(SETTLED_MESSAGES, settled),
        ]
    }

    fn errors(&self) -> Metric {
        let errors = self.errors.lock();
        let points = errors.iter().map(|((operation, kind), count)| {
            point(&[("operation", operation), ("error_kind", kind)], MetricValue::Counter(*count))
        });
        metric(ERRORS, points.collect())
    }

    fn retries(&self) -> Metric {
        let retries = self.retries.lock();
        let points = retries
            .iter()
            .map(|(operation, count)| point(&[("operation", operation)], MetricValue::Counter(*count)));
        metric(RETRIES, points.collect())
    }
}

fn metric((name, unit, description): Description, points: Vec<MetricPoint>) -> Metric {
    Metric { name, description, unit, points }
}

fn single(description: Description, value: MetricValue) -> Metric {
    metric(description, vec![point(&[], value)])
}

fn point(labels: &[(&'static str, &str)], value: MetricValue) -> MetricPoint {
    MetricPoint { labels: labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(), value }
}

/// Adds a point for each status that has a value.
fn extend_by_status(
    points: &mut Vec<MetricPoint>,
    labels: &[(&'static str, &str)],
    value: impl Fn(usize) -> Option<MetricValue>,
) {
    for (at, status) in STATUS.into_iter().enumerate() {
        if let Some(value) = value(at) {
            let mut point = point(labels, value);
            point.labels.push(("invocation_status", status.to_owned()));
            points.push(point);
        }
    }
}

fn histogram(histogram: &AtomicHistogram) -> Option<MetricValue> {
    histogram.snapshot().map(MetricValue::Histogram)
}

fn gauge(value: &AtomicU64) -> MetricValue {
    MetricValue::Gauge(value.load(Ordering::Relaxed))
}
