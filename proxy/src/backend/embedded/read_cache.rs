//! A cache of chunks read from the disk, for groups that lag behind the recent chunks in memory. All groups share it.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::chunk::Chunk;

/// The maximum size of the cache, in bytes.
const MAX_BYTES: usize = 16 << 20;
/// The maximum number of concurrent reads. Each holds up to 128 KiB and one message.
const MAX_READS: usize = 16;

/// Cached chunks, by topic, queue and first offset.
pub(super) struct ReadCache {
    chunks: Mutex<Chunks>,
    reads: Semaphore,
}

#[derive(Default)]
struct Chunks {
    by_key: BTreeMap<ChunkKey, Chunk>,
    // The keys of all chunks, in the order in which they were read.
    order: VecDeque<ChunkKey>,
    bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ChunkKey {
    topic: u32,
    queue: u32,
    first: u64,
}

impl Default for ReadCache {
    fn default() -> Self {
        Self { chunks: Mutex::default(), reads: Semaphore::new(MAX_READS) }
    }
}

impl ReadCache {
    /// Waits until another read may start.
    pub(super) async fn permit(&self) -> SemaphorePermit<'_> {
        self.reads.acquire().await.expect("the semaphore is never closed")
    }

    /// Returns the cached chunk that contains this offset.
    pub(super) fn find(&self, topic: u32, queue: u32, offset: u64) -> Option<Chunk> {
        let chunks = self.chunks.lock();
        let upper = ChunkKey { topic, queue, first: offset };
        let (key, chunk) = chunks.by_key.range(..=upper).next_back()?;
        (key.topic == topic && key.queue == queue && offset < chunk.end()).then(|| chunk.clone())
    }

    /// Adds chunks, and evicts the ones that were read first.
    pub(super) fn insert(&self, topic: u32, queue: u32, read: &[Chunk]) {
        let mut chunks = self.chunks.lock();
        for chunk in read {
            let key = ChunkKey { topic, queue, first: chunk.first() };
            if chunks.by_key.insert(key, chunk.clone()).is_none() {
                chunks.bytes += chunk.memory();
                chunks.order.push_back(key);
            }
        }
        while chunks.bytes > MAX_BYTES {
            let Some(oldest) = chunks.order.pop_front() else { break };
            if let Some(chunk) = chunks.by_key.remove(&oldest) {
                chunks.bytes -= chunk.memory();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::Encoded;
    use super::*;

    fn chunk(first: u64, count: usize, size: usize) -> Chunk {
        let messages = vec![Encoded { head: vec![0; size], body: bytes::Bytes::new() }; count];
        Chunk::build(first, 0, messages.iter())
    }

    #[test]
    fn chunks_are_found_by_any_of_their_offsets() {
        let cache = ReadCache::default();
        cache.insert(1, 2, &[chunk(10, 5, 1), chunk(20, 1, 1)]);
        for (queue, offset, first) in [
            (2, 9, None),
            (2, 10, Some(10)),
            (2, 14, Some(10)),
            (2, 15, None),
            (2, 20, Some(20)),
            (3, 21, None),
        ] {
            assert_eq!(cache.find(1, queue, offset).map(|chunk| chunk.first()), first, "{queue}/{offset}");
        }
    }

    #[test]
    fn the_cache_is_bounded_by_bytes() {
        let cache = ReadCache::default();
        for first in 0..20 {
            cache.insert(1, 0, &[chunk(first, 1, 4 << 20)]);
            cache.insert(1, 0, &[chunk(first, 1, 4 << 20)]);
        }
        let chunks = cache.chunks.lock();
        assert!(chunks.bytes <= MAX_BYTES && chunks.order.len() == chunks.by_key.len());
        drop(chunks);
        assert!(cache.find(1, 0, 19).is_some() && cache.find(1, 0, 0).is_none());
    }
}
