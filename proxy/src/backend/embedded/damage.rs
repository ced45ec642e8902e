//! Reads the chunks of a queue even if the disk has changed some of them.
//!
//! The storage engine finds damage by checksums: of one value, or of a block with the keys and values of several chunks. What
//! is damaged can't be read any more. What follows it can, once it is known where that is.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use fjall::LsmError;

use super::chunk::Chunk;
use super::keys;
use super::store::{Opened, corrupt, unavailable};
use crate::service::ServiceError;

/// What is found in a queue.
pub(super) enum Piece {
    /// A chunk.
    Chunk(Chunk),
    /// Damage that begins with this offset and ends where the next piece begins.
    Damaged(u64),
}

/// The pieces of a queue from an offset on, in order.
pub(super) struct Pieces {
    log: Arc<Opened>,
    topic: u32,
    queue: u32,
    from: u64,
    found: Option<fjall::Iter>,
}

/// What an offset leads to.
enum Next {
    /// The first chunk from there on begins with this offset.
    Chunk(u64),
    /// There is no chunk from there on.
    End,
    Unreadable,
}

/// Whether an error says that stored data is damaged, and not that the disk can't be used now.
pub(super) fn is_damage(error: &fjall::Error) -> bool {
    /// The system's number of the error for a sector that can't be read.
    const EIO: i32 = 5;
    let is_lost =
        |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error() == Some(EIO);
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) => is_lost(error),
        fjall::Error::Storage(_) => true,
        _ => false,
    }
}

/// Reads a chunk as the log holds it.
///
/// # Errors
/// If not even its key can be read, or the disk can't be used now.
pub(super) fn piece(entry: fjall::Guard) -> Result<Piece, fjall::Error> {
    let key = Cell::new(None);
    let read = entry.into_inner_if(|found| {
        key.set(keys::chunk_first(found));
        true
    });
    let Some(first) = key.get() else { return read.map(|_| Piece::Damaged(0)) };
    match read {
        Ok((_, value)) => {
            let parsed = Chunk::parse(first, value.unwrap_or_default().into());
            Ok(parsed.map_or(Piece::Damaged(first), Piece::Chunk))
        }
        Err(error) if is_damage(&error) => Ok(Piece::Damaged(first)),
        Err(error) => Err(error),
    }
}

impl Pieces {
    /// The pieces from the chunk on that begins with this offset, or from the next one.
    pub(super) fn new(log: Arc<Opened>, topic: u32, queue: u32, from: u64) -> Self {
        let mut pieces = Self { log, topic, queue, from, found: None };
        pieces.found = Some(pieces.chunks_from(from));
        pieces
    }

    fn chunks_from(&self, from: u64) -> fjall::Iter {
        let upper = keys::chunk(self.topic, self.queue, u64::MAX);
        self.log.range(keys::chunk(self.topic, self.queue, from)..upper)
    }

    /// The first offset of the next chunk whose key can be read.
    pub(super) fn next_first(&mut self) -> Result<Option<u64>, ServiceError> {
        let Some(entry) = self.found.as_mut().and_then(Iterator::next) else { return Ok(None) };
        let first = match entry.key() {
            Ok(key) => keys::chunk_first(&key).ok_or_else(|| corrupt("chunk key"))?,
            Err(error) if is_damage(&error) => match self.end_of_damage()? {
                Some(next) => next,
                None => return Ok(None),
            },
            Err(error) => return Err(unavailable(&error)),
        };
        self.from = first.saturating_add(1);
        Ok(Some(first))
    }

    /// Where the next chunk begins whose key can be read. Nothing between the current place and there can be.
    fn end_of_damage(&self) -> Result<Option<u64>, ServiceError> {
        // The keys of a block are consecutive: it is read as long as a search leads into it.
        let (mut inside, mut step) = (self.from, 1);
        let (mut beyond, mut found) = loop {
            let probe = inside.saturating_add(step);
            match self.look(probe)? {
                Next::Unreadable if probe == u64::MAX => return Ok(None),
                Next::Unreadable => (inside, step) = (probe, step.saturating_mul(2)),
                Next::Chunk(first) => break (probe, Some(first)),
                Next::End => break (probe, None),
            }
        };
        while beyond - inside > 1 {
            let middle = inside + (beyond - inside) / 2;
            match self.look(middle)? {
                Next::Unreadable => inside = middle,
                Next::Chunk(first) => (beyond, found) = (middle, Some(first)),
                Next::End => (beyond, found) = (middle, None),
            }
        }
        Ok(found)
    }

