//! Opportunistic batching: items that are queued while a request is in flight share the next request.
//!
//! ```text
//! queue -> worker (at most MAX_WORKERS at a time): take a batch -> BatchCall::execute -> one result per item
//!              `-> retries run in their own task, so that the worker takes the next batch
//! submit_alone -> own task: await the item's turn -> BatchCall::execute, with retries -> the result
//! ```

mod pending_result;

use std::{
    collections::VecDeque,
    mem,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use rocketmq_thin_proto::v2;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub(crate) use self::pending_result::{PendingResult, wait_all};
use super::{
    in_flight::InFlightGuard,
    retry::{ReplaySettings, Retry, RetryDecision, queued_too_long, retry_decision},
};
use crate::{
    error::{Error, ErrorKind},
    options::RetryOptions,
};

/// How many requests of one batcher are in flight at most. More than one, so that a slow request does not delay all
/// others; few, so that batches form.
const MAX_WORKERS: usize = 4;

/// The request that a batcher sends.
pub(crate) trait BatchCall: ReplaySettings + Send + Sync + 'static {
    /// What one caller submits.
    type Item: Send + Sync + 'static;
    /// What one caller gets back.
    type Output: Send + 'static;

    /// The name of the operation in errors and metrics.
    const OPERATION: &'static str;
    /// The maximum number of items in one request.
    const MAX_ITEMS: usize;
    /// The maximum number of bytes in one request. A larger item gets its own request.
    const MAX_BYTES: usize;

    /// The size of an item in bytes, for [`MAX_BYTES`](Self::MAX_BYTES).
    fn size(item: &Self::Item) -> usize;

    /// Whether an item that failed with this retryable error may be sent again.
    fn may_repeat(_item: &Self::Item, _error: &Error) -> bool {
        true
    }

    /// Called when an item is queued.
    fn submitted(&self, _item: &Self::Item) {}

    /// Called with the result of an item that was submitted at `submitted`.
    fn finished(&self, _item: &Self::Item, _submitted: Instant, _result: Result<&Self::Output, &Error>) {}

    /// How often and how fast to retry.
    fn retry(&self) -> RetryOptions;

    /// How long one request may take.
    fn request_timeout(&self) -> Duration;

    /// Sends one request with `items`. Returns a result for each item, or the error of the whole request.
    fn execute(
        &self,
        items: &[PendingItem<Self>],
        limit: Duration,
    ) -> impl Future<Output = Result<Vec<Result<Self::Output, Error>>, Error>> + Send
    where
        Self: Sized;
}

/// A submitted item that has no result yet.
pub(crate) struct PendingItem<C: BatchCall> {
    pub(crate) item: C::Item,
    submitted: Instant,
    deadline: Instant,
    /// Whether an earlier attempt may have been carried out by the server.
    maybe_delivered: bool,
    /// The latest failure.
    error: Option<Error>,
    reply: Reply<C::Output>,
    guard: InFlightGuard,
}

/// Where the result of an item goes.
enum Reply<T> {
    /// To a [`PendingResult`].
    Caller {
        result: oneshot::Sender<Result<T, Error>>,
        /// Whether a request with the item was started.
        sent: Arc<AtomicBool>,
    },
    Callback(Box<dyn FnOnce(Result<T, Error>) + Send + Sync>),
}

impl<C: BatchCall> PendingItem<C> {
    /// Creates an item that is sent until `deadline`, and the answer that waits for its result.
    pub(crate) fn new(
        item: C::Item,
        deadline: Instant,
        guard: InFlightGuard,
    ) -> (Self, PendingResult<C::Output>) {
        let (reply, result) = oneshot::channel();
        let sent = Arc::new(AtomicBool::new(false));
        let answer = PendingResult { operation: C::OPERATION, deadline, sent: sent.clone(), result };
        let reply = Reply::Caller { result: reply, sent };
        let submitted = Instant::now();
        (Self { item, submitted, deadline, maybe_delivered: false, error: None, reply, guard }, answer)
    }

    /// Creates an item that is sent until `deadline` and whose result goes to `callback`. The callback is not called if the
    /// batcher is stopped first.
    pub(crate) fn with_callback(
        item: C::Item,
        deadline: Instant,
        guard: InFlightGuard,
        callback: impl FnOnce(Result<C::Output, Error>) + Send + Sync + 'static,
    ) -> Self {
        let reply = Reply::Callback(Box::new(callback));
        let submitted = Instant::now();
        Self { item, submitted, deadline, maybe_delivered: false, error: None, reply, guard }
    }

    /// When the caller gives up.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the item may be sent again after `error`.
    fn may_retry(&self, error: &Error) -> bool {
        retry_decision(error) != RetryDecision::Fail && C::may_repeat(&self.item, error)
    }

    fn finish(self, call: &C, result: Result<C::Output, Error>) {
        if result.is_ok() {
            self.guard.succeeded();
        }
        let result =
            result.map_err(|error| if self.maybe_delivered { error.with_maybe_delivered() } else { error });
        call.finished(&self.item, self.submitted, result.as_ref());
        match self.reply {
            // The caller may have given up waiting.
            Reply::Caller { result: caller, .. } => drop(caller.send(result)),
            Reply::Callback(callback) => {
                drop(self.guard);
                callback(result);
            }
        }
    }

