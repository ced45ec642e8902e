//! Changed cursors and leases that are about to be written. The changes of one request are written atomically.

use fjall::{PersistMode, UserKey, UserValue};

use super::keys;
use super::lease::Lease;
use super::store::{Store, unavailable};
use crate::service::ServiceError;

/// Changed cursors and leases of one group in one topic.
pub(super) struct ProgressWriteBatch {
    group: u32,
    topic: u32,
    records: Vec<RecordChange>,
}

/// The key of a record and its new value. `None` removes the record.
pub(super) type RecordChange = (UserKey, Option<UserValue>);

impl ProgressWriteBatch {
    /// Creates an empty batch.
    pub(super) fn new(group: u32, topic: u32) -> Self {
        Self { group, topic, records: Vec::new() }
    }

    /// Sets the cursor of a queue.
    pub(super) fn set_cursor(&mut self, queue: u32, cursor: u64) {
        let key = keys::cursor(self.group, self.topic, queue);
        self.records.push((key.into(), Some(cursor.to_be_bytes().into())));
    }

    /// Sets the lease on a message.
    pub(super) fn set_lease(&mut self, queue: u32, offset: u64, lease: &Lease) {
        let key = keys::lease(self.group, self.topic, queue, offset);
        self.records.push((key.into(), Some(lease.encode().into())));
    }

    /// Removes the lease on a message.
    pub(super) fn remove_lease(&mut self, queue: u32, offset: u64) {
        self.records.push((keys::lease(self.group, self.topic, queue, offset).into(), None));
    }

    /// The records to write.
    pub(super) fn into_records(self) -> Vec<RecordChange> {
        self.records
    }
}

/// Writes records atomically. Once this returns, they survive the end of the process. Blocks: it may have to wait for an
/// fsync, during which fjall locks the database.
///
/// # Errors
/// `Unavailable`. Even then the database may contain the records after it was opened again.
pub(super) fn commit(store: &Store, mut records: Vec<RecordChange>) -> Result<(), ServiceError> {
    let state = store.state()?;
    let written = if records.len() > 1 {
        let mut batch = state.batch(PersistMode::Buffer);
        for (key, value) in records {
            match value {
                Some(value) => batch.insert(&state, key, value),
                None => batch.remove(&state, key),
            }
        }
        batch.commit()
    } else {
        // The common case, at half the cost of a batch.
        match records.pop() {
            Some((key, Some(value))) => state.insert(key, value),
            Some((key, None)) => state.remove(key),
            None => Ok(()),
        }
    };
    written.map_err(|error| {
        store.set_state_failed();
        unavailable(&error)
    })
}
