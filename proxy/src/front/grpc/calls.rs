//! Runs the calls of a connection as tasks, and ends a call whose peer does not read the answer.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Sleep;

use crate::front::port::Connection;

/// Spawns the calls of one connection.
#[derive(Clone)]
pub(super) struct Calls {
    connection: Arc<Connection>,
    answer_timeout: Duration,
}

/// How much of an answer was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct AnswerProgress {
    /// The number of parts passed to the connection.
    parts: u64,
    /// Whether the last part waits for flow-control capacity of the peer.
    waiting: bool,
}

thread_local! {
    // The progress of the call that is being polled on this thread. hyper polls the body inside the task of the call,
    // and offers no other way to pass state between them.
    static ANSWER: Cell<AnswerProgress> = const { Cell::new(AnswerProgress { parts: 0, waiting: false }) };
}

/// To be called when a body is polled for its next part.
pub(super) fn part_requested() {
    ANSWER.with(|answer| answer.set(AnswerProgress { waiting: false, ..answer.get() }));
}

/// To be called when a body returns a part.
pub(super) fn part_returned() {
    ANSWER.with(|answer| answer.set(AnswerProgress { parts: answer.get().parts + 1, waiting: true }));
}

impl Calls {
    pub(super) fn new(connection: Arc<Connection>, answer_timeout: Duration) -> Self {
        Self { connection, answer_timeout }
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Calls {
    fn execute(&self, call: F) {
        self.connection.touch();
        let timeout = self.answer_timeout;
        self.connection.calls().spawn(Call {
            call,
            answer: AnswerProgress::default(),
            timeout,
            stalled: None,
        });
    }
}

pin_project! {
    /// A call, until its answer is sent. Dropping it resets the stream.
    struct Call<F> {
        #[pin]
        call: F,
        answer: AnswerProgress,
        timeout: Duration,
        stalled: Option<(u64, Pin<Box<Sleep>>)>,
    }
}

impl<F: Future<Output = ()>> Future for Call<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        ANSWER.set(*this.answer);
        let polled = this.call.poll(cx);
        *this.answer = ANSWER.take();
        if polled.is_ready() || !this.answer.waiting {
            *this.stalled = None;
            return polled;
        }
        let parts = this.answer.parts;
        if this.stalled.as_ref().is_none_or(|(at, _)| *at != parts) {
            *this.stalled = Some((parts, Box::pin(tokio::time::sleep(*this.timeout))));
        }
        match this.stalled {
            Some((_, sleep)) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_call_whose_answer_is_not_read_ends() {
        let call = async {
            part_requested();
            part_returned();
            poll_fn(|_| Poll::<()>::Pending).await;
        };
        let timeout = Duration::from_millis(10);
        Call { call, answer: AnswerProgress::default(), timeout, stalled: None }.await;
    }

    #[tokio::test]
    async fn a_call_that_waits_for_its_next_part_continues() {
        let mut ended = false;
        let call = async {
            part_requested();
            part_returned();
            part_requested();
            tokio::time::sleep(Duration::from_millis(20)).await;
            ended = true;
        };
        Call { call, answer: AnswerProgress::default(), timeout: Duration::ZERO, stalled: None }.await;
        assert!(ended);
    }
}