    fn with_failure(mut self, error: Error) -> Self {
        self.maybe_delivered |= error.maybe_delivered();
        self.error = Some(error);
        self
    }
}

/// Queues the items for one destination, and sends them in batches.
pub(crate) struct Batcher<C: BatchCall> {
    call: C,
    state: Mutex<BatcherState<C>>,
    stop: CancellationToken,
}

struct BatcherState<C: BatchCall> {
    queue: VecDeque<PendingItem<C>>,
    workers: usize,
    /// Whether a worker is about to take a batch. The batch includes items that are queued until then.
    worker_due: bool,
}

impl<C: BatchCall> Batcher<C> {
    /// Creates an empty batcher, whose tasks end when `stop` is cancelled.
    pub(crate) fn new(call: C, stop: CancellationToken) -> Arc<Self> {
        let state = BatcherState { queue: VecDeque::new(), workers: 0, worker_due: false };
        Arc::new(Self { call, state: Mutex::new(state), stop })
    }

    /// Queues an item.
    pub(crate) fn queue(self: &Arc<Self>, pending: PendingItem<C>) {
        self.call.submitted(&pending.item);
        self.push(pending);
    }

    /// Queues an item once `turn` is ready.
    pub(crate) fn queue_after(
        self: &Arc<Self>,
        pending: PendingItem<C>,
        turn: impl Future<Output = ()> + Send + 'static,
    ) {
        self.call.submitted(&pending.item);
        let batcher = self.clone();
        self.spawn(async move {
            turn.await;
            batcher.push(pending);
        });
    }

    fn push(self: &Arc<Self>, pending: PendingItem<C>) {
        let mut state = self.state.lock();
        if !self.stop.is_cancelled() {
            state.queue.push_back(pending);
            self.start_worker(&mut state);
        }
    }

    /// Sends an item in its own request once `turn` is ready. Drops the output of `turn` when the item has its result.
    pub(crate) fn submit_alone<T: Send>(
        self: &Arc<Self>,
        pending: PendingItem<C>,
        turn: impl Future<Output = T> + Send + 'static,
    ) {
        let batcher = self.clone();
        self.spawn(async move {
            let _turn = turn.await;
            batcher.send_alone(pending).await;
        });
    }

    /// Drops the queued items. Requests in flight end with the token given to [`new`](Self::new).
    pub(crate) fn abandon(&self) {
        let queue = mem::take(&mut self.state.lock().queue);
        drop(queue);
    }

