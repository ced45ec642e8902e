//! Workers: tasks that call a handler, one message after the other.
//!
//! A worker is started when a message is ready and no other worker is about to take it. It ends when no message is ready.
//! There is one worker for each message that is being handled.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;

use super::{
    ConsumeResult,
    inner::{Inner, SpawnWorker},
    task::Task,
};
use crate::{error::panic_text, message::Delivery};

/// How many messages a worker handles before it yields to other tasks.
const MESSAGES_PER_YIELD: usize = 16;

/// Returns a function that starts a worker, which calls `handler`.
pub(super) fn spawn_with<H, F>(handler: H) -> SpawnWorker
where
    H: Fn(Delivery) -> F + Send + Sync + 'static,
    F: Future<Output = ConsumeResult> + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(move |inner| inner.session().spawn(run_worker(inner.clone(), handler.clone())))
}

async fn run_worker<H, F>(inner: Arc<Inner>, handler: Arc<H>)
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
            tracing::error!(panic = panic_text(&*panic), "a handler panicked; its message is retried");
            ConsumeResult::Retry
        }));
        handled += 1;
        if handled % MESSAGES_PER_YIELD == 0 {
            tokio::task::yield_now().await;
        }
    }
}
