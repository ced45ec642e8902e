//! Tasks of a push consumer, until the binding takes them over.

use std::mem;

use crate::process_bound::Task;

/// The tasks that a push consumer handed out. If they are dropped before [`take`](Self::take), they go back to
/// the consumer, and this does not count as an attempt.
pub struct Tasks(Vec<Task>);

impl Tasks {
    pub(crate) fn new(tasks: Vec<Task>) -> Self {
        Self(tasks)
    }

    /// Takes the tasks. From then on the caller is responsible for them: see [`Task::complete`] and
    /// [`Task::put_back`].
    #[must_use]
    pub fn take(mut self) -> Vec<Task> {
        mem::take(&mut self.0)
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        // The last one first, because each of them becomes the next one.
        mem::take(&mut self.0).into_iter().rev().for_each(Task::put_back);
    }
}
