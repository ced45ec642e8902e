//! Removes expired messages, in the background and in small batches. Limits by size are in [`super::retention_bytes`],
//! deleted topics and groups in [`super::deleted_data`]. [`super::reclaim`] returns the space to the file system.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::blocking::blocking;
use super::catalog::Catalog;
use super::clock;
use super::config::EmbeddedConfig;
use super::damage::{self, QueuePart};
use super::half_message::HalfMessage;
use super::keys;
use super::lite_subscriptions;
use super::queue::Queue;
use super::queue_sizes::{QueueSizes, RetentionLimits};
use super::reclaim::Reclaim;
use super::retention_clock::RetentionClock;
use super::scan::{Record, Scan};
use super::store::{Store, corrupt, unavailable};
use super::topic::Topic;
use crate::service::ServiceError;

/// The maximum number of records that are removed in one batch. Sends wait while a batch is committed.
pub(super) const BATCH_RECORDS: usize = 1024;
/// The bounds of the pause between two passes.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// The longest pause if sizes are limited.
const MAX_PAUSE_WITH_LIMITS: Duration = Duration::from_secs(5);
/// A pause is at least this many times as long as the previous pass, which takes seconds with a million lite topics.
const PAUSE_FACTOR: u32 = 20;

/// Removes expired and deleted messages.
pub(super) struct Retention {
    pub(super) store: Arc<Store>,
    pub(super) catalog: Arc<Catalog>,
    keep: Duration,
    pub(super) limits: RetentionLimits,
    pub(super) sizes: Mutex<QueueSizes>,
    pub(super) reclaim: Mutex<Reclaim>,
    started: Instant,
}

/// Which messages are old enough to be removed.
#[derive(Clone, Copy)]
pub(super) enum Cutoff {
    /// Those that were stored before this time.
    #[cfg(test)]
    At(u64),
    /// Those that are older than the retention of their topic.
    ByAge {
        /// The time of the retention clock, in ms.
        now: u64,
        /// The retention of topics that don't set their own.
        keep: Duration,
    },
}

impl Cutoff {
    /// The time before which messages of this topic are removed.
    pub(super) fn of(self, topic: &Topic) -> u64 {
        match self {
            #[cfg(test)]
            Self::At(at) => at,
            Self::ByAge { now, keep } => {
                let keep = topic.retention().unwrap_or(keep).as_millis();
                now.saturating_sub(u64::try_from(keep).unwrap_or(u64::MAX))
            }
        }
    }
}

/// The messages to remove from a queue: those that meet either condition.
#[derive(Clone, Copy, Default)]
pub(super) struct Removal {
    /// Messages that were stored before this time.
    pub(super) stored_before: u64,
    /// Messages with offsets below this one.
    pub(super) below: u64,
}

impl Retention {
    /// Creates the retention with the limits of the configuration.
    pub(super) fn new(store: Arc<Store>, catalog: Arc<Catalog>, config: &EmbeddedConfig) -> Self {
        Self {
            store,
            catalog,
            keep: config.retention,
            limits: RetentionLimits::new(config),
            sizes: Mutex::default(),
            reclaim: Mutex::new(Reclaim::new()),
            started: Instant::now(),
        }
    }

    /// Runs passes until `stop` is cancelled. A pass in progress is finished first.
    pub(super) async fn run(self, stop: CancellationToken) {
        let this = Arc::new(self);
        let mut clock = None;
        while !stop.is_cancelled() {
            let start = Instant::now();
            let (pass, before) = (this.clone(), clock.take());
            match blocking(move || pass.pass(before)).await {
                Ok(now) => clock = Some(now),
                Err(error) if this.store.failure().is_none() => {
                    tracing::warn!(%error, "failed to remove expired messages");
                }
                Err(_) => {}
            }
            let pause = this.pause();
            let least = MIN_PAUSE.max(start.elapsed() * PAUSE_FACTOR);
            // A deletion ends the pause early, because deleted data takes space until the next pass.
            let pause = async {
                tokio::time::sleep(least).await;
                let deleted = this.catalog.deletion.notified();
                let _: Result<(), _> = tokio::time::timeout(pause.saturating_sub(least), deleted).await;
            };
            stop.run_until_cancelled(pause).await;
        }
    }

