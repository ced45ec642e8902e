//! The push consumer: receives messages, calls a handler for each, and settles them by its result.

mod cache_limits;
mod dispatch;
mod held_message;
mod inner;
mod lite;
mod outcome;
mod rate;
mod receive;
mod settle;
mod settlement;
mod subscribe;
mod task;
mod verify;
mod worker;

use std::{
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::future::{BoxFuture, FutureExt};

use self::inner::Inner;
pub use self::{outcome::ConsumeResult, task::Task};
use crate::{
    client_base::{Closable, close_in_task},
    error::{Error, ErrorKind, Result},
    message::{CloseReport, Delivery},
    options::PushConsumerOptions,
    route::Routes,
    session::Session,
};

/// Calls a handler for each message, with many messages at a time. Cheap to clone; clones are the same consumer.
///
/// The consumer begins to receive when [`start`](Self::start) is called with a handler, or
/// [`next_tasks`](Self::next_tasks) is called for the first time.
///
/// - **Order.** In an ordered consumer group (a setting of the server), a message is handed out when all earlier
///   messages of its message group are settled. Messages without a message group are handled in the order of their queue.
///   Different message groups do not wait for each other. In other consumer groups there is no order.
/// - **Failures.** In an ordered group, this consumer hands out a failed message again, after the delay of the group's
///   retry policy. After the maximum number of attempts it moves the message to the dead-letter topic. If the consumer
///   ends before the next attempt, the message is returned to the server with the rest of the delay, and the attempt
///   counts. In other groups, a failed message is returned to the server. The server delivers it again after that delay,
///   to any consumer of the group, or moves it to the dead-letter topic. A panic of the handler counts as a failure.
/// - **Leases.** The lease of a message is renewed while the message waits and is handled, however long that takes. If the
///   lease is lost because the servers can't be reached for long, the result of the handler is dropped, a warning is
///   logged, and the message is delivered again.
/// - **Subscriptions** can be changed while the consumer runs: see [`subscribe`](Self::subscribe) and
///   [`unsubscribe`](Self::unsubscribe).
/// - **Limits.** A poll requests only as many messages as the limits of the options allow.
/// - **Errors.** A topic that can't be received from is polled at most five times a second, and does not delay other
///   topics. The client logs a warning when a topic starts to fail, and an event of level `info` when it works again.
///
/// Dropping the last clone without [`close`](Self::close) ends all work, including running handlers, and gives back
/// messages that wait for a handler in the background. Other messages that were not settled are delivered again after
/// their lease. So keep the consumer as long as it is to receive. The client logs a warning if it was dropped while it
/// received.
#[derive(Clone)]
#[must_use = "a push consumer ends when it is dropped"]
pub struct PushConsumer(Arc<Owner>);

/// Ends the tasks of a push consumer when it is dropped. The tasks themselves hold [`Inner`]; only a close holds this, so
/// that it completes.
struct Owner(Arc<Inner>);

impl Drop for Owner {
    fn drop(&mut self) {
        if self.0.is_receiving() {
            let group = &self.0.group.name;
            tracing::warn!(group, "a push consumer has ended, because it was dropped without a close");
        }
        // Cancelled first: a task of the session would be dropped later, with what a concurrent put-back gives to it.
        self.0.session().stop().cancel();
        let waiting = self.0.stop();
        self.0.leases.give_back_detached(waiting);
    }
}

impl PushConsumer {
    pub(crate) fn new(session: Session, routes: Arc<Routes>, options: PushConsumerOptions) -> Self {
        Self(Arc::new(Owner(Inner::new(session, routes, options))))
    }

    /// The handle through which the client closes this consumer.
    pub(crate) fn as_member(&self) -> Weak<dyn Closable> {
        let owner: Weak<Owner> = Arc::downgrade(&self.0);
        owner
    }

    /// Begins to receive, and calls `handler` for each message.
    ///
    /// Up to [`concurrency`](PushConsumerOptions::concurrency) handlers run at the same time, on the runtime's threads.
    /// A handler that blocks should use [`tokio::task::spawn_blocking`].
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the consumer has a handler already, or [`next_tasks`](Self::next_tasks) was called; `Closed`.
    pub fn start<H, F>(&self, handler: H) -> Result<()>
    where
        H: Fn(Delivery) -> F + Send + Sync + 'static,
        F: Future<Output = ConsumeResult> + Send + 'static,
    {
        let inner = &self.0.0;
        if inner.is_closed() {
            return Err(Error::closed("start"));
        }
        if !inner.begin_handling(worker::spawn_with(handler)) {
            let message = "the consumer was started already";
            return Err(Error::new(ErrorKind::InvalidArgument, "start", message));
        }
        Ok(())
    }

    /// Waits until messages may be handled, and returns between one and `max` of them; `None` once the consumer is
    /// closed. This is for libraries that call handlers themselves, such as language bindings. The first call begins to
    /// receive.
    ///
    /// At most [`concurrency`](PushConsumerOptions::concurrency) tasks are uncompleted at the same time. Cancelling the
    /// future loses no message. Several calls may wait at the same time. If a handler was given to
    /// [`start`](Self::start), this waits until the consumer is closed.
    pub async fn next_tasks(&self, max: usize) -> Option<Vec<Task>> {
        let inner = &self.0.0;
        let pulls = inner.begin_pulling();
        loop {
            let next = inner.wait_for_tasks();
            if pulls {
                let tasks = inner.take(max.max(1))?;
                if !tasks.is_empty() {
                    return Some(tasks);
                }
            } else if inner.is_closed() {
                return None;
            }
            next.await;
        }
    }

    /// Stops handing out and receiving messages until [`resume`](Self::resume). Running handlers continue. Polls in flight
    /// continue, too; their messages wait, and their leases are renewed.
    pub fn pause(&self) {
        self.0.0.pause();
    }

    /// Continues after a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.0.0.resume();
    }

    /// Whether the consumer is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.0.0.is_paused()
    }

    /// Whether a close has begun.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.0.is_closed()
    }

    /// Stops receiving, gives back messages that wait for a handler, waits at most `deadline` until running handlers have
    /// returned and their messages are settled, and tells the servers that the consumer has closed. Handlers that run
    /// longer are dropped at their next `await`.
    ///
    /// A handler that closes its own consumer waits for itself until the deadline. Its message is delivered again.
    ///
    /// A close continues if the caller stops waiting, also if the last clone of the consumer is dropped. Another call
    /// waits for it.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        close_in_task(self.0.clone().close(deadline)).await
    }

    /// Runs `work` in its own task, so that it completes even if the caller stops waiting.
    async fn run(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Result<()> {
        self.0.0.base.run(operation, work).await
    }
}

