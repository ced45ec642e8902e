//! Lets the answers of concurrent calls share one write to their connection.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio_util::task::TaskTracker;

pin_project! {
    /// Delays the poll of a connection until all ready calls were polled, so that their answers share one write. A
    /// write costs as much as the rest of a call.
    pub(super) struct SharedWrites<C> {
        #[pin]
        connection: C,
        calls: TaskTracker,
        has_waited: bool,
    }
}

impl<C> SharedWrites<C> {
    /// Wraps a connection. `calls` tracks its calls in flight.
    pub(super) fn new(connection: C, calls: TaskTracker) -> Self {
        Self { connection, calls, has_waited: false }
    }

    pub(super) fn connection(self: Pin<&mut Self>) -> Pin<&mut C> {
        self.project().connection
    }
}

impl<C: Future> Future for SharedWrites<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.project();
        if !*this.has_waited && this.calls.len() > 1 {
            *this.has_waited = true;
            // Polling it makes tokio poll this task again after the other tasks.
            if pin!(tokio::task::yield_now()).poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        *this.has_waited = false;
        this.connection.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_connection_runs_after_the_calls_that_are_ready() {
        let calls = TaskTracker::new();
        let _tokens = [calls.token(), calls.token()];
        let order = RefCell::new(Vec::new());
        let connection = poll_fn(|_| {
            order.borrow_mut().push("connection");
            Poll::Ready(())
        });
        let connection = SharedWrites::new(connection, calls);
        let call = async { order.borrow_mut().push("call") };
        tokio::join!(connection, call);
        assert_eq!(order.into_inner(), ["call", "connection"]);
    }

    #[tokio::test]
    async fn a_connection_with_one_call_runs_at_once() {
        let calls = TaskTracker::new();
        let _token = calls.token();
        let mut polls = 0;
        let connection = poll_fn(|_| {
            polls += 1;
            Poll::<()>::Pending
        });
        let mut connection = Box::pin(SharedWrites::new(connection, calls));
        tokio::select! { biased; () = connection.as_mut() => {}, () = std::future::ready(()) => {} }
        drop(connection);
        assert_eq!(polls, 1);
    }
}
