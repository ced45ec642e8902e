//! What administrators can ask of a backend, apart from the configuration of topics and groups.

use std::fmt;
use std::ops::Add;
use std::time::SystemTime;

use async_trait::async_trait;

use super::{BrokerAcl, Delivery, ServiceError, ServiceErrorKind};
use crate::histogram::HistogramCounts;

/// Statistics, stored messages, resets of groups, and users. Every method has a default that returns `Unsupported`, for
/// backends that lack it.
#[async_trait]
pub trait Administration: Send + Sync {
    /// The queues and messages of a topic, or of one of its lite topics.
    ///
    /// # Errors
    /// `TopicNotFound`, `Unsupported`, `Timeout`, `Unavailable`.
    async fn topic_stats(&self, _topic: &str, _lite_topic: Option<&str>) -> Result<TopicStats, ServiceError> {
        Err(unsupported("topic statistics"))
    }

    /// The lite topics of a LITE topic, sorted by name: at most `max`, beginning after the name `after`. A call looks at a
    /// bounded number of lite topics.
    ///
    /// # Errors
    /// `TopicNotFound`, `Unsupported`, `Timeout`, `Unavailable`.
    async fn lite_topics(
        &self,
        _topic: &str,
        _after: Option<&str>,
        _max: usize,
    ) -> Result<LiteTopicPage, ServiceError> {
        Err(unsupported("lists of lite topics"))
    }

    /// The progress of a group in one topic, or in all topics from which it has received.
    ///
    /// # Errors
    /// `GroupNotFound`, `TopicNotFound`, `Unsupported`, `Timeout`, `Unavailable`.
    async fn group_stats(&self, _group: &str, _topic: Option<&str>) -> Result<GroupStats, ServiceError> {
        Err(unsupported("group statistics"))
    }

    /// Reads stored messages of a queue, without consuming them. A call looks at a bounded number of messages.
    ///
    /// # Errors
    /// `TopicNotFound`, `Rejected` (no such queue), `Unsupported`, `Timeout`, `Unavailable`.
    async fn read(&self, _: ReadQueue) -> Result<ReadPage, ServiceError> {
        Err(unsupported("reading of stored messages"))
    }

    /// Moves a group to another position in a topic, in all queues at once if the backend supports it. Coordinates of
    /// earlier deliveries become invalid. Messages before the new position count as consumed; the rest are delivered again.
    ///
    /// # Errors
    /// `GroupNotFound`, `TopicNotFound`, `Rejected` (no such queue or offset), `Unsupported`, `Timeout`, `Unavailable`.
    async fn reset(&self, _: ResetGroup) -> Result<Vec<QueueReset>, ServiceError> {
        Err(unsupported("resets of groups"))
    }

    /// Users and policies of Apache's brokers (separated mode).
    ///
    /// # Errors
    /// `Forbidden` if the proxy's user may not list them, `Unsupported`, `Timeout`, `Unavailable`.
    async fn acl(&self) -> Result<BrokerAcl, ServiceError> {
        let text = "the embedded broker has no users of its own";
        Err(ServiceError::new(ServiceErrorKind::Unsupported, text))
    }

    /// Users kept in the embedded broker's catalog (merged mode), sorted by name.
    ///
    /// # Errors
    /// `Unsupported`, `Unavailable`.
    async fn stored_users(&self) -> Result<Vec<StoredUser>, ServiceError> {
        Err(unsupported("users in the catalog"))
    }

    /// Creates or replaces a user. The change is on the disk when this returns.
    ///
    /// # Errors
    /// `Unsupported`, `Unavailable`.
    async fn put_user(&self, _: StoredUser) -> Result<(), ServiceError> {
        Err(unsupported("users in the catalog"))
    }

    /// Removes the user of this name, if it exists.
    ///
    /// # Errors
    /// `Unsupported`, `Unavailable`.
    async fn remove_user(&self, _name: &str) -> Result<(), ServiceError> {
        Err(unsupported("users in the catalog"))
    }

    /// The space that the store takes on the disk, by kind and by topic.
    ///
    /// # Errors
    /// `Unsupported`, `Unavailable`.
    async fn store_stats(&self) -> Result<StoreStats, ServiceError> {
        Err(unsupported("store statistics"))
    }

