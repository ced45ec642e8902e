//! The health of the clusters: what is missing in each of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// What is missing in each cluster; `None` if the cluster is available. The default cluster has the empty name. Clusters
/// that were not checked yet have no entry.
pub type Health = BTreeMap<Arc<str>, Option<String>>;

/// The current health, with its subscribers.
pub(super) struct ClusterHealth {
    health: watch::Sender<Health>,
}

impl Default for ClusterHealth {
    fn default() -> Self {
        Self { health: watch::Sender::new(Health::new()) }
    }
}

impl ClusterHealth {
    /// The health, and its changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Sets what is missing in a cluster, and logs changes.
    pub(super) fn update(&self, cluster: &Arc<str>, missing: Option<String>) {
        self.health.send_if_modified(|health| {
            let before = health.insert(cluster.clone(), missing.clone());
            let name = if cluster.is_empty() { "default" } else { cluster.as_ref() };
            match (&before, &missing) {
                (Some(Some(_)), None) => tracing::info!(cluster = name, "the cluster is available again"),
                (None | Some(None), Some(missing)) => {
                    tracing::warn!(cluster = name, missing, "the cluster is unavailable; trying again");
                }
                _ => {}
            }
            before.as_ref() != Some(&missing)
        });
    }
}