    /// The longest pause before the next pass: at most a hundredth of the shortest retention.
    fn pause(&self) -> Duration {
        let topics = self.catalog.topics();
        let shortest = topics.iter().filter_map(|topic| topic.retention()).fold(self.keep, Duration::min);
        let longest = if self.has_limits(&topics) { MAX_PAUSE_WITH_LIMITS } else { MAX_PAUSE };
        (shortest / 100).clamp(MIN_PAUSE, longest)
    }

    /// Runs one pass. Reads and writes the disk.
    fn pass(&self, clock: Option<RetentionClock>) -> Result<RetentionClock, ServiceError> {
        self.remove_deleted()?;
        let mut clock = match clock {
            Some(clock) => clock,
            None => RetentionClock::load(&self.store, clock::now(), self.keep)?,
        };
        let now = clock.advance(clock::now());
        clock.save(&self.store)?;
        let oldest = Cutoff::ByAge { now, keep: self.keep };
        self.remove_stored_before(oldest)?;
        // After a start, clients need some time to repeat their subscriptions.
        let are_subscriptions_known = self.started.elapsed() >= lite_subscriptions::CLIENT_TIMEOUT;
        self.review_lite_topics(are_subscriptions_known.then_some(now), oldest)?;
        self.remove_beyond_limits()?;
        self.reclaim.lock().run(&self.store)?;
        Ok(clock)
    }

    /// Removes expired messages from the front of each queue, and expired half messages.
    pub(super) fn remove_stored_before(&self, oldest: Cutoff) -> Result<(), ServiceError> {
        for topic in self.catalog.topics() {
            let oldest = oldest.of(&topic);
            self.remove_half_messages(&topic, oldest)?;
            // Idle topics are loaded only if they have expired messages.
            let queues = match topic.peek_loaded() {
                Some(queues) => queues,
                None if self.has_expired(&topic, oldest)? => topic.load(&self.store)?,
                None => continue,
            };
            for queue in queues.iter() {
                self.remove_from_queue(queue, Removal { stored_before: oldest, below: 0 })?;
            }
        }
        Ok(())
    }

