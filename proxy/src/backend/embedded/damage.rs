//! Reads the chunks of a queue even if some of them are corrupt on the disk.
//!
//! The storage engine detects damage by checksums: of one value, or of a block with the keys and values of several
//! chunks. A damaged part can't be read. The chunks that follow it can, once their position is found.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use fjall::LsmError;

use super::chunk::Chunk;
use super::keys;
use super::scan::{Item, Scan};
use super::store::{OpenDatabase, corrupt, unavailable};
use crate::service::ServiceError;

/// A stored part of a queue.
pub(super) enum QueuePart {
    /// A readable chunk.
    Chunk(Chunk),
    /// A damaged range that begins with this offset and ends where the next part begins.
    Damaged(u64),
}

/// Iterates over the stored parts of a queue, in order.
pub(super) struct QueueParts {
    log: Arc<OpenDatabase>,
    topic: u32,
    queue: u32,
    from: u64,
    found: Option<fjall::Iter>,
    /// The parts before those in `found`, around a damaged block.
    around_damage: VecDeque<PartAround>,
}

/// A part of a queue around a damaged block.
enum PartAround {
    /// The chunk that begins with this offset.
    Chunk(u64),
    /// The damaged block.
    Damage,
}

/// The maximum number of chunks around a damaged block that are searched at once.
const MAX_AROUND: usize = 64;

/// Whether an error means that stored data is damaged, and not that the disk can't be used now.
pub(super) fn is_damage(error: &fjall::Error) -> bool {
    /// The error code of the operating system for an unreadable sector.
    const EIO: i32 = 5;
    let is_lost =
        |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error() == Some(EIO);
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) => is_lost(error),
        fjall::Error::Storage(_) => true,
        _ => false,
    }
}

/// Reads an entry of the log.
///
/// # Errors
/// If its key can't be read, or the disk can't be used now.
pub(super) fn read_part(entry: fjall::Guard) -> Result<QueuePart, fjall::Error> {
    let key = Cell::new(None);
    let read = entry.into_inner_if(|found| {
        key.set(keys::chunk_first(found));
        true
    });
    let Some(first) = key.get() else { return read.map(|_| QueuePart::Damaged(0)) };
    match read {
        Ok((_, value)) => {
            let parsed = Chunk::parse(first, value.unwrap_or_default().into());
            Ok(parsed.map_or(QueuePart::Damaged(first), QueuePart::Chunk))
        }
        Err(error) if is_damage(&error) => Ok(QueuePart::Damaged(first)),
        Err(error) => Err(error),
    }
}

impl QueueParts {
    /// Begins with the first chunk whose first offset is at least `from`.
    pub(super) fn new(log: Arc<OpenDatabase>, topic: u32, queue: u32, from: u64) -> Self {
        let mut parts = Self { log, topic, queue, from, found: None, around_damage: VecDeque::new() };
        parts.found = Some(parts.chunks_from(from));
        parts
    }

    fn chunks_from(&self, from: u64) -> fjall::Iter {
        let upper = keys::chunk(self.topic, self.queue, u64::MAX);
        self.log.range(keys::chunk(self.topic, self.queue, from)..upper)
    }

    /// Returns the first offset of the next chunk whose key can be read.
    pub(super) fn next_first(&mut self) -> Result<Option<u64>, ServiceError> {
        loop {
            let first = match self.around_damage.pop_front() {
                Some(PartAround::Chunk(first)) => first,
                Some(PartAround::Damage) => continue,
                None => {
                    let Some(entry) = self.found.as_mut().and_then(Iterator::next) else { return Ok(None) };
                    match entry.key() {
                        Ok(key) => first_of(&key)?,
                        Err(error) if is_damage(&error) => {
                            self.search_around_damage()?;
                            continue;
                        }
                        Err(error) => return Err(unavailable(&error)),
                    }
                }
            };
            self.from = first.saturating_add(1);
            return Ok(Some(first));
        }
    }

    /// Finds the chunks before and after the damaged block at the current position, and those within its range that are in
    /// other tables.
    fn search_around_damage(&mut self) -> Result<(), ServiceError> {
        let begin = keys::chunk(self.topic, self.queue, self.from);
        let end = keys::chunk(self.topic, self.queue, u64::MAX);
        self.found = None;
        let mut after_damage = None;
        for item in Scan::range(&self.log, &begin, &end).values_if(|_| false) {
            match item.map_err(|error| unavailable(&error))? {
                Item::Entry(key, _) | Item::Damaged(key) => {
                    let first = first_of(&key)?;
                    if after_damage == Some(first) || self.around_damage.len() >= MAX_AROUND {
                        self.found = Some(self.chunks_from(first));
                        break;
                    }
                    self.around_damage.push_back(PartAround::Chunk(first));
                }
                Item::Gap(_, next) => {
                    self.around_damage.push_back(PartAround::Damage);
                    after_damage = next.as_deref().map(first_of).transpose()?;
                }
            }
        }
        Ok(())
    }

