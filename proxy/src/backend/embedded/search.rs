//! Reads stored messages for an administrator. One call reads a bounded number of messages, and bypasses the cache that
//! consumers share.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::blocking::blocking;
use super::broker::Broker;
use super::chunk::Chunk;
use super::codec;
use super::queue::Queue;
use super::receive::READ_AHEAD;
use super::store::{Store, corrupt};
use crate::service::{
    Delivery, ReadMessage, ReadPage, ReadQueue, ServiceError, ServiceErrorKind, TopicKind, millis, time,
};

/// The maximum number of messages that a call examines.
const MAX_EXAMINED: u64 = 20_000;
/// The longest duration of a call, apart from one read of the disk.
const MAX_TIME: Duration = Duration::from_millis(500);
/// The maximum size of the bodies in a response, in bytes, apart from one message.
const MAX_BYTES: usize = 2 << 20;

impl Broker {
    /// See [`crate::service::Administration::read`].
    pub(super) async fn read_stored(&self, read: ReadQueue) -> Result<ReadPage, ServiceError> {
        let mut topic = self.known_topic(&read.topic)?;
        if topic.kind() == TopicKind::Lite && read.lite_topic.is_none() {
            let text = format!("topic {} keeps its messages in lite topics: name one of them", read.topic);
            return Err(ServiceError::new(ServiceErrorKind::Rejected, text));
        }
        let rejected = |text: String| ServiceError::new(ServiceErrorKind::Rejected, text);
        if read.broker != self.config.broker_name {
            return Err(rejected(format!("broker {} has no queues of topic {}", read.broker, read.topic)));
        }
        let (store, store_host) = (self.store.clone(), self.config.store_host.clone());
        let catalog = self.catalog.clone();
        blocking(move || {
            if let Some(name) = &read.lite_topic {
                topic = catalog.lite.existing(&topic, name)?;
            }
            let queues = topic.load(&store)?;
            let index = usize::try_from(read.queue_id).ok();
            let queue = index.and_then(|index| queues.get(index)).ok_or_else(|| {
                rejected(format!(
                    "topic {} has no queue {}: its queues are 0 to {}",
                    read.topic,
                    read.queue_id,
                    queues.len().saturating_sub(1)
                ))
            })?;
            PageReader { store: &store, queue, read: &read, store_host: &store_host }.page()
        })
        .await
    }
}

struct PageReader<'a> {
    store: &'a Store,
    queue: &'a Arc<Queue>,
    read: &'a ReadQueue,
    store_host: &'a str,
}

impl PageReader<'_> {
    fn page(&self) -> Result<ReadPage, ServiceError> {
        let started = Instant::now();
        let (start, end) = self.queue.range();
        let mut next = u64::try_from(self.read.offset).unwrap_or(0).max(start);
        if let Some(from) = self.read.from.and_then(|from| u64::try_from(millis(from)).ok()) {
            next = next.max(self.queue.first_stored_at(self.store, from)?);
        }
        let to = self.read.to.and_then(|to| u64::try_from(millis(to)).ok());
        let mut page = ReadPage::default();
        let mut bytes = 0;
        'pages: while next < end {
            let chunks = self.queue.read(self.store, next, READ_AHEAD)?;
            if chunks.is_empty() {
                break;
            }
            for chunk in chunks {
                if to.is_some_and(|to| chunk.stored_at() > to) {
                    next = end;
                    break 'pages;
                }
                next = next.max(chunk.first());
                while next < chunk.end() {
                    let is_full = page.messages.len() >= self.read.max || bytes >= MAX_BYTES;
                    if is_full || page.looked_at >= MAX_EXAMINED || started.elapsed() >= MAX_TIME {
                        break 'pages;
                    }
                    if let Some(found) = self.read_if_wanted(&chunk, next)? {
                        bytes += found.delivery.message.body.len();
                        page.messages.push(found);
                    }
                    page.looked_at += 1;
                    next += 1;
                }
            }
        }
        page.next_offset = next as i64;
        page.finished = next >= end;
        Ok(page)
    }

    /// Decodes a message. Returns `None` if it does not match the search.
    fn read_if_wanted(&self, chunk: &Chunk, offset: u64) -> Result<Option<ReadMessage>, ServiceError> {
        let bytes = chunk.message(offset).map_err(|_| corrupt("message"))?;
        let stored = codec::decode(&bytes).map_err(|_| corrupt("message"))?;
        let mut message = stored.message;
        if !self.read.wanted.matches(&message.id, &message.keys) {
            return Ok(None);
        }
        let body_bytes = message.body.len();
        // A copy, so that the response does not keep the whole chunk in memory.
        message.body = Bytes::copy_from_slice(&message.body[..body_bytes.min(self.read.max_body)]);
        let delivery = Delivery {
            message,
            topic: self.read.topic.clone(),
            queue_id: self.read.queue_id,
            queue_offset: offset as i64,
            stored_at: time(chunk.stored_at() as i64),
            store_host: self.store_host.to_owned(),
            attempt: stored.earlier_attempts.saturating_add(1) as i32,
            attempts_of_others: 0,
            received_at: SystemTime::now(),
            invisible: Duration::ZERO,
            coordinates: String::new(),
        };
        Ok(Some(ReadMessage { delivery, broker: self.read.broker.clone(), body_bytes }))
    }
}
