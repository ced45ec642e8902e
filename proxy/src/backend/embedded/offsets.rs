//! Reads queues by offset without leases, and reads and commits the offsets of groups.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use tokio::time::timeout_at;

use super::blocking::blocking;
use super::broker::Broker;
use super::chunk::Chunk;
use super::codec;
use super::filter::Matcher;
use super::keys;
use super::queue::Queue;
use super::queue_locks::{GroupQueue, LockClient};
use super::receive::READ_AHEAD;
use super::store::{corrupt, unavailable};
use super::take::{MAX_BYTES, MAX_SCANNED};
use super::topic::Topic;
use crate::service::{
    Delivery, Offsets, Pull, PullOutcome, Pulled, QueueLock, QueueRef, SendBack, ServiceError,
    ServiceErrorKind, TopicQueue, Whence, millis, time,
};

/// A queue that requests may read.
struct ReadableQueue {
    topic: Arc<Topic>,
    queue: Arc<Queue>,
}

#[async_trait]
impl Offsets for Broker {
    async fn pull(&self, mut pull: Pull) -> Result<Pulled, ServiceError> {
        let bytes = pull.topic.len() + pull.group.len() + pull.filter.memory();
        let filter = Matcher::new(std::mem::take(&mut pull.filter))?;
        let source = self.source(&pull.topic, &pull.broker, pull.queue_id).await?;
        let mut waiting = None;
        loop {
            // Registered before the read, so that messages which arrive after the read wake this pull.
            let arrived = source.queue.arrived();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            source.topic.check_alive()?;
            let (start, end) = source.queue.range();
            let range = start as i64..end as i64;
            let inside = pull.offset.clamp(range.start, range.end);
            if inside != pull.offset {
                return Ok(Pulled { outcome: PullOutcome::OffsetIllegal, next_offset: inside, range });
            }
            let read = self.read_from(&pull, &source, &filter).await?;
            pull.offset = read.next_offset as i64;
            if !read.messages.is_empty() {
                return Ok(Pulled {
                    outcome: PullOutcome::Messages(read.messages),
                    next_offset: pull.offset,
                    range,
                });
            }
            if read.next_offset < end {
                // Many messages did not pass the filter. The client continues from there, with its own next request.
                if Instant::now() >= pull.deadline {
                    return Ok(Pulled { outcome: PullOutcome::Nothing, next_offset: pull.offset, range });
                }
                tokio::task::yield_now().await;
                continue;
            }
            if waiting.is_none() {
                waiting = Some(self.waiting.register(self.config.max_waiting, bytes)?);
            }
            if timeout_at(pull.deadline.into(), arrived).await.is_err() {
                return Ok(Pulled { outcome: PullOutcome::Nothing, next_offset: pull.offset, range });
            }
        }
    }

    /// The group continues from the offset, whether it receives or pulls. Unsettled messages before the offset count as
    /// consumed, and later ones are delivered again.
    async fn commit(&self, queue: QueueRef<'_>, group: &str, offset: i64) -> Result<(), ServiceError> {
        let source = self.source(queue.topic, queue.broker, queue.id).await?;
        let end = source.queue.end();
        let Some(offset) = u64::try_from(offset).ok().filter(|offset| *offset <= end) else {
            return Err(rejected(format!("offset {offset} is outside of the queue, which ends at {end}")));
        };
        let (_, progress) = self.group_in(&source.topic, group).await?;
        self.loaded(&source.topic, &progress).await?;
        let written = {
            let mut transaction = progress.begin()?;
            transaction.queue(source.queue.id() as usize).reset_to(offset);
            transaction.commit(&self.progress_writer)
        };
        progress.wake(1);
        written.done().await
    }