    fn start_worker(self: &Arc<Self>, state: &mut BatcherState<C>) {
        if !state.worker_due && state.workers < MAX_WORKERS && !state.queue.is_empty() {
            state.worker_due = true;
            state.workers += 1;
            self.spawn(self.clone().run());
        }
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(work).await });
    }

    /// Sends batches until the queue is empty.
    async fn run(self: Arc<Self>) {
        loop {
            self.let_others_submit().await;
            let Some(batch) = self.take() else { return };
            let failed = self.attempt(batch, self.call.request_timeout()).await;
            if !failed.items.is_empty() {
                let batcher = self.clone();
                self.spawn(async move { batcher.retry(failed).await });
            }
            self.state.lock().worker_due = true;
        }
    }

    /// Lets all tasks that are ready submit before the batch is taken. This adds no delay; it only changes the order in
    /// which ready tasks run.
    async fn let_others_submit(&self) {
        let mut before = self.state.lock().queue.len();
        while before < C::MAX_ITEMS {
            tokio::task::yield_now().await;
            let queued = self.state.lock().queue.len();
            // The scheduler may resume this task before all of them have run. While the queue grows, more may follow.
            if queued <= before {
                return;
            }
            before = queued;
        }
    }

    fn take(self: &Arc<Self>) -> Option<Vec<PendingItem<C>>> {
        let mut state = self.state.lock();
        state.worker_due = false;
        let count = {
            let sizes = state.queue.iter().map(|pending| C::size(&pending.item));
            batch_length(sizes, C::MAX_BYTES).min(C::MAX_ITEMS)
        };
        if count == 0 {
            state.workers -= 1;
            return None;
        }
        let batch = state.queue.drain(..count).collect();
        self.start_worker(&mut state);
        Some(batch)
    }

    /// Sends one request. Completes the items that succeeded or can't be retried, and returns the other ones.
    async fn attempt(&self, items: Vec<PendingItem<C>>, limit: Duration) -> FailedItems<C> {
        let mut failed = FailedItems { items: Vec::new(), one_by_one: false };
        let items = self.finish_expired(items);
        let Some(latest) = items.iter().map(|pending| pending.deadline).max() else { return failed };
        for pending in &items {
            if let Reply::Caller { sent, .. } = &pending.reply {
                sent.store(true, Ordering::Relaxed);
            }
        }
        let limit = latest.saturating_duration_since(Instant::now()).min(limit);
        // A panic must not take the worker's place with it.
        let executed = AssertUnwindSafe(self.call.execute(&items, limit)).catch_unwind().await;
        match executed.unwrap_or_else(|panic| Err(Error::panicked(C::OPERATION, &*panic))) {
            Ok(results) => {
                for (pending, result) in items.into_iter().zip(results) {
                    match result {
                        Err(error) if pending.may_retry(&error) => {
                            failed.items.push(pending.with_failure(error));
                        }
                        result => pending.finish(&self.call, result),
                    }
                }
            }
            Err(error) => {
                failed.one_by_one = items.len() > 1 && may_concern_one_item(&error);
                for pending in items {
                    if failed.one_by_one || pending.may_retry(&error) {
                        failed.items.push(pending.with_failure(error.clone()));
                    } else {
                        pending.finish(&self.call, Err(error.clone()));
                    }
                }
            }
        }
        failed
    }

    /// Retries the failed items of a batch until all are completed.
    async fn retry(&self, failed: FailedItems<C>) {
        if !failed.one_by_one {
            let singles = self.retry_together(failed.items).await;
            return self.retry_singly(singles).await;
        }
        self.retry_singly(failed.items).await;
    }

    /// Retries items in one request. Returns the items that must be sent one by one.
    async fn retry_together(&self, items: Vec<PendingItem<C>>) -> Vec<PendingItem<C>> {
        let Some(latest) = items.iter().map(|pending| pending.deadline).max() else { return Vec::new() };
        let retry = Retry::new(C::OPERATION, &self.call.retry(), self.call.request_timeout(), latest);
        let left = Mutex::new(FailedItems { items, one_by_one: false });
        let left_ref = &left;
        let mut first = true;
        let result = retry.run(&self.call, |limit| {
            // The attempt that returned these items counts as the first one.
            let again = !mem::take(&mut first);
            async move {
                if again {
                    let items = mem::take(&mut left_ref.lock().items);
                    let failed = self.attempt(items, limit).await;
                    *left_ref.lock() = failed;
                }
                left_ref.lock().error().map_or(Ok(()), Err)
            }
        });
        let result = result.await;
        let failed = left.into_inner();
        if failed.one_by_one {
            return failed.items;
        }
        if let Err(last) = result {
            for mut pending in failed.items {
                let error = pending.error.take().unwrap_or_else(|| last.clone());
                pending.finish(&self.call, Err(error));
            }
        }
        Vec::new()
    }

    /// Sends each item in its own request, because one of them may have made the server refuse the batch.
    async fn retry_singly(&self, items: Vec<PendingItem<C>>) {
        let mut waiting = items.into_iter();
        let mut under_way: FuturesUnordered<_> =
            waiting.by_ref().take(MAX_WORKERS).map(|pending| self.send_alone(pending)).collect();
        while under_way.next().await.is_some() {
            under_way.extend(waiting.next().map(|pending| self.send_alone(pending)));
        }
    }

    async fn send_alone(&self, pending: PendingItem<C>) {
        let failed = self.attempt(vec![pending], self.call.request_timeout()).await;
        self.retry_together(failed.items).await;
    }

    /// Completes the items whose deadline has passed, and returns the other ones.
    fn finish_expired(&self, items: Vec<PendingItem<C>>) -> Vec<PendingItem<C>> {
        let now = Instant::now();
        if items.iter().all(|pending| pending.deadline > now) {
            return items;
        }
        let (in_time, late): (Vec<_>, Vec<_>) = items.into_iter().partition(|pending| pending.deadline > now);
        for mut pending in late {
            let error = pending.error.take().unwrap_or_else(|| queued_too_long(C::OPERATION));
            pending.finish(&self.call, Err(error));
        }
        in_time
    }
}

/// The items of a request that failed and are to be retried. Each has its error.
struct FailedItems<C: BatchCall> {
    items: Vec<PendingItem<C>>,
    /// Whether the items must be sent one by one.
    one_by_one: bool,
}

impl<C: BatchCall> FailedItems<C> {
    /// The error for which the items are retried together; `None` if they are not.
    fn error(&self) -> Option<Error> {
        self.items.first().filter(|_| !self.one_by_one).and_then(|pending| pending.error.clone())
    }
}

/// How many of the queued items fit into one request, by their sizes. At least one, if there is one.
fn batch_length(sizes: impl Iterator<Item = usize>, max_bytes: usize) -> usize {
    let mut total = 0usize;
    sizes
        .enumerate()
        .take_while(|(at, size)| {
            total = total.saturating_add(*size);
            *at == 0 || total <= max_bytes
        })
        .count()
}

/// Whether a server may have refused a request because of one of its items.
///
/// Some servers answer with code 50001 for an invalid item, so that code is included.
fn may_concern_one_item(error: &Error) -> bool {
    error.code() == Some(v2::Code::InternalServerError.into())
        && retry_decision(error) != RetryDecision::Replay
        || matches!(
            error.kind(),
            ErrorKind::InvalidArgument
                | ErrorKind::TooLarge
                | ErrorKind::TypeMismatch
                | ErrorKind::InvalidReceipt
        )
}

#[cfg(test)]
mod tests;
