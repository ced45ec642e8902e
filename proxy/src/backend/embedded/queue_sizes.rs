//! The limits for the bytes of messages, and the bytes in each queue.

use std::collections::{BTreeMap, HashMap};

use super::config::EmbeddedConfig;
use super::damage::{self, QueueParts};
use super::keys;
use super::store::{Store, corrupt, unavailable};
use super::topic::Topic;
use crate::service::ServiceError;

/// The maximum size of what is stored, in bytes. `None` means no limit.
pub(super) struct RetentionLimits {
    /// Of all topics together.
    pub(super) store: Option<u64>,
    /// Of each topic that has no limit of its own.
    topic: Option<u64>,
    /// Of individual topics.
    by_name: BTreeMap<String, Option<u64>>,
}

/// The bytes in each queue, by topic and queue. Each pass counts only the chunks that were added since the previous pass.
#[derive(Default)]
pub(super) struct QueueSizes {
    queues: HashMap<(u32, u32), QueueSize>,
    pass: u64,
}

#[derive(Clone, Copy, Default)]
struct QueueSize {
    bytes: u64,
    /// Chunks that begin here or later are not counted yet.
    next: u64,
    /// The last pass that saw the queue.
    pass: u64,
}

impl RetentionLimits {
    /// The limits that the configuration sets.
    pub(super) fn new(config: &EmbeddedConfig) -> Self {
        let limit = |bytes: u64| (bytes > 0).then_some(bytes);
        Self {
            store: limit(config.store_retention_bytes),
            topic: limit(config.retention_bytes),
            by_name: config.topic_retention_bytes.iter().map(|(name, b)| (name.clone(), limit(*b))).collect(),
        }
    }

    /// The limit of a topic. `None` means no limit.
    pub(super) fn of(&self, topic: &Topic) -> Option<u64> {
        if let Some(bytes) = topic.retention_bytes() {
            return Some(bytes).filter(|bytes| *bytes > 0);
        }
        if self.by_name.is_empty() {
            return self.topic;
        }
        self.by_name.get(&topic.config().name).copied().unwrap_or(self.topic)
    }
}

impl QueueSizes {
    /// Begins a pass.
    pub(super) fn begin_pass(&mut self) {
        self.pass += 1;
    }

    /// Forgets the queues that were not counted in this pass. Returns the size of the others in total.
    pub(super) fn end_pass(&mut self) -> u64 {
        let pass = self.pass;
        self.queues.retain(|_, counted| counted.pass == pass);
        self.queues.values().map(|counted| counted.bytes).fold(0, u64::saturating_add)
    }

    /// Notes that this many bytes of a queue were removed.
    pub(super) fn removed(&mut self, queue: (u32, u32), bytes: u64) {
        if let Some(counted) = self.queues.get_mut(&queue) {
            counted.bytes = counted.bytes.saturating_sub(bytes);
        }
    }

    /// Counts the chunks that were added to a queue. Returns the size of the queue. Reads the disk.
    pub(super) fn count(&mut self, store: &Store, topic: u32, queue: u32) -> Result<u64, ServiceError> {
        let counted = self.queues.entry((topic, queue)).or_default();
        counted.pass = self.pass;
        let log = store.log()?;
        let upper = keys::chunk(topic, queue, u64::MAX);
        // Damaged chunks are not counted.
        while let Some(first) = QueueParts::new(log.clone(), topic, queue, counted.next).next_first()? {
            let chunks = || log.range(keys::chunk(topic, queue, first)..upper);
            // Two iterators, because an entry returns either its key or its size unless its value is read, too.
            for (key, size) in chunks().zip(chunks()) {
                match (key.key(), size.size()) {
                    (Ok(key), Ok(size)) => {
                        let first = keys::chunk_first(&key).ok_or_else(|| corrupt("chunk key"))?;
                        counted.next = first.saturating_add(1);
                        counted.bytes = counted.bytes.saturating_add(size.into());
                    }
                    (Err(error), _) | (_, Err(error)) if damage::is_damage(&error) => break,
                    (Err(error), _) | (_, Err(error)) => return Err(unavailable(&error)),
                }
            }
            counted.next = counted.next.max(first.saturating_add(1));
        }
        Ok(counted.bytes)
    }
}
