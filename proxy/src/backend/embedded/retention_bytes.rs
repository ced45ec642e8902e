//! Removes the oldest messages if a topic, or all topics together, exceed the configured number of bytes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use super::damage::{QueuePart, QueueParts};
use super::lite_retention::each_record;
use super::lite_topics::LiteRecord;
use super::queue::Queue;
use super::retention::{Removal, Retention};
use super::topic::Topic;
use crate::service::ServiceError;

/// A queue of a topic or of a lite topic.
struct StoredQueue {
    owner: QueueOwner,
    topic: u32,
    queue: u32,
}

enum QueueOwner {
    Topic(Arc<Topic>),
    Lite(LiteRecord),
}

/// The oldest remaining chunk of a queue, ordered by time of storage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct OldestChunk {
    stored_at: u64,
    /// The index of the queue's source.
    source: usize,
    first: u64,
    size: u64,
}

impl Retention {
    /// Whether any size is limited.
    pub(super) fn has_limits(&self, topics: &[Arc<Topic>]) -> bool {
        self.limits.store.is_some() || topics.iter().any(|topic| self.limits.of(topic).is_some())
    }

    /// Removes the oldest messages of topics that exceed a limit. Reads and writes the disk.
    pub(super) fn remove_beyond_limits(&self) -> Result<(), ServiceError> {
        let topics = self.catalog.topics();
        if !self.has_limits(&topics) {
            return Ok(());
        }
        self.sizes.lock().begin_pass();
        for topic in topics {
            let limit = self.limits.of(&topic);
            if limit.is_none() && self.limits.store.is_none() {
                continue;
            }
            let sources = self.sources(&topic)?;
            let mut bytes = 0u64;
            for source in &sources {
                bytes =
                    bytes.saturating_add(self.sizes.lock().count(&self.store, source.topic, source.queue)?);
            }
            if let Some(excess) =
                limit.and_then(|limit| bytes.checked_sub(limit)).filter(|excess| *excess > 0)
            {
                self.remove_oldest(&sources, excess)?;
            }
        }
        let total = self.sizes.lock().end_pass();
        let Some(excess) = self.limits.store.and_then(|limit| total.checked_sub(limit)) else {
            return Ok(());
        };
        if excess == 0 {
            return Ok(());
        }
        let mut sources = Vec::new();
        for topic in self.catalog.topics() {
            sources.extend(self.sources(&topic)?);
        }
        self.remove_oldest(&sources, excess)
    }

    /// The queues of a topic and of its lite topics.
    fn sources(&self, topic: &Arc<Topic>) -> Result<Vec<StoredQueue>, ServiceError> {
        let own = (0..topic.most_queues() as u32).map(|queue| StoredQueue {
            owner: QueueOwner::Topic(topic.clone()),
            topic: topic.id(),
            queue,
        });
        let mut sources: Vec<_> = own.collect();
        each_record(&self.catalog, Some(topic.id()), |record| {
            sources.push(StoredQueue { owner: QueueOwner::Lite(record.clone()), topic: record.id, queue: 0 });
            Ok(())
        })?;
        Ok(sources)
    }

    /// Removes the oldest chunks of these queues: at least `excess` bytes in total.
    fn remove_oldest(&self, sources: &[StoredQueue], excess: u64) -> Result<(), ServiceError> {
        let mut oldest_chunks = BinaryHeap::new();
        for (index, source) in sources.iter().enumerate() {
            oldest_chunks.extend(self.read_oldest_chunk(source, index, 0)?.map(Reverse));
        }
        // By queue, the offset below which messages are removed.
        let mut below = BTreeMap::new();
        let mut bytes = 0u64;
        while bytes < excess
            && let Some(Reverse(chunk)) = oldest_chunks.pop()
        {
            // The newest chunk of a queue stays.
            let Some(next) = self.read_oldest_chunk(&sources[chunk.source], chunk.source, chunk.first + 1)?
            else {
                continue;
            };
            bytes = bytes.saturating_add(chunk.size);
            below.insert(chunk.source, next.first);
            oldest_chunks.push(Reverse(next));
        }
        for (index, below) in below {
            let queue = self.queue(&sources[index])?;
            if let Some(queue) = queue {
                self.remove_from_queue(&queue, Removal { stored_before: 0, below })?;
            }
        }
        Ok(())
    }

    fn read_oldest_chunk(
        &self,
        source: &StoredQueue,
        index: usize,
        from: u64,
    ) -> Result<Option<OldestChunk>, ServiceError> {
        let Some(part) = QueueParts::new(self.store.log()?, source.topic, source.queue, from).next() else {
            return Ok(None);
        };
        Ok(Some(match part? {
            QueuePart::Chunk(chunk) => OldestChunk {
                stored_at: chunk.stored_at(),
                source: index,
                first: chunk.first(),
                size: chunk.data().len() as u64,
            },
            // A damaged chunk can't be read, and its size is unknown. It is removed first.
            QueuePart::Damaged(first) => OldestChunk { stored_at: 0, source: index, first, size: 0 },
        }))
    }

