//! Opportunistic batching: what queues up while a request is under way travels in the next one.
//!
//! ```text
//! submit -> queue -> worker (at most WORKERS at a time): take a batch -> BatchCall::execute -> a result each
//!                        `-> what may be repeated goes on by itself, so that the batcher stays free
//! ```

use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::retry::{Retry, Verdict, verdict};
use crate::{
    error::{Error, ErrorKind},
    options::RetryOptions,
};

/// Requests of one batcher that run at the same time. A few, so that a slow one doesn't hold up the rest; not
/// many, so that batches form.
const WORKERS: usize = 4;

/// What a batcher carries, and how.
pub(crate) trait BatchCall: Send + Sync + 'static {
    /// What one caller hands in.
    type Item: Send + Sync + 'static;
    /// What one caller gets back.
    type Output: Send + 'static;

    /// What users know the operation as.
    const OPERATION: &'static str;
    /// The most items of one request.
    const MAX_ITEMS: usize;
    /// The most bytes of one request; a larger item travels alone.
    const MAX_BYTES: usize;

    /// The bytes that an item counts for.
    fn size(item: &Self::Item) -> usize;
    /// How often and how fast to repeat.
    fn retry(&self) -> RetryOptions;
    /// How long one request may take.
    fn request_timeout(&self) -> Duration;
    /// Sends one request with `items`, and says what became of each, or of the request as a whole.
    fn execute(
        &self,
        items: &[PendingItem<Self>],
        limit: Duration,
    ) -> impl Future<Output = Result<Vec<Result<Self::Output, Error>>, Error>> + Send
    where
        Self: Sized;
}

/// One item on its way.
pub(crate) struct PendingItem<F: BatchCall> {
    pub(crate) item: F::Item,
    deadline: Instant,
    maybe_delivered: bool,
    reply: oneshot::Sender<Result<F::Output, Error>>,
}

impl<F: BatchCall> PendingItem<F> {
    fn finish(self, result: Result<F::Output, Error>) {
        let maybe_delivered = self.maybe_delivered;
        // Nobody waits any more when the caller gave up.
        let _ = self.reply.send(result.map_err(|error| if maybe_delivered { error.maybe() } else { error }));
    }
}

/// A queue of items for one destination.
pub(crate) struct Batcher<F: BatchCall> {
    call: F,
    state: Mutex<State<F>>,
    stop: CancellationToken,
}

struct State<F: BatchCall> {
    queue: VecDeque<PendingItem<F>>,
    workers: usize,
    /// Whether a worker is on its way to the queue; it will take what comes until then.
    called: bool,
}

impl<F: BatchCall> Batcher<F> {
    /// An empty batcher whose work ends with `stop`.
    pub(crate) fn new(call: F, stop: CancellationToken) -> Arc<Self> {
        let state = State { queue: VecDeque::new(), workers: 0, called: false };
        Arc::new(Self { call, state: Mutex::new(state), stop })
    }

    /// Queues `item`; the receiver yields its result, or an error when the batcher was stopped.
    pub(crate) fn submit(
        self: &Arc<Self>,
        item: F::Item,
        deadline: Instant,
    ) -> oneshot::Receiver<Result<F::Output, Error>> {
        let (reply, result) = oneshot::channel();
        let mut state = self.state.lock();
        if !self.stop.is_cancelled() {
            state.queue.push_back(PendingItem { item, deadline, maybe_delivered: false, reply });
            self.start_worker(&mut state);
        }
        result
    }

    /// Drops what is queued; what is under way ends with the token given to [`new`](Self::new).
    pub(crate) fn abandon(&self) {
        let queue = mem::take(&mut self.state.lock().queue);
        drop(queue);
    }

