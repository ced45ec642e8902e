//! Encodes metrics in the two text formats that Prometheus reads.

use std::fmt;

use http::{HeaderMap, header};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::family::{MetricFamily, Number, Series};

/// The text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus's text format. Used unless the request accepts OpenMetrics.
    Prometheus,
    /// The OpenMetrics text format.
    OpenMetrics,
}

impl Format {
    /// Chooses the format by the Accept header.
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
        let mut types = accepted.flat_map(|value| value.split(','));
        let open = types.any(|kind| kind.trim_start().starts_with("application/openmetrics-text"));
        if open { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// # Errors
    /// The encoder's error. No cause is known.
    pub(super) fn write(self, families: Vec<MetricFamily>) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Families(families)));
        let mut text = String::new();
        match self {
            Self::Prometheus => prometheus_text::encode(&mut text, &registry)?,
            Self::OpenMetrics => text::encode(&mut text, &registry)?,
        }
        Ok(text)
    }
}

#[derive(Debug)]
struct Families(Vec<MetricFamily>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|family| encode(&mut encoder, family))
    }
}

/// Encodes a metric. The library appends `_total` to the names of counters.
fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    MetricFamily { name, help, series }: &MetricFamily,
) -> fmt::Result {
    let kind = match series {
        Series::Counter(_) => MetricType::Counter,
        Series::Gauge(_) => MetricType::Gauge,
        Series::Histogram(_) => MetricType::Histogram,
    };
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    match series {
        Series::Counter(series) => series.iter().try_for_each(|(labels, value)| {
            let mut series = metric.encode_family(labels)?;
            match *value {
                Number::Integer(value) => {
                    series.encode_counter::<NoLabelSet, _, u64>(&value.unsigned_abs(), None)
                }
                Number::Float(value) => series.encode_counter::<NoLabelSet, _, u64>(&value, None),
            }
        }),
        Series::Gauge(series) => series.iter().try_for_each(|(labels, value)| {
            let mut series = metric.encode_family(labels)?;
            match value {
                Number::Integer(value) => series.encode_gauge(value),
                Number::Float(value) => series.encode_gauge(value),
            }
        }),
        Series::Histogram(series) => series.iter().try_for_each(|(labels, value)| {
            let mut series = metric.encode_family(labels)?;
            series.encode_histogram::<NoLabelSet>(value.sum, value.count(), &value.buckets, None)
        }),
    }
}