    fn queue(&self, source: &StoredQueue) -> Result<Option<Arc<Queue>>, ServiceError> {
        match &source.owner {
            QueueOwner::Topic(topic) => Ok(topic.load(&self.store)?.get(source.queue as usize).cloned()),
            QueueOwner::Lite(record) => self.catalog.lite.queue(&self.store, record).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::backend::embedded::broker::Broker;
    use crate::backend::embedded::config::EmbeddedConfig;
    use crate::backend::embedded::keys;
    use crate::backend::embedded::testing::{deliveries, open, receive, send, uncached};
    use crate::service::{Change, Message, TopicConfig};

    fn enforce(broker: &Broker) -> Retention {
        let retention = Retention::new(broker.store.clone(), broker.catalog.clone(), &broker.config);
        retention.remove_beyond_limits().expect("a pass");
        retention
    }

    /// Sends messages of a kilobyte, each in a chunk of its own.
    async fn store(broker: &Broker, topic: &str, ids: &[&str]) {
        for id in ids {
            let message = Message { id: (*id).to_owned(), body: vec![7; 1000].into(), ..Message::default() };
            let deadline = Instant::now() + Duration::from_secs(30);
            broker.store_messages(topic, vec![message], deadline).await.expect("a send");
        }
    }

    #[tokio::test]
    async fn the_oldest_messages_are_removed_and_a_slow_group_continues_after_them() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(EmbeddedConfig { retention_bytes: 3_200, ..uncached(&directory) }).await;
        store(&broker, "topic", &["a", "b"]).await;
        // One message is leased, the other one was not delivered yet.
        assert_eq!(deliveries(&broker, 1).await[0].message.id, "a");
        let retention = enforce(&broker);
        store(&broker, "topic", &["c", "d", "e"]).await;
        retention.remove_beyond_limits().expect("a pass");
        assert_eq!(receive(&broker, 32).await, ["c", "d", "e"]);
        retention.remove_beyond_limits().expect("a pass");
        store(&broker, "topic", &["f"]).await;
        retention.remove_beyond_limits().expect("a pass");
        let topic = broker.topic("topic").await.expect("a topic");
        let chunks = broker.store.log().expect("open").prefix(keys::queue(topic.id(), 0)).count();
        assert_eq!(chunks, 3);
    }

    #[tokio::test]
    async fn a_limit_of_a_topic_takes_precedence_and_the_newest_chunk_stays() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let by_name = BTreeMap::from([("topic".to_owned(), 0), ("small".to_owned(), 1)]);
        let limited =
            EmbeddedConfig { retention_bytes: 1, topic_retention_bytes: by_name, ..uncached(&directory) };
        let broker = open(limited).await;
        store(&broker, "topic", &["a", "b", "c"]).await;
        store(&broker, "small", &["d", "e", "f"]).await;
        enforce(&broker);
        assert_eq!(receive(&broker, 32).await, ["a", "b", "c"]);
        let small = broker.topic("small").await.expect("a topic");
        let range = small.load(&broker.store).expect("queues")[0].range();
        assert_eq!(range, (2, 3));
    }

    #[tokio::test]
    async fn a_topic_may_set_its_own_limit_of_bytes() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(uncached(&directory)).await;
        store(&broker, "topic", &["a", "b", "c"]).await;
        enforce(&broker);
        let limit = |bytes| -> Change<TopicConfig> {
            Arc::new(move |topic| Ok(TopicConfig { retention_bytes: Some(bytes), ..topic.clone() }))
        };
        broker.catalog.change_topic("topic", &limit(0)).expect("changed");
        enforce(&broker);
        let topic = broker.topic("topic").await.expect("a topic");
        let range = || topic.load(&broker.store).expect("queues")[0].range();
        assert_eq!(range(), (0, 3));
        broker.catalog.change_topic("topic", &limit(1)).expect("changed");
        enforce(&broker);
        assert_eq!(range(), (2, 3));
    }

    #[tokio::test]
    async fn the_limit_of_the_store_removes_the_oldest_messages_of_all_topics() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(EmbeddedConfig { store_retention_bytes: 4_200, ..uncached(&directory) }).await;
        store(&broker, "other", &["a", "b", "c"]).await;
        // The order of messages of the same millisecond is not known.
        let stored = super::super::clock::now();
        while super::super::clock::now() == stored {
            tokio::task::yield_now().await;
        }
        store(&broker, "topic", &["d", "e", "f"]).await;
        enforce(&broker);
        assert_eq!(receive(&broker, 32).await, ["d", "e", "f"]);
        let other = broker.topic("other").await.expect("a topic");
        assert_eq!(other.load(&broker.store).expect("queues")[0].range(), (2, 3));
    }

    #[tokio::test]
    async fn messages_that_were_sent_together_are_removed_together() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(EmbeddedConfig { retention_bytes: 1, ..uncached(&directory) }).await;
        send(&broker, ["a", "b"]).await;
        send(&broker, ["c", "d"]).await;
        enforce(&broker);
        let topic = broker.topic("topic").await.expect("a topic");
        assert_eq!(topic.load(&broker.store).expect("queues")[0].range(), (2, 4));
    }
}