    async fn committed(&self, queue: QueueRef<'_>, group: &str) -> Result<Option<i64>, ServiceError> {
        let source = self.source(queue.topic, queue.broker, queue.id).await?;
        let Some(group) = self.catalog.group(group) else { return Ok(None) };
        let progress = source.topic.consumer(group.id);
        if !progress.is_loaded() {
            // Loading the progress of a group that has none would create it.
            let key = keys::cursor(group.id, source.topic.id(), source.queue.id());
            let store = self.store.clone();
            let begun =
                blocking(move || store.state()?.contains_key(key).map_err(|e| unavailable(&e))).await?;
            if !begun {
                return Ok(None);
            }
        }
        self.loaded(&source.topic, &progress).await?;
        let state = progress.begin()?;
        let own = state.queues().get(source.queue.id() as usize);
        Ok(own.map(|queue| queue.first_unsettled() as i64))
    }

    async fn offset(&self, queue: QueueRef<'_>, whence: Whence) -> Result<i64, ServiceError> {
        let queue = self.source(queue.topic, queue.broker, queue.id).await?.queue;
        let offset = match whence {
            Whence::Beginning => queue.range().0,
            Whence::End => queue.end(),
            Whence::Time(time) => {
                let (store, at) = (self.store.clone(), u64::try_from(millis(time)).unwrap_or(0));
                blocking(move || queue.first_stored_at(&store, at)).await?
            }
        };
        Ok(offset as i64)
    }

    async fn send_back(&self, back: SendBack) -> Result<(), ServiceError> {
        self.copy_to_retry_topic(back).await
    }

    async fn lock(&self, lock: QueueLock) -> Result<Vec<TopicQueue>, ServiceError> {
        let mut locked = Vec::new();
        let client = LockClient { id: &lock.client_id, host: &lock.host };
        for queue in lock.queues {
            let exists = self.source(&queue.topic, &lock.broker, queue.id).await.is_ok();
            let key = GroupQueue { group: lock.group.clone(), queue: queue.clone() };
            if exists && self.queue_locks.lock(key, client, Instant::now())? {
                locked.push(queue);
            }
        }
        Ok(locked)
    }

    async fn unlock(&self, lock: QueueLock) -> Result<(), ServiceError> {
        for queue in lock.queues {
            self.queue_locks.unlock(&GroupQueue { group: lock.group.clone(), queue }, &lock.client_id);
        }
        Ok(())
    }
}

/// The messages that a pull has read so far.
struct ReadMessages {
    messages: Vec<Delivery>,
    /// The offset after the last message that was read, including those that did not pass the filter.
    next_offset: u64,
}

impl Broker {
    /// Returns a queue that may be read.
    async fn source(&self, topic: &str, broker: &str, id: i32) -> Result<ReadableQueue, ServiceError> {
        let found = self.known_topic(topic)?;
        if broker != self.config.broker_name {
            return Err(rejected(format!("broker {broker} has no queues of topic {topic}")));
        }
        if found.read_queues() == 0 {
            return Err(ServiceError::new(ServiceErrorKind::Forbidden, "no readable queue"));
        }
        let queues = match found.loaded() {
            Some(queues) => queues,
            None => {
                let (store, found) = (self.store.clone(), found.clone());
                blocking(move || found.load(&store)).await?
            }
        };
        let index = usize::try_from(id).ok().filter(|index| *index < found.read_queues());
        let queue = index.and_then(|index| queues.get(index)).cloned();
        let queue = queue.ok_or_else(|| rejected(format!("topic {topic} has no queue {id}")))?;
        Ok(ReadableQueue { topic: found, queue })
    }