    fn read_around(&self, part: &PartAround) -> Result<QueuePart, ServiceError> {
        let PartAround::Chunk(first) = *part else { return Ok(QueuePart::Damaged(self.from)) };
        let chunk = stored_chunk(&self.log, self.topic, self.queue, first)?;
        Ok(chunk.map_or(QueuePart::Damaged(first), QueuePart::Chunk))
    }

    fn next_part(&mut self) -> Result<Option<QueuePart>, ServiceError> {
        loop {
            if let Some(part) = self.around_damage.pop_front() {
                return self.read_around(&part).map(Some);
            }
            let Some(entry) = self.found.as_mut().and_then(Iterator::next) else { return Ok(None) };
            match read_part(entry) {
                Ok(part) => return Ok(Some(part)),
                Err(error) if is_damage(&error) => self.search_around_damage()?,
                Err(error) => return Err(unavailable(&error)),
            }
        }
    }
}

impl Iterator for QueueParts {
    type Item = Result<QueuePart, ServiceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let part = self.next_part().transpose()?;
        match &part {
            Ok(QueuePart::Chunk(chunk)) => self.from = chunk.end(),
            Ok(QueuePart::Damaged(first)) => self.from = first.saturating_add(1),
            Err(_) => {}
        }
        Some(part)
    }
}

fn first_of(key: &[u8]) -> Result<u64, ServiceError> {
    keys::chunk_first(key).ok_or_else(|| corrupt("chunk key"))
}

/// Reads the chunk that begins with this offset. Returns `None` if it is missing or damaged.
pub(super) fn stored_chunk(
    log: &OpenDatabase,
    topic: u32,
    queue: u32,
    first: u64,
) -> Result<Option<Chunk>, ServiceError> {
    match log.get(keys::chunk(topic, queue, first)) {
        Ok(value) => Ok(value.and_then(|value| Chunk::parse(first, value.into()).ok())),
        Err(error) if is_damage(&error) => Ok(None),
        Err(error) => Err(unavailable(&error)),
    }
}

/// The offsets of a queue that are known to be lost.
#[derive(Default)]
pub(super) struct LostOffsets {
    // The end of each range, by its start. Ranges don't overlap.
    ranges: BTreeMap<u64, u64>,
}

impl LostOffsets {
    /// Adds the offsets from `first` to `end`, exclusive. Returns whether any of them is new.
    pub(super) fn add(&mut self, first: u64, end: u64) -> bool {
        if first >= end || self.after(first).is_some_and(|after| after >= end) {
            return false;
        }
        let (mut first, mut end) = (first, end);
        while let Some((&begin, &old)) = self.ranges.range(..=end).next_back()
            && old >= first
        {
            (first, end) = (first.min(begin), end.max(old));
            self.ranges.remove(&begin);
        }
        self.ranges.insert(first, end);
        true
    }

    /// Returns the next offset that is not lost, or `None` if this offset is not lost.
    pub(super) fn after(&self, offset: u64) -> Option<u64> {
        let (_, end) = self.ranges.range(..=offset).next_back()?;
        (offset < *end).then_some(*end)
    }

