//! Allocates the ids of topics, lite topics and groups.

use std::ops::Range;

use fjall::OwnedWriteBatch;
use parking_lot::{Mutex, MutexGuard};

use super::catalog_keys::record_key;
use super::store::OpenDatabase;

/// The next id. Locked during each change of the catalog.
pub(super) struct CatalogIds(Mutex<u32>);

/// A lock on the catalog, which allocates ids. The records with these ids must be committed before it is dropped.
pub(super) struct CatalogLock<'a>(MutexGuard<'a, u32>);

impl CatalogIds {
    /// Creates the allocator. `next` is the first id to allocate.
    pub(super) fn new(next: u32) -> Self {
        Self(Mutex::new(next))
    }

    /// Locks the catalog for changes until the returned value is dropped.
    pub(super) fn lock(&self) -> CatalogLock<'_> {
        CatalogLock(self.0.lock())
    }
}

impl CatalogLock<'_> {
    /// The next id.
    pub(super) fn next(&self) -> u32 {
        *self.0
    }

    /// Allocates this many ids, and adds the next id to the batch.
    pub(super) fn take(
        &mut self,
        count: usize,
        state: &OpenDatabase,
        batch: &mut OwnedWriteBatch,
    ) -> Range<u32> {
        let first = *self.0;
        *self.0 += u32::try_from(count).expect("a request names fewer than 2^32 topics");
        self.add_next_to(state, batch);
        first..*self.0
    }

    /// If `id` is the next id, advances the next id and adds it to the batch.
    pub(super) fn advance_past(&mut self, id: u32, state: &OpenDatabase, batch: &mut OwnedWriteBatch) {
        if id == *self.0 {
            *self.0 += 1;
            self.add_next_to(state, batch);
        }
    }

    /// Adds the next id to the batch.
    pub(super) fn add_next_to(&self, state: &OpenDatabase, batch: &mut OwnedWriteBatch) {
        batch.insert(state, record_key(b'n', &[]), self.0.to_be_bytes());
    }
}
