//! The `[metrics]` section of the configuration.

use serde::{Deserialize, Serialize};

/// Metrics for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// The address on which `GET /metrics` is served, `host:port`. Without it, the proxy serves no metrics and counts
    /// nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// How many topics have series of their own, and how many pairs of group and topic. All others are summed up in one
    /// series with the labels `(other)`.
    pub max_series: usize,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { listen: None, max_series: 200 }
    }
}
