//! Reading queues by offset, the offsets of groups, and locks of queues.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;

use super::{Delivery, Filter, ServiceError, ServiceErrorKind};

/// How long a client's lock of a queue lasts, unless the client renews it.
pub const LOCK_TIME: Duration = Duration::from_secs(60);

/// Reading queues by offset without leases, storing the offsets of groups, and locking queues for clients.
#[async_trait]
pub trait Offsets: Send + Sync {
    /// Reads messages from an offset on, waiting until the deadline for the first.
    ///
    /// # Errors
    /// `TopicNotFound`, `Forbidden`, `IllegalFilter`, `Rejected` (no such broker or queue), `Busy` (too many waiting
    /// reads), `Unsupported`, `Timeout`, `Unavailable`.
    async fn pull(&self, _: Pull) -> Result<Pulled, ServiceError> {
        Err(unsupported())
    }

    /// Stores a group's offset in a queue: the offset of the next message to read.
    ///
    /// # Errors
    /// As [`Offsets::pull`]; `Rejected` also for an offset beyond the end, if the backend checks it.
    async fn commit(&self, _: QueueRef<'_>, _group: &str, _offset: i64) -> Result<(), ServiceError> {
        Err(unsupported())
    }

    /// A group's stored offset in a queue; `None` if there is none.
    ///
    /// # Errors
    /// As [`Offsets::pull`].
    async fn committed(&self, _: QueueRef<'_>, _group: &str) -> Result<Option<i64>, ServiceError> {
        Err(unsupported())
    }

    /// The first or last offset of a queue, or the offset for a time.
    ///
    /// # Errors
    /// As [`Offsets::pull`].
    async fn offset(&self, _: QueueRef<'_>, _: Whence) -> Result<i64, ServiceError> {
        Err(unsupported())
    }

    /// Stores a copy of a message that a group has read and could not consume: in the group's retry topic, or in its
    /// dead-letter topic after the last attempt.
    ///
    /// # Errors
    /// `Rejected` (no such message), `GroupNotFound`, `TopicNotFound`, `Unsupported`, `Timeout`, `Unavailable`.
    async fn send_back(&self, _: SendBack) -> Result<(), ServiceError> {
        Err(unsupported())
    }

    /// Locks queues for one client of a group, for [`LOCK_TIME`] from now. Returns the queues that are now locked for the
    /// client. Queues that don't exist, or that another client of the group has locked, are left out.
    ///
    /// Locks are advisory: they don't prevent reads. They are lost when the backend restarts.
    ///
    /// # Errors
    /// `Busy` (too many locks), `Unsupported`, `Timeout`, `Unavailable`.
    async fn lock(&self, _: QueueLock) -> Result<Vec<TopicQueue>, ServiceError> {
        Err(unsupported())
    }

    /// Releases a client's locks, so that other clients of the group can lock the queues at once.
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

/// Identifies a queue in a request, together with the request's deadline.
#[derive(Clone, Copy, Debug)]
pub struct QueueRef<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The broker that holds the queue.
    pub broker: &'a str,
    /// The queue's id on the broker.
    pub id: i32,
    /// When the caller stops waiting for the answer.
    pub deadline: Instant,
}

/// A message that a group has read by offset and could not consume.
#[derive(Clone, Debug)]
pub struct SendBack {
    /// The topic from which the message was read, which may be the group's retry topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// The broker that holds the queue.
    pub broker: String,
    /// The queue's id on the broker.
    pub queue_id: i32,
    /// The message's offset in the queue.
    pub offset: i64,
    /// The message's id.
    pub message_id: String,
    /// The delay level of the next delivery. With 0, the delay grows with each retry. With a negative number, the message
    /// becomes a dead letter at once.
    pub level: i32,
    /// The maximum number of deliveries after the first one; `None` if the group's limit applies.
    pub max_retries: Option<i32>,
    /// When the caller stops waiting for the answer.
    pub deadline: Instant,
}

/// A request to lock queues of one broker for a client, or to release the locks.
#[derive(Clone, Debug)]
pub struct QueueLock {
    /// The client's group.
    pub group: String,
    /// The client.
    pub client_id: String,
    /// The client's host, which has a share of the locks.
    pub host: Arc<str>,
    /// The broker that holds the queues.
    pub broker: String,
    /// The queues.
    pub queues: Vec<TopicQueue>,
    /// When the caller stops waiting for the answer.
    pub deadline: Instant,
}

/// A queue of a topic on a broker that the context determines.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicQueue {
    /// The topic.
    pub topic: String,
    /// The queue's id.
    pub id: i32,
}

/// Selects an offset of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// The offset of the first message.
    Beginning,
    /// The offset after the last message.
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
    /// The queue's id on the broker.
    pub queue_id: i32,
    /// The offset of the first message to read.
    pub offset: i64,
    /// The maximum number of messages.
    pub max: usize,
    /// Which messages to return.
    pub filter: Filter,
    /// When to stop waiting for a first message.
    pub deadline: Instant,
}

/// The result of a read by offset.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The messages, or why there are none.
    pub outcome: PullOutcome,
    /// The offset from which to continue.
    pub next_offset: i64,
    /// The offsets of the messages in the queue.
    pub range: Range<i64>,
}

/// The messages of a read by offset, or why there are none.
#[derive(Clone, Debug)]
pub enum PullOutcome {
    /// Messages without leases. Their coordinates are empty.
    Messages(Vec<Delivery>),
    /// There was no message before the deadline.
    Nothing,
    /// The offset is outside of the queue.
    OffsetIllegal,
}
