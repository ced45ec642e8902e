//! Unloads topics and groups that nobody uses: the next request reads them from the disk again. Forgets the lite
//! subscriptions of clients that are gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::blocking::blocking;
use super::catalog::Catalog;

/// What was not used between two passes is unloaded.
const PAUSE: Duration = Duration::from_secs(30);

/// Makes one pass after the other until it is told to stop.
pub(super) async fn run(catalog: Arc<Catalog>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
        let catalog = catalog.clone();
        let unloaded = blocking(move || {
            unload(&catalog);
            Ok(())
        });
        if let Err(error) = unloaded.await {
            tracing::error!(%error, "idle topics can't be unloaded");
        }
    }
}

/// One pass.
pub(super) fn unload(catalog: &Catalog) {
    for topic in catalog.topics() {
        topic.unload_idle();
    }
    catalog.lite.unload_idle();
    catalog.lite.subscriptions().forget_silent(Instant::now());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::embedded::config::EmbeddedConfig;
    use crate::backend::embedded::testing::{deliveries, open, send};
    use crate::service::Administration;

    #[tokio::test]
    async fn what_nobody_uses_is_unloaded_and_comes_back_as_it_was() {
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
        assert!(topic.peek_loaded().is_some(), "it was in use");
        unload(&broker.catalog);
        assert!(topic.peek_loaded().is_none());
        // A look at it does not bring it back: somebody may look at everything all the time.
        let stats = broker.group_stats("group", None).await.expect("statistics");
        let queue = &stats.topics[0].queues[0];
        assert_eq!((queue.lag, queue.in_flight, queue.end), (2, Some(1), 2));
        let group = broker.catalog.group("group").expect("a group").id;
        assert!(topic.peek_loaded().is_none() && topic.peek_consumer(group).is_none());
        // The lease on the first message goes on, and the queue too.
        send(&broker, ["c"]).await;
        let mut offsets = Vec::new();
        while offsets.len() < 2 {
            offsets.extend(deliveries(&broker, 32).await.iter().map(|delivery| delivery.queue_offset));
        }
        assert_eq!(offsets, [1, 2]);
    }
}
