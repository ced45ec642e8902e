//! A queue of a topic: its range of offsets, and its recent chunks in memory.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::chunk::{self, Chunk};
use super::damage::{self, LostOffsets, QueuePart, QueueParts};
use super::keys;
use super::store::{Store, unavailable};
use crate::service::ServiceError;

/// A queue. Only the writer thread appends to it.
pub(super) struct Queue {
    topic: u32,
    id: u32,
    state: Mutex<QueueState>,
    arrived: Notify,
}

struct QueueState {
    /// The first offset that is not removed.
    start: u64,
    /// The offset of the next message.
    end: u64,
    /// Consecutive chunks, oldest first. The last one ends at `end`. The oldest are evicted first.
    recent: VecDeque<Chunk>,
    lost: LostOffsets,
}

/// If the end of a queue is damaged, new messages get offsets this far after the last readable message. The offsets of
/// lost messages must not be used again.
const DAMAGED_END_GAP: u64 = 1 << 16;

impl Queue {
    /// Reads the range of the queue from the disk.
    pub(super) fn load(store: &Store, topic: u32, id: u32) -> Result<Self, ServiceError> {
        let mut lost = LostOffsets::default();
        let first = QueueParts::new(store.log()?, topic, id, 0).next_first()?;
        let range = match first {
            Some(start) => (start, stored_end(store, topic, id, &mut lost)?),
            None => (0, 0),
        };
        let state = QueueState { start: range.0, end: range.1, recent: VecDeque::new(), lost };
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

    /// The first offset that is not removed, and the offset after the last message.
    pub(super) fn range(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.start, state.end)
    }

    /// The offset of the next message.
    pub(super) fn end(&self) -> u64 {
        self.state.lock().end
    }

    /// Reads the end of the queue from the disk. Returns how many messages lie beyond the end that was known.
    pub(super) fn reload_end(&self, store: &Store) -> Result<usize, ServiceError> {
        let mut lost = LostOffsets::default();
        let end = stored_end(store, self.topic, self.id, &mut lost)?;
        let mut state = self.state.lock();
        let found = end.saturating_sub(state.end);
        state.end += found;
        drop(state);
        self.wake_pulls();
        Ok(usize::try_from(found).unwrap_or(usize::MAX))
    }

    /// Returns the chunk in memory that contains this offset.
    pub(super) fn recent(&self, offset: u64) -> Option<Chunk> {
        let state = self.state.lock();
        let after = state.recent.partition_point(|chunk| chunk.first() <= offset);
        let chunk = state.recent.get(after.checked_sub(1)?)?;
        (offset < chunk.end()).then(|| chunk.clone())
    }

    /// Reads the chunk that contains this offset, and later ones up to about `bytes`, from the disk. If the offset was
    /// removed, sets the start of the queue to the next stored message. If it is damaged, marks it as lost: see
    /// [`Queue::after_lost`].
    pub(super) fn read(&self, store: &Store, offset: u64, bytes: usize) -> Result<Vec<Chunk>, ServiceError> {
        let mut chunks = Vec::new();
        let mut total = 0;
        let first = self.part_at(store, offset)?;
        let is_removed = first.is_none();
        let mut damaged_from = None;
        let from = match first {
            Some(QueuePart::Chunk(chunk)) => {
                let end = chunk.end();
                total += chunk.data().len();
                chunks.push(chunk);
                end
            }
            Some(QueuePart::Damaged(first)) => {
                damaged_from = Some(first);
                offset.saturating_add(1)
            }
            None => offset,
        };
        for part in self.parts_from(store, from)? {
            if total >= bytes {
                break;
            }
            match part? {
                QueuePart::Chunk(chunk) => {
                    if let Some(first) = damaged_from.take() {
                        self.mark_lost(store, first, chunk.first())?;
                    }
                    total += chunk.data().len();
                    chunks.push(chunk);
                }
                // The read that begins there finds out how many messages are lost.
                QueuePart::Damaged(_) if !chunks.is_empty() => break,
                QueuePart::Damaged(first) => damaged_from = Some(damaged_from.unwrap_or(first)),
            }
        }
        if let Some(first) = damaged_from {
            self.mark_lost(store, first, self.end())?;
        } else if is_removed
            && let Some(next) = chunks.first()
            && self.after_lost(offset).is_none()
        {
            // Retention removes from the front only, so there is nothing before a hole.
            self.advance_start(next.first());
        }
        Ok(chunks)
    }

    /// Iterates over the stored chunks that begin at this offset or later, and the damaged ranges between them.
    pub(super) fn parts_from(&self, store: &Store, offset: u64) -> Result<QueueParts, ServiceError> {
        Ok(QueueParts::new(store.log()?, self.topic, self.id, offset))
    }

    /// Returns the next offset that is not lost, or `None` if this offset is not lost.
    pub(super) fn after_lost(&self, offset: u64) -> Option<u64> {
        self.state.lock().lost.after(offset)
    }

