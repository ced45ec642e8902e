//! Unloads idle topics and groups, which the next request reads from the disk again. Removes the lite subscriptions of
//! clients that have disappeared.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::blocking::blocking;
use super::catalog::Catalog;

/// The time between two passes. Topics and groups that were not used in between are unloaded.
const UNLOAD_INTERVAL: Duration = Duration::from_secs(30);

/// Runs passes until `stop` is cancelled.
pub(super) async fn run(catalog: Arc<Catalog>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(UNLOAD_INTERVAL)).await.is_some() {
        let catalog = catalog.clone();
        let unloaded = blocking(move || {
            unload(&catalog);
            Ok(())
        });
        if let Err(error) = unloaded.await {
            tracing::error!(%error, "failed to unload idle topics");
        }
    }
}

/// Runs one pass.
pub(super) fn unload(catalog: &Catalog) {
    for topic in catalog.topics() {
        topic.unload_idle();
    }
    catalog.lite.unload_idle();
    catalog.lite.subscriptions().remove_silent(Instant::now());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::embedded::config::EmbeddedConfig;
    use crate::backend::embedded::testing::{deliveries, open, send};
    use crate::service::Administration;

    #[tokio::test]
    async fn idle_topics_are_unloaded_and_reloaded_unchanged() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = EmbeddedConfig {
            data_dir: directory.path().to_owned(),
            default_queues: 1,
            cache_bytes: 0,
            ..EmbeddedConfig::default()
        };
        let broker = open(config).await;
        send(&broker, ["a", "b"]).await;
        assert_eq!(deliveries(&broker, 1).await[0].queue_offset, 0);
        let topic = broker.topic("topic").await.expect("a topic");
        unload(&broker.catalog);
        assert!(topic.peek_loaded().is_some(), "the topic was in use");
        unload(&broker.catalog);
        assert!(topic.peek_loaded().is_none());
        // Statistics don't load it again, as they may be queried all the time.
        let stats = broker.group_stats("group", None).await.expect("statistics");
        let queue = &stats.topics[0].queues[0];
        assert_eq!((queue.lag, queue.in_flight, queue.end), (2, Some(1), 2));
        let group = broker.catalog.group("group").expect("a group").id;
        assert!(topic.peek_loaded().is_none() && topic.peek_consumer(group).is_none());
        // The lease on the first message continues, and so do the offsets of the queue.
        send(&broker, ["c"]).await;
        let mut offsets = Vec::new();
        while offsets.len() < 2 {
            offsets.extend(deliveries(&broker, 32).await.iter().map(|delivery| delivery.queue_offset));
        }
        assert_eq!(offsets, [1, 2]);
    }
}
