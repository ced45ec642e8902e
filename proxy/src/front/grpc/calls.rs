//! Runs the calls of a connection as tasks, and ends those whose peer does not accept the answer.

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

/// The progress of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answer {
    /// Parts given to the connection.
    parts: u64,
    /// Whether the last part is waiting for flow-control capacity of the peer.
    waiting: bool,
}

thread_local! {
    // The answer of the call that is being polled on this thread. hyper polls the body inside the task of the call, and
    // offers no other way to pass state between them.
    static ANSWER: Cell<Answer> = const { Cell::new(Answer { parts: 0, waiting: false }) };
}

/// To be called when a body is asked for its next part.
pub(super) fn part_wanted() {
    ANSWER.with(|answer| answer.set(Answer { waiting: false, ..answer.get() }));
}

/// To be called when a body returns a part.
pub(super) fn part_given() {
    ANSWER.with(|answer| answer.set(Answer { parts: answer.get().parts + 1, waiting: true }));
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
        self.connection.calls().spawn(Call { call, answer: Answer::default(), timeout, stalled: None });
    }
}

pin_project! {
    /// A call until the end of its answer. Dropping it resets the stream.
    struct Call<F> {
        #[pin]
        call: F,
        answer: Answer,
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
    async fn a_call_whose_answer_is_not_accepted_ends() {
        let call = async {
            part_wanted();
            part_given();
            poll_fn(|_| Poll::<()>::Pending).await;
        };
        let timeout = Duration::from_millis(10);
        Call { call, answer: Answer::default(), timeout, stalled: None }.await;
    }

    #[tokio::test]
    async fn a_call_that_waits_for_its_next_part_goes_on() {
        let mut ended = false;
        let call = async {
            part_wanted();
            part_given();
            part_wanted();
            tokio::time::sleep(Duration::from_millis(20)).await;
            ended = true;
        };
        Call { call, answer: Answer::default(), timeout: Duration::ZERO, stalled: None }.await;
        assert!(ended);
    }
}
