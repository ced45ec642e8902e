//! A message to handle, and the object that reports its result.

use std::{fmt, mem, sync::Arc};

use super::{dispatch::Key, inner::Inner, outcome::ConsumeResult, settlement::SettlementWaiter};
use crate::{
    error::{Error, Result},
    message::Delivery,
};

/// The operation in the errors of [`Task::settled`] that no server reported.
pub(super) const SETTLE: &str = "settle";

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

    /// Returns a future that is ready when the message is settled, after [`complete`](Self::complete). The future may be
    /// dropped; a second one replaces the first.
    ///
    /// A failed message of an ordered group that this consumer will hand out again counts as settled.
    ///
    /// # Errors
    ///
    /// Why the server did not settle the message; it is delivered again. `InvalidReceipt` if the lease was lost before the
    /// task was completed; `Closed` if the consumer ended before, or the message was put back.
    pub fn settled(&mut self) -> impl Future<Output = Result<()>> + Send + use<> {
        let (waiter, result) = SettlementWaiter::new();
        self.completion.waiter = waiter;
        async move { result.await.unwrap_or_else(|_| Err(Error::closed(SETTLE))) }
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
    waiter: SettlementWaiter,
}

impl Completion {
    pub(super) fn new(inner: Arc<Inner>, key: Key) -> Self {
        Self { inner: Some(inner), key, waiter: SettlementWaiter::default() }
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
            inner.complete(self.key, result, mem::take(&mut self.waiter));
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