impl Closable for Owner {
    fn close(self: Arc<Self>, deadline: Duration) -> BoxFuture<'static, CloseReport> {
        async move {
            let inner = &self.0;
            let start = Instant::now();
            let ended = inner.session().stop().is_cancelled();
            // After an earlier close no message can be settled any more.
            let until = if ended { start } else { crate::options::deadline(start, deadline) };
            let before = inner.leases.given_back();
            inner.give_back(inner.stop());
            inner.receiving.close();
            let work = async { tokio::join!(inner.receiving.wait(), inner.wait_until_drained()) };
            let _ = tokio::time::timeout_at(until.into(), work).await;
            let (handled, unfinished) = inner.close_results();
            let given_back = inner.leases.given_back() - before;
            let left = until.saturating_duration_since(Instant::now());
            let report = inner.base.close(left, std::future::ready(())).await;
            let abandoned = report.abandoned.max(unfinished);
            CloseReport { handled, given_back, abandoned, ..report }.with_elapsed_since(start)
        }
        .boxed()
    }

    fn is_closed(&self) -> bool {
        self.0.base.is_closed()
    }
}

impl fmt::Debug for PushConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushConsumer")
            .field("group", &self.0.0.group.name)
            .field("client_id", &self.0.0.session().rpc().identity().client_id())
            .finish_non_exhaustive()
    }
}
