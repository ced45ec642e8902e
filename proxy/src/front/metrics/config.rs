use serde::{Deserialize, Serialize};

/// Metrics for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// The address on which `GET /metrics` is served, `host:port`. Without it, nothing is counted and nothing is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// How many topics have series of their own, and how many pairs of group and topic. All others together are one
    /// series, whose labels are `(other)`.
    pub max_series: usize,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { listen: None, max_series: 200 }
    }
}
