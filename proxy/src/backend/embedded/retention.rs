//! Removes expired messages, and what is left of deleted topics and groups, in the background and step by step.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fjall::PersistMode;
use tokio_util::sync::CancellationToken;

use super::blocking::blocking;
use super::catalog::{Catalog, Deleted};
use super::clock;
use super::half_message;
use super::keys;
use super::lite_subscriptions;
use super::queue::{self, Queue};
use super::retention_clock::RetentionClock;
use super::store::{Opened, Store, corrupt, unavailable};
use super::topic::Topic;
use crate::service::ServiceError;

/// How many records are removed in one batch: sends wait no longer than that takes.
const STEP: usize = 256;
/// The bounds of the pause between two passes.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// A pause is at least so many times as long as the pass before it, which takes seconds for a million lite topics.
const PAUSE_FACTOR: u32 = 20;

/// Removes what is expired or deleted.
pub(super) struct Retention {
    pub(super) store: Arc<Store>,
    pub(super) catalog: Arc<Catalog>,
    keep: Duration,
    started: Instant,
}

impl Retention {
    /// Removal of messages that are older than `keep`.
    pub(super) fn new(store: Arc<Store>, catalog: Arc<Catalog>, keep: Duration) -> Self {
        Self { store, catalog, keep, started: Instant::now() }
    }

