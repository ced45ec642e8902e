//! Converts metrics to the messages of OTLP.

use rocketmq_thin_proto::otlp;
use rocketmq_thin_proto::otlp::AggregationTemporality::Cumulative;
use rocketmq_thin_proto::otlp::metric::Data;
use rocketmq_thin_proto::otlp::number_data_point::Value;

use super::values::{scope, text};
use crate::front::metrics::{Labels, MetricFamily, Number, Series};
use crate::histogram::HistogramCounts;

/// The request that exports metrics, with the times at which counting began and now. Metrics without series are left out.
pub(super) fn build(
    families: Vec<MetricFamily>,
    resource: &otlp::Resource,
    times: (u64, u64),
) -> otlp::ExportMetricsServiceRequest {
    let metrics = families.into_iter().filter_map(|family| metric(family, times)).collect();
    let scope_metrics = vec![otlp::ScopeMetrics { scope: Some(scope()), metrics }];
    otlp::ExportMetricsServiceRequest {
        resource_metrics: vec![otlp::ResourceMetrics { resource: Some(resource.clone()), scope_metrics }],
    }
}

fn metric(family: MetricFamily, times: (u64, u64)) -> Option<otlp::Metric> {
    let MetricFamily { name, help, series } = family;
    let aggregation_temporality = Cumulative.into();
    let data = match series {
        Series::Counter(series) => {
            let data_points = numbers(series, times)?;
            Data::Sum(otlp::Sum { data_points, aggregation_temporality, is_monotonic: true })
        }
        Series::Gauge(series) => Data::Gauge(otlp::Gauge { data_points: numbers(series, times)? }),
        Series::Histogram(series) => {
            let data_points: Vec<_> =
                series.into_iter().map(|(labels, counts)| histogram(labels, &counts, times)).collect();
            (!data_points.is_empty())
                .then_some(Data::Histogram(otlp::Histogram { data_points, aggregation_temporality }))?
        }
    };
    Some(otlp::Metric {
        name: name.to_owned(),
        description: help.to_owned(),
        unit: unit(name).to_owned(),
        data: Some(data),
    })
}

/// The unit that the last word of a name means.
fn unit(name: &str) -> &'static str {
    match name.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        _ => "",
    }
}

/// `None` if there are no series.
fn numbers(series: Vec<(Labels, Number)>, (started, now): (u64, u64)) -> Option<Vec<otlp::NumberDataPoint>> {
    let point = |(labels, value)| otlp::NumberDataPoint {
        start_time_unix_nano: started,
        time_unix_nano: now,
        value: Some(match value {
            Number::Integer(value) => Value::AsInt(value),
            Number::Float(value) => Value::AsDouble(value),
        }),
        attributes: attributes(labels),
    };
    (!series.is_empty()).then(|| series.into_iter().map(point).collect())
}

fn histogram(
    labels: Labels,
    counts: &HistogramCounts,
    (started, now): (u64, u64),
) -> otlp::HistogramDataPoint {
    otlp::HistogramDataPoint {
        start_time_unix_nano: started,
        time_unix_nano: now,
        count: counts.count(),
        sum: Some(counts.sum),
        bucket_counts: counts.buckets.iter().map(|(_, count)| *count).collect(),
        explicit_bounds: counts
            .buckets
            .iter()
            .map(|(bound, _)| *bound)
            .filter(|bound| bound.is_finite())
            .collect(),
        attributes: attributes(labels),
    }
}

fn attributes(labels: Labels) -> Vec<otlp::KeyValue> {
    labels.into_iter().map(|(name, value)| text(name, value)).collect()
}
