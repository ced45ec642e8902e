//! Metrics with their values, independent of the format in which they are sent.

use crate::histogram::HistogramCounts;

/// A metric with all its series. A metric without series has only a name and a help text.
#[derive(Clone, Debug)]
pub struct MetricFamily {
    /// The name without the suffix `_total` of counters.
    pub name: &'static str,
    /// The help text.
    pub help: &'static str,
    /// The values.
    pub series: Series,
}

/// The series of a metric, by its type.
#[derive(Clone, Debug)]
pub enum Series {
    /// Numbers that only grow while the process runs.
    Counter(Vec<(Labels, Number)>),
    /// Current values.
    Gauge(Vec<(Labels, Number)>),
    /// Durations in seconds.
    Histogram(Vec<(Labels, HistogramCounts)>),
}

/// The names and values of the labels of a series.
pub type Labels = Vec<(&'static str, String)>;

/// A value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Without fraction.
    Integer(i64),
    /// With a fraction.
    Float(f64),
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::Float(value as f64), Self::Integer)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

/// The labels of a metric with one series.
pub(super) const NO_LABELS: [(&str, &str); 0] = [];

/// Collects metrics.
#[derive(Default)]
pub(super) struct Metrics(pub(super) Vec<MetricFamily>);

impl Metrics {
    /// Adds a counter.
    pub(super) fn counter<'a, const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        series: impl IntoIterator<Item = ([(&'static str, &'a str); N], impl Into<Number>)>,
    ) {
        self.0.push(MetricFamily { name, help, series: Series::Counter(numbers(series)) });
    }

    /// Adds a gauge.
    pub(super) fn gauge<'a, const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        series: impl IntoIterator<Item = ([(&'static str, &'a str); N], impl Into<Number>)>,
    ) {
        self.0.push(MetricFamily { name, help, series: Series::Gauge(numbers(series)) });
    }

    /// Adds a histogram of durations.
    pub(super) fn histogram<'a, const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        series: impl IntoIterator<Item = ([(&'static str, &'a str); N], HistogramCounts)>,
    ) {
        self.0.push(MetricFamily { name, help, series: Series::Histogram(owned(series)) });
    }
}

fn numbers<'a, const N: usize>(
    series: impl IntoIterator<Item = ([(&'static str, &'a str); N], impl Into<Number>)>,
) -> Vec<(Labels, Number)> {
    owned(series.into_iter().map(|(labels, value)| (labels, value.into())))
}

fn owned<'a, const N: usize, V>(
    series: impl IntoIterator<Item = ([(&'static str, &'a str); N], V)>,
) -> Vec<(Labels, V)> {
    let owned = |(name, value): (&'static str, &str)| (name, value.to_owned());
    series.into_iter().map(|(labels, value)| (labels.into_iter().map(owned).collect(), value)).collect()
}
