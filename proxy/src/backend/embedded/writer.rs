//! The writer thread: the only one that appends, so that offsets have an order and concurrent sends share an fsync.
//!
//! It takes all changes that wait, puts the messages of each queue together ([`super::chunk`]), commits everything as one
//! batch, makes the messages visible, and only then answers. It also delivers delayed messages when they are due.

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
use super::half_message::HalfMessage;
use super::inbox::{Inbox, InboxThread, WakeUp};
use super::keys;
use super::orphan_checks::OrphanChecks;
use super::queue::Queue;
use super::store::{Store, unavailable};
use super::tables::{Tables, nth};
use super::timer::Timers;
use super::topic::Topic;
use crate::service::ServiceError;

/// Messages for one topic. All of them are stored, or none.
pub(super) struct Job {
    pub(super) topic: Arc<Topic>,
    pub(super) entries: Vec<Entry>,
    pub(super) reply: oneshot::Sender<Result<Vec<Placed>, ServiceError>>,
}

/// A message and its queue.
pub(super) struct Entry {
    pub(super) message: Encoded,
    pub(super) queue: u32,
    /// When it may be delivered, in ms since 1970; `None` means at once.
    pub(super) due: Option<u64>,
    /// For a half message: how long its producer may take before it is asked.
    pub(super) immunity: Option<Duration>,
}

/// Where a message was stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum Placed {
    /// In its queue.
    Queued {
        /// The queue.
        queue: u32,
        /// Its offset in the queue.
        offset: u64,
    },
    /// With the timers.
    Waiting {
        /// The queue it will be moved to.
        queue: u32,
        /// Its timer.
        timer: (u64, u64),
    },
    /// With the half messages.
    Half {
        /// The queue that a commit moves it to.
        queue: u32,
        /// Where it is.
        place: HalfMessage,
    },
}

/// The handle of the writer thread.
pub(super) struct Writer {
    thread: InboxThread<Box<dyn Change>>,
}

/// Limits of the writer thread.
pub(super) struct WriterOptions {
    /// The most bytes of recent messages in memory.
    pub(super) cache_bytes: usize,
    /// The most bytes of messages that wait to be stored.
    pub(super) max_pending_bytes: usize,
}

/// A chunk is closed once it has this many bytes, so that reading a message never reads much else.
const CHUNK_BYTES: usize = 128 << 10;
/// What a message, or another change, takes in memory beside its bytes.
const ENTRY_OVERHEAD: usize = 256;
/// The longest time that a send waits for other sends to share its commit.
const MAX_PAUSE: Duration = Duration::from_micros(500);

impl Writer {
    /// Starts the thread.
    pub(super) fn start(
        store: Arc<Store>,
        catalog: Arc<Catalog>,
        checks: Arc<OrphanChecks>,
        options: WriterOptions,
    ) -> Result<Self, OpenError> {
        let directory = store.path().to_owned();
        let damaged = |error: ServiceError| OpenError::Damaged(directory.clone(), error.to_string());
        let timers = Timers::open(&store).map_err(damaged)?;
        let decisions = Decisions::open(&store).map_err(damaged)?;
        // The same number is used twice only after a million in a millisecond, or if the clock was set back to that
        // very millisecond.
        let sequence = clock::now() << 20;
        let mut worker = Worker {
            tables: Tables { store, catalog, timers, decisions, checks, sequence },
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
    pub(super) fn submit(&self, job: Job) -> Result<WakeUp<Box<dyn Change>>, ServiceError> {
        let Job { topic, entries, reply } = job;
        let bytes = entries.iter().map(|entry| entry.message.len() + ENTRY_OVERHEAD).sum();
        let make = move |tables: &mut Tables, commit: &mut Commit| tables.place(&topic, entries, commit);
        self.thread.put(Box::new(Request { make: Some(make), made: None, reply }), bytes)
    }

    /// Has the writer thread run `make`, which adds changes to the next commit. What it returns is the answer once the commit
    /// is stored. If it returns an error it must have changed nothing.
    ///
    /// # Errors
    /// As [`Writer::submit`].
    pub(super) fn change<T, F>(&self, make: F) -> Result<oneshot::Receiver<Answer<T>>, ServiceError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tables, &mut Commit) -> Answer<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        drop(self.thread.put(Box::new(Request { make: Some(make), made: None, reply }), ENTRY_OVERHEAD)?);
        Ok(answer)
    }

    /// Stores what was submitted, and ends the thread. Blocks until then.
    pub(super) fn stop(&self) {
        self.thread.stop();
    }
}

/// The answer to a request.
type Answer<T> = Result<T, ServiceError>;

/// What a request changes, as a part of a commit.
pub(super) trait Change: Send {
    /// Adds it to a commit.
    fn add_to(&mut self, tables: &mut Tables, commit: &mut Commit);
    /// Answers the request once the commit is stored, or has failed.
    fn answer(self: Box<Self>, committed: &Answer<()>);
}

struct Request<T, F> {
    make: Option<F>,
    made: Option<Answer<T>>,
    reply: oneshot::Sender<Answer<T>>,
}