    /// The disk figures of [`store_stats`](Administration::store_stats), without reading the topics.
    ///
    /// # Errors
    /// As [`Administration::store_stats`].
    async fn disk_stats(&self) -> Result<DiskStats, ServiceError> {
        Err(unsupported("store statistics"))
    }
}

/// A user of access control, as the broker stores it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredUser {
    /// The user's name.
    pub name: String,
    /// The user's record, opaque to the broker.
    pub record: Vec<u8>,
}

impl fmt::Debug for StoredUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredUser").field("name", &self.name).finish_non_exhaustive()
    }
}

fn unsupported(what: &str) -> ServiceError {
    let text = format!("not available in front of Apache's brokers: {what}; use the merged mode");
    ServiceError::new(ServiceErrorKind::Unsupported, text)
}

/// Statistics of a topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicStats {
    /// The topic's queues.
    pub queues: Vec<QueueStats>,
    /// The bytes of the topic's messages, if the backend reports them.
    pub bytes: Option<StoredBytes>,
    /// Messages stored per second over the last minute, if the backend reports them.
    pub rate_in: Option<f64>,
    /// The number of messages stored lately, if the backend reports it.
    pub stored: Option<EventCounts>,
    /// The number of lite topics of a LITE topic, if the backend reports it.
    pub lite_topics: Option<u64>,
}

/// How many events there were lately. A restart of the broker resets the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// In the last minute.
    pub minute: u64,
    /// In the last hour.
    pub hour: u64,
    /// In the last 24 hours.
    pub day: u64,
}

impl Add for EventCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { minute: self.minute + other.minute, hour: self.hour + other.hour, day: self.day + other.day }
    }
}

/// A part of the list of a LITE topic's lite topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiteTopicPage {
    /// Sorted by name.
    pub lite_topics: Vec<LiteTopicStats>,
    /// Whether the list ends here.
    pub finished: bool,
}

/// Statistics of a lite topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiteTopicStats {
    /// The lite topic's name.
    pub name: String,
    /// The offset of the first stored message.
    pub first: i64,
    /// The offset after the last message.
    pub next: i64,
    /// When the first message was stored; `None` if there is none.
    pub oldest: Option<SystemTime>,
    /// When the last message was stored; `None` if there is none.
    pub newest: Option<SystemTime>,
    /// Whether a client is subscribed to the lite topic.
    pub subscribed: bool,
}

/// The size of stored messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredBytes {
    /// The number of bytes.
    pub count: u64,
    /// Whether the number is extrapolated from a part of the messages.
    pub estimated: bool,
}

/// Statistics of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStats {
    /// The broker that holds the queue.
    pub broker: String,
    /// The queue's id on the broker.
    pub id: i32,
    /// The offset of the first stored message.
    pub first: i64,
    /// The offset after the last message.
    pub next: i64,
    /// When the first message was stored; `None` if there is none.
    pub oldest: Option<SystemTime>,
    /// When the last message was stored; `None` if there is none.
    pub newest: Option<SystemTime>,
}

/// The progress of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupStats {
    /// One entry per topic.
    pub topics: Vec<GroupTopicStats>,
    /// Whether topics or lite topics were left out because there are too many.
    pub truncated: bool,
}

/// The progress of a group in a topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupTopicStats {
    /// The topic.
    pub topic: String,
    /// One entry per queue. A LITE topic has one entry, summing the lite topics that the group has received from or that
    /// one of its clients subscribes to.
    pub queues: Vec<GroupQueueStats>,
    /// Messages delivered per second over the last minute, if the backend reports them.
    pub rate_delivered: Option<f64>,
    /// Messages settled per second over the last minute, if the backend reports them.
    pub rate_settled: Option<f64>,
    /// The number of messages delivered lately, if the backend reports it.
    pub delivered: Option<EventCounts>,
    /// The number of messages settled lately, if the backend reports it.
    pub settled: Option<EventCounts>,
}

/// The progress of a group in a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupQueueStats {
    /// The broker that holds the queue.
    pub broker: String,
    /// The queue's id on the broker.
    pub id: i32,
    /// The offset before which all messages are settled.
    pub settled: i64,
    /// The offset of the first message that was never delivered to the group.
    pub next: i64,
    /// The offset after the last message.
    pub end: i64,
    /// The number of unsettled messages.
    pub lag: i64,
    /// The number of deliveries under a lease, if the backend reports it.
    pub in_flight: Option<i64>,
    /// The number of messages whose lease has ended and that the next receive gets again, if the backend reports it.
    pub retry: Option<i64>,
    /// The number of messages that wait behind unsettled messages of their message group, if the backend reports it.
    pub blocked: Option<i64>,
    /// When the oldest unsettled message was stored; `None` if there is none, or the backend does not report it.
    pub oldest: Option<SystemTime>,
}

