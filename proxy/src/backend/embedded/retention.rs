//! Removes expired messages, and what is left of deleted topics and groups, in the background and step by step. The limits
//! by size are in [`super::retention_bytes`]; [`super::reclaim`] gives the space back.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fjall::{AbstractTree, PersistMode};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::blocking::blocking;
use super::catalog::{Catalog, Deleted};
use super::clock;
use super::config::EmbeddedConfig;
use super::damage::{self, Piece};
use super::half_message;
use super::keys;
use super::lite_subscriptions;
use super::queue::Queue;
use super::reclaim::{self, Reclaim};
use super::retention_bytes::{Limits, Sizes};
use super::retention_clock::RetentionClock;
use super::store::{Opened, Store, corrupt, unavailable};
use super::topic::Topic;
use crate::service::ServiceError;

/// How many records are removed in one batch: sends wait no longer than that takes.
const STEP: usize = 1024;
/// The size of one in this many records is looked up.
const MEASURED_EVERY: usize = 8;
/// A topic with more records than this loses whole tables.
const MANY: usize = if cfg!(test) { 100 } else { 10_000 };
/// The bounds of the pause between two passes.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// The longest pause if sizes are limited: they grow faster than time passes.
const MAX_PAUSE_WITH_LIMITS: Duration = Duration::from_secs(5);
/// A pause is at least this many times as long as the pass before it, which takes seconds for a million lite topics.
const PAUSE_FACTOR: u32 = 20;

/// Removes what is expired or deleted.
pub(super) struct Retention {
    pub(super) store: Arc<Store>,
    pub(super) catalog: Arc<Catalog>,
    keep: Duration,
    pub(super) limits: Limits,
    pub(super) sizes: Mutex<Sizes>,
    pub(super) reclaim: Mutex<Reclaim>,
    started: Instant,
}

/// From which time on messages are kept, in ms since 1970.
#[derive(Clone, Copy)]
pub(super) enum Oldest {
    /// From this time on.
    #[cfg(test)]
    At(u64),
    /// As long as each topic says, or else so long.
    Kept {
        /// The time of retention.
        now: u64,
        /// How long messages are kept by default.
        keep: Duration,
    },
}

impl Oldest {
    /// The time for this topic.
    pub(super) fn of(self, topic: &Topic) -> u64 {
        match self {
            #[cfg(test)]
            Self::At(at) => at,
            Self::Kept { now, keep } => {
                let keep = topic.retention().unwrap_or(keep).as_millis();
                now.saturating_sub(u64::try_from(keep).unwrap_or(u64::MAX))
            }
        }
    }
}

/// What is expired in a queue.
#[derive(Clone, Copy, Default)]
pub(super) struct Expired {
    /// What was stored before this time, in ms since 1970.
    pub(super) stored_before: u64,
    /// What has an offset below this one.
    pub(super) below: u64,
}

impl Retention {
    /// Removal of messages that are older, or more, than the configuration says.
    pub(super) fn new(store: Arc<Store>, catalog: Arc<Catalog>, config: &EmbeddedConfig) -> Self {
        Self {
            store,
            catalog,
            keep: config.retention,
            limits: Limits::new(config),
            sizes: Mutex::default(),
            reclaim: Mutex::new(Reclaim::new()),
            started: Instant::now(),
        }
    }

