//! The two text formats, and metrics in them.

use std::fmt;

use http::{HeaderMap, header};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::histogram::HistogramCounts;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// What Prometheus reads, and people.
    Prometheus,
    /// Its successor, for those that ask for it.
    OpenMetrics,
}

impl Format {
    /// The format that a request accepts.
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

    /// Writes what a collector tells.
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

/// Writes metrics. Those without series are named all the same, so that people know what there is.
pub(super) struct Metrics<'a>(pub(super) DescriptorEncoder<'a>);

impl Metrics<'_> {
    /// A metric that only grows. Its name ends with `_total`, which the library adds.
    pub(super) fn counter<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        self.family(About { name, help, kind: MetricType::Counter }, series, |mut metric, value| {
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    /// The same for seconds.
    pub(super) fn counter_of_seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.family(About { name, help, kind: MetricType::Counter }, [(NONE, value)], |mut metric, value| {
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    /// A metric that goes up and down.
    pub(super) fn gauge<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.family(About { name, help, kind: MetricType::Gauge }, series, |mut metric, value| {
            metric.encode_gauge(&value)
        })
    }

    /// Durations by length.
    pub(super) fn histogram<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, HistogramCounts)>,
    ) -> fmt::Result {
        self.family(About { name, help, kind: MetricType::Histogram }, series, |mut metric, value| {
            let (sum, count) = (value.sum, value.count());
            metric.encode_histogram::<NoLabelSet>(sum, count, &value.buckets, None)
        })
    }

    fn family<L: EncodeLabelSet, V>(
        &mut self,
        about: About<'_>,
        series: impl IntoIterator<Item = (L, V)>,
        encode: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(about.name, about.help, None, about.kind)?;
        series.into_iter().try_for_each(|(labels, value)| encode(metric.encode_family(&labels)?, value))
    }
}

/// What a metric is called, and what it means.
struct About<'a> {
    name: &'a str,
    help: &'a str,
    kind: MetricType,
}

/// No labels.
pub(super) const NONE: [(&str, &str); 0] = [];
