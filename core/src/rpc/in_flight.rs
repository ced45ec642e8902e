//! What is under way, counted, so that a close can wait for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::message::CloseReport;

/// Counts the sends or acks that have no answer yet.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    under_way: AtomicUsize,
    closing: AtomicBool,
    finished: Notify,
}

/// One send or ack under way; dropping it says that its caller has the answer.
#[derive(Debug)]
pub(crate) struct InFlightGuard(Arc<InFlight>);

impl InFlight {
    /// Counts one more, or refuses because of a close.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<InFlightGuard> {
        // Counted first and looked after, so that a close sees either the count or the refusal.
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let guard = InFlightGuard(self.clone());
        (!self.closing.load(Ordering::SeqCst)).then_some(guard)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Takes nobody more; says whether this call was the first to close.
    pub(crate) fn stop_accepting(&self) -> bool {
        !self.closing.swap(true, Ordering::SeqCst)
    }

    /// Waits until all has finished, at most until `deadline`.
    pub(crate) async fn drain(&self, deadline: Instant) -> CloseReport {
        self.stop_accepting();
        let start = Instant::now();
        let before = self.under_way.load(Ordering::SeqCst);
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
        CloseReport { flushed: before.saturating_sub(abandoned), abandoned, elapsed: start.elapsed() }
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
    /// Two closes that ran side by side.
    pub(crate) fn beside(self, other: Self) -> Self {
        Self {
            flushed: self.flushed + other.flushed,
            abandoned: self.abandoned + other.abandoned,
            elapsed: self.elapsed.max(other.elapsed),
        }
    }

    /// The same report, with the time since `start`.
    pub(crate) fn since(self, start: Instant) -> Self {
        Self { elapsed: start.elapsed().max(Duration::ZERO), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_close_waits_for_what_is_under_way_and_takes_no_more() {
        let in_flight = Arc::new(InFlight::default());
        let guard = in_flight.begin().unwrap();
        let closing = in_flight.clone();
        let close =
            tokio::spawn(async move { closing.drain(Instant::now() + Duration::from_secs(60)).await });
        while !in_flight.is_closing() {
            tokio::task::yield_now().await;
        }
        assert!(in_flight.begin().is_none());
        drop(guard);
        let report = close.await.unwrap();
        assert_eq!((report.flushed, report.abandoned), (1, 0));
    }

    #[tokio::test]
    async fn what_has_not_landed_at_the_deadline_is_abandoned() {
        let in_flight = Arc::new(InFlight::default());
        let _guard = in_flight.begin();
        let report = in_flight.drain(Instant::now()).await;
        assert_eq!((report.flushed, report.abandoned), (0, 1));
    }
}