impl<T, F> Change for Request<T, F>
where
    T: Send,
    F: FnOnce(&mut Tables, &mut Commit) -> Answer<T> + Send,
{
    fn add_to(&mut self, tables: &mut Tables, commit: &mut Commit) {
        self.made = self.make.take().map(|make| make(tables, commit));
    }

    fn answer(self: Box<Self>, committed: &Answer<()>) {
        let answer = match committed {
            Ok(()) => self.made.expect("what was not added to a commit was not stored"),
            Err(error) => Err(error.clone()),
        };
        // The caller may have given up.
        let _ = self.reply.send(answer);
    }
}

struct Worker {
    tables: Tables,
    /// The value of [`Store::log_openings`] when the ends of the queues were read.
    log_openings: u64,
    cache: Cache,
}

impl Worker {
    fn run(&mut self, inbox: &Inbox<Box<dyn Change>>) {
        let mut pause = Duration::ZERO;
        while let Some(changes) = inbox.take(self.tables.timers.wait(clock::now()), pause) {
            if !changes.is_empty() {
                let start = Instant::now();
                self.make_all(changes);
                // Waiting pays as long as it takes less time than another commit.
                pause = (start.elapsed() / 2).min(MAX_PAUSE);
            }
            if self.tables.timers.is_due(clock::now()) {
                self.deliver_due();
            }
        }
    }

    fn make_all(&mut self, changes: Vec<Box<dyn Change>>) {
        let mut waiting = changes.into_iter().peekable();
        while waiting.peek().is_some() {
            let mut made = Vec::with_capacity(waiting.len());
            let committed = self.make_some(&mut waiting, &mut made);
            for change in made {
                change.answer(&committed);
            }
        }
    }

    /// Makes the changes that fit in one commit. Adds them to `made`, also if the commit fails.
    fn make_some(
        &mut self,
        waiting: &mut Peekable<impl Iterator<Item = Box<dyn Change>>>,
        made: &mut Vec<Box<dyn Change>>,
    ) -> Result<(), ServiceError> {
        let mut commit = match self.catch_up().and_then(|()| Commit::new(&self.tables.store)) {
            Ok(commit) => commit,
            Err(error) => {
                made.extend(waiting);
                return Err(error);
            }
        };
        while let Some(mut change) = waiting.next_if(|_| !commit.is_full()) {
            change.add_to(&mut self.tables, &mut commit);
            made.push(change);
        }
        self.commit(commit)
    }

    /// Makes everything durable, then visible.
    fn commit(&mut self, mut commit: Commit) -> Result<(), ServiceError> {
        let forgotten = self.tables.decisions.write(&mut commit);
        let Commit { log, appends, records, decided, checks, .. } = commit;
        let mut batch = log.batch(self.tables.store.message_durability());
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
        let start = Instant::now();
        batch.commit().map_err(|e| unavailable(&e))?;
        self.tables.store.message_writes.add(start.elapsed());
        for (append, chunk) in chunks {
            self.cache.add(&append.queue, chunk);
        }
        for append in appends.values() {
            append.topic.messages_arrived(append.messages.len());
        }
        self.cache.shrink();
        self.tables.decisions.committed(decided, forgotten);
        self.tables.checks.added(&checks);
        Ok(())
    }

    /// Moves the delayed messages that are due to their queues.
    fn deliver_due(&mut self) {
        if let Err(error) = self.try_deliver_due() {
            if self.tables.store.failure().is_none() {
                tracing::error!(%error, "delayed messages can't be delivered now");
            }
            self.tables.timers.postpone();
        }
    }

    fn try_deliver_due(&mut self) -> Result<(), ServiceError> {
        self.catch_up()?;
        let Tables { store, catalog, timers, .. } = &self.tables;
        let due = timers.due(store, clock::now())?;
        let last = due.last().map(|timer| timer.at);
        let mut commit = Commit::new(store)?;
        for timer in due {
            commit.remove(&keys::timer(timer.at.0, timer.at.1));
            let Some((queue, message)) = timer.message else { continue };
            // The messages of a deleted topic are deleted with it.
            let Some(topic) = catalog.topic_by_id(timer.topic) else { continue };
            let queues = topic.load(store)?;
            if !queues.is_empty() {
                commit.append(&topic, nth(&queues, queue), message);
            }
        }
        self.commit(commit)?;
        let Tables { store, timers, .. } = &mut self.tables;
        match last {
            Some(last) => timers.delivered(store, last),
            // The send that set the timer was not stored.
            None => timers.look_ahead(store),
        }
    }

    /// Reads the ends of the queues, the timers and the decisions again after the log was opened again: messages whose
    /// sends were answered with an error may be in it.
    fn catch_up(&mut self) -> Result<(), ServiceError> {
        let Tables { store, catalog, timers, decisions, checks, .. } = &mut self.tables;
        let openings = store.log_openings();
        if openings == self.log_openings {
            return Ok(());
        }
        for topic in catalog.topics_and_lite_topics() {
            let found = topic.find_ends(store)?;
            topic.messages_arrived(found);
        }
        timers.start_over(store)?;
        *decisions = Decisions::open(store)?;
        checks.start_over();
        self.log_openings = openings;
        Ok(())
    }
}

/// Cuts messages into pieces, one for each chunk.
fn split(messages: &[Encoded]) -> impl Iterator<Item = &[Encoded]> {
    let mut rest = messages;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let full = rest.iter().position(|message| {
            bytes += message.len();
            bytes >= CHUNK_BYTES
        });
        let (piece, after) = rest.split_at(full.map_or(rest.len(), |last| last + 1));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The chunks that are in memory.
struct Cache {
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
