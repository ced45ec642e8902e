//! One queue of a topic: where it begins and ends, and its recent chunks in memory.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::chunk::{self, Chunk};
use super::damage::{self, Lost, Piece, Pieces};
use super::keys;
use super::store::{Opened, Store, corrupt, unavailable};
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
    lost: Lost,
}

/// The end of a queue is set so many offsets after the last message that can be read, if there is damage behind it: offsets
/// that were given to lost messages must not be given again.
const MARGIN: u64 = 1 << 16;

impl Queue {
    /// Finds out where the queue begins and ends. Reads the disk.
    pub(super) fn load(store: &Store, topic: u32, id: u32) -> Result<Self, ServiceError> {
        let mut lost = Lost::default();
        let first = Pieces::new(store.log()?, topic, id, 0).next_first()?;
        let range = match first {
            Some(start) => (start, stored_end(store, topic, id, &mut lost)?),
            None => (0, 0),
        };
        let state = State { start: range.0, end: range.1, recent: VecDeque::new(), lost };
        Ok(Self { topic, id, state: Mutex::new(state), arrived: Notify::new() })
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
        let mut lost = Lost::default();
        let end = stored_end(store, self.topic, self.id, &mut lost)?;
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
    /// offset was removed, the queue begins at the next message that is there. Where it is damaged, it is lost from now on:
    /// see [`Queue::after_lost`].
    pub(super) fn read(&self, store: &Store, offset: u64, bytes: usize) -> Result<Vec<Chunk>, ServiceError> {
        let mut chunks = Vec::new();
        let mut total = 0;
        let first = self.piece_holding(store, offset)?;
        let is_removed = first.is_none();
        let mut damaged_from = None;
        let from = match first {
            Some(Piece::Chunk(chunk)) => {
                let end = chunk.end();
                total += chunk.data().len();
                chunks.push(chunk);
                end
            }
            Some(Piece::Damaged(first)) => {
                damaged_from = Some(first);
                offset.saturating_add(1)
            }
            None => offset,
        };
        for piece in self.pieces_from(store, from)? {
            if total >= bytes {
                break;
            }
            match piece? {
                Piece::Chunk(chunk) => {
                    if let Some(first) = damaged_from.take() {
                        self.lose(first, chunk.first());
                    }
                    total += chunk.data().len();
                    chunks.push(chunk);
                }
                // A read that begins there finds out what it costs.
                Piece::Damaged(_) if !chunks.is_empty() => break,
                Piece::Damaged(first) => damaged_from = Some(damaged_from.unwrap_or(first)),
            }
        }
        if let Some(first) = damaged_from {
            self.lose(first, self.end());
        } else if is_removed
            && let Some(next) = chunks.first()
            && self.after_lost(offset).is_none()
        {
            // Retention removes from the front only: nothing before a hole is kept.
            self.begin_at(next.first());
        }
        Ok(chunks)
    }

    /// The chunks on disk that begin at this offset or later, and what is damaged between them.
    pub(super) fn pieces_from(&self, store: &Store, offset: u64) -> Result<Pieces, ServiceError> {
        Ok(Pieces::new(store.log()?, self.topic, self.id, offset))
    }

    /// If the message with this offset is lost, the next offset that is not.
    pub(super) fn after_lost(&self, offset: u64) -> Option<u64> {
        self.state.lock().lost.after(offset)
    }

    fn lose(&self, first: u64, end: u64) {
        let is_new = self.state.lock().lost.add(first, end);
        if is_new {
            report_lost(self.topic, self.id, first, end);
        }
    }

    /// The offset of the first message that was stored at this time or later, in ms since 1970. Reads the disk.
    pub(super) fn first_stored_at(&self, store: &Store, at: u64) -> Result<u64, ServiceError> {
        // What is before `low` is older, and what is at `high` or behind it is not.
        let (mut low, mut high) = self.range();
        while low < high {
            let middle = low + (high - low) / 2;
            let chunk = match self.recent(middle) {
                Some(chunk) => Some(chunk),
                None => match self.piece_holding(store, middle)? {
                    Some(Piece::Chunk(chunk)) => Some(chunk),
                    Some(Piece::Damaged(_)) | None => None,
                },
            };
            match chunk {
                Some(chunk) if chunk.stored_at() >= at => high = chunk.first(),
                Some(chunk) => low = chunk.end(),
                // Retention has removed it, or it is damaged.
                None => low = middle + 1,
            }
        }
        Ok(low)
    }

    /// The key of its chunk that begins with this offset.
    pub(super) fn chunk_key(&self, first: u64) -> [u8; 16] {
        keys::chunk(self.topic, self.id, first)
    }

    /// What holds this offset on the disk, if it is damaged maybe.
    fn piece_holding(&self, store: &Store, offset: u64) -> Result<Option<Piece>, ServiceError> {
        let lower = keys::chunk(self.topic, self.id, 0);
        let upper = keys::chunk(self.topic, self.id, offset);
        let Some(entry) = store.log()?.range(lower..=upper).next_back() else { return Ok(None) };
        match damage::piece(entry) {
            Ok(Piece::Chunk(chunk)) => Ok((offset < chunk.end()).then_some(Piece::Chunk(chunk))),
            Ok(damaged) => Ok(Some(damaged)),
            Err(error) if damage::is_damage(&error) => self.piece_before_damage(store, offset).map(Some),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// What holds an offset from which a search leads into damage: the last chunk before it, or nothing that can be read.
    fn piece_before_damage(&self, store: &Store, offset: u64) -> Result<Piece, ServiceError> {
        let mut before = None;
        let mut pieces = self.pieces_from(store, offset.saturating_sub(chunk::MAX_COUNT))?;
        while let Some(first) = pieces.next_first()?.filter(|first| *first <= offset) {
            before = Some(first);
        }
        let Some(first) = before else { return Ok(Piece::Damaged(offset)) };
        let chunk = stored_chunk(&*store.log()?, self.topic, self.id, first)?;
        Ok(chunk.filter(|chunk| offset < chunk.end()).map_or(Piece::Damaged(offset), Piece::Chunk))
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
        let start = state.start;
        state.lost.forget_before(start);
    }
}

/// Where a queue that is not empty ends on the disk. Adds to `lost` what is damaged at its end.
fn stored_end(store: &Store, topic: u32, id: u32, lost: &mut Lost) -> Result<u64, ServiceError> {
    let log = store.log()?;
    let Some(last) = log.prefix(keys::queue(topic, id)).next_back() else { return Ok(0) };
    let first = match damage::piece(last) {
        Ok(Piece::Chunk(chunk)) => return Ok(chunk.end()),
        Ok(Piece::Damaged(first)) => first,
        Err(error) if damage::is_damage(&error) => {
            let mut pieces = Pieces::new(log.clone(), topic, id, 0);
            let mut last = 0;
            while let Some(first) = pieces.next_first()? {
                last = first;
            }
            last
        }
        Err(error) => return Err(unavailable(&error)),
    };
    // The chunk that begins there may be the damaged one, or one before it.
    let end = stored_chunk(&log, topic, id, first)?.map_or(first, |chunk| chunk.end());
    let after = end.saturating_add(MARGIN);
    lost.add(end, after);
    report_lost(topic, id, end, after);
    Ok(after)
}

/// The chunk that begins with this offset, if it can be read.
fn stored_chunk(log: &Opened, topic: u32, id: u32, first: u64) -> Result<Option<Chunk>, ServiceError> {
    match log.get(keys::chunk(topic, id, first)) {
        Ok(value) => Ok(value.and_then(|value| Chunk::parse(first, value.into()).ok())),
        Err(error) if damage::is_damage(&error) => Ok(None),
        Err(error) => Err(unavailable(&error)),
    }
}

fn report_lost(topic: u32, queue: u32, first: u64, end: u64) {
    tracing::error!(
        topic_id = topic,
        queue,
        first,
        last = end.saturating_sub(1),
        "messages are lost: the disk has changed what was stored. Consumers go on after them; `store check` says more"
    );
}

/// Reads a chunk as the keyspace holds it.
pub(super) fn parse(key: &[u8], value: Bytes) -> Result<Chunk, ServiceError> {
    let first = keys::chunk_first(key).ok_or_else(|| corrupt("chunk key"))?;
    Chunk::parse(first, value).map_err(|_| corrupt("chunk"))
}
