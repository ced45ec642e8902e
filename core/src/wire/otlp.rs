//! Builds OTLP export requests, and reads the part of a server's settings that turns the export on.

use std::time::{SystemTime, UNIX_EPOCH};

use rocketmq_thin_proto::{
    otlp::{self, any_value, metric::Data, number_data_point},
    v2,
};

use crate::{
    metrics::{Metric, MetricPoint, MetricValue, Metrics},
    options::{Address, Endpoints},
    rpc::Identity,
};

/// The exported metrics: those that Apache's clients export, too.
const EXPORTED: [&str; 6] = [
    "rocketmq_send_cost_time",
    "rocketmq_delivery_latency",
    "rocketmq_await_time",
    "rocketmq_process_time",
    "rocketmq_consumer_cached_messages",
    "rocketmq_consumer_cached_bytes",
];

/// Returns the collector that the server wants metrics to be sent to; `None` if it wants none.
pub(crate) fn process_metric(settings: &v2::Settings) -> Option<Endpoints> {
    let endpoints = settings.metric.as_ref().filter(|metric| metric.on)?.endpoints.as_ref()?;
    let collector: Endpoints = endpoints
        .addresses
        .iter()
        .filter_map(|address| Some(Address::new(&address.host, u16::try_from(address.port).ok()?)))
        .collect();
    (!collector.addresses().is_empty()).then_some(collector)
}

/// Builds a request with all exported metrics; `None` if they have no values yet.
pub(crate) fn build_export(metrics: &Metrics) -> Option<otlp::ExportMetricsServiceRequest> {
    let exported = metrics
        .metrics
        .iter()
        .filter(|metric| EXPORTED.contains(&metric.name) && !metric.points.is_empty())
        .filter_map(|metric| build_metric(metric, metrics));
    let exported: Vec<_> = exported.collect();
    if exported.is_empty() {
        return None;
    }
    let scope = otlp::InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: Identity::VERSION.to_owned(),
    };
    let scope_metrics = vec![otlp::ScopeMetrics { scope: Some(scope), metrics: exported }];
    Some(otlp::ExportMetricsServiceRequest {
        resource_metrics: vec![otlp::ResourceMetrics { resource: None, scope_metrics }],
    })
}

/// The time in which values were counted, in ns since 1970.
#[derive(Clone, Copy)]
struct Period {
    since: u64,
    at: u64,
}

fn build_metric(metric: &Metric, metrics: &Metrics) -> Option<otlp::Metric> {
    let period = Period { since: nanos(metrics.since), at: nanos(metrics.at) };
    let data = match metric.points.first()?.value {
        MetricValue::Histogram(_) => Data::Histogram(otlp::Histogram {
            data_points: metric.points.iter().filter_map(|point| histogram(point, period)).collect(),
            aggregation_temporality: otlp::AggregationTemporality::Cumulative.into(),
        }),
        MetricValue::Gauge(_) => Data::Gauge(otlp::Gauge {
            data_points: metric.points.iter().filter_map(|point| gauge(point, period)).collect(),
        }),
        MetricValue::Counter(_) => return None,
    };
    let Metric { name, description, unit, .. } = *metric;
    Some(otlp::Metric {
        name: name.to_owned(),
        description: description.to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
    })
}

fn histogram(point: &MetricPoint, Period { since, at }: Period) -> Option<otlp::HistogramDataPoint> {
    let MetricValue::Histogram(histogram) = &point.value else { return None };
    Some(otlp::HistogramDataPoint {
        start_time_unix_nano: since,
        time_unix_nano: at,
        count: histogram.count(),
        sum: Some(histogram.sum),
        bucket_counts: histogram.counts.clone(),
        explicit_bounds: histogram.bounds.to_vec(),
        attributes: attributes(point),
    })
}

fn gauge(point: &MetricPoint, Period { since, at }: Period) -> Option<otlp::NumberDataPoint> {
    let MetricValue::Gauge(value) = point.value else { return None };
    Some(otlp::NumberDataPoint {
        start_time_unix_nano: since,
        time_unix_nano: at,
        value: Some(number_data_point::Value::AsInt(i64::try_from(value).unwrap_or(i64::MAX))),
        attributes: attributes(point),
    })
}

fn attributes(point: &MetricPoint) -> Vec<otlp::KeyValue> {
    let attribute = |(name, value): &(&'static str, String)| otlp::KeyValue {
        key: (*name).to_owned(),
        value: Some(otlp::AnyValue { value: Some(any_value::Value::StringValue(value.clone())) }),
    };
    point.labels.iter().map(attribute).collect()
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::metrics::{CachedMessage, Recorder};

    fn settings(on: bool, addresses: &[(&str, i32)]) -> v2::Settings {
        let addresses =
            addresses.iter().map(|(host, port)| v2::Address { host: (*host).into(), port: *port });
        let endpoints = v2::Endpoints { addresses: addresses.collect(), ..Default::default() };
        let metric = v2::Metric { on, endpoints: Some(endpoints) };
        v2::Settings { metric: Some(metric), ..Default::default() }
    }

    #[test]
    fn a_server_asks_for_metrics_only_with_an_address() {
        let collector = |settings| process_metric(&settings).map(|it| it.to_string());
        assert_eq!(collector(settings(true, &[("h", 4317)])).as_deref(), Some("h:4317"));
        assert_eq!(collector(settings(false, &[("h", 4317)])), None);
        assert_eq!(collector(settings(true, &[("h", -1)])), None);
        assert_eq!(collector(settings(true, &[])), None);
        assert_eq!(collector(v2::Settings::default()), None);
        let unnamed = v2::Metric { on: true, endpoints: None };
        assert_eq!(collector(v2::Settings { metric: Some(unnamed), ..Default::default() }), None);
    }

    #[test]
    fn metrics_without_values_are_not_exported() {
        let recorder = Recorder::default();
        recorder.count_retry("send");
        assert_eq!(build_export(&recorder.snapshot("me", 3, 1)), None);
        let mut cached = CachedMessage::new(recorder.consumes("g", "t"), 7);
        cached.handler_ended(Instant::now(), true);
        let request = build_export(&recorder.snapshot("me", 3, 1)).unwrap();
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        let names: Vec<_> = metrics.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(
            names,
            ["rocketmq_process_time", "rocketmq_consumer_cached_messages", "rocketmq_consumer_cached_bytes"]
        );
    }
}
