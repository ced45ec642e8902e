//! A change of a group's progress on its way to the disk: seen by the next start whole or not at all.

use fjall::UserKey;

use super::keys;
use super::lease::Lease;
use super::store::{Store, unavailable};
use crate::service::ServiceError;

/// Cursors and leases of one group in one topic that are about to change.
pub(super) struct Changes<'a> {
    store: &'a Store,
    group: u32,
    topic: u32,
    // A record's new value; `None` removes it.
    records: Vec<(UserKey, Option<Vec<u8>>)>,
}

impl<'a> Changes<'a> {
    /// Nothing so far.
    pub(super) fn new(store: &'a Store, group: u32, topic: u32) -> Self {
        Self { store, group, topic, records: Vec::new() }
    }

    /// A cursor moves.
    pub(super) fn cursor(&mut self, queue: u32, cursor: u64) {
        let key = keys::cursor(self.group, self.topic, queue);
        self.records.push((key.into(), Some(cursor.to_be_bytes().to_vec())));
    }

    /// A message is out.
    pub(super) fn lease(&mut self, queue: u32, offset: u64, lease: &Lease) {
        let key = keys::lease(self.group, self.topic, queue, offset);
        self.records.push((key.into(), Some(lease.encode())));
    }

    /// A lease ends for good.
    pub(super) fn no_lease(&mut self, queue: u32, offset: u64) {
        self.records.push((keys::lease(self.group, self.topic, queue, offset).into(), None));
    }

    /// Writes it; once this returns it survives the death of the process.
    pub(super) fn commit(mut self) -> Result<(), ServiceError> {
        let keyspace = &self.store.state;
        let written = if self.records.len() > 1 {
            let mut batch = self.store.progress_batch();
            for (key, value) in self.records {
                match value {
                    Some(value) => batch.insert(keyspace, key, value),
                    None => batch.remove(keyspace, key),
                }
            }
            batch.commit()
        } else {
            // The common case, at half the price of a batch.
            match self.records.pop() {
                Some((key, Some(value))) => keyspace.insert(key, value),
                Some((key, None)) => keyspace.remove(key),
                None => Ok(()),
            }
        };
        written.map_err(|e| unavailable(&e))
    }
}