    fn mark_lost(&self, store: &Store, first: u64, end: u64) -> Result<(), ServiceError> {
        let is_new = self.state.lock().lost.add(first, end);
        if is_new {
            store.log()?.damage.report_lost(self.topic, self.id, first..end);
        }
        Ok(())
    }

    /// Returns the offset of the first message that was stored at this time or later. Reads the disk.
    pub(super) fn first_stored_at(&self, store: &Store, at: u64) -> Result<u64, ServiceError> {
        // Messages before `low` are older than `at`, those from `high` on are not.
        let (mut low, mut high) = self.range();
        while low < high {
            let middle = low + (high - low) / 2;
            let chunk = match self.recent(middle) {
                Some(chunk) => Some(chunk),
                None => match self.part_at(store, middle)? {
                    Some(QueuePart::Chunk(chunk)) => Some(chunk),
                    Some(QueuePart::Damaged(_)) | None => None,
                },
            };
            match chunk {
                Some(chunk) if chunk.stored_at() >= at => high = chunk.first(),
                Some(chunk) => low = chunk.end(),
                // The message was removed by retention, or is damaged.
                None => low = middle + 1,
            }
        }
        Ok(low)
    }

    /// The key of the chunk that begins with this offset.
    pub(super) fn chunk_key(&self, first: u64) -> [u8; 16] {
        keys::chunk(self.topic, self.id, first)
    }

    /// Reads the chunk that contains this offset, or the damaged range that may contain it.
    fn part_at(&self, store: &Store, offset: u64) -> Result<Option<QueuePart>, ServiceError> {
        let lower = keys::chunk(self.topic, self.id, 0);
        let upper = keys::chunk(self.topic, self.id, offset);
        let Some(entry) = store.log()?.range(lower..=upper).next_back() else { return Ok(None) };
        match damage::read_part(entry) {
            Ok(QueuePart::Chunk(chunk)) => Ok((offset < chunk.end()).then_some(QueuePart::Chunk(chunk))),
            Ok(damaged) => Ok(Some(damaged)),
            Err(error) if damage::is_damage(&error) => self.part_before_damage(store, offset).map(Some),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Reads the last readable chunk before a damaged range. Returns it if it contains the offset, and the damage if not.
    fn part_before_damage(&self, store: &Store, offset: u64) -> Result<QueuePart, ServiceError> {
        let mut before = None;
        let mut parts = self.parts_from(store, offset.saturating_sub(chunk::MAX_COUNT))?;
        while let Some(first) = parts.next_first()?.filter(|first| *first <= offset) {
            before = Some(first);
        }
        let Some(first) = before else { return Ok(QueuePart::Damaged(offset)) };
        let chunk = damage::stored_chunk(&*store.log()?, self.topic, self.id, first)?;
        Ok(chunk.filter(|chunk| offset < chunk.end()).map_or(QueuePart::Damaged(offset), QueuePart::Chunk))
    }

    /// Makes a committed chunk visible to readers.
    pub(super) fn publish(&self, chunk: Chunk) {
        let mut state = self.state.lock();
        state.end = chunk.end();
        state.recent.push_back(chunk);
        drop(state);
        self.wake_pulls();
    }

    /// Resolves when messages have arrived since it was enabled. Reads by offset wait for it.
    pub(super) fn arrived(&self) -> Notified<'_> {
        self.arrived.notified()
    }

    /// Wakes the reads by offset that wait for [`Queue::arrived`].
    pub(super) fn wake_pulls(&self) {
        self.arrived.notify_waiters();
    }

    /// Drops the oldest chunk in memory. Returns about how many bytes that frees.
    pub(super) fn evict_oldest(&self) -> usize {
        self.state.lock().recent.pop_front().map_or(0, |chunk| chunk.memory())
    }

    /// Sets the start of the queue, unless it is higher already. Everything below was removed.
    pub(super) fn advance_start(&self, start: u64) {
        let mut state = self.state.lock();
        state.start = state.start.max(start);
        let start = state.start;
        state.lost.forget_before(start);
    }
}

/// Reads the end of a queue from the disk. Adds to `lost` what is damaged there.
fn stored_end(store: &Store, topic: u32, id: u32, lost: &mut LostOffsets) -> Result<u64, ServiceError> {
    let log = store.log()?;
    let Some(last) = log.prefix(keys::queue(topic, id)).next_back() else { return Ok(0) };
    let first = match damage::read_part(last) {
        Ok(QueuePart::Chunk(chunk)) => return Ok(chunk.end()),
        Ok(QueuePart::Damaged(first)) => first,
        Err(error) if damage::is_damage(&error) => {
            let mut parts = QueueParts::new(log.clone(), topic, id, 0);
            let mut last = 0;
            while let Some(first) = parts.next_first()? {
                last = first;
            }
            last
        }
        Err(error) => return Err(unavailable(&error)),
    };
    // The chunk that begins there may be the damaged one or the one before it.
    let end = damage::stored_chunk(&log, topic, id, first)?.map_or(first, |chunk| chunk.end());
    let after = end.saturating_add(DAMAGED_END_GAP);
    lost.add(end, after);
    log.damage.report_lost(topic, id, end..after);
    Ok(after)
}