    /// Removes the ranges before this offset.
    pub(super) fn forget_before(&mut self, offset: u64) {
        self.ranges.retain(|_, end| *end > offset);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::backend::embedded::broker::Broker;
    use crate::backend::embedded::config::EmbeddedConfig;
    use crate::backend::embedded::reclaim;
    use crate::backend::embedded::testing::{flip, open, receive, uncached};
    use crate::service::Message;

    proptest! {
        #[test]
        fn lost_offsets_agree_with_a_model(ranges in prop::collection::vec((0u64..60, 0u64..9), 0..12)) {
            let (mut lost, mut model) = (LostOffsets::default(), BTreeSet::new());
            for (first, length) in ranges {
                let is_new = (first..first + length).any(|offset| !model.contains(&offset));
                model.extend(first..first + length);
                prop_assert_eq!(lost.add(first, first + length), is_new);
            }
            for offset in 0..80 {
                let after = (offset..).find(|later| !model.contains(later));
                prop_assert_eq!(lost.after(offset), after.filter(|after| *after > offset));
            }
        }
    }

    async fn broker(directory: &tempfile::TempDir) -> Broker {
        let config = EmbeddedConfig {
            data_dir: directory.path().to_owned(),
            default_queues: 1,
            cache_bytes: 0,
            ..EmbeddedConfig::default()
        };
        open(config).await
    }

    async fn store(broker: &Broker, id: usize, size: usize) {
        let message = Message { id: id.to_string(), body: vec![7; size].into(), ..Message::default() };
        let deadline = Instant::now() + Duration::from_secs(30);
        broker.store_messages("topic", vec![message], deadline).await.expect("a send");
    }

    /// Stores this many messages of this size in files, each in its own chunk.
    async fn fill(directory: &tempfile::TempDir, count: usize, size: usize) {
        let broker = broker(directory).await;
        for id in 0..count {
            store(&broker, id, size).await;
        }
        reclaim::flush(&broker.store.log().expect("open"), &broker.store).expect("written");
        broker.writer.stop();
    }

    async fn receive_all(broker: &Broker, count: usize) -> Vec<usize> {
        let mut ids = Vec::new();
        while ids.len() < count {
            ids.extend(receive(broker, 32).await.iter().map(|id| id.parse::<usize>().expect("a number")));
        }
        ids
    }

    #[tokio::test]
    async fn consumers_continue_after_a_damaged_message() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fill(&directory, 9, 2_000).await;
        flip(directory.path(), "blobs", |bytes| bytes.len() / 2);
        let broker = broker(&directory).await;
        store(&broker, 9, 10).await;
        let ids = receive_all(&broker, 9).await;
        assert_eq!((ids.first(), ids.last()), (Some(&0), Some(&9)));
        let lost: Vec<_> = (0..10).filter(|id| !ids.contains(id)).collect();
        assert_eq!(lost.len(), 1, "{lost:?}");
    }

    #[tokio::test]
    async fn consumers_continue_after_a_damaged_block() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fill(&directory, 300, 30).await;
        flip(directory.path(), "tables", |_| 6_000);
        let broker = broker(&directory).await;
        store(&broker, 300, 10).await;
        let topic = broker.topic("topic").await.expect("a topic");
        let queue = topic.load(&broker.store).expect("queues")[0].clone();
        let mut ids = receive_all(&broker, 1).await;
        while ids.last() != Some(&300) {
            ids.extend(receive_all(&broker, 1).await);
        }
        let lost: Vec<_> = (0..300).filter(|id| !ids.contains(id)).collect();
        assert!(!lost.is_empty() && lost.len() < 150 && lost[0] > 0, "{lost:?}");
        assert!(lost.windows(2).all(|two| two[0] + 1 == two[1]), "one after the other: {lost:?}");
        let after = queue.after_lost(lost[0] as u64);
        assert_eq!(after, lost.last().map(|last| *last as u64 + 1));
    }

    #[tokio::test]
    async fn messages_after_a_damaged_block_are_delivered_although_its_range_includes_them() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = EmbeddedConfig { default_queues: 2, ..uncached(&directory) };
        let stopped = open(config.clone()).await;
        for id in 0..20 {
            store(&stopped, id, 30).await;
        }
        reclaim::flush(&stopped.store.log().expect("open"), &stopped.store).expect("written");
        stopped.writer.stop();
        drop(stopped);
        // The block has messages of both queues.
        flip(directory.path(), "tables", |_| 300);
        // These get into other tables, and the last ones stay in memory.
        for id in [20, 30] {
            let broker = open(config.clone()).await;
            for id in id..id + 10 {
                store(&broker, id, 30).await;
            }
            reclaim::flush(&broker.store.log().expect("open"), &broker.store).expect("written");
            broker.writer.stop();
        }
        let broker = open(config).await;
        for id in 40..50 {
            store(&broker, id, 30).await;
        }
        let mut ids = receive_all(&broker, 30).await;
        ids.sort_unstable();
        assert_eq!(ids, (20..50).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn offsets_are_not_reused_if_the_last_message_is_damaged() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fill(&directory, 3, 2_000).await;
        // In the body of the last message.
        flip(directory.path(), "blobs", |bytes| {
            let body = bytes.windows(100).rposition(|bytes| bytes == [7; 100]);
            body.expect("a body")
        });
        let broker = broker(&directory).await;
        store(&broker, 3, 10).await;
        let topic = broker.topic("topic").await.expect("a topic");
        assert!(topic.load(&broker.store).expect("queues")[0].end() > 3);
        assert_eq!(receive_all(&broker, 3).await, [0, 1, 3]);
    }
}
