//! Checks periodically whether the clusters are available. A proxy that starts before its brokers or loses them reports
//! what is missing, and recovers by itself.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::MissedTickBehavior;

use super::cluster_router::Cluster;
use super::environment::Environment;

const CHECK_INTERVAL: Duration = Duration::from_secs(3);

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
