//! Makes dead letters of messages whose attempts are exhausted: the lease of their last attempt has expired. This works
//! even if their group has stopped receiving.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;

use super::blocking::blocking;
use super::broker::Broker;
use super::catalog::Catalog;
use super::exhausted_messages::{ExhaustedMessage, Waiting};
use super::keys;
use super::lease::Lease;
use super::progress::Progress;
use super::scan::{Item, Scan};
use super::store::unavailable;
use super::topic::Topic;
use crate::service::{DeadLetter, Forward, ServiceError, Settle};

/// How many records of lite topics are read at once.
const RECORDS_PER_READ: usize = 512;
/// How long a move may take.
const MOVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after a failed move.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Moves messages until `stop` is cancelled.
pub(super) async fn run(broker: Arc<Broker>, stop: CancellationToken) {
    let moving = async {
        if let Err(error) = load(&broker).await {
            tracing::warn!(
                %error,
                "failed to find messages whose attempts were exhausted before the start; they become dead letters when \
                 their group receives"
            );
        }
        loop {
            let exhausted = match broker.expiry.exhausted.next().await {
                Waiting::Message(exhausted) => exhausted,
                Waiting::More(progress) => {
                    tokio::task::yield_now().await;
                    // A deleted topic has no dead letters.
                    if topic_of(&broker, &progress).is_some() {
                        if let Some(mut state) = progress.lock() {
                            state.has_more_exhausted = false;
                        }
                        broker.expiry.handle_expired(&progress);
                    }
                    continue;
                }
            };
            if let Err(error) = make_dead_letter(&broker, &exhausted).await {
                if broker.store.failure().is_none() {
                    tracing::warn!(%error, "failed to move a message to the dead-letter topic");
                }
                broker.expiry.exhausted.put_back(exhausted);
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
    };
    let _: Option<()> = stop.run_until_cancelled(moving).await;
}

async fn make_dead_letter(broker: &Broker, exhausted: &ExhaustedMessage) -> Result<(), ServiceError> {
    let ExhaustedMessage { progress, at } = exhausted;
    // Deleted topics and groups have no dead letters.
    let Some(group) = broker.catalog.group_by_id(progress.group()) else { return Ok(()) };
    let Some(topic) = topic_of(broker, progress) else { return Ok(()) };
    let entry = Settle {
        coordinates: at.to_string(),
        message_id: String::new(),
        lite_topic: None,
        received_at: SystemTime::now(),
        invisible: Duration::ZERO,
    };
    let deadline = Instant::now() + MOVE_TIMEOUT;
    let (name, group) = (topic.config().name, group.config.name.clone());
    let forward = Forward { topic: name.clone(), group: group.clone(), entry, deadline };
    if let Some(message) = broker.move_to_dead_letters(&topic, forward).await? {
        broker.expiry.exhausted.moved(DeadLetter { topic: name, group, message });
    }
    Ok(())
}

/// The topic or lite topic of a progress. `None` if it was deleted.
fn topic_of(broker: &Broker, progress: &Progress) -> Option<Arc<Topic>> {
    let lite_topic = || {
        let lite = progress.lite()?;
        // A lite topic may have been removed and created again.
        let loaded = broker.catalog.lite.loaded(lite.parent, &lite.name);
        loaded.filter(|topic| topic.id() == progress.topic())
    };
    broker.catalog.topic_by_id(progress.topic()).or_else(lite_topic)
}

/// Loads the progress of groups that have leases of last attempts from before the start.
async fn load(broker: &Arc<Broker>) -> Result<(), ServiceError> {
    let broker = broker.clone();
    blocking(move || {
        let mut found = BTreeSet::new();
        let state = broker.store.state()?;
        for group in broker.catalog.groups() {
            let max = group.config.max_attempts().unsigned_abs();
            let (begin, end) = (group.id.to_be_bytes(), group.id.saturating_add(1).to_be_bytes());
            for item in Scan::range(&state, &begin, &end) {
                // Requests of a group whose progress is damaged say so. It must not keep others from having dead letters.
                let Item::Entry(key, value) = item.map_err(|e| unavailable(&e))? else { continue };
                let Some((_, Some(_))) = keys::progress_parts(&key) else { continue };
                let Ok(lease) = Lease::decode(&value) else { continue };
                if lease.is_last_attempt(max)
                    && let Some(topic) = key.get(4..8).and_then(|topic| topic.try_into().ok())
                {
                    found.insert((group.id, u32::from_be_bytes(topic), max));
                }
            }
        }
        let lite_topics = load_lite_topics(&broker.catalog, &found)?;
        for (group, id, max_attempts) in found {
            let topic = broker.catalog.topic_by_id(id).or_else(|| lite_topics.get(&id).cloned());
            // A deleted topic has no dead letters.
            let Some(topic) = topic else { continue };
            let queues = topic.load(&broker.store)?;
            let progress = topic.consumer(group);
            progress.set_max_attempts(max_attempts);
            match progress.load(&broker.store, &queues, broker.catalog.start_of(group)) {
                Ok(()) => broker.expiry.handle_expired(&progress),
                Err(error) => {
                    tracing::warn!(group, topic_id = id, %error, "failed to load the progress of a group")
                }
            }
        }
        Ok(())
    })
    .await
}

/// Loads the lite topics among the topics in `found`, by id. The ids are the values of records and not their keys, so
/// this may read all records of lite topics.
fn load_lite_topics(
    catalog: &Catalog,
    found: &BTreeSet<(u32, u32, u32)>,
) -> Result<HashMap<u32, Arc<Topic>>, ServiceError> {
    let topics = found.iter().map(|(_, topic, _)| *topic);
    let mut wanted: BTreeSet<_> = topics.filter(|id| catalog.topic_by_id(*id).is_none()).collect();
    let (mut loaded, mut after) = (HashMap::new(), None);
    while !wanted.is_empty() {
        let page = catalog.lite.records(None, after.as_ref(), RECORDS_PER_READ)?;
        for record in page.iter().filter(|record| wanted.remove(&record.id)) {
            let Some(parent) = catalog.topic_by_id(record.parent) else { continue };
            if let Some(topic) = catalog.lite.load(&parent, &record.name)? {
                loaded.insert(record.id, topic);
            }
        }
        match page.into_iter().last() {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    Ok(loaded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::embedded::catalog::IfExists;
    use crate::backend::embedded::config::EmbeddedConfig;
    use crate::backend::embedded::exhausted_messages::MAX_FOUND;
    use crate::backend::embedded::reclaim;
    use crate::backend::embedded::retention::{Cutoff, Retention};
    use crate::backend::embedded::testing::{deliver, flip_in, open, request, send, uncached};
    use crate::service::{
        Delivery, GroupConfig, LiteAction, LiteChange, LiteSubscriptions, Message, Messages, Metadata,
        Receive, TopicConfig, TopicKind,
    };

    async fn broker(directory: &tempfile::TempDir) -> Arc<Broker> {
        let data_dir = directory.path().to_owned();
        Arc::new(open(EmbeddedConfig { data_dir, default_queues: 2, ..EmbeddedConfig::default() }).await)
    }

    async fn receive(broker: &Broker, topic: &str, group: &str, invisible: Duration) -> Vec<Delivery> {
        let (topic, group) = (topic.to_owned(), group.to_owned());
        deliver(broker, Receive { topic, group, invisible, ..request(1) }).await
    }

    /// Receives a message of a group that allows one attempt.
    async fn take_once(broker: &Broker) {
        let mut config = broker.group("group").await.expect("a group").config.as_ref().clone();
        config.max_retries = 0;
        broker.catalog.put_group(config, IfExists::Replace).expect("changed");
        send(broker, ["a"]).await;
        receive(broker, "topic", "group", Duration::from_millis(1)).await;
    }

    async fn dead_letter(broker: &Broker) -> Delivery {
        broker.ensure_topic("%DLQ%group", 1).await.expect("a topic");
        receive(broker, "%DLQ%group", "reader", Duration::from_secs(60)).await.remove(0)
    }

    #[tokio::test]
    async fn a_message_becomes_a_dead_letter_even_if_its_group_does_not_receive() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = broker(&directory).await;
        let stop = CancellationToken::new();
        let tasks = broker.start_tasks(&stop);
        take_once(&broker).await;
        for topic in broker.catalog.topics() {
            // Twice, because it was in use before the first call.
            topic.unload_idle();
            topic.unload_idle();
        }
        let letter = dead_letter(&broker).await;
        assert_eq!((letter.message.id.as_str(), letter.attempt), ("a", 2));
        stop.cancel();
        futures::future::join_all(tasks).await;
    }

    #[tokio::test]
    async fn the_lease_of_a_removed_message_is_ended() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = Arc::new(open(uncached(&directory)).await);
        take_once(&broker).await;
        send(&broker, ["b"]).await;
        let retention = Retention::new(broker.store.clone(), broker.catalog.clone(), &broker.config);
        retention.remove_stored_before(Cutoff::At(u64::MAX)).expect("removed");
        let group = broker.group("group").await.expect("a group").id;
        let progress = broker.known_topic("topic").expect("a topic").consumer(group);
        assert!(progress.has_last_attempts());
        let stop = CancellationToken::new();
        let tasks = broker.start_tasks(&stop);
        while progress.has_last_attempts() {
            tokio::task::yield_now().await;
        }
        assert!(broker.catalog.topic("%DLQ%group").is_none());
        stop.cancel();
        futures::future::join_all(tasks).await;
    }

    #[tokio::test]
    async fn a_message_exhausted_while_the_broker_was_stopped_becomes_a_dead_letter() {
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

    #[tokio::test]
    async fn damaged_progress_of_a_group_does_not_hold_up_the_others() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let stopped = broker(&directory).await;
        stopped.group("damaged").await.expect("a group");
        take_once(&stopped).await;
        for _ in 0..10 {
            let ids: Vec<_> = (0..50).map(|number| number.to_string()).collect();
            send(&stopped, ids.iter().map(String::as_str)).await;
            let of_damaged = Receive { group: "damaged".to_owned(), ..request(50) };
            deliver(&stopped, of_damaged).await;
        }
        reclaim::flush(&stopped.store.state().expect("open"), &stopped.store).expect("written");
        stopped.writer.stop();
        drop(stopped);
        // Among the leases of the first group.
        flip_in(directory.path(), "state", "tables", |_| 6_000);

        let broker = broker(&directory).await;
        let stop = CancellationToken::new();
        let tasks = broker.start_tasks(&stop);
        assert_eq!(dead_letter(&broker).await.message.id, "a");
        let of_damaged = Receive { group: "damaged".to_owned(), ..request(1) };
        let refused = broker.receive_messages(of_damaged).await.expect_err("its progress is lost");
        assert!(refused.to_string().contains("Delete the group"), "{refused}");
        stop.cancel();
        futures::future::join_all(tasks).await;
    }

    #[tokio::test]
    async fn more_messages_than_are_found_at_once_become_dead_letters() {
        const MESSAGES: usize = MAX_FOUND + 100;
        const LEASE: Duration = Duration::from_secs(5);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let stopped = broker(&directory).await;
        take_once(&stopped).await;
        let names: Vec<String> = (1..MESSAGES).map(|number| number.to_string()).collect();
        for names in names.chunks(50) {
            send(&stopped, names.iter().map(String::as_str)).await;
        }
        let mut taken = BTreeSet::from(["a".to_owned()]);
        while taken.len() < MESSAGES {
            // Long enough for all receives: what has expired comes before the others.
            let batch = Receive { invisible: LEASE, ..request(50) };
            taken.extend(deliver(&stopped, batch).await.into_iter().map(|delivery| delivery.message.id));
        }
        // All leases have expired when the broker starts again.
        tokio::time::sleep(LEASE).await;
        stopped.writer.stop();
        drop(stopped);

        let broker = broker(&directory).await;
        let mut letters = broker.expiry.exhausted.watch();
        let stop = CancellationToken::new();
        let tasks = broker.start_tasks(&stop);
        let mut moved = BTreeSet::new();
        while moved.len() < MESSAGES {
            moved.insert(letters.recv().await.expect("a dead letter").message.id);
        }
        stop.cancel();
        futures::future::join_all(tasks).await;
    }

    #[tokio::test]
    async fn an_exhausted_message_of_an_idle_lite_topic_becomes_a_dead_letter() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let stopped = broker(&directory).await;
        let topic = stopped.ensure_topic("topic", 1).await.expect("a topic").config();
        let lite = Arc::new(|topic: &TopicConfig| Ok(TopicConfig { kind: TopicKind::Lite, ..topic.clone() }));
        stopped.change_topic(&topic.name, lite).await.expect("changed");
        let bound = GroupConfig {
            max_retries: 0,
            lite_bind_topic: Some("topic".to_owned()),
            ..GroupConfig::named("group")
        };
        stopped.create_group(bound, false).await.expect("a group");
        let deadline = Instant::now() + Duration::from_secs(30);
        for name in ["other", "lite"] {
            let message =
                Message { id: name.to_owned(), lite_topic: Some(name.to_owned()), ..Message::default() };
            Messages::send(&*stopped, "topic", vec![message], deadline).await.expect("a send");
        }
        let subscription = LiteChange {
            client_id: "client".to_owned(),
            topic: "topic".to_owned(),
            group: "group".to_owned(),
            action: LiteAction::Add,
            lite_topics: vec!["lite".to_owned()],
            quota: 10,
            start: None,
            deadline,
        };
        stopped.sync(subscription).await.expect("a subscription");
        let lite_client = Some("client".to_owned());
        let request = Receive { lite_client, invisible: Duration::from_millis(1), ..request(1) };
        Messages::receive(&*stopped, request).await.expect("a receive");
        stopped.writer.stop();
        drop(stopped);

        let broker = broker(&directory).await;
        let stop = CancellationToken::new();
        let tasks = broker.start_tasks(&stop);
        assert_eq!(dead_letter(&broker).await.message.id, "lite");
        stop.cancel();
        futures::future::join_all(tasks).await;
    }
}
