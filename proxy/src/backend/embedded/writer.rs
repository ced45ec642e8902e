//! The writer thread, which commits sends in groups. It alone appends messages, which orders the offsets and lets
//! concurrent sends share an fsync.
//!
//! It takes all waiting changes, groups the messages of each queue into chunks ([`super::chunk`]), commits everything
//! as one batch, makes the messages visible, and only then answers. It also delivers delayed messages when they are
//! due.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::catalog::Catalog;
use super::chunk::Chunk;
use super::clock;
use super::codec::Encoded;
use super::commit::Commit;
use super::decisions::Decisions;
use super::directory::OpenError;
use super::inbox::{Inbox, InboxThread, WakeUp};
use super::keys;
use super::new_message::{NewMessage, StoredAt};
use super::orphan_check_reads::CheckSchedule;
use super::queue::Queue;
use super::store::{Store, unavailable};
use super::timer::{DueTimers, Timers};
use super::topic::Topic;
use super::writer_state::WriterState;
use crate::service::ServiceError;

/// Messages to be stored in one topic. Either all of them are stored, or none.
pub(super) struct StoreRequest {
    pub(super) topic: Arc<Topic>,
    pub(super) entries: Vec<NewMessage>,
    pub(super) reply: oneshot::Sender<Result<Vec<StoredAt>, ServiceError>>,
}

/// A handle to the writer thread.
pub(super) struct Writer {
    thread: InboxThread<Box<dyn LogChange>>,
}

/// Limits of the writer thread.
pub(super) struct WriterOptions {
    /// The maximum size of the recent messages in memory, in bytes.
    pub(super) cache_bytes: usize,
    /// The maximum size of the messages that wait to be stored, in bytes.
    pub(super) max_pending_bytes: usize,
}

/// A chunk is closed once it has this many bytes, so that reading a message never reads much else.
const CHUNK_BYTES: usize = 128 << 10;
/// The bytes of memory that a waiting message or another change takes in addition to its content.
const ENTRY_OVERHEAD: usize = 256;
/// The longest time that a send waits for other sends to share its commit.
const MAX_BATCHING_DELAY: Duration = Duration::from_micros(500);

impl Writer {
    /// Starts the thread.
    pub(super) fn start(
        store: Arc<Store>,
        catalog: Arc<Catalog>,
        checks: Arc<CheckSchedule>,
        options: WriterOptions,
    ) -> Result<Self, OpenError> {
        let directory = store.path().to_owned();
        let damaged = |error: ServiceError| OpenError::Damaged(directory.clone(), error.to_string());
        let timers = Timers::open(&store).map_err(damaged)?;
        let decisions = Decisions::open(&store).map_err(damaged)?;
        // Numbers repeat only if more than a million are used in a millisecond, or if the clock was set back to exactly
        // this millisecond.
        let sequence = clock::now() << 20;
        let mut worker = Worker {
            state: WriterState { store, catalog, timers, decisions, checks, sequence },
            log_openings: 0,
            cache: Cache { limit: options.cache_bytes, bytes: 0, order: VecDeque::new() },
        };
        let inbox = Inbox::new(options.max_pending_bytes);
        let thread = InboxThread::start("embedded-writer", inbox, move |inbox| worker.run(inbox))
            .map_err(|error| OpenError::Io(directory, error))?;
        Ok(Self { thread })
    }

    /// Queues messages to be stored.
    ///
    /// # Errors
    /// `Busy` if too many bytes wait to be stored, `Unavailable` after [`Writer::stop`].
    pub(super) fn submit(&self, request: StoreRequest) -> Result<WakeUp<Box<dyn LogChange>>, ServiceError> {
        let StoreRequest { topic, entries, reply } = request;
        let bytes = entries.iter().map(|entry| entry.message.len() + ENTRY_OVERHEAD).sum();
        let apply = move |state: &mut WriterState, commit: &mut Commit| state.place(&topic, entries, commit);
        self.thread.put(Box::new(ChangeRequest { apply: Some(apply), result: None, reply }), bytes)
    }

