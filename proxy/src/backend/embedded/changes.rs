//! A change of a group's progress on its way to the disk: one batch, seen by the next start whole or not at all.

use fjall::OwnedWriteBatch;

use super::keys;
use super::lease::Lease;
use super::store::{Store, unavailable};
use crate::service::ServiceError;

/// Cursors and leases of one group in one topic that are about to change.
pub(super) struct Changes<'a> {
    store: &'a Store,
    batch: OwnedWriteBatch,
    group: u32,
    topic: u32,
}

impl<'a> Changes<'a> {
    /// Nothing so far.
    pub(super) fn new(store: &'a Store, group: u32, topic: u32) -> Self {
        Self { store, batch: store.progress_batch(), group, topic }
    }

    /// A cursor moves.
    pub(super) fn cursor(&mut self, queue: u32, cursor: u64) {
        self.batch.insert(
            &self.store.progress,
            keys::cursor(self.group, self.topic, queue),
            cursor.to_be_bytes(),
        );
    }

    /// A message is out.
    pub(super) fn lease(&mut self, queue: u32, offset: u64, lease: &Lease) {
        let key = keys::lease(self.group, self.topic, queue, offset);
        self.batch.insert(&self.store.progress, key, lease.encode());
    }

    /// A message is consumed.
    pub(super) fn settled(&mut self, queue: u32, offset: u64) {
        self.batch.remove(&self.store.progress, keys::lease(self.group, self.topic, queue, offset));
    }

    /// Writes it; once this returns it survives the death of the process.
    pub(super) fn commit(self) -> Result<(), ServiceError> {
        self.batch.commit().map_err(|e| unavailable(&e))
    }
}