    fn look(&self, offset: u64) -> Result<Next, ServiceError> {
        let Some(entry) = self.chunks_from(offset).next() else { return Ok(Next::End) };
        match entry.key() {
            Ok(key) => keys::chunk_first(&key).map(Next::Chunk).ok_or_else(|| corrupt("chunk key")),
            Err(error) if is_damage(&error) => Ok(Next::Unreadable),
            Err(error) => Err(unavailable(&error)),
        }
    }
}

impl Iterator for Pieces {
    type Item = Result<Piece, ServiceError>;

    fn next(&mut self) -> Option<Self::Item> {
        match piece(self.found.as_mut()?.next()?) {
            Ok(found) => {
                self.from = match &found {
                    Piece::Chunk(chunk) => chunk.end(),
                    Piece::Damaged(first) => first.saturating_add(1),
                };
                Some(Ok(found))
            }
            Err(error) if is_damage(&error) => {
                let begin = self.from;
                match self.end_of_damage() {
                    Ok(Some(next)) => {
                        self.from = next;
                        self.found = Some(self.chunks_from(next));
                    }
                    Ok(None) => self.found = None,
                    Err(error) => return Some(Err(error)),
                }
                Some(Ok(Piece::Damaged(begin)))
            }
            Err(error) => Some(Err(unavailable(&error))),
        }
    }
}

/// The offsets of a queue that are known to be lost.
#[derive(Default)]
pub(super) struct Lost {
    // The end of each range, by its begin. They don't overlap.
    ranges: BTreeMap<u64, u64>,
}

impl Lost {
    /// Adds the offsets from `first` up to `end`. Returns whether they were not known before.
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

    /// The first offset that is not lost after this one, which is.
    pub(super) fn after(&self, offset: u64) -> Option<u64> {
        let (_, end) = self.ranges.range(..=offset).next_back()?;
        (offset < *end).then_some(*end)
    }

    /// Forgets what is before this offset.
    pub(super) fn forget_before(&mut self, offset: u64) {
        self.ranges.retain(|_, end| *end > offset);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::backend::embedded::broker::Broker;
    use crate::backend::embedded::config::EmbeddedConfig;
    use crate::backend::embedded::reclaim;
    use crate::backend::embedded::testing::{open, receive};
    use crate::service::Message;

    proptest! {
        #[test]
        fn lost_offsets_are_those_that_were_added(ranges in prop::collection::vec((0u64..60, 0u64..9), 0..12)) {
            let (mut lost, mut model) = (Lost::default(), BTreeSet::new());
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

    /// Changes one byte of the only file in a folder, at a part of the messages in it.
    fn flip(directory: &Path, folder: &str, find: impl FnOnce(&[u8]) -> usize) {
        let folder = directory.join("log/keyspaces/1").join(folder);
        let file = fs::read_dir(folder).expect("a folder").next().expect("a file").expect("readable").path();
        let mut bytes = fs::read(&file).expect("readable");
        let at = find(&bytes);
        bytes[at] ^= 1;
        fs::write(file, bytes).expect("writable");
    }

    async fn receive_all(broker: &Broker, count: usize) -> Vec<usize> {
        let mut ids = Vec::new();
        while ids.len() < count {
            ids.extend(receive(broker, 32).await.iter().map(|id| id.parse::<usize>().expect("a number")));
        }
        ids
    }

    #[tokio::test]
    async fn consumers_go_on_after_a_damaged_message() {
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
    async fn consumers_go_on_after_a_damaged_block_of_messages() {
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
    async fn no_offset_is_given_twice_if_the_last_message_is_damaged() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fill(&directory, 3, 2_000).await;
        // The last message's body.
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
