//! Where lite topics that are not in memory begin and end, as long as they stay there: statistics ask for all of them
//! again and again.

use std::collections::HashMap;

use super::administration::stored_at;
use super::queue::Queue;
use super::store::Store;
use crate::service::ServiceError;

/// Of how many lite topics it is kept. Others are read from the disk each time.
const MAX_RANGES: usize = 1 << 17;

/// What is known of lite topics, by id.
#[derive(Default)]
pub(super) struct LiteRanges {
    known: HashMap<u32, Known>,
}

#[derive(Clone, Copy)]
struct Known {
    range: (u64, u64),
    /// The message that was asked for last, and when it was stored.
    looked_at: Option<(u64, Option<u64>)>,
}

impl LiteRanges {
    /// The first offset that is kept, and the one after the last. Reads the disk the first time.
    pub(super) fn range(&mut self, store: &Store, id: u32) -> Result<(u64, u64), ServiceError> {
        if let Some(known) = self.known.get(&id) {
            return Ok(known.range);
        }
        let range = Queue::load(store, id, 0)?.range();
        self.keep(id, Known { range, looked_at: None });
        Ok(range)
    }

    /// When the message at this offset, or the next one that is there, was stored, in ms since 1970. Reads the disk unless it
    /// was asked last.
    pub(super) fn stored_at(
        &mut self,
        store: &Store,
        id: u32,
        offset: u64,
    ) -> Result<Option<u64>, ServiceError> {
        let known = self.known.get(&id).and_then(|known| known.looked_at);
        if let Some((_, at)) = known.filter(|(known, _)| *known == offset) {
            return Ok(at);
        }
        let queue = Queue::load(store, id, 0)?;
        let at = stored_at(&queue, store, offset)?;
        self.keep(id, Known { range: queue.range(), looked_at: Some((offset, at)) });
        Ok(at)
    }

    fn keep(&mut self, id: u32, known: Known) {
        if self.known.len() < MAX_RANGES || self.known.contains_key(&id) {
            self.known.insert(id, known);
        }
    }

    /// Forgets a lite topic, which may have changed.
    pub(super) fn forget(&mut self, id: u32) {
        self.known.remove(&id);
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.known = HashMap::new();
    }
}
