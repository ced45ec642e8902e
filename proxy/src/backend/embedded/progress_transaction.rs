//! A transaction on a group's progress in memory, which is then written to the disk.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::MappedMutexGuard;

use super::progress::{Progress, ProgressState, earlier_write_failed};
use super::progress_writer::{ProgressWriter, Written};
use super::queue_progress::QueueProgress;
use crate::service::ServiceError;

/// A transaction on a group's progress. Others see it once this is dropped. It is undone unless it was committed.
pub(super) struct ProgressTransaction<'a> {
    progress: &'a Arc<Progress>,
    state: MappedMutexGuard<'a, ProgressState>,
}

impl Progress {
    /// Begins a transaction. The state must have been loaded.
    ///
    /// # Errors
    /// `Unavailable` if the state was dropped since, because a write failed.
    pub(super) fn begin(self: &Arc<Self>) -> Result<ProgressTransaction<'_>, ServiceError> {
        Ok(ProgressTransaction { progress: self, state: self.lock().ok_or_else(earlier_write_failed)? })
    }
}

impl ProgressTransaction<'_> {
    /// Commits the transaction. It is written after all earlier ones. Later modifications belong to another transaction.
    pub(super) fn commit(&mut self, writer: &ProgressWriter) -> Written {
        let batch = self.state.write_batch(self.progress.group(), self.progress.topic());
        self.state.end_change(QueueProgress::keep);
        writer.submit(self.progress, batch.into_records())
    }
}

impl Deref for ProgressTransaction<'_> {
    type Target = ProgressState;

    fn deref(&self) -> &ProgressState {
        &self.state
    }
}

impl DerefMut for ProgressTransaction<'_> {
    fn deref_mut(&mut self) -> &mut ProgressState {
        &mut self.state
    }
}

impl Drop for ProgressTransaction<'_> {
    fn drop(&mut self) {
        self.state.end_change(QueueProgress::undo);
    }
}