    /// Runs `apply` on the writer thread, where it adds changes to the next commit. Its result is sent to the returned
    /// receiver once the commit is stored. If it returns an error, it must not have changed anything.
    ///
    /// # Errors
    /// As [`Writer::submit`].
    pub(super) fn change<T, F>(&self, apply: F) -> Result<oneshot::Receiver<Answer<T>>, ServiceError>
    where
        T: Send + 'static,
        F: FnOnce(&mut WriterState, &mut Commit) -> Answer<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let request = ChangeRequest { apply: Some(apply), result: None, reply };
        drop(self.thread.put(Box::new(request), ENTRY_OVERHEAD)?);
        Ok(answer)
    }

    /// Stores all submitted messages and changes, and ends the thread. Blocks until then.
    pub(super) fn stop(&self) {
        self.thread.stop();
    }
}

/// The result of a request.
type Answer<T> = Result<T, ServiceError>;

/// A request that changes the log.
pub(super) trait LogChange: Send {
    /// Adds the changes to a commit.
    fn add_to(&mut self, state: &mut WriterState, commit: &mut Commit);
    /// Answers the request once the commit is stored, or has failed.
    fn answer(self: Box<Self>, committed: &Answer<()>);
}

struct ChangeRequest<T, F> {
    /// Adds the changes to a commit. Taken when it runs.
    apply: Option<F>,
    /// What `apply` returned. `None` before it has run.
    result: Option<Answer<T>>,
    reply: oneshot::Sender<Answer<T>>,
}

impl<T, F> LogChange for ChangeRequest<T, F>
where
    T: Send,
    F: FnOnce(&mut WriterState, &mut Commit) -> Answer<T> + Send,
{
    fn add_to(&mut self, state: &mut WriterState, commit: &mut Commit) {
        self.result = self.apply.take().map(|apply| apply(state, commit));
    }

    fn answer(self: Box<Self>, committed: &Answer<()>) {
        let answer = match committed {
            Ok(()) => self.result.expect("each change of a stored commit was added to it"),
            Err(error) => Err(error.clone()),
        };
        // The caller may have given up.
        let _ = self.reply.send(answer);
    }
}

struct Worker {
    state: WriterState,
    /// The value of [`Store::log_openings`] when the ends of the queues were read.
    log_openings: u64,
    cache: Cache,
}

impl Worker {
    fn run(&mut self, inbox: &Inbox<Box<dyn LogChange>>) {
        let mut pause = Duration::ZERO;
        while let Some(changes) = inbox.take(self.state.timers.wait(clock::now()), pause) {
            if !changes.is_empty() {
                let start = Instant::now();
                self.store_all(changes);
                // Waiting for more sends pays if it takes less time than another commit.
                pause = (start.elapsed() / 2).min(MAX_BATCHING_DELAY);
            }
            if self.state.timers.is_due(clock::now()) {
                self.deliver_due();
            }
        }
    }

    fn store_all(&mut self, changes: Vec<Box<dyn LogChange>>) {
        let mut waiting = changes.into_iter().peekable();
        while waiting.peek().is_some() {
            let mut included = Vec::with_capacity(waiting.len());
            let committed = self.store_some(&mut waiting, &mut included);
            for change in included {
                change.answer(&committed);
            }
        }
    }

    /// Stores as many changes as fit in one commit. Moves them to `included`, even if the commit fails.
    fn store_some(
        &mut self,
        waiting: &mut Peekable<impl Iterator<Item = Box<dyn LogChange>>>,
        included: &mut Vec<Box<dyn LogChange>>,
    ) -> Result<(), ServiceError> {
        let mut commit = match self.reload_after_reopening().and_then(|()| Commit::new(&self.state.store)) {
            Ok(commit) => commit,
            Err(error) => {
                included.extend(waiting);
                return Err(error);
            }
        };
        while let Some(mut change) = waiting.next_if(|_| !commit.is_full()) {
            change.add_to(&mut self.state, &mut commit);
            included.push(change);
        }
        self.commit(commit)
    }

