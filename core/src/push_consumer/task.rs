//! A message to handle, and the object that reports its result.

use std::{fmt, sync::Arc};

use super::{dispatch::Key, inner::Inner, outcome::ConsumeResult};
use crate::message::Delivery;

/// A message to handle.
///
/// The lease of the message is renewed until the task is completed. Dropping a task without completing it reports
/// [`Retry`](ConsumeResult::Retry).
#[derive(Debug)]
#[non_exhaustive]
pub struct Task {
    /// The message. Its [`Delivery::attempt`] also counts how often this consumer has handed it out.
    pub delivery: Delivery,
    pub(super) completion: Completion,
}

impl Task {
    /// Reports the result of handling the message. Returns at once; may be called from any thread.
    pub fn complete(self, result: ConsumeResult) {
        self.completion.complete(result);
    }

    /// Puts back the message, because its handler has not seen it. It is handed out next, and the attempt does not
    /// count; earlier attempts that failed still do. If its subscription has ended or the consumer is closed, it is given
    /// back to the server. Returns at once; may be called from any thread.
    pub fn put_back(self) {
        self.completion.put_back(self.delivery);
    }
}

/// Reports the result of a message. Dropping it reports [`Retry`](ConsumeResult::Retry).
pub(super) struct Completion {
    /// `None` once the result was reported, or the message was put back.
    inner: Option<Arc<Inner>>,
    key: Key,
}

impl Completion {
    pub(super) fn new(inner: Arc<Inner>, key: Key) -> Self {
        Self { inner: Some(inner), key }
    }

    pub(super) fn complete(mut self, result: ConsumeResult) {
        self.report(result);
    }

    fn put_back(mut self, delivery: Delivery) {
        if let Some(inner) = self.inner.take() {
            inner.put_back(self.key, delivery);
        }
    }

    fn report(&mut self, result: ConsumeResult) {
        if let Some(inner) = self.inner.take() {
            inner.complete(self.key, result);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.report(ConsumeResult::Retry);
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Completion").field(&self.key).finish()
    }
}