    fn start_worker(self: &Arc<Self>, state: &mut State<F>) {
        if !state.called && state.workers < WORKERS && !state.queue.is_empty() {
            state.called = true;
            state.workers += 1;
            self.spawn(self.clone().run());
        }
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(work).await });
    }

    /// Carries batches until the queue is empty.
    async fn run(self: Arc<Self>) {
        loop {
            // Everybody who is ready to submit now does so before the batch is taken: it costs no time,
            // only the order in which ready tasks run.
            tokio::task::yield_now().await;
            let Some(batch) = self.take() else { return };
            let latest = batch.iter().map(|pending| pending.deadline).max().unwrap_or_else(Instant::now);
            let retry = Retry::new(&self.call.retry(), latest);
            if let Some(rest) = self.attempt(batch, &retry).await {
                self.spawn(self.clone().repeat(rest, retry));
            }
            self.state.lock().called = true;
        }
    }

    fn take(self: &Arc<Self>) -> Option<Vec<PendingItem<F>>> {
        let mut state = self.state.lock();
        state.called = false;
        let count = batch_length(state.queue.iter().map(|pending| F::size(&pending.item)), F::MAX_BYTES);
        let count = count.min(F::MAX_ITEMS);
        if count == 0 {
            state.workers -= 1;
            return None;
        }
        let batch = state.queue.drain(..count).collect();
        self.start_worker(&mut state);
        Some(batch)
    }

    /// Sends one request, answers those who are done, and returns the rest.
    async fn attempt(&self, items: Vec<PendingItem<F>>, retry: &Retry) -> Option<Rest<F>> {
        let limit = retry.limit(self.call.request_timeout());
        let outcome = if limit.is_zero() {
            Err(Error::new(ErrorKind::Timeout, F::OPERATION, "the time was up before its turn came"))
        } else {
            self.call.execute(&items, limit).await
        };
        let mut rest = Rest { items: Vec::new(), errors: Vec::new(), divided: false };
        match outcome {
            Ok(results) => {
                for (pending, result) in items.into_iter().zip(results) {
                    match result {
                        Err(error) if verdict(&error) != Verdict::Fail => rest.push(pending, error),
                        result => pending.finish(result),
                    }
                }
            }
            Err(error) => {
                rest.divided = items.len() > 1 && one_may_be_to_blame(&error);
                for pending in items {
                    if rest.divided || verdict(&error) != Verdict::Fail {
                        rest.push(pending, error.clone());
                    } else {
                        pending.finish(Err(error.clone()));
                    }
                }
            }
        }
        (!rest.items.is_empty()).then_some(rest)
    }

    /// Repeats what is left of a batch until all is answered.
    async fn repeat(self: Arc<Self>, mut rest: Rest<F>, mut retry: Retry) {
        loop {
            if rest.divided {
                return self.repeat_singly(rest.items).await;
            }
            let Some(error) = rest.errors.first().cloned() else { return };
            if retry.after(error).await.is_err() {
                for (pending, error) in rest.items.into_iter().zip(rest.errors) {
                    pending.finish(Err(error));
                }
                return;
            }
            let items = rest.still_in_time();
            if items.is_empty() {
                return;
            }
            match self.attempt(items, &retry).await {
                Some(next) => rest = next,
                None => return,
            }
        }
    }

    /// One of several was to blame for a refusal: each for itself finds out which.
    async fn repeat_singly(&self, items: Vec<PendingItem<F>>) {
        let mut waiting = items.into_iter();
        let mut under_way: FuturesUnordered<_> =
            waiting.by_ref().take(WORKERS).map(|pending| self.send_alone(pending)).collect();
        while under_way.next().await.is_some() {
            under_way.extend(waiting.next().map(|pending| self.send_alone(pending)));
        }
    }

    async fn send_alone(&self, pending: PendingItem<F>) {
        let mut retry = Retry::new(&self.call.retry(), pending.deadline);
        let mut items = vec![pending];
        while let Some(rest) = self.attempt(items, &retry).await {
            let Rest { items: left, errors, .. } = rest;
            let mut over = None;
            for error in errors {
                over = retry.after(error).await.err();
            }
            if let Some(error) = over {
                for pending in left {
                    pending.finish(Err(error.clone()));
                }
                return;
            }
            items = left;
        }
    }
}

/// What a request left undone, and why.
struct Rest<F: BatchCall> {
    items: Vec<PendingItem<F>>,
    errors: Vec<Error>,
    /// Whether the items go on one by one.
    divided: bool,
}

impl<F: BatchCall> Rest<F> {
    fn push(&mut self, mut pending: PendingItem<F>, error: Error) {
        pending.maybe_delivered |= error.maybe_delivered();
        self.items.push(pending);
        self.errors.push(error);
    }

    /// Answers those whose time is up, and returns the others.
    fn still_in_time(self) -> Vec<PendingItem<F>> {
        let now = Instant::now();
        let mut items = Vec::with_capacity(self.items.len());
        for (pending, error) in self.items.into_iter().zip(self.errors) {
            if pending.deadline > now {
                items.push(pending);
            } else {
                pending.finish(Err(error));
            }
        }
        items
    }
}

/// How many of the queued sizes make up one request: at least one, if there is one.
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

/// Whether a request may have been refused because of one of its entries.
///
/// Some servers answer 50001 where an entry is at fault, so that code counts too.
fn one_may_be_to_blame(error: &Error) -> bool {
    const INTERNAL_SERVER_ERROR: i32 = 50001;
    error.code() == Some(INTERNAL_SERVER_ERROR)
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