    /// Writes a commit to the log, and then makes its messages visible.
    fn commit(&mut self, mut commit: Commit) -> Result<(), ServiceError> {
        let forgotten = self.state.decisions.write(&mut commit);
        let Commit { log, appends, records, decided, checks, .. } = commit;
        let mut batch = log.batch(self.state.store.message_durability());
        for (key, value) in records {
            match value {
                Some(value) => batch.insert(&log, &*key, value),
                None => batch.remove(&log, &*key),
            }
        }
        let now = clock::now();
        let mut chunks = Vec::with_capacity(appends.len());
        for (&(topic, queue), append) in &appends {
            let mut first = append.first;
            for messages in split(&append.messages) {
                let chunk = Chunk::build(first, now, messages.iter());
                batch.insert(&log, keys::chunk(topic, queue, first), chunk.data().clone());
                first = chunk.end();
                chunks.push((append, chunk));
            }
        }
        let (committed, took) = self.state.store.disk_latency.commit(|| batch.commit());
        committed.map_err(|e| unavailable(&e))?;
        self.state.store.message_writes.add(took);
        for (append, chunk) in chunks {
            self.cache.add(&append.queue, chunk);
        }
        for append in appends.values() {
            append.topic.messages_arrived(append.messages.len());
        }
        self.cache.shrink();
        self.state.decisions.committed(decided, forgotten);
        self.state.checks.added(&checks);
        Ok(())
    }

    /// Moves due delayed messages to their queues.
    fn deliver_due(&mut self) {
        if let Err(error) = self.try_deliver_due() {
            if self.state.store.failure().is_none() {
                tracing::error!(%error, "failed to deliver delayed messages; trying again later");
            }
            self.state.timers.postpone();
        }
    }

    fn try_deliver_due(&mut self) -> Result<(), ServiceError> {
        self.reload_after_reopening()?;
        let WriterState { store, catalog, timers, .. } = &self.state;
        let DueTimers { timers: due, rest, next_due } = timers.due(store, clock::now())?;
        let mut commit = Commit::new(store)?;
        for timer in due {
            commit.remove(&timer.key.encode());
            let Some((queue, message)) = timer.message else { continue };
            // The messages of a deleted topic are deleted with it.
            let Some(topic) = catalog.topic_by_id(timer.topic) else { continue };
            let queues = topic.load(store)?;
            if !queues.is_empty() {
                commit.append(&topic, topic.writable_queue(&queues, queue), message);
            }
        }
        self.commit(commit)?;
        self.state.timers.continue_with(rest, next_due);
        Ok(())
    }

    /// If the log was opened again, reads the ends of the queues, the timers and the decisions from it. It may contain
    /// messages whose sends were answered with an error.
    fn reload_after_reopening(&mut self) -> Result<(), ServiceError> {
        let WriterState { store, catalog, timers, decisions, checks, .. } = &mut self.state;
        let openings = store.log_openings();
        if openings == self.log_openings {
            return Ok(());
        }
        for topic in catalog.topics_and_lite_topics() {
            let found = topic.reload_ends(store)?;
            topic.messages_arrived(found);
        }
        timers.reload(store)?;
        *decisions = Decisions::open(store)?;
        checks.reload();
        self.log_openings = openings;
        Ok(())
    }
}

/// Splits messages into slices, one for each chunk.
fn split(messages: &[Encoded]) -> impl Iterator<Item = &[Encoded]> {
    let mut rest = messages;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let full = rest.iter().position(|message| {
            bytes += message.len();
            bytes >= CHUNK_BYTES
        });
        let (chunk, after) = rest.split_at(full.map_or(rest.len(), |last| last + 1));
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Bounds the memory of the recent chunks that the queues hold.
struct Cache {
    /// The maximum size, in bytes.
    limit: usize,
    bytes: usize,
    // The queue of each chunk, oldest first.
    order: VecDeque<Arc<Queue>>,
}

impl Cache {
    fn add(&mut self, queue: &Arc<Queue>, chunk: Chunk) {
        self.bytes += chunk.memory();
        queue.publish(chunk);
        self.order.push_back(queue.clone());
    }

    fn shrink(&mut self) {
        while self.bytes > self.limit {
            let Some(queue) = self.order.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(queue.evict_oldest());
        }
    }
}
