//! The writer thread: the only one that appends, so that offsets have an order and concurrent sends share an fsync.
//!
//! It takes all jobs that wait, puts the messages of each queue together ([`super::chunk`]), commits everything as one
//! batch, makes the messages visible, and only then answers. It also delivers delayed messages when they are due.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fjall::OwnedWriteBatch;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::catalog::Catalog;
use super::chunk::Chunk;
use super::clock;
use super::codec::Encoded;
use super::directory::OpenError;
use super::inbox::Inbox;
use super::keys;
use super::queue::Queue;
use super::store::{Opened, Store, unavailable};
use super::timer::{Timers, Waiting};
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
}

/// The handle of the writer thread.
pub(super) struct Writer {
    inbox: Arc<Inbox<Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
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
/// What a message takes in memory beside its bytes.
const ENTRY_OVERHEAD: usize = 256;
/// The longest time that a send waits for other sends to share its commit.
const MAX_PAUSE: Duration = Duration::from_micros(500);

impl Writer {
    /// Starts the thread.
    pub(super) fn start(
        store: Arc<Store>,
        catalog: Arc<Catalog>,
        options: WriterOptions,
    ) -> Result<Self, OpenError> {
        let inbox = Arc::new(Inbox::new(options.max_pending_bytes));
        let directory = store.path().to_owned();
        let timers =
            Timers::open(&store).map_err(|e| OpenError::Damaged(directory.clone(), e.to_string()))?;
        let mut worker = Worker {
            store,
            catalog,
            inbox: inbox.clone(),
            timers,
            log_openings: 0,
            cache: Cache { limit: options.cache_bytes, bytes: 0, order: VecDeque::new() },
        };
        let thread = std::thread::Builder::new()
            .name("embedded-writer".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| OpenError::Io(directory, error))?;
        Ok(Self { inbox, thread: Mutex::new(Some(thread)) })
    }

    /// Queues messages to be stored.
    ///
    /// # Errors
    /// `Busy` if too many bytes wait to be stored, `Unavailable` after [`Writer::stop`].
    pub(super) fn submit(&self, job: Job) -> Result<(), ServiceError> {
        let bytes = job.entries.iter().map(|entry| entry.message.len() + ENTRY_OVERHEAD).sum();
        self.inbox.put(job, bytes)
    }

    /// Stores what was submitted, and ends the thread. Blocks until then.
    pub(super) fn stop(&self) {
        self.inbox.close();
        if let Some(thread) = self.thread.lock().take() {
            // A panic of the thread has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Without a stop nobody waits for the thread. It ends by itself and releases the directory.
        self.inbox.close();
    }
}

struct Worker {
    store: Arc<Store>,
    catalog: Arc<Catalog>,
    inbox: Arc<Inbox<Job>>,
    timers: Timers,
    /// The value of [`Store::log_openings`] when the ends of the queues were read.
    log_openings: u64,
    cache: Cache,
}

/// What is about to be committed together.
struct Commit<'a> {
    log: Arc<Opened>,
    batch: OwnedWriteBatch,
    // By topic and queue id.
    appends: HashMap<(u32, u32), Append<'a>>,
}

/// Messages to be appended to a queue.
struct Append<'a> {
    topic: &'a Arc<Topic>,
    queue: Arc<Queue>,
    first: u64,
    messages: Vec<&'a Encoded>,
}

impl Worker {
    fn run(&mut self) {
        let mut pause = Duration::ZERO;
        while let Some(jobs) = self.inbox.take(self.timers.wait(clock::now()), pause) {
            if !jobs.is_empty() {
                let start = Instant::now();
                self.store_jobs(jobs);
                // Waiting pays as long as it takes less time than another commit.
                pause = (start.elapsed() / 2).min(MAX_PAUSE);
            }
            if self.timers.is_due(clock::now()) {
                self.deliver_due();
            }
        }
    }

    fn store_jobs(&mut self, jobs: Vec<Job>) {
        let answers = self.try_store_jobs(&jobs).unwrap_or_else(|error| vec![Err(error); jobs.len()]);
        for (job, answer) in jobs.into_iter().zip(answers) {
            // The caller may have given up.
            let _ = job.reply.send(answer);
        }
    }

    /// Stores all jobs in one commit. Returns for each where its messages were stored, or why it was refused.
    fn try_store_jobs(
        &mut self,
        jobs: &[Job],
    ) -> Result<Vec<Result<Vec<Placed>, ServiceError>>, ServiceError> {
        self.catch_up()?;
        let mut commit = Commit::new(&self.store)?;
        let placed = jobs.iter().map(|job| self.place(job, &mut commit)).collect();
        self.commit(commit)?;
        Ok(placed)
    }

