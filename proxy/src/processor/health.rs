//! Checks periodically whether the clusters are available. A proxy that starts before its brokers or loses them reports
//! what is missing, and recovers by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::cluster_router::Cluster;
use super::environment::Environment;

const CHECK_INTERVAL: Duration = Duration::from_secs(3);

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
    pub(super) fn subscribe(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    fn update(&self, cluster: &Arc<str>, missing: Option<String>) {
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

/// Checks all clusters until the proxy drains.
pub(super) async fn watch_clusters(environment: &Environment) {
    // The checks are independent of each other, so that a cluster that does not answer does not delay the others.
    join_all(environment.clusters.all().map(|cluster| watch_cluster(environment, cluster))).await;
}

async fn watch_cluster(environment: &Environment, cluster: &Cluster) {
    let mut ticks = tokio::time::interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watching = async {
        loop {
            ticks.tick().await;
            let missing = cluster.services.routes.ready().await.err().map(|error| error.message);
            environment.health.update(&cluster.name, missing);
        }
    };
    let _: Option<()> = environment.draining.run_until_cancelled(watching).await;
}
