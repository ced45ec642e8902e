//! A message, and the object that reports its result.

use std::{fmt, sync::Arc};

use super::{dispatch::Key, inner::Inner, outcome::ConsumeResult};
use crate::message::Delivery;

/// A message to handle.
///
/// Its lease is kept until it is completed. A task that is dropped counts as [`Retry`](ConsumeResult::Retry).
#[derive(Debug)]
#[non_exhaustive]
pub struct Task {
    /// The message. [`Delivery::attempt`] counts all times that it was handed out.
    pub delivery: Delivery,
    pub(super) completion: Completion,
}

impl Task {
    /// Reports how the message was handled. Returns at once; may be called from any thread.
    pub fn complete(self, result: ConsumeResult) {
        self.completion.complete(result);
    }
}

/// Reports the result of a message. Dropping it reports a failure.
pub(super) struct Completion {
    /// Taken when the result is told.
    inner: Option<Arc<Inner>>,
    key: Key,
}

impl Completion {
    pub(super) fn new(inner: Arc<Inner>, key: Key) -> Self {
        Self { inner: Some(inner), key }
    }

    pub(super) fn complete(mut self, result: ConsumeResult) {
        self.tell(result);
    }

    fn tell(&mut self, result: ConsumeResult) {
        if let Some(inner) = self.inner.take() {
            inner.complete(self.key, result);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.tell(ConsumeResult::Retry);
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Completion").field(&self.key).finish()
    }
}
