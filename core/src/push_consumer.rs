//! Receiving with a handler.

mod dispatch;
mod inner;
mod lite;
mod outcome;
mod rate;
mod receive;
mod settle;
mod task;
mod verify;
mod work;

use std::{
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::future::{BoxFuture, FutureExt};

use self::inner::Inner;
pub use self::{outcome::ConsumeResult, task::Task};
use crate::{
    error::{Error, ErrorKind, Result},
    member::Closable,
    message::{CloseReport, Delivery},
    options::PushConsumerOptions,
    route::Routes,
    session::Session,
};

/// Hands each message to a handler, many at a time. Cheap to clone; clones are the same consumer.
///
/// It receives as soon as it has a handler: either [`start`](Self::start) is called with one, or
/// [`next_tasks`](Self::next_tasks) is called again and again.
///
/// - **Order.** If the group is ordered (the server's settings say so), a message is handed out when all earlier ones
///   of its message group are settled; those without a message group follow the order of their queue. Messages of
///   other groups go on. In other groups messages are handled in any order.
/// - **Failures.** A message of an ordered group that failed is handed out again by this consumer, after the time that
///   the group's policy says. After the maximum of attempts it moves to the dead-letter topic. Another message that
///   failed is returned to the server, which delivers it again after that time, to any consumer of the group, and
///   moves it to the dead-letter topic in the end. A handler that panics has failed.
/// - **Leases.** The lease of a message is kept while it waits and while it is handled, however long that takes. If it
///   is lost all the same, because the servers can't be reached for long, the result is dropped and the message comes
///   again; a warning says so.
/// - **Room.** A poll asks only for as many messages as fit into the limits of the options.
/// - **Trouble.** A topic that can't be received from is polled again and again, at most five times a second, and holds
///   up no other. Warnings say when that begins, and an event when it is over.
///
/// Dropping the last clone without [`close`](Self::close) ends all work, including running handlers. What was received
/// and not settled comes again after its lease.
#[derive(Clone)]
pub struct PushConsumer(Arc<Owner>);

/// Ends the work of a push consumer when it is dropped. The work itself holds [`Inner`].
struct Owner(Arc<Inner>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.session().stop().cancel();
    }
}

impl PushConsumer {
    pub(crate) fn new(session: Session, routes: Arc<Routes>, options: PushConsumerOptions) -> Self {
        Self(Arc::new(Owner(Inner::new(session, routes, options))))
    }

    /// What its client closes.
    pub(crate) fn as_member(&self) -> Weak<dyn Closable> {
        let inner: Weak<Inner> = Arc::downgrade(&self.0.0);
        inner
    }

    /// Begins to receive, and calls `handler` for each message.
    ///
    /// Up to [`concurrency`](PushConsumerOptions::concurrency) handlers run at the same time, on the runtime's threads.
    /// One that blocks its thread should use [`tokio::task::spawn_blocking`].
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if it has a handler already, or [`next_tasks`](Self::next_tasks) was called; `Closed`.
    pub fn start<H, F>(&self, handler: H) -> Result<()>
    where
        H: Fn(Delivery) -> F + Send + Sync + 'static,
        F: Future<Output = ConsumeResult> + Send + 'static,
    {
        let inner = &self.0.0;
        if inner.is_closed() {
            return Err(Error::closed("start"));
        }
        if !inner.begin_handling(work::spawn_with(handler)) {
            let message = "the consumer hands out its messages already";
            return Err(Error::new(ErrorKind::InvalidArgument, "start", message));
        }
        Ok(())
    }

    /// Waits until messages may be handled, and returns up to `max` of them, at least one; `None` once the consumer is
    /// closed. For those who call handlers themselves, such as a language's binding. The first call begins to receive.
    ///
    /// No more than [`concurrency`](PushConsumerOptions::concurrency) tasks are out at the same time. Cancelling the
    /// future loses nothing. Several calls may wait at the same time. With a handler of [`start`](Self::start) it
    /// returns nothing until the consumer is closed.
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

    /// Hands out no more messages and receives none, until [`resume`](Self::resume). Running handlers go on, and so do
    /// polls that wait at a server: what they bring waits here, with its lease kept.
    pub fn pause(&self) {
        self.0.0.pause();
    }

    /// Goes on after a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.0.0.resume();
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.0.0.is_paused()
    }

    /// Stops receiving, gives back what no handler has begun, waits at most `deadline` for running handlers and until
    /// their messages are settled, and tells the servers that the consumer is gone. Handlers that run longer are
    /// dropped at their next `await`.
    ///
    /// A handler that closes its own consumer waits for itself, until the deadline. Its message is delivered again.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        self.0.0.clone().close(deadline).await
    }
}

impl Closable for Inner {
    fn close(self: Arc<Self>, deadline: Duration) -> BoxFuture<'static, CloseReport> {
        async move {
            let start = Instant::now();
            let ended = self.session().stop().is_cancelled();
            // After an earlier close nothing can be settled any more.
            let until = if ended { start } else { crate::options::deadline(start, deadline) };
            let waiting = self.stop();
            let mut given_back = 0;
            let give_back = async { given_back = self.leases.give_back(waiting).await };
            let work = async { tokio::join!(give_back, self.drained()) };
            let _ = tokio::time::timeout_at(until.into(), work).await;
            let (handled, unfinished) = self.late_results();
            let left = until.saturating_duration_since(Instant::now());
            let report = self.member.close(left, std::future::ready(())).await;
            let abandoned = report.abandoned.max(unfinished);
            CloseReport { handled, given_back, abandoned, ..report }.since(start)
        }
        .boxed()
    }

    fn is_closed(&self) -> bool {
        self.member.is_closed()
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
