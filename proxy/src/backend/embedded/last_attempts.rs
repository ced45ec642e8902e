//! Makes dead letters of messages whose last allowed delivery was not settled in time, even if their group does not receive
//! any more.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::blocking::blocking;
use super::broker::Broker;
use super::keys;
use super::lease::{Coordinates, Lease};
use super::progress::{Progress, State};
use super::store::{corrupt, unavailable};
use crate::service::{Forward, ServiceError, Settle};

/// The messages that had their last delivery and wait to be moved.
#[derive(Default)]
pub(super) struct LastAttempts {
    waiting: Mutex<VecDeque<Expired>>,
    added: Notify,
}

/// A message whose last lease is over. The progress stays in memory as long as there is one.
struct Expired {
    progress: Arc<Progress>,
    at: Coordinates,
}

/// How many messages of a group are noted at once.
const MAX_FOUND: usize = 1024;
/// How long a move may take.
const MOVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(5);

impl LastAttempts {
    /// Notes the messages of a progress whose last leases have ended since it was looked at the last time.
    pub(super) fn find(&self, progress: &Arc<Progress>, state: &mut State, now: u64) {
        let max = progress.max_attempts();
        if max == u32::MAX {
            return;
        }
        let from = state.looked_until;
        let mut found = Vec::new();
        // Others may still end in this millisecond.
        let mut until = now.saturating_sub(1);
        for (queue, leases) in (0..).zip(state.queues().iter().map(|queue| queue.leases())) {
            for (offset, lease) in leases.ended_within(from, now).filter(|(_, lease)| lease.is_last(max)) {
                if found.len() >= MAX_FOUND {
                    until = until.min(lease.visible_at.saturating_sub(1));
                    break;
                }
                let topic = Some(progress.topic());
                let at = Coordinates { queue, offset, token: lease.token, topic };
                found.push(Expired { progress: progress.clone(), at });
            }
        }
        state.looked_until = until.max(from);
        if !found.is_empty() {
            self.waiting.lock().extend(found);
            self.added.notify_one();
        }
    }

    async fn next(&self) -> Expired {
        loop {
            let added = self.added.notified();
            if let Some(next) = self.waiting.lock().pop_front() {
                return next;
            }
            added.await;
        }
    }
}

/// Moves messages until it is told to stop.
pub(super) async fn run(broker: Arc<Broker>, stop: CancellationToken) {
    let moving = async {
        if let Err(error) = load(&broker).await {
            tracing::warn!(%error, "messages that expired before the start become dead letters when their group receives");
        }
        loop {
            let expired = broker.expiry.last_attempts.next().await;
            if let Err(error) = make_dead_letter(&broker, &expired).await {
                if broker.store.failure().is_none() {
                    tracing::warn!(%error, "a message could not be moved to the dead-letter topic");
                }
                broker.expiry.last_attempts.waiting.lock().push_back(expired);
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    let _: Option<()> = stop.run_until_cancelled(moving).await;
}

async fn make_dead_letter(broker: &Broker, expired: &Expired) -> Result<(), ServiceError> {
    let Expired { progress, at } = expired;
    // What was deleted has no dead letters.
    let Some(group) = broker.catalog.group_by_id(progress.group()) else { return Ok(()) };
    let Some(topic) =
        broker.catalog.topic_by_id(progress.topic()).or_else(|| progress.lite_topic(&broker.catalog.lite))
    else {
        return Ok(());
    };
    let entry = Settle {
        coordinates: at.to_string(),
        message_id: String::new(),
        lite_topic: None,
        received_at: SystemTime::now(),
        invisible: Duration::ZERO,
    };
    let deadline = Instant::now() + MOVE_TIMEOUT;
    let forward = Forward { topic: topic.config().name, group: group.config.name.clone(), entry, deadline };
    broker.move_to_dead_letters(&topic, forward).await
}

/// Loads the progress of groups with last deliveries that were not settled before the start.
async fn load(broker: &Arc<Broker>) -> Result<(), ServiceError> {
    let broker = broker.clone();
    blocking(move || {
        let mut found = BTreeSet::new();
        for group in broker.catalog.groups() {
            let max = group.config.max_attempts().unsigned_abs();
            for entry in broker.store.state()?.prefix(group.id.to_be_bytes()) {
                let (key, value) = entry.into_inner().map_err(|e| unavailable(&e))?;
                let Some((_, Some(_))) = keys::progress_parts(&key) else { continue };
                let lease = Lease::decode(&value).map_err(|_| corrupt("lease"))?;
                if lease.is_last(max)
                    && let Some(topic) = key.get(4..8).and_then(|topic| topic.try_into().ok())
                {
                    found.insert((group.id, u32::from_be_bytes(topic), max));
                }
            }
        }
        for (group, topic, max_attempts) in found {
            // Lite topics are loaded by the requests that need them.
            let Some(topic) = broker.catalog.topic_by_id(topic) else { continue };
            let queues = topic.load(&broker.store)?;
            let progress = topic.consumer(group);
            progress.set_max_attempts(max_attempts);
            progress.load(&broker.store, &queues, broker.catalog.start_of(group))?;
            broker.expiry.review(&progress);
        }
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::embedded::catalog::Existing;
    use crate::backend::embedded::config::EmbeddedConfig;
    use crate::backend::embedded::testing::{deliver, open, request, send};
    use crate::service::{Delivery, Receive};

    async fn broker(directory: &tempfile::TempDir) -> Arc<Broker> {
        let data_dir = directory.path().to_owned();
        Arc::new(open(EmbeddedConfig { data_dir, default_queues: 2, ..EmbeddedConfig::default() }).await)
    }

    async fn receive(broker: &Broker, topic: &str, group: &str, invisible: Duration) -> Vec<Delivery> {
        let (topic, group) = (topic.to_owned(), group.to_owned());
        deliver(broker, Receive { topic, group, invisible, ..request(1) }).await
    }

    /// Takes a message for the only time that its group allows.
    async fn take_once(broker: &Broker) {
        let mut config = broker.group("group").await.expect("a group").config.as_ref().clone();
        config.max_retries = 0;
        broker.catalog.put_group(config, Existing::Replace).expect("changed");
        send(broker, ["a"]).await;
        receive(broker, "topic", "group", Duration::from_millis(1)).await;
    }

    async fn dead_letter(broker: &Broker) -> Delivery {
        broker.make_topic("%DLQ%group", 1).await.expect("a topic");
        receive(broker, "%DLQ%group", "reader", Duration::from_secs(60)).await.remove(0)
    }

    #[tokio::test]
    async fn a_message_becomes_a_dead_letter_though_its_group_does_not_receive() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = broker(&directory).await;
        let stop = CancellationToken::new();
        let tasks = broker.start_tasks(&stop);
        take_once(&broker).await;
        for topic in broker.catalog.topics() {
            // Twice: the first time it was in use.
            topic.unload_idle();
            topic.unload_idle();
        }
        let letter = dead_letter(&broker).await;
        assert_eq!((letter.message.id.as_str(), letter.attempt), ("a", 2));
        stop.cancel();
        futures::future::join_all(tasks).await;
    }

    #[tokio::test]
    async fn a_message_that_expired_while_the_broker_was_stopped_becomes_a_dead_letter() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let stopped = broker(&directory).await;
        take_once(&stopped).await;
        stopped.writer.stop();
        drop(stopped);

        let broker = broker(&directory).await;
        let stop = CancellationToken::new();
        let tasks = broker.start_tasks(&stop);
        assert_eq!(dead_letter(&broker).await.message.id, "a");
        stop.cancel();
        futures::future::join_all(tasks).await;
    }
}
