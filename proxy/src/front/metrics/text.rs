//! Encodes metrics in the two text formats that Prometheus reads.

use std::fmt;

use http::{HeaderMap, header};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::histogram::HistogramCounts;

/// The text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus's text format. The default.
    Prometheus,
    /// OpenMetrics, if the request accepts it.
    OpenMetrics,
}

impl Format {
    /// The format for a request with these headers.
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

    /// Encodes the metrics of a collector.
    pub(super) fn write(self, collector: impl Collector) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(collector));
        let mut text = String::new();
        match self {
            Self::Prometheus => prometheus_text::encode(&mut text, &registry)?,
            Self::OpenMetrics => text::encode(&mut text, &registry)?,
        }
        Ok(text)
    }
}

/// Encodes metrics. A metric without series is encoded with its name and help text alone.
pub(super) struct Metrics<'a>(pub(super) DescriptorEncoder<'a>);

impl Metrics<'_> {
    /// Encodes a counter. The library appends `_total` to its name.
    pub(super) fn counter<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        self.family(Descriptor { name, help, kind: MetricType::Counter }, series, |mut metric, value| {
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    /// Encodes a counter of seconds, without labels.
    pub(super) fn seconds_counter(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.family(
            Descriptor { name, help, kind: MetricType::Counter },
            [(NO_LABELS, value)],
            |mut metric, value| metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
        )
    }

    /// Encodes a gauge.
    pub(super) fn gauge<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.family(Descriptor { name, help, kind: MetricType::Gauge }, series, |mut metric, value| {
            metric.encode_gauge(&value)
        })
    }

    /// Encodes a histogram of durations.
    pub(super) fn histogram<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, HistogramCounts)>,
    ) -> fmt::Result {
        self.family(Descriptor { name, help, kind: MetricType::Histogram }, series, |mut metric, value| {
            let (sum, count) = (value.sum, value.count());
            metric.encode_histogram::<NoLabelSet>(sum, count, &value.buckets, None)
        })
    }

    fn family<L: EncodeLabelSet, V>(
        &mut self,
        descriptor: Descriptor<'_>,
        series: impl IntoIterator<Item = (L, V)>,
        encode: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(descriptor.name, descriptor.help, None, descriptor.kind)?;
        series.into_iter().try_for_each(|(labels, value)| encode(metric.encode_family(&labels)?, value))
    }
}

/// The name, help text and type of a metric.
struct Descriptor<'a> {
    name: &'a str,
    help: &'a str,
    kind: MetricType,
}

/// The labels of a metric with one series.
pub(super) const NO_LABELS: [(&str, &str); 0] = [];