    /// Removes undecided half messages that were stored before `oldest`, or whose next check was due before
    /// that.
    fn remove_half_messages(&self, topic: &Topic, oldest: u64) -> Result<(), ServiceError> {
        let mut count = 0;
        loop {
            let log = self.store.log()?;
            let mut batch = log.batch(self.store.message_durability());
            let mut expired = HashSet::new();
            // Damaged half messages are older than those that follow.
            let mut of_unknown_age = Vec::new();
            let (first, last) = (keys::half_message(topic.id(), 0), keys::half_message(topic.id(), u64::MAX));
            for record in Scan::range(&log, &first, &last).reported().take(BATCH_RECORDS) {
                let Record { key, value } = record?;
                match value.and_then(|value| HalfMessage::decode(value).ok()) {
                    Some(half) if half.stored_at >= oldest => break,
                    Some(_) => expired.extend(of_unknown_age.drain(..).chain([key])),
                    None => of_unknown_age.push(key),
                }
            }
            let (first, end) = (keys::check(topic.id(), 0, 0), keys::check(topic.id(), oldest, 0));
            let checks = Scan::range(&log, &first, &end).values_if(|_| false).reported();
            for check in checks.take(BATCH_RECORDS) {
                let key = check?.key;
                let (_, sequence) = keys::check_parts(&key).ok_or_else(|| corrupt("check key"))?;
                let half = keys::half_message(topic.id(), sequence);
                match log.contains_key(half) {
                    Ok(false) => {}
                    Ok(true) => drop(expired.insert(half.into())),
                    Err(error) if damage::is_damage(&error) => drop(expired.insert(half.into())),
                    Err(error) => return Err(unavailable(&error)),
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
            tracing::warn!(topic, count, "removed expired half messages that were never decided");
        }
        Ok(())
    }

    fn has_expired(&self, topic: &Topic, oldest: u64) -> Result<bool, ServiceError> {
        for queue in 0..topic.most_queues() as u32 {
            if self.has_expired_in(topic.id(), queue, oldest)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a queue may begin with expired messages.
    pub(super) fn has_expired_in(&self, topic: u32, queue: u32, oldest: u64) -> Result<bool, ServiceError> {
        match self.store.log()?.prefix(keys::queue(topic, queue)).next().map(damage::read_part) {
            None => Ok(false),
            Some(Ok(QueuePart::Chunk(chunk))) => Ok(chunk.stored_at() < oldest),
            // The age of a damaged chunk is derived from the chunks that follow it.
            Some(Ok(QueuePart::Damaged(_))) => Ok(true),
            Some(Err(error)) if damage::is_damage(&error) => Ok(true),
            Some(Err(error)) => Err(unavailable(&error)),
        }
    }

    /// Removes chunks from the front of a queue. The last chunk stays on the disk regardless of its age, because it
    /// determines the next offset. A later pass removes it once another chunk follows it.
    pub(super) fn remove_from_queue(&self, queue: &Queue, removal: Removal) -> Result<(), ServiceError> {
        // The first chunk on the disk may be the last one of an earlier pass, before the queue's start. Each step
        // continues where the previous one ended, because removed records slow down a search until they are compacted.
        let mut from = 0;
        loop {
            let (start, end) = queue.range();
            let log = self.store.log()?;
            let mut batch = log.batch(self.store.message_durability());
            let (mut new_start, now) = (start, clock::now());
            // Damaged chunks, and chunks that were stored while the wall clock was ahead. They are older than the
            // chunks that follow.
            let mut of_unknown_age = Vec::new();
            let mut bytes = 0;
            for part in queue.parts_from(&self.store, from)?.take(BATCH_RECORDS) {
                let chunk = match part? {
                    QueuePart::Chunk(chunk) => chunk,
                    QueuePart::Damaged(first) => {
                        of_unknown_age.push((queue.chunk_key(first), 0));
                        continue;
                    }
                };
                let (key, size) = (queue.chunk_key(chunk.first()), chunk.data().len() as u64);
                let is_below = chunk.end() <= start.max(removal.below);
                if is_below || chunk.stored_at() < removal.stored_before {
                    new_start = new_start.max(chunk.end());
                    from = chunk.end();
                    for (key, size) in of_unknown_age.drain(..) {
                        batch.remove(&log, key);
                        bytes += size;
                    }
                    if chunk.end() < end {
                        batch.remove(&log, key);
                        bytes += size;
                    }
                } else if chunk.stored_at() > now {
                    of_unknown_age.push((key, size));
                } else {
                    break;
                }
            }
            // Before the chunks are removed, so that no reader uses them any more.
            queue.advance_start(new_start);
            if batch.is_empty() {
                return Ok(());
            }
            batch.commit().map_err(|e| unavailable(&e))?;
            self.sizes.lock().removed((queue.topic(), queue.id()), bytes);
            self.reclaim.lock().removed(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::backend::embedded::broker::Broker;
    use crate::backend::embedded::testing::{open, receive, send, uncached};
    use crate::service::{Change, Message, TopicConfig};

    fn retention(broker: &Broker) -> Retention {
        Retention::new(broker.store.clone(), broker.catalog.clone(), &broker.config)
    }

    fn remove_all_but_the_last(broker: &Broker) {
        retention(broker).remove_stored_before(Cutoff::At(u64::MAX)).expect("removed");
    }

    #[tokio::test]
    async fn an_absent_group_continues_after_the_expired_messages() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(uncached(&directory)).await;
        send(&broker, ["early"]).await;
        assert_eq!(receive(&broker, 32).await, ["early"]);
        send(&broker, ["a"]).await;
        // The queue is idle so long that all its messages expire.
        remove_all_but_the_last(&broker);
        send(&broker, ["b"]).await;
        send(&broker, ["c"]).await;
        remove_all_but_the_last(&broker);
        broker.writer.stop();
        drop(broker);

        let broker = open(uncached(&directory)).await;
        assert_eq!(receive(&broker, 32).await, ["c"]);
        send(&broker, ["d"]).await;
        assert_eq!(receive(&broker, 32).await, ["d"]);
    }

    #[tokio::test]
    async fn a_topic_may_set_its_own_retention() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(uncached(&directory)).await;
        let hour = Duration::from_secs(3600);
        let longer: Change<TopicConfig> =
            Arc::new(move |topic| Ok(TopicConfig { retention: Some(3 * hour), ..topic.clone() }));
        for id in ["a", "b"] {
            send(&broker, [id]).await;
        }
        broker.catalog.change_topic("topic", &longer).expect("changed");
        let topic = broker.topic("topic").await.expect("a topic");
        let first_at = |hours: u64| {
            let now = clock::now() + hours * 3_600_000;
            retention(&broker).remove_stored_before(Cutoff::ByAge { now, keep: hour }).expect("removed");
            topic.load(&broker.store).expect("queues")[0].range().0
        };
        assert_eq!(first_at(2), 0);
        assert_eq!(first_at(4), 2);
        assert_eq!(retention(&broker).pause(), Duration::from_secs(108));
    }

    #[tokio::test]
    async fn a_read_continues_after_a_hole() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(uncached(&directory)).await;
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
        let broker = open(uncached(&directory)).await;
        for id in ["old", "ahead", "later"] {
            send(&broker, [id]).await;
        }
        let topic = broker.topic("topic").await.expect("a topic");
        let log = broker.store.log().expect("open");
        let key = keys::chunk(topic.id(), 0, 1);
        let mut ahead = log.get(key).expect("readable").expect("a chunk").to_vec();
        ahead[..8].copy_from_slice(&(clock::now() + 1_000_000_000).to_le_bytes());
        log.insert(key, ahead).expect("written");
        retention(&broker).remove_stored_before(Cutoff::At(clock::now() + 1)).expect("removed");
        send(&broker, ["last"]).await;
        assert_eq!(receive(&broker, 32).await, ["last"]);
    }

    #[tokio::test]
    async fn messages_that_expire_later_are_removed_by_a_later_pass() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(uncached(&directory)).await;
        for id in ["a", "b", "c"] {
            send(&broker, [id]).await;
            remove_all_but_the_last(&broker);
        }
        let topic = broker.topic("topic").await.expect("a topic");
        let log = broker.store.log().expect("open");
        assert_eq!(log.prefix(keys::queue(topic.id(), 0)).count(), 1);
    }

    #[tokio::test]
    async fn half_messages_expire_and_are_deleted_with_their_topic() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(uncached(&directory)).await;
        let half = |id: &str| Message { id: id.to_owned(), half: true, ..Message::default() };
        let deadline = Instant::now() + Duration::from_secs(30);
        let store = |id| broker.store_messages("topic", vec![half(id)], deadline);
        store("old").await.expect("a send");
        let topic = broker.topic("topic").await.expect("a topic").id();
        let records = || broker.store.log().expect("open").prefix(topic.to_be_bytes()).count();
        assert_eq!(records(), 2);
        retention(&broker).remove_stored_before(Cutoff::At(clock::now() - 60_000)).expect("removed");
        assert_eq!(records(), 2);
        remove_all_but_the_last(&broker);
        assert_eq!(records(), 0);
        store("of a deleted topic").await.expect("a send");
        broker.catalog.delete_topic("topic").expect("deleted");
        retention(&broker).remove_deleted().expect("removed");
        assert_eq!(records(), 0);
    }
}
