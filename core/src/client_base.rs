//! What producers and consumers have in common: a session, batchers, and the count of calls in flight.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    panic::resume_unwind,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::timeout_at;

use crate::{
    error::{Error, Result},
    message::CloseReport,
    rpc::{BatchCall, Batcher, InFlight, InFlightGuard},
    session::Session,
};

/// A producer or consumer, as its client knows it.
pub(crate) trait Closable: Send + Sync {
    /// Closes the producer or consumer within `deadline`.
    fn close(self: Arc<Self>, deadline: Duration) -> BoxFuture<'static, CloseReport>;

    /// Whether a close has completed, so that another one has nothing to report.
    fn is_closed(&self) -> bool;
}

/// Runs a close in its own task, so that it completes even if the caller stops waiting.
pub(crate) async fn close_in_task(close: impl Future<Output = CloseReport> + Send + 'static) -> CloseReport {
    match tokio::spawn(close).await {
        Ok(report) => report,
        Err(ended) if ended.is_panic() => resume_unwind(ended.into_panic()),
        // The runtime ends, and with it all work.
        Err(_) => CloseReport::default(),
    }
}

/// The part that producers and consumers share. `K` is the destination of a batch, `C` the call that sends it.
///
/// Dropping it ends the session and all work, including calls in flight.
pub(crate) struct ClientBase<K, C: BatchCall> {
    session: Arc<Session>,
    in_flight: Arc<InFlight>,
    batchers: Mutex<HashMap<K, Arc<Batcher<C>>>>,
}

impl<K: Eq + Hash, C: BatchCall> ClientBase<K, C> {
    pub(crate) fn new(session: Session) -> Self {
        let in_flight = session.pool().new_in_flight();
        Self { session: Arc::new(session), in_flight, batchers: Mutex::default() }
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Whether a close has completed.
    pub(crate) fn is_closed(&self) -> bool {
        self.session.stop().is_cancelled()
    }

    /// Counts a call as in flight until the guard is dropped.
    ///
    /// # Errors
    ///
    /// `Closed` once a close has begun.
    pub(crate) fn begin(&self, operation: &'static str) -> Result<InFlightGuard> {
        self.in_flight.begin().ok_or_else(|| Error::closed(operation))
    }

    /// Runs `work` in its own task, so that it continues if the caller stops waiting.
    ///
    /// # Errors
    ///
    /// `Closed` once a close has begun, or if the close did not wait for the end of `work`.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let guard = self.begin(operation)?;
        let stop = self.session.stop().clone();
        let task = tokio::spawn(async move {
            let result = stop.run_until_cancelled(work).await;
            if matches!(result, Some(Ok(_))) {
                guard.succeeded();
            }
            drop(guard);
            result
        });
        match task.await {
            Ok(Some(result)) => result.map_err(|error| error.during(operation)),
            Ok(None) => Err(Error::closed(operation).with_maybe_delivered()),
            Err(ended) => Err(Error::of_ended_task(operation, ended)),
        }
    }

    /// The batcher for `key`, created with `call` when it is first needed.
    pub(crate) fn batcher<Q>(&self, key: &Q, call: impl FnOnce() -> C) -> Arc<Batcher<C>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let mut batchers = self.batchers.lock();
        if let Some(batcher) = batchers.get(key) {
            return batcher.clone();
        }
        let batcher = Batcher::new(call(), self.session.stop().clone());
        batchers.insert(key.to_owned(), batcher.clone());
        batcher
    }

    /// Refuses further calls, waits for calls in flight and for `release`, and notifies the servers; all within
    /// `deadline`.
    pub(crate) async fn close(&self, deadline: Duration, release: impl Future<Output = ()>) -> CloseReport {
        let start = Instant::now();
        let deadline = crate::options::deadline(start, deadline);
        let first = self.in_flight.stop_accepting();
        let release = timeout_at(deadline.into(), release);
        let (report, _) = tokio::join!(self.in_flight.drain(deadline), release);
        if first {
            self.session.end(deadline).await;
            for (_, batcher) in self.batchers.lock().drain() {
                batcher.abandon();
            }
        } else {
            // Another close ends the session.
            let _ = timeout_at(deadline.into(), self.session.stop().cancelled()).await;
        }
        report.with_elapsed_since(start)
    }
}

impl<K, C: BatchCall> Drop for ClientBase<K, C> {
    /// Cancels the session's tasks, which keep the session itself alive.
    fn drop(&mut self) {
        self.session.stop().cancel();
    }
}