    /// Makes one pass after the other until it is told to stop. A pass under way is finished first.
    pub(super) async fn run(self, stop: CancellationToken) {
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
            let pause = this.pause();
            let least = MIN_PAUSE.max(start.elapsed() * PAUSE_FACTOR);
            // What was deleted takes space until the next pass.
            let pause = async {
                tokio::time::sleep(least).await;
                let deleted = this.catalog.something_deleted.notified();
                let _: Result<(), _> = tokio::time::timeout(pause.saturating_sub(least), deleted).await;
            };
            stop.run_until_cancelled(pause).await;
        }
    }

    /// How long the pause between two passes may be: no longer than a hundredth of the time that messages are kept.
    fn pause(&self) -> Duration {
        let topics = self.catalog.topics();
        let shortest = topics.iter().filter_map(|topic| topic.retention()).fold(self.keep, Duration::min);
        let longest = if self.has_limits(&topics) { MAX_PAUSE_WITH_LIMITS } else { MAX_PAUSE };
        (shortest / 100).clamp(MIN_PAUSE, longest)
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
        let oldest = Oldest::Kept { now, keep: self.keep };
        self.remove_stored_before(oldest)?;
        // After a start, clients need some time to repeat what they are subscribed to.
        let are_subscriptions_known = self.started.elapsed() >= lite_subscriptions::SILENCE;
        self.review_lite_topics(are_subscriptions_known.then_some(now), oldest)?;
        self.remove_beyond_limits()?;
        self.reclaim.lock().run(&self.store)?;
        Ok(clock)
    }

    /// Removes the messages at the front of each queue that were stored before this time, in ms since 1970.
    pub(super) fn remove_stored_before(&self, oldest: Oldest) -> Result<(), ServiceError> {
        for topic in self.catalog.topics() {
            let oldest = oldest.of(&topic);
            self.remove_half_messages(&topic, oldest)?;
            // Topics that nobody uses are loaded only if something is expired.
            let queues = match topic.peek_loaded() {
                Some(queues) => queues,
                None if self.has_expired(&topic, oldest)? => topic.load(&self.store)?,
                None => continue,
            };
            for queue in queues.iter() {
                self.remove_from_queue(queue, Expired { stored_before: oldest, below: 0 })?;
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
            match damage::piece(first) {
                Ok(Piece::Chunk(chunk)) if chunk.stored_at() >= oldest => {}
                // The age of what is damaged is found out from what follows it.
                Ok(_) => return Ok(true),
                Err(error) if damage::is_damage(&error) => return Ok(true),
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Ok(false)
    }

    /// Removes chunks from the front of a queue. The last chunk stays on the disk, whatever its age: it determines which
    /// offset comes next. It is removed by a later pass, once another chunk follows it.
    pub(super) fn remove_from_queue(&self, queue: &Queue, expired: Expired) -> Result<(), ServiceError> {
        // The first chunk on the disk may be an earlier pass's last chunk, before the queue's start. Later steps go on where
        // the one before has ended: what is removed makes a search slow until it is merged away.
        let mut from = 0;
        loop {
            let (start, end) = queue.range();
            let log = self.store.log()?;
            let mut batch = log.batch(self.store.message_durability());
            let (mut new_start, now) = (start, clock::now());
            // Chunks that were stored while the wall clock was ahead, and damaged ones. They are older than those that
            // follow.
            let mut of_unknown_age = Vec::new();
            let mut bytes = 0;
            for piece in queue.pieces_from(&self.store, from)?.take(STEP) {
                let chunk = match piece? {
                    Piece::Chunk(chunk) => chunk,
                    Piece::Damaged(first) => {
                        of_unknown_age.push((queue.chunk_key(first), 0));
                        continue;
                    }
                };
                let (key, size) = (queue.chunk_key(chunk.first()), chunk.data().len() as u64);
                let is_below = chunk.end() <= start.max(expired.below);
                if is_below || chunk.stored_at() < expired.stored_before {
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
            // Readers stop using the chunks before they are removed.
            queue.begin_at(new_start);
            if batch.is_empty() {
                return Ok(());
            }
            batch.commit().map_err(|e| unavailable(&e))?;
            self.sizes.lock().removed((queue.topic(), queue.id()), bytes);
            self.reclaim.lock().removed(bytes);
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
        let log = self.store.log()?;
        self.drop_tables(&log, topic)?;
        let bytes = remove_prefix(&log, &topic.to_be_bytes(), self.store.message_durability())?;
        self.reclaim.lock().removed(bytes);
        for group in self.catalog.groups() {
            let prefix = keys::group_topic(group.id, topic);
            remove_prefix(&*self.store.state()?, &prefix, PersistMode::Buffer)?;
        }
        Ok(())
    }

    /// Drops the tables that hold nothing but messages of this topic, if it has many: to remove each message would take
    /// longer, and would have the storage copy more. What the topic has in other tables must be removed afterwards.
    fn drop_tables(&self, log: &Opened, topic: u32) -> Result<(), ServiceError> {
        let prefix = topic.to_be_bytes();
        if log.prefix(prefix).nth(MANY).is_none() {
            return Ok(());
        }
        // The journals of what is dropped must be gone, or a start reads it from there again. They are kept as long as they
        // are newer than all tables: this record, which removes what is never there, is in a table that is not dropped.
        let mut batch = log.batch(PersistMode::SyncAll);
        batch.remove(log, keys::DECISIONS);
        batch.commit().map_err(|e| unavailable(&e))?;
        if !reclaim::flush(log, &self.store)? {
            return Ok(());
        }
        let end = topic.saturating_add(1).to_be_bytes();
        log.tree.drop_range(prefix..end).map_err(|error| unavailable(&fjall::Error::Storage(error)))
    }
}

/// Removes the records whose keys begin with this. Returns about how many bytes they had.
fn remove_prefix(part: &Opened, prefix: &[u8], durability: PersistMode) -> Result<u64, ServiceError> {
    let mut bytes = 0u64;
    // Each step goes on where the one before has ended: a search from the beginning reads all removals again.
    let mut from = prefix.to_vec();
    loop {
        let mut removals = part.batch(durability);
        for (index, entry) in part.range(from.clone()..).take(STEP).enumerate() {
            let key = entry.key().map_err(|e| unavailable(&e))?;
            if !key.starts_with(prefix) {
                break;
            }
            // The least key that follows.
            from = [&key[..], &[0]].concat();
            // Each look costs as much as a removal.
            if index % MEASURED_EVERY == 0 {
                let size = part.size_of(&key).map_err(|e| unavailable(&e))?.unwrap_or_default();
                bytes = bytes.saturating_add(u64::from(size) * MEASURED_EVERY as u64);
            }
            removals.remove(part, key);
        }
        if removals.is_empty() {
            return Ok(bytes);
        }
        removals.commit().map_err(|e| unavailable(&e))?;
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
        retention(broker).remove_stored_before(Oldest::At(u64::MAX)).expect("removed");
    }

    #[tokio::test]
    async fn a_group_that_was_away_goes_on_after_what_expired() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(uncached(&directory)).await;
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

        let broker = open(uncached(&directory)).await;
        assert_eq!(receive(&broker, 32).await, ["c"]);
        send(&broker, ["d"]).await;
        assert_eq!(receive(&broker, 32).await, ["d"]);
    }

    #[tokio::test]
    async fn a_topic_says_itself_how_long_it_keeps_messages() {
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
            retention(&broker).remove_stored_before(Oldest::Kept { now, keep: hour }).expect("removed");
            topic.load(&broker.store).expect("queues")[0].range().0
        };
        assert_eq!(first_at(2), 0);
        assert_eq!(first_at(4), 2);
        assert_eq!(retention(&broker).pause(), Duration::from_secs(108));
    }

    #[tokio::test]
    async fn a_read_goes_on_after_a_hole() {
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
        retention(&broker).remove_stored_before(Oldest::At(clock::now() + 1)).expect("removed");
        send(&broker, ["last"]).await;
        assert_eq!(receive(&broker, 32).await, ["last"]);
    }

    #[tokio::test]
    async fn what_a_later_pass_finds_expired_is_removed_from_the_disk() {
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
    async fn half_messages_expire_and_go_with_their_topic() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(uncached(&directory)).await;
        let half = |id: &str| Message { id: id.to_owned(), half: true, ..Message::default() };
        let deadline = Instant::now() + Duration::from_secs(30);
        let store = |id| broker.store_messages("topic", vec![half(id)], deadline);
        store("old").await.expect("a send");
        let topic = broker.topic("topic").await.expect("a topic").id();
        let records = || broker.store.log().expect("open").prefix(topic.to_be_bytes()).count();
        assert_eq!(records(), 2);
        retention(&broker).remove_stored_before(Oldest::At(clock::now() - 60_000)).expect("removed");
        assert_eq!(records(), 2);
        remove_all_but_the_last(&broker);
        assert_eq!(records(), 0);
        store("of a deleted topic").await.expect("a send");
        broker.catalog.delete_topic("topic").expect("deleted");
        retention(&broker).remove_deleted().expect("removed");
        assert_eq!(records(), 0);
    }
}