/// A request to read stored messages of a queue.
#[derive(Clone, Debug)]
pub struct ReadQueue {
    /// The topic.
    pub topic: String,
    /// The lite topic to read, if the topic is a LITE topic.
    pub lite_topic: Option<String>,
    /// The broker that holds the queue.
    pub broker: String,
    /// The queue's id on the broker.
    pub queue_id: i32,
    /// The first offset to read. If it is not stored, reading starts at the next stored one.
    pub offset: i64,
    /// The maximum number of messages.
    pub max: usize,
    /// The maximum number of bytes of each body. The rest of a body is cut off.
    pub max_body: usize,
    /// If set, only messages stored at this time or later are returned.
    pub from: Option<SystemTime>,
    /// If set, only messages stored at this time or earlier are returned.
    pub to: Option<SystemTime>,
    /// Which messages to return.
    pub wanted: WantedMessage,
}

/// Selects messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WantedMessage {
    /// Any message.
    #[default]
    Any,
    /// Messages with this id. Ids need not be unique.
    Id(String),
    /// Messages with this key.
    Key(String),
}

impl WantedMessage {
    /// Whether a message with this id and these keys is selected.
    #[must_use]
    pub fn matches(&self, id: &str, keys: &[String]) -> bool {
        match self {
            Self::Any => true,
            Self::Id(wanted) => wanted == id,
            Self::Key(wanted) => keys.contains(wanted),
        }
    }
}

/// The result of a [`ReadQueue`].
#[derive(Clone, Debug, Default)]
pub struct ReadPage {
    /// The messages, in order.
    pub messages: Vec<ReadMessage>,
    /// The offset from which to continue.
    pub next_offset: i64,
    /// The number of messages that were examined.
    pub looked_at: u64,
    /// Whether there is nothing more to read now.
    pub finished: bool,
}

/// A message that was read.
#[derive(Clone, Debug)]
pub struct ReadMessage {
    /// The message, without a lease. Its body may be cut off.
    pub delivery: Delivery,
    /// The broker that holds the message.
    pub broker: String,
    /// The length of the whole body, in bytes.
    pub body_bytes: usize,
}

/// A request to move a group to another position in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetGroup {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The new position.
    pub target: ResetTarget,
}

/// The position to which a group is moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetTarget {
    /// To the first message of each queue.
    Earliest,
    /// After the last message of each queue.
    Latest,
    /// To the first message of each queue that was stored at this time or later.
    Time(SystemTime),
    /// To an offset of one queue. The other queues stay unchanged.
    Offset {
        /// The broker that holds the queue. Required if several brokers have a queue with this id.
        broker: Option<String>,
        /// The queue's id on the broker.
        queue: i32,
        /// The offset of the next message to deliver.
        offset: i64,
    },
}

/// The result of a reset for one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueReset {
    /// The broker that holds the queue.
    pub broker: String,
    /// The queue's id on the broker.
    pub queue: i32,
    /// The settled position before the reset; `None` if the group had none.
    pub before: Option<i64>,
    /// The offset of the next message to deliver.
    pub offset: i64,
}

/// The space that the store takes on the disk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreStats {
    /// The data directory.
    pub directory: String,
    /// The figures of the disk.
    pub disk: DiskStats,
    /// The topics with messages, the largest first.
    pub topics: Vec<TopicUsage>,
    /// Whether topics were left out because there are too many.
    pub truncated: bool,
}

/// The figures of the disk that holds the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskStats {
    /// The kinds of stored data and their bytes on the disk.
    pub usage: Vec<(String, u64)>,
    /// The bytes of the file system that are available to this process.
    pub free_bytes: u64,
    /// The size of the file system, in bytes.
    pub total_bytes: u64,
    /// Why messages can't be stored now; `None` if they can.
    pub failure: Option<String>,
    /// The durations of message writes, syncs included.
    pub writes: HistogramCounts,
}

/// The space that a topic takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicUsage {
    /// The topic.
    pub name: String,
    /// The number of its messages.
    pub messages: i64,
    /// The bytes of its messages.
    pub bytes: StoredBytes,
}