    /// Makes one pass after the other until it is told to stop. A pass under way is finished first.
    pub(super) async fn run(self, stop: CancellationToken) {
        let pause = (self.keep / 100).clamp(MIN_PAUSE, MAX_PAUSE);
        let this = Arc::new(self);
        let mut clock = None;
        while !stop.is_cancelled() {
            let start = Instant::now();
            let (pass, before) = (this.clone(), clock.take());
            match blocking(move || pass.pass(before)).await {
                Ok(now) => clock = Some(now),
                Err(error) if this.store.failure().is_none() => {
                    tracing::warn!(%error, "expired messages can't be removed now");
                }
                Err(_) => {}
            }
            let pause = pause.max(start.elapsed() * PAUSE_FACTOR);
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    /// One pass. Reads and writes the disk.
    fn pass(&self, clock: Option<RetentionClock>) -> Result<RetentionClock, ServiceError> {
        self.remove_deleted()?;
        let mut clock = match clock {
            Some(clock) => clock,
            None => RetentionClock::load(&self.store, clock::now(), self.keep)?,
        };
        let now = clock.advance(clock::now());
        clock.save(&self.store)?;
        let keep = u64::try_from(self.keep.as_millis()).unwrap_or(u64::MAX);
        let oldest = now.saturating_sub(keep);
        self.remove_stored_before(oldest)?;
        // After a start, clients need some time to repeat what they are subscribed to.
        let are_subscriptions_known = self.started.elapsed() >= lite_subscriptions::SILENCE;
        self.review_lite_topics(are_subscriptions_known.then_some(now), oldest)?;
        Ok(clock)
    }

    /// Removes the messages at the front of each queue that were stored before this time, in ms since 1970.
    pub(super) fn remove_stored_before(&self, oldest: u64) -> Result<(), ServiceError> {
        for topic in self.catalog.topics() {
            self.remove_half_messages(&topic, oldest)?;
            // Topics that nobody uses are loaded only if something is expired.
            let queues = match topic.peek_loaded() {
                Some(queues) => queues,
                None if self.has_expired(&topic, oldest)? => topic.load(&self.store)?,
                None => continue,
            };
            for queue in queues.iter() {
                self.remove_from_queue(queue, oldest)?;
            }
        }
        Ok(())
    }

    /// Removes half messages that nobody decided about: those that were stored before this time, and those whose check was
    /// due then.
    fn remove_half_messages(&self, topic: &Topic, oldest: u64) -> Result<(), ServiceError> {
        let mut count = 0;
        loop {
            let log = self.store.log()?;
            let mut batch = log.batch(self.store.message_durability());
            let mut expired = HashSet::new();
            for entry in log.prefix(keys::half_messages(topic.id())).take(STEP) {
                let (key, value) = entry.into_inner().map_err(|e| unavailable(&e))?;
                if half_message::Record::decode(value.into())?.stored_at >= oldest {
                    break;
                }
                expired.insert(key);
            }
            let checks = keys::check(topic.id(), 0, 0)..keys::check(topic.id(), oldest, 0);
            for entry in log.range(checks).take(STEP) {
                let key = entry.key().map_err(|e| unavailable(&e))?;
                let (_, sequence) = keys::check_parts(&key).ok_or_else(|| corrupt("check key"))?;
                let half = keys::half_message(topic.id(), sequence);
                if log.contains_key(half).map_err(|e| unavailable(&e))? {
                    expired.insert(half.into());
                }
                batch.remove(&log, key);
            }
            count += expired.len();
            for key in expired {
                batch.remove(&log, key);
            }
            if batch.is_empty() {
                break;
            }
            batch.commit().map_err(|e| unavailable(&e))?;
        }
        if count > 0 {
            let topic = topic.config().name;
            tracing::warn!(topic, count, "half messages have expired: nobody decided about them");
        }
        Ok(())
    }

    fn has_expired(&self, topic: &Topic, oldest: u64) -> Result<bool, ServiceError> {
        for id in 0..topic.most_queues() as u32 {
            let Some(first) = self.store.log()?.prefix(keys::queue(topic.id(), id)).next() else { continue };
            let (key, value) = first.into_inner().map_err(|e| unavailable(&e))?;
            if queue::parse(&key, value.into())?.stored_at() < oldest {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes chunks from the front of a queue. The last chunk stays on the disk, whatever its age: it tells which
    /// offset comes next. It is removed by a later pass, once another chunk follows it.
    pub(super) fn remove_from_queue(&self, queue: &Queue, oldest: u64) -> Result<(), ServiceError> {
        loop {
            let (start, end) = queue.range();
            let log = self.store.log()?;
            let mut batch = log.batch(self.store.message_durability());
            let (mut new_start, now) = (start, clock::now());
            // Chunks that were stored while the wall clock was ahead. They are older than those that follow.
            let mut of_unknown_age = Vec::new();
            // From the first chunk on the disk, which may be an earlier pass's last chunk, before the queue's start.
            for chunk in queue.chunks_from(&self.store, 0)?.take(STEP) {
                let chunk = chunk?;
                if chunk.end() <= start || chunk.stored_at() < oldest {
                    new_start = new_start.max(chunk.end());
                    for key in of_unknown_age.drain(..) {
                        batch.remove(&log, key);
                    }
                    if chunk.end() < end {
                        batch.remove(&log, queue.chunk_key(&chunk));
                    }
                } else if chunk.stored_at() > now {
                    of_unknown_age.push(queue.chunk_key(&chunk));
                } else {
                    break;
                }
            }
            // Readers stop using the chunks before they are removed.
            queue.begin_at(new_start);
            if batch.is_empty() {
                return Ok(());
            }
            batch.commit().map_err(|e| unavailable(&e))?;
        }
    }

    pub(super) fn remove_deleted(&self) -> Result<(), ServiceError> {
        for deleted in self.catalog.deleted()? {
            match deleted {
                Deleted::Topic(topic) => {
                    self.remove_lite_topics_of(topic)?;
                    self.remove_topic_data(topic)?;
                }
                Deleted::Group(group) => {
                    remove_prefix(&*self.store.state()?, &group.to_be_bytes(), PersistMode::Buffer)?;
                }
            }
            self.catalog.removed(deleted)?;
        }
        Ok(())
    }

    /// Removes the messages of a topic and the progress of all groups in it.
    pub(super) fn remove_topic_data(&self, topic: u32) -> Result<(), ServiceError> {
        remove_prefix(&*self.store.log()?, &topic.to_be_bytes(), self.store.message_durability())?;
        for group in self.catalog.groups() {
            let prefix = keys::group_topic(group.id, topic);
            remove_prefix(&*self.store.state()?, &prefix, PersistMode::Buffer)?;
        }
        Ok(())
    }
}

fn remove_prefix(part: &Opened, prefix: &[u8], durability: PersistMode) -> Result<(), ServiceError> {
    loop {
        let mut removals = part.batch(durability);
        for entry in part.prefix(prefix).take(STEP) {
            removals.remove(part, entry.key().map_err(|e| unavailable(&e))?);
        }
        if removals.is_empty() {
            return Ok(());
        }
        removals.commit().map_err(|e| unavailable(&e))?;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tempfile::TempDir;

    use super::*;
    use crate::backend::embedded::broker::Broker;
    use crate::backend::embedded::config::EmbeddedConfig;
    use crate::backend::embedded::testing::{open, receive, send};
    use crate::service::Message;

    fn retention(broker: &Broker) -> Retention {
        Retention::new(broker.store.clone(), broker.catalog.clone(), Duration::ZERO)
    }

    fn remove_all_but_the_last(broker: &Broker) {
        retention(broker).remove_stored_before(u64::MAX).expect("removed");
    }

    fn config(directory: &TempDir) -> EmbeddedConfig {
        EmbeddedConfig {
            data_dir: directory.path().to_owned(),
            default_queues: 1,
            cache_bytes: 0,
            ..EmbeddedConfig::default()
        }
    }

    #[tokio::test]
    async fn a_group_that_was_away_goes_on_after_what_expired() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(config(&directory)).await;
        send(&broker, ["early"]).await;
        assert_eq!(receive(&broker, 32).await, ["early"]);
        send(&broker, ["a"]).await;
        // The queue is idle for so long that all of it expires.
        remove_all_but_the_last(&broker);
        send(&broker, ["b"]).await;
        send(&broker, ["c"]).await;
        remove_all_but_the_last(&broker);
        broker.writer.stop();
        drop(broker);

        let broker = open(config(&directory)).await;
        assert_eq!(receive(&broker, 32).await, ["c"]);
        send(&broker, ["d"]).await;
        assert_eq!(receive(&broker, 32).await, ["d"]);
    }

    #[tokio::test]
    async fn a_read_goes_on_after_a_hole() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(config(&directory)).await;
        for id in ["a", "b", "c"] {
            send(&broker, [id]).await;
        }
        let topic = broker.topic("topic").await.expect("a topic");
        let log = broker.store.log().expect("open");
        log.remove(keys::chunk(topic.id(), 0, 1)).expect("removed");
        assert_eq!(receive(&broker, 1).await, ["a"]);
        assert_eq!(receive(&broker, 32).await, ["c"]);
    }

    #[tokio::test]
    async fn messages_from_a_clock_that_was_ahead_expire_with_those_that_follow() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(config(&directory)).await;
        for id in ["old", "ahead", "later"] {
            send(&broker, [id]).await;
        }
        let topic = broker.topic("topic").await.expect("a topic");
        let log = broker.store.log().expect("open");
        let key = keys::chunk(topic.id(), 0, 1);
        let mut ahead = log.get(key).expect("readable").expect("a chunk").to_vec();
        ahead[..8].copy_from_slice(&(clock::now() + 1_000_000_000).to_le_bytes());
        log.insert(key, ahead).expect("written");
        retention(&broker).remove_stored_before(clock::now() + 1).expect("removed");
        send(&broker, ["last"]).await;
        assert_eq!(receive(&broker, 32).await, ["last"]);
    }

    #[tokio::test]
    async fn what_a_later_pass_finds_expired_is_removed_from_the_disk() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(config(&directory)).await;
        for id in ["a", "b", "c"] {
            send(&broker, [id]).await;
            remove_all_but_the_last(&broker);
        }
        let topic = broker.topic("topic").await.expect("a topic");
        let log = broker.store.log().expect("open");
        assert_eq!(log.prefix(keys::queue(topic.id(), 0)).count(), 1);
    }

    #[tokio::test]
    async fn half_messages_expire_and_go_with_their_topic() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(config(&directory)).await;
        let half = |id: &str| Message { id: id.to_owned(), half: true, ..Message::default() };
        let deadline = Instant::now() + Duration::from_secs(30);
        let store = |id| broker.store_messages("topic", vec![half(id)], deadline);
        store("old").await.expect("a send");
        let topic = broker.topic("topic").await.expect("a topic").id();
        let records = || broker.store.log().expect("open").prefix(topic.to_be_bytes()).count();
        assert_eq!(records(), 2);
        retention(&broker).remove_stored_before(clock::now() - 60_000).expect("removed");
        assert_eq!(records(), 2);
        remove_all_but_the_last(&broker);
        assert_eq!(records(), 0);
        store("of a deleted topic").await.expect("a send");
        broker.catalog.delete_topic("topic").expect("deleted");
        retention(&broker).remove_deleted().expect("removed");
        assert_eq!(records(), 0);
    }
}
