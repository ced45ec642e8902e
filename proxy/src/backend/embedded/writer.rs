//! The writer thread: the only one that appends, so that offsets have an order and concurrent sends one fsync.
//!
//! It takes everything that waits, puts the messages of each queue together ([`super::chunk`]), commits all of it
//! as one batch, lets the messages be seen, and only then answers. It is also the clock of delayed messages.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fjall::{OwnedWriteBatch, PersistMode};
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
use super::store::{Store, unavailable};
use super::timer::{Timers, Waiting};
use super::topic::Topic;
use crate::service::ServiceError;

/// Messages for one topic, stored all or none.
pub(super) struct Job {
    pub(super) topic: Arc<Topic>,
    pub(super) entries: Vec<Entry>,
    pub(super) reply: oneshot::Sender<Result<Vec<Placed>, ServiceError>>,
}

/// A message and where it goes.
pub(super) struct Entry {
    pub(super) message: Encoded,
    pub(super) queue: u32,
    /// When it may be delivered, ms since 1970; `None` is at once.
    pub(super) due: Option<u64>,
}

/// Where a message was put.
#[derive(Clone, Copy, Debug)]
pub(super) enum Placed {
    /// In its queue.
    Queued {
        /// The queue.
        queue: u32,
        /// The position in it.
        offset: u64,
    },
    /// With the timers.
    Waiting {
        /// The queue it will go to.
        queue: u32,
        /// Its timer.
        timer: (u64, u64),
    },
}

/// The handle of the writer thread.
pub(super) struct Writer {
    inbox: Arc<Inbox>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How the thread works.
pub(super) struct WriterOptions {
    pub(super) persist: PersistMode,
    pub(super) cache_bytes: usize,
    pub(super) max_pending_bytes: usize,
}

/// A chunk holds no more than this and one message, so that reading a message never reads much else.
const CHUNK_BYTES: usize = 128 << 10;
/// No send waits longer than this for the company of others.
const LONGEST_PAUSE: Duration = Duration::from_micros(500);

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
        let mut work = Work {
            store,
            catalog,
            inbox: inbox.clone(),
            timers,
            persist: options.persist,
            cache: Cache { limit: options.cache_bytes, bytes: 0, order: VecDeque::new() },
        };
        let thread = std::thread::Builder::new()
            .name("embedded-writer".to_owned())
            .spawn(move || work.run())
            .map_err(|error| OpenError::Io(directory, error))?;
        Ok(Self { inbox, thread: Mutex::new(Some(thread)) })
    }

    /// Hands over messages.
    ///
    /// # Errors
    /// `Busy` if too much waits for the disk, `Unavailable` after [`Writer::stop`].
    pub(super) fn submit(&self, job: Job) -> Result<(), ServiceError> {
        self.inbox.put(job)
    }

    /// Stores what was handed over, and ends the thread. Blocks until then.
    pub(super) fn stop(&self) {
        self.inbox.close();
        if let Some(thread) = self.thread.lock().take() {
            // A panic of the thread has been reported by its own message.
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Without a stop nobody waits for the thread; it ends by itself, and lets go of the directory.
        self.inbox.close();
    }
}

struct Work {
    store: Arc<Store>,
    catalog: Arc<Catalog>,
    inbox: Arc<Inbox>,
    timers: Timers,
    persist: PersistMode,
    cache: Cache,
}

/// The messages of one queue in a commit.
struct Group<'a> {
    topic: &'a Arc<Topic>,
    queue: Arc<Queue>,
    first: u64,
    messages: Vec<&'a Encoded>,
}

type Groups<'a> = HashMap<(u32, u32), Group<'a>>;

impl Work {
    fn run(&mut self) {
        let mut pause = Duration::ZERO;
        while let Some(jobs) = self.inbox.take(self.timers.next_due(), pause) {
            if !jobs.is_empty() {
                let start = Instant::now();
                self.store_jobs(jobs);
                // Worth waiting for others: a part of what a commit of their own would take.
                pause = (start.elapsed() / 2).min(LONGEST_PAUSE);
            }
            if self.timers.is_due(clock::now()) {
                self.deliver_due();
            }
        }
    }

