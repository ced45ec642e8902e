//! Counts the operations in flight, so that a close can wait for them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::message::CloseReport;

/// The number of operations in flight, of one producer or consumer.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    under_way: AtomicUsize,
    /// Operations that succeeded since the close began.
    flushed: AtomicUsize,
    closing: AtomicBool,
    finished: Notify,
}

/// Counts an operation as in flight until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlightGuard(Arc<InFlight>);

impl InFlight {
    /// Counts an operation as in flight. Returns `None` once a close has begun.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<InFlightGuard> {
        // Counts before checking, so that a close either sees the count or makes this call fail.
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let guard = InFlightGuard(self.clone());
        (!self.closing.load(Ordering::SeqCst)).then_some(guard)
    }

    /// How many operations have no result yet.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Refuses new operations. Returns whether this call was the first to do so.
    pub(crate) fn stop_accepting(&self) -> bool {
        !self.closing.swap(true, Ordering::SeqCst)
    }

    /// Waits until all operations have a result, at most until `deadline`.
    pub(crate) async fn drain(&self, deadline: Instant) -> CloseReport {
        self.stop_accepting();
        let start = Instant::now();
        let all = async {
            loop {
                let finished = self.finished.notified();
                if self.under_way.load(Ordering::SeqCst) == 0 {
                    return;
                }
                finished.await;
            }
        };
        let _ = tokio::time::timeout_at(deadline.into(), all).await;
        let abandoned = self.under_way.load(Ordering::SeqCst);
        let flushed = self.flushed.swap(0, Ordering::SeqCst);
        CloseReport { flushed, abandoned, elapsed: start.elapsed(), ..CloseReport::default() }
    }
}

impl InFlightGuard {
    /// Records that the operation succeeded, for the report of a close.
    pub(crate) fn succeeded(&self) {
        if self.0.is_closing() {
            self.0.flushed.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, Ordering::SeqCst) == 1 && self.0.is_closing() {
            self.0.finished.notify_waiters();
        }
    }
}

impl CloseReport {
    /// The combined report of two concurrent closes.
    pub(crate) fn merge(self, other: Self) -> Self {
        Self {
            flushed: self.flushed + other.flushed,
            abandoned: self.abandoned + other.abandoned,
            handled: self.handled + other.handled,
            given_back: self.given_back + other.given_back,
            elapsed: self.elapsed.max(other.elapsed),
        }
    }

    /// The same report, with the time since `start`.
    pub(crate) fn with_elapsed_since(self, start: Instant) -> Self {
        Self { elapsed: start.elapsed().max(Duration::ZERO), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_close_waits_for_operations_in_flight_and_refuses_new_ones() {
        let in_flight = Arc::new(InFlight::default());
        let guard = in_flight.begin().unwrap();
        let closing = in_flight.clone();
        let close =
            tokio::spawn(async move { closing.drain(Instant::now() + Duration::from_secs(60)).await });
        while !in_flight.is_closing() {
            tokio::task::yield_now().await;
        }
        assert!(in_flight.begin().is_none());
        guard.succeeded();
        drop(guard);
        let report = close.await.unwrap();
        assert_eq!((report.flushed, report.abandoned), (1, 0));
    }

    #[tokio::test]
    async fn a_failed_operation_is_neither_flushed_nor_abandoned() {
        let in_flight = Arc::new(InFlight::default());
        let before = in_flight.begin().unwrap();
        before.succeeded();
        in_flight.stop_accepting();
        drop(before);
        let report = in_flight.drain(Instant::now() + Duration::from_secs(60)).await;
        assert_eq!((report.flushed, report.abandoned), (0, 0));
    }

    #[tokio::test]
    async fn operations_without_a_result_at_the_deadline_are_abandoned() {
        let in_flight = Arc::new(InFlight::default());
        let _guard = in_flight.begin();
        let report = in_flight.drain(Instant::now()).await;
        assert_eq!((report.flushed, report.abandoned), (0, 1));
    }
}
