//! A change of a group's progress in memory, which is then written to the disk.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::MappedMutexGuard;

use super::progress::{Progress, ProgressState, earlier_write_failed};
use super::progress_writer::{ProgressWriter, Written};
use super::queue_progress::QueueProgress;
use crate::service::ServiceError;

/// A change of a group's progress. Others see it once this is dropped. It is undone unless it was committed.
pub(super) struct ProgressChange<'a> {
    progress: &'a Arc<Progress>,
    state: MappedMutexGuard<'a, ProgressState>,
}

impl Progress {
    /// Begins a change. The state must have been loaded.
    ///
    /// # Errors
    /// `Unavailable` if the state was dropped since, because a write failed.
    pub(super) fn change(self: &Arc<Self>) -> Result<ProgressChange<'_>, ServiceError> {
        Ok(ProgressChange { progress: self, state: self.lock().ok_or_else(earlier_write_failed)? })
    }
}

impl ProgressChange<'_> {
    /// Commits the change. It is written after all earlier ones. Later modifications belong to another change.
    pub(super) fn commit(&mut self, writer: &ProgressWriter) -> Written {
        let changes = self.state.changes(self.progress.group(), self.progress.topic());
        self.state.end_change(QueueProgress::keep);
        writer.submit(self.progress, changes.into_records())
    }
}

impl Deref for ProgressChange<'_> {
    type Target = ProgressState;

    fn deref(&self) -> &ProgressState {
        &self.state
    }
}

impl DerefMut for ProgressChange<'_> {
    fn deref_mut(&mut self) -> &mut ProgressState {
        &mut self.state
    }
}

impl Drop for ProgressChange<'_> {
    fn drop(&mut self) {
        self.state.end_change(QueueProgress::undo);
    }
}