    fn store_jobs(&mut self, jobs: Vec<Job>) {
        let mut batch = self.store.log_batch(self.persist);
        let mut groups = Groups::new();
        let placed: Vec<_> = jobs.iter().map(|job| self.place(job, &mut groups, &mut batch)).collect();
        let committed = self.commit(batch, &groups);
        drop(groups);
        for (job, placed) in jobs.into_iter().zip(placed) {
            // Nobody listens any more if the caller gave up.
            let _ = job.reply.send(committed.clone().and(placed));
        }
    }

    /// Gives the messages of a job their offsets.
    fn place<'a>(
        &mut self,
        job: &'a Job,
        groups: &mut Groups<'a>,
        batch: &mut OwnedWriteBatch,
    ) -> Result<Vec<Placed>, ServiceError> {
        job.topic.check_alive()?;
        let queues = match job.topic.loaded() {
            Some(queues) => queues,
            None => job.topic.load(&self.store)?,
        };
        let mut placed = Vec::with_capacity(job.entries.len());
        for entry in &job.entries {
            let queue = entry.queue;
            if let Some(due) = entry.due {
                let waiting = Waiting { topic: job.topic.id(), queue, message: &entry.message };
                placed.push(Placed::Waiting { queue, timer: self.timers.add(due, &waiting, batch) });
                continue;
            }
            let group = groups.entry((job.topic.id(), queue)).or_insert_with(|| {
                let queue = queues[queue as usize % queues.len()].clone();
                Group { topic: &job.topic, first: queue.end(), queue, messages: Vec::new() }
            });
            placed.push(Placed::Queued { queue, offset: group.first + group.messages.len() as u64 });
            group.messages.push(&entry.message);
        }
        Ok(placed)
    }

    /// Makes everything durable, then visible.
    fn commit(&mut self, mut batch: OwnedWriteBatch, groups: &Groups<'_>) -> Result<(), ServiceError> {
        let now = clock::now();
        let mut chunks = Vec::with_capacity(groups.len());
        for (&(topic, queue), group) in groups {
            let mut first = group.first;
            for messages in split(&group.messages) {
                let chunk = Chunk::build(first, now, messages.iter().copied());
                batch.insert(&self.store.log, keys::chunk(topic, queue, first), chunk.data().clone());
                first = chunk.end();
                chunks.push((group, chunk));
            }
        }
        batch.commit().map_err(|e| unavailable(&e))?;
        for (group, chunk) in chunks {
            self.cache.add(&group.queue, chunk);
        }
        for group in groups.values() {
            group.topic.messages_arrived(group.messages.len());
        }
        self.cache.shrink();
        Ok(())
    }

    /// Moves the delayed messages whose time has come to their queues.
    fn deliver_due(&mut self) {
        if let Err(error) = self.try_deliver_due() {
            tracing::error!(%error, "delayed messages can't be delivered now");
            self.timers.postpone(clock::now());
        }
    }

    fn try_deliver_due(&mut self) -> Result<(), ServiceError> {
        let due = self.timers.due(clock::now())?;
        let mut batch = self.store.log_batch(self.persist);
        let mut topics = Vec::with_capacity(due.len());
        for timer in &due {
            batch.remove(&self.store.log, keys::timer(timer.at.0, timer.at.1));
            let topic = self.catalog.topic_by_id(timer.topic);
            let queues = topic.as_ref().map(|topic| topic.load(&self.store)).transpose()?;
            // A deleted topic's messages go with it.
            topics.push(topic.zip(queues).filter(|(_, queues)| !queues.is_empty()));
        }
        let mut groups = Groups::new();
        for (timer, topic) in due.iter().zip(&topics) {
            let Some((topic, queues)) = topic else { continue };
            let group = groups.entry((timer.topic, timer.queue)).or_insert_with(|| {
                let queue = queues[timer.queue as usize % queues.len()].clone();
                Group { topic, first: queue.end(), queue, messages: Vec::new() }
            });
            group.messages.push(&timer.message);
        }
        self.commit(batch, &groups)?;
        match due.last() {
            Some(last) => self.timers.delivered(last.at),
            // Its send was not stored after all.
            None => self.timers.look_ahead(),
        }
    }
}

/// Cuts messages into pieces that are each big enough to be a chunk.
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

/// Which chunks are in memory, oldest first.
struct Cache {
    limit: usize,
    bytes: usize,
    order: VecDeque<Arc<Queue>>,
}

impl Cache {
    fn add(&mut self, queue: &Arc<Queue>, chunk: Chunk) {
        self.bytes += chunk.data().len();
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
