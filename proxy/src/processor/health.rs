//! Which clusters can be reached: asked again and again, so that a proxy which starts before its brokers, or loses
//! them, says what is missing and serves on by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::Processor;
use super::cluster_router::Cluster;

const ASK_EVERY: Duration = Duration::from_secs(3);

/// Per cluster (the default one has the empty name): what is missing, if anything is. A cluster that was not asked
/// yet does not stand here.
pub type Health = BTreeMap<Arc<str>, Option<String>>;

/// Where what was found out is kept.
pub(super) struct Watch {
    health: watch::Sender<Health>,
}

impl Default for Watch {
    fn default() -> Self {
        Self { health: watch::Sender::new(Health::new()) }
    }
}

impl Processor {
    /// What is known of the clusters, now and whenever it changes.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.watch.health.subscribe()
    }

    pub(super) async fn watch_clusters(&self) {
        // Each cluster by itself: one that does not answer leaves what is known of the others as it was.
        join_all(self.clusters.all().map(|cluster| self.watch_over(cluster))).await;
    }

    async fn watch_over(&self, cluster: &Cluster) {
        let mut ticks = tokio::time::interval(ASK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watching = async {
            loop {
                ticks.tick().await;
                let missing = cluster.services.routes.ready().await.err().map(|error| error.message);
                self.note(&cluster.name, missing);
            }
        };
        let _: Option<()> = self.draining.run_until_cancelled(watching).await;
    }

    fn note(&self, cluster: &Arc<str>, missing: Option<String>) {
        self.watch.health.send_if_modified(|health| {
            let before = health.insert(cluster.clone(), missing.clone());
            let name = if cluster.is_empty() { "default" } else { cluster.as_ref() };
            match (&before, &missing) {
                (Some(Some(_)), None) => tracing::info!(cluster = name, "the cluster can be used again"),
                (None | Some(None), Some(missing)) => {
                    tracing::warn!(cluster = name, missing, "the cluster can't be used; trying again");
                }
                _ => {}
            }
            before.as_ref() != Some(&missing)
        });
    }
}
