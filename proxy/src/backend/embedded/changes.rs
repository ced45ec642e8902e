//! A change of a group's progress that is about to be written. The next start sees all of it or nothing.

use fjall::{PersistMode, UserKey};

use super::keys;
use super::lease::Lease;
use super::store::{Store, unavailable};
use crate::service::ServiceError;

/// Changed cursors and leases of one group in one topic.
pub(super) struct Changes<'a> {
    store: &'a Store,
    group: u32,
    topic: u32,
    // A record's new value; `None` removes it.
    records: Vec<(UserKey, Option<Vec<u8>>)>,
}

impl<'a> Changes<'a> {
    /// No changes yet.
    pub(super) fn new(store: &'a Store, group: u32, topic: u32) -> Self {
        Self { store, group, topic, records: Vec::new() }
    }

    /// Sets the cursor of a queue.
    pub(super) fn cursor(&mut self, queue: u32, cursor: u64) {
        let key = keys::cursor(self.group, self.topic, queue);
        self.records.push((key.into(), Some(cursor.to_be_bytes().to_vec())));
    }

    /// Sets the lease on a message.
    pub(super) fn lease(&mut self, queue: u32, offset: u64, lease: &Lease) {
        let key = keys::lease(self.group, self.topic, queue, offset);
        self.records.push((key.into(), Some(lease.encode())));
    }

    /// Removes the lease on a message.
    pub(super) fn no_lease(&mut self, queue: u32, offset: u64) {
        self.records.push((keys::lease(self.group, self.topic, queue, offset).into(), None));
    }

    /// Writes the changes. Once this returns they survive the end of the process.
    pub(super) fn commit(mut self) -> Result<(), ServiceError> {
        let state = self.store.state()?;
        let written = if self.records.len() > 1 {
            let mut batch = state.batch(PersistMode::Buffer);
            for (key, value) in self.records {
                match value {
                    Some(value) => batch.insert(&state, key, value),
                    None => batch.remove(&state, key),
                }
            }
            batch.commit()
        } else {
            // The common case, at half the cost of a batch.
            match self.records.pop() {
                Some((key, Some(value))) => state.insert(key, value),
                Some((key, None)) => state.remove(key),
                None => Ok(()),
            }
        };
        written.map_err(|e| unavailable(&e))
    }
}