    /// Gives the messages of a job their offsets.
    fn place<'a>(&mut self, job: &'a Job, commit: &mut Commit<'a>) -> Result<Vec<Placed>, ServiceError> {
        job.topic.check_alive()?;
        let queues = match job.topic.loaded() {
            Some(queues) => queues,
            None => job.topic.load(&self.store)?,
        };
        let mut placed = Vec::with_capacity(job.entries.len());
        for Entry { message, queue, due } in &job.entries {
            if let Some(due) = *due {
                let waiting = Waiting { due, topic: job.topic.id(), queue: *queue, message };
                let timer = self.timers.add(&waiting, &commit.log, &mut commit.batch);
                placed.push(Placed::Waiting { queue: *queue, timer });
            } else {
                let offset = commit.append(&job.topic, nth(&queues, *queue), message);
                placed.push(Placed::Queued { queue: *queue, offset });
            }
        }
        Ok(placed)
    }

    /// Makes everything durable, then visible.
    fn commit(&mut self, commit: Commit<'_>) -> Result<(), ServiceError> {
        let Commit { log, mut batch, appends } = commit;
        let now = clock::now();
        let mut chunks = Vec::with_capacity(appends.len());
        for (&(topic, queue), append) in &appends {
            let mut first = append.first;
            for messages in split(&append.messages) {
                let chunk = Chunk::build(first, now, messages.iter().copied());
                batch.insert(&log, keys::chunk(topic, queue, first), chunk.data().clone());
                first = chunk.end();
                chunks.push((append, chunk));
            }
        }
        batch.commit().map_err(|e| unavailable(&e))?;
        for (append, chunk) in chunks {
            self.cache.add(&append.queue, chunk);
        }
        for append in appends.values() {
            append.topic.messages_arrived(append.messages.len());
        }
        self.cache.shrink();
        Ok(())
    }

    /// Moves the delayed messages that are due to their queues.
    fn deliver_due(&mut self) {
        if let Err(error) = self.try_deliver_due() {
            if self.store.failure().is_none() {
                tracing::error!(%error, "delayed messages can't be delivered now");
            }
            self.timers.postpone();
        }
    }

    fn try_deliver_due(&mut self) -> Result<(), ServiceError> {
        self.catch_up()?;
        let due = self.timers.due(&self.store, clock::now())?;
        let mut commit = Commit::new(&self.store)?;
        let mut topics = Vec::with_capacity(due.len());
        for timer in &due {
            commit.batch.remove(&commit.log, keys::timer(timer.at.0, timer.at.1));
            let topic = self.catalog.topic_by_id(timer.topic);
            let queues = topic.as_ref().map(|topic| topic.load(&self.store)).transpose()?;
            // The messages of a deleted topic are deleted with it.
            topics.push(topic.zip(queues).filter(|(_, queues)| !queues.is_empty()));
        }
        for (timer, topic) in due.iter().zip(&topics) {
            let Some((topic, queues)) = topic else { continue };
            commit.append(topic, nth(queues, timer.queue), &timer.message);
        }
        self.commit(commit)?;
        match due.last() {
            Some(last) => self.timers.delivered(&self.store, last.at),
            // The send that set the timer was not stored.
            None => self.timers.look_ahead(&self.store),
        }
    }

    /// Reads the ends of the queues and the timers again after the log was opened again: messages whose sends were
    /// answered with an error may be in it.
    fn catch_up(&mut self) -> Result<(), ServiceError> {
        let openings = self.store.log_openings();
        if openings == self.log_openings {
            return Ok(());
        }
        for topic in self.catalog.topics_and_lite_topics() {
            let found = topic.find_ends(&self.store)?;
            topic.messages_arrived(found);
        }
        self.timers.start_over(&self.store)?;
        self.log_openings = openings;
        Ok(())
    }
}

impl<'a> Commit<'a> {
    fn new(store: &Store) -> Result<Self, ServiceError> {
        let log = store.log()?;
        let batch = log.batch(store.message_durability());
        Ok(Self { log, batch, appends: HashMap::new() })
    }

    /// Adds a message to a queue of a topic. Returns its offset.
    fn append(&mut self, topic: &'a Arc<Topic>, queue: &Arc<Queue>, message: &'a Encoded) -> u64 {
        let append = self.appends.entry((topic.id(), queue.id())).or_insert_with(|| Append {
            topic,
            first: queue.end(),
            queue: queue.clone(),
            messages: Vec::new(),
        });
        append.messages.push(message);
        append.first + append.messages.len() as u64 - 1
    }
}

/// The queue with this number, or another one if the topic has fewer.
fn nth(queues: &[Arc<Queue>], number: u32) -> &Arc<Queue> {
    &queues[number as usize % queues.len()]
}

/// Cuts messages into pieces, one for each chunk.
fn split<'a, 'b>(messages: &'a [&'b Encoded]) -> impl Iterator<Item = &'a [&'b Encoded]> {
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