    /// Reads messages that pass the filter, from the pull's offset on, which is in the queue.
    async fn read_from(
        &self,
        pull: &Pull,
        source: &ReadableQueue,
        filter: &Matcher,
    ) -> Result<ReadMessages, ServiceError> {
        let mut read = ReadMessages { messages: Vec::new(), next_offset: pull.offset as u64 };
        let (mut bytes, mut scanned) = (0, 0);
        let mut current: Option<Chunk> = None;
        let end = source.queue.end();
        while read.next_offset < end
            && read.messages.len() < pull.max
            && bytes < MAX_BYTES
            && scanned < MAX_SCANNED
        {
            let offset = read.next_offset;
            let chunk = match current.take().filter(|chunk| offset < chunk.end()) {
                Some(chunk) => chunk,
                None => match self.chunk_at(&source.queue, offset).await? {
                    Some(chunk) => chunk,
                    None => match source.queue.after_lost(offset) {
                        Some(next) => {
                            read.next_offset = next;
                            continue;
                        }
                        // Retention has removed the message.
                        None => break,
                    },
                },
            };
            let message = chunk.message(offset).map_err(|_| corrupt("message"))?;
            read.next_offset += 1;
            scanned += filter.cost();
            if filter.passes(&message).map_err(|_| corrupt("message"))? {
                bytes += message.len();
                let stored = codec::decode(&message).map_err(|_| corrupt("message"))?;
                read.messages.push(Delivery {
                    message: stored.message,
                    topic: pull.topic.clone(),
                    queue_id: pull.queue_id,
                    queue_offset: offset as i64,
                    stored_at: time(chunk.stored_at() as i64),
                    store_host: self.config.store_host.clone(),
                    attempt: stored.earlier_attempts.saturating_add(1) as i32,
                    attempts_of_others: 0,
                    received_at: SystemTime::now(),
                    invisible: Duration::ZERO,
                    coordinates: String::new(),
                });
            }
            current = Some(chunk);
        }
        Ok(read)
    }

    /// Returns the chunk that contains this offset, from memory or from the disk. `None` if retention has removed it.
    async fn chunk_at(&self, queue: &Arc<Queue>, offset: u64) -> Result<Option<Chunk>, ServiceError> {
        let (topic, id) = (queue.topic(), queue.id());
        if let Some(chunk) = queue.recent(offset).or_else(|| self.read_cache.find(topic, id, offset)) {
            return Ok(Some(chunk));
        }
        let _permit = self.read_cache.permit().await;
        let (store, source) = (self.store.clone(), queue.clone());
        let chunks = blocking(move || source.read(&store, offset, READ_AHEAD)).await?;
        self.read_cache.insert(topic, id, &chunks);
        let found = chunks.into_iter().next().filter(|chunk| chunk.first() <= offset);
        if found.is_none() && offset >= queue.range().0 && queue.after_lost(offset).is_none() {
            return Err(corrupt("hole in a queue"));
        }
        Ok(found)
    }
}

fn rejected(message: String) -> ServiceError {
    ServiceError::new(ServiceErrorKind::Rejected, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::embedded::config::EmbeddedConfig;
    use crate::backend::embedded::testing::{open, send};
    use crate::service::Filter;

    #[tokio::test]
    async fn a_pull_that_need_not_wait_does_not_search_the_whole_queue() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data_dir = directory.path().to_owned();
        let broker = open(EmbeddedConfig { data_dir, default_queues: 1, ..EmbeddedConfig::default() }).await;
        let ids: Vec<_> = (0..=MAX_SCANNED).map(|id| id.to_string()).collect();
        send(&broker, ids.iter().map(String::as_str)).await;
        let mut pull = Pull {
            topic: "topic".to_owned(),
            group: "group".to_owned(),
            broker: broker.config.broker_name.clone(),
            queue_id: 0,
            offset: 0,
            max: 1,
            filter: Filter::Tags(vec!["none".to_owned()]),
            deadline: Instant::now(),
        };
        let end = ids.len() as i64;
        for _ in 0..2 {
            let pulled = broker.pull(pull.clone()).await.expect("an answer");
            assert!(matches!(pulled.outcome, PullOutcome::Nothing));
            assert!(pulled.next_offset > pull.offset, "the next pull continues");
            if pull.offset == 0 {
                assert!(pulled.next_offset < end);
            }
            pull.offset = pulled.next_offset;
        }
        assert_eq!(pull.offset, end);
    }
}
