use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;

use super::{Delivery, Filter, ServiceError, ServiceErrorKind};

/// How long a client keeps a queue that it has locked, unless it locks it again.
pub const LOCK_TIME: Duration = Duration::from_secs(60);

/// Reading queues by offset, without leases, storing how far a group has got, and which of its clients reads a queue.
#[async_trait]
pub trait Offsets: Send + Sync {
    /// Reads messages from an offset on, waiting until the deadline for the first.
    ///
    /// # Errors
    /// `TopicNotFound`, `Forbidden`, `IllegalFilter`, `Rejected` (no such broker or queue), `Busy` (too many waiting),
    /// `Unsupported`, `Timeout`, `Unavailable`.
    async fn pull(&self, _: Pull) -> Result<Pulled, ServiceError> {
        Err(unsupported())
    }

    /// Stores how far a group has got in a queue: the offset of the next message that it wants.
    ///
    /// # Errors
    /// As [`Offsets::pull`]; `Rejected` also for an offset beyond the end, if the backend checks it.
    async fn commit(&self, _: QueueOf<'_>, _group: &str, _offset: i64) -> Result<(), ServiceError> {
        Err(unsupported())
    }

    /// How far a group has got in a queue; `None` if it has not begun.
    ///
    /// # Errors
    /// As [`Offsets::pull`].
    async fn committed(&self, _: QueueOf<'_>, _group: &str) -> Result<Option<i64>, ServiceError> {
        Err(unsupported())
    }

    /// An offset of a queue.
    ///
    /// # Errors
    /// As [`Offsets::pull`].
    async fn offset(&self, _: QueueOf<'_>, _: Whence) -> Result<i64, ServiceError> {
        Err(unsupported())
    }

    /// Stores a copy of a message that a group has read and could not consume: in the group's retry topic, or, if it was
    /// delivered as often as it may be, in its dead-letter topic.
    ///
    /// # Errors
    /// `Rejected` (no such message), `GroupNotFound`, `TopicNotFound`, `Unsupported`, `Timeout`, `Unavailable`.
    async fn send_back(&self, _: SendBack) -> Result<(), ServiceError> {
        Err(unsupported())
    }

    /// Locks queues for one client of a group, for [`LOCK_TIME`] from now. Returns those that the client has now: not those
    /// that another client of the group has locked, nor those that don't exist.
    ///
    /// A lock stops nobody from reading. It is lost when the backend restarts.
    ///
    /// # Errors
    /// `Busy` (too many locks), `Unsupported`, `Timeout`, `Unavailable`.
    async fn lock(&self, _: QueueLock) -> Result<Vec<TopicQueue>, ServiceError> {
        Err(unsupported())
    }

    /// Ends a client's locks, so that others can have the queues at once.
    ///
    /// # Errors
    /// As [`Offsets::lock`].
    async fn unlock(&self, _: QueueLock) -> Result<(), ServiceError> {
        Err(unsupported())
    }
}

fn unsupported() -> ServiceError {
    ServiceError::new(ServiceErrorKind::Unsupported, "reading by offset is not supported by this server")
}

/// One queue, and how long to wait for an answer about it.
#[derive(Clone, Copy, Debug)]
pub struct QueueOf<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The broker that holds the queue.
    pub broker: &'a str,
    /// The queue's id there.
    pub id: i32,
    /// When the caller stops waiting for the answer.
    pub deadline: Instant,
}

/// A message that a group has read by offset and could not consume.
#[derive(Clone, Debug)]
pub struct SendBack {
    /// The topic that it was read from, which may be the group's retry topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// The broker that holds the queue.
    pub broker: String,
    /// The queue's id there.
    pub queue_id: i32,
    /// The message's position in the queue.
    pub offset: i64,
    /// The message's id.
    pub message_id: String,
    /// When it is to be read again: a level of delay, or 0 for a longer one each time. Below 0, it becomes a dead letter at
    /// once.
    pub level: i32,
    /// How often it may be delivered again after the first time, if the consumer has a limit of its own.
    pub max_retries: Option<i32>,
    /// When the caller stops waiting for the answer.
    pub deadline: Instant,
}

/// Queues of one broker, and the client that wants them for itself.
#[derive(Clone, Debug)]
pub struct QueueLock {
    /// The client's group.
    pub group: String,
    /// The client.
    pub client_id: String,
    /// The broker that holds the queues.
    pub broker: String,
    /// The queues.
    pub queues: Vec<TopicQueue>,
    /// When the caller stops waiting for the answer.
    pub deadline: Instant,
}

/// A queue of a known broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicQueue {
    /// The topic.
    pub topic: String,
    /// The queue's id.
    pub id: i32,
}

/// Which offset of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// The offset of the first message.
    Beginning,
    /// The offset behind the last message.
    End,
    /// The offset of the first message that was stored at this time or later.
    Time(SystemTime),
}

/// A read by offset.
#[derive(Clone, Debug)]
pub struct Pull {
    /// The topic.
    pub topic: String,
    /// The group that reads.
    pub group: String,
    /// The broker that holds the queue.
    pub broker: String,
    /// The queue's id there.
    pub queue_id: i32,
    /// Where to begin.
    pub offset: i64,
    /// The maximum number of messages.
    pub max: usize,
    /// What to deliver.
    pub filter: Filter,
    /// When to stop waiting for a first message.
    pub deadline: Instant,
}

/// The result of a read by offset.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// What was found.
    pub found: Found,
    /// The offset to go on from.
    pub next_offset: i64,
    /// The offsets that the queue holds.
    pub range: Range<i64>,
}

/// What a read by offset found.
#[derive(Clone, Debug)]
pub enum Found {
    /// Messages; they have no leases, and their coordinates are empty.
    Messages(Vec<Delivery>),
    /// No message yet.
    Nothing,
    /// The offset is not in the queue.
    OffsetIllegal,
}
