//! Workers: tasks that call a handler, one message after the other.
//!
//! A worker is started when there is a message and no other one is about to take it. It ends when there is no message.
//! There are as many as messages are handled at a time.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;

use super::{
    ConsumeResult,
    inner::{Inner, SpawnWorker},
    task::Task,
};
use crate::message::Delivery;

/// How many messages a worker handles before it lets other tasks run.
const MESSAGES_PER_TURN: usize = 16;

/// Starts workers that call `handler`.
pub(super) fn spawn_with<H, F>(handler: H) -> SpawnWorker
where
    H: Fn(Delivery) -> F + Send + Sync + 'static,
    F: Future<Output = ConsumeResult> + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(move |inner| inner.session().spawn(work(inner.clone(), handler.clone())))
}

async fn work<H, F>(inner: Arc<Inner>, handler: Arc<H>)
where
    H: Fn(Delivery) -> F + Send + Sync + 'static,
    F: Future<Output = ConsumeResult> + Send + 'static,
{
    inner.worker_started();
    let mut handled = 0;
    while let Some(Task { delivery, completion }) = inner.take(1).and_then(|tasks| tasks.into_iter().next()) {
        // A handler may also panic before it returns its future.
        let handling = AssertUnwindSafe(async { handler(delivery).await }).catch_unwind();
        completion.complete(handling.await.unwrap_or_else(|panic| {
            tracing::error!(panic = text(&*panic), "a handler panicked: its message is retried");
            ConsumeResult::Retry
        }));
        handled += 1;
        if handled % MESSAGES_PER_TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}
