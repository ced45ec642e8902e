//! One queue of a topic: where it begins and ends, and its recent chunks in memory.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::chunk::Chunk;
use super::keys;
use super::store::{Store, corrupt, unavailable};
use crate::service::ServiceError;

/// A queue. Only the writer thread appends; everybody reads.
pub(super) struct Queue {
    topic: u32,
    id: u32,
    state: Mutex<State>,
    arrived: Notify,
}

struct State {
    start: u64,
    end: u64,
    // Consecutive, the last one ends at `end`; oldest are evicted first.
    recent: VecDeque<Chunk>,
}

impl Queue {
    /// Finds out where the queue begins and ends. Reads the disk.
    pub(super) fn load(store: &Store, topic: u32, id: u32) -> Result<Self, ServiceError> {
        let log = store.log()?;
        let mut chunks = log.prefix(keys::queue(topic, id));
        let (mut start, mut end) = (0, 0);
        if let Some(first) = chunks.next() {
            let key = first.key().map_err(|e| unavailable(&e))?;
            start = keys::chunk_first(&key).ok_or_else(|| corrupt("chunk key"))?;
            let last = log.prefix(keys::queue(topic, id)).next_back();
            let (key, value) = match last {
                Some(last) => last.into_inner().map_err(|e| unavailable(&e))?,
                None => return Err(corrupt("chunk order")),
            };
            end = parse(&key, value.into())?.end();
        }
        let state = Mutex::new(State { start, end, recent: VecDeque::new() });
        Ok(Self { topic, id, state, arrived: Notify::new() })
    }

    /// The topic's id.
    pub(super) fn topic(&self) -> u32 {
        self.topic
    }

    /// Its number in the topic.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// The first offset that is kept, and the one after the last.
    pub(super) fn range(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.start, state.end)
    }

    /// The offset of the next message.
    pub(super) fn end(&self) -> u64 {
        self.state.lock().end
    }

    /// Finds out where the queue ends on the disk. Returns how many messages are there beyond the end that was known.
    pub(super) fn find_end(&self, store: &Store) -> Result<usize, ServiceError> {
        let Some(last) = store.log()?.prefix(keys::queue(self.topic, self.id)).next_back() else {
            return Ok(0);
        };
        let (key, value) = last.into_inner().map_err(|e| unavailable(&e))?;
        let end = parse(&key, value.into())?.end();
        let mut state = self.state.lock();
        let found = end.saturating_sub(state.end);
        state.end += found;
        drop(state);
        self.wake_pulls();
        Ok(usize::try_from(found).unwrap_or(usize::MAX))
    }

    /// The chunk in memory that holds this offset.
    pub(super) fn recent(&self, offset: u64) -> Option<Chunk> {
        let state = self.state.lock();
        let after = state.recent.partition_point(|chunk| chunk.first() <= offset);
        let chunk = state.recent.get(after.checked_sub(1)?)?;
        (offset < chunk.end()).then(|| chunk.clone())
    }

    /// The chunk on disk that holds this offset, and those after it up to about `bytes`. Reads the disk. Where the
    /// offset was removed, the queue begins at the next message that is there.
    pub(super) fn read(&self, store: &Store, offset: u64, bytes: usize) -> Result<Vec<Chunk>, ServiceError> {
        let mut chunks = Vec::new();
        let mut total = 0;
        let first = self.chunk_holding(store, offset)?;
        let from = first.as_ref().map_or(offset, Chunk::end);
        let is_removed = first.is_none();
        if let Some(first) = first {
            total += first.data().len();
            chunks.push(first);
        }
        for chunk in self.chunks_from(store, from)? {
            if total >= bytes {
                break;
            }
            let chunk = chunk?;
            total += chunk.data().len();
            chunks.push(chunk);
        }
        if is_removed && let Some(next) = chunks.first() {
            // Retention removes from the front only: nothing before a hole is kept.
            self.begin_at(next.first());
        }
        Ok(chunks)
    }

    /// The chunks on disk that begin at this offset or later.
    pub(super) fn chunks_from(
        &self,
        store: &Store,
        offset: u64,
    ) -> Result<impl Iterator<Item = Result<Chunk, ServiceError>>, ServiceError> {
        let lower = keys::chunk(self.topic, self.id, offset);
        let upper = keys::chunk(self.topic, self.id, u64::MAX);
        Ok(store.log()?.range(lower..upper).map(|entry| {
            let (key, value) = entry.into_inner().map_err(|e| unavailable(&e))?;
            parse(&key, value.into())
        }))
    }

    /// The offset of the first message that was stored at this time or later, in ms since 1970. Reads the disk.
    pub(super) fn first_stored_at(&self, store: &Store, at: u64) -> Result<u64, ServiceError> {
        // What is before `low` is older, and what is at `high` or behind it is not.
        let (mut low, mut high) = self.range();
        while low < high {
            let middle = low + (high - low) / 2;
            let chunk = match self.recent(middle) {
                Some(chunk) => Some(chunk),
                None => self.chunk_holding(store, middle)?,
            };
            match chunk {
                Some(chunk) if chunk.stored_at() >= at => high = chunk.first(),
                Some(chunk) => low = chunk.end(),
                // Retention has removed it.
                None => low = middle + 1,
            }
        }
        Ok(low)
    }

    /// The key of one of its chunks.
    pub(super) fn chunk_key(&self, chunk: &Chunk) -> [u8; 16] {
        keys::chunk(self.topic, self.id, chunk.first())
    }

    fn chunk_holding(&self, store: &Store, offset: u64) -> Result<Option<Chunk>, ServiceError> {
        let lower = keys::chunk(self.topic, self.id, 0);
        let upper = keys::chunk(self.topic, self.id, offset);
        let Some(entry) = store.log()?.range(lower..=upper).next_back() else { return Ok(None) };
        let (key, value) = entry.into_inner().map_err(|e| unavailable(&e))?;
        let chunk = parse(&key, value.into())?;
        Ok((offset < chunk.end()).then_some(chunk))
    }

    /// Lets a committed chunk be seen.
    pub(super) fn publish(&self, chunk: Chunk) {
        let mut state = self.state.lock();
        state.end = chunk.end();
        state.recent.push_back(chunk);
        drop(state);
        self.wake_pulls();
    }

    /// Resolves when messages have arrived since it was enabled, for those who read by offset.
    pub(super) fn arrived(&self) -> Notified<'_> {
        self.arrived.notified()
    }

    /// Wakes those who wait for [`Queue::arrived`].
    pub(super) fn wake_pulls(&self) {
        self.arrived.notify_waiters();
    }

    /// Forgets the oldest chunk in memory. Returns about how many bytes that frees.
    pub(super) fn evict_oldest(&self) -> usize {
        self.state.lock().recent.pop_front().map_or(0, |chunk| chunk.memory())
    }

    /// Says that everything below this offset is gone.
    pub(super) fn begin_at(&self, start: u64) {
        let mut state = self.state.lock();
        state.start = state.start.max(start);
    }
}

/// Reads a chunk as the keyspace holds it.
pub(super) fn parse(key: &[u8], value: Bytes) -> Result<Chunk, ServiceError> {
    let first = keys::chunk_first(key).ok_or_else(|| corrupt("chunk key"))?;
    Chunk::parse(first, value).map_err(|_| corrupt("chunk"))
}
