//! Caches the offset ranges of lite topics that are not in memory, because statistics read them again and again.

use std::collections::HashMap;

use super::queue::Queue;
use super::queue_stats::stored_at;
use super::store::Store;
use crate::service::ServiceError;

/// The maximum number of cached lite topics. Others are read from the disk each time.
const MAX_RANGES: usize = 1 << 17;

/// The cached ranges of lite topics, by id.
#[derive(Default)]
pub(super) struct LiteRanges {
    known: HashMap<u32, CachedRange>,
}

#[derive(Clone, Copy)]
struct CachedRange {
    range: (u64, u64),
    /// The last argument and result of `stored_at`.
    last_stored_at: Option<(u64, Option<u64>)>,
}

impl LiteRanges {
    /// Returns the first offset that is not removed, and the offset after the last. Reads the disk unless they are
    /// cached.
    pub(super) fn range(&mut self, store: &Store, id: u32) -> Result<(u64, u64), ServiceError> {
        if let Some(known) = self.known.get(&id) {
            return Ok(known.range);
        }
        let range = Queue::load(store, id, 0)?.range();
        self.insert(id, CachedRange { range, last_stored_at: None });
        Ok(range)
    }

    /// Returns when the message at this offset, or else the next stored message, was stored, in ms. Reads the
    /// disk unless the last call for this lite topic had the same offset.
    pub(super) fn stored_at(
        &mut self,
        store: &Store,
        id: u32,
        offset: u64,
    ) -> Result<Option<u64>, ServiceError> {
        let known = self.known.get(&id).and_then(|known| known.last_stored_at);
        if let Some((_, at)) = known.filter(|(known, _)| *known == offset) {
            return Ok(at);
        }
        let queue = Queue::load(store, id, 0)?;
        let at = stored_at(&queue, store, offset)?;
        self.insert(id, CachedRange { range: queue.range(), last_stored_at: Some((offset, at)) });
        Ok(at)
    }

    fn insert(&mut self, id: u32, known: CachedRange) {
        if self.known.len() < MAX_RANGES || self.known.contains_key(&id) {
            self.known.insert(id, known);
        }
    }

    /// Removes a lite topic, which may have changed.
    pub(super) fn forget(&mut self, id: u32) {
        self.known.remove(&id);
    }

    /// Removes all lite topics.
    pub(super) fn clear(&mut self) {
        self.known = HashMap::new();
    }
}
