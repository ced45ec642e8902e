use std::fmt;
use std::time::SystemTime;

use async_trait::async_trait;

use super::{BrokerRights, Delivery, ServiceError, ServiceErrorKind};
use crate::histogram::HistogramCounts;

/// What an administrator asks of a broker besides its configuration. What a backend does not offer keeps its default
/// method, which returns `Unsupported`.
#[async_trait]
pub trait Administration: Send + Sync {
    /// What a topic holds, or one of its lite topics.
    ///
    /// # Errors
    /// `TopicNotFound`, `Unsupported`, `Timeout`, `Unavailable`.
    async fn topic_stats(&self, _topic: &str, _lite_topic: Option<&str>) -> Result<TopicStats, ServiceError> {
        Err(unsupported("topic statistics"))
    }

    /// The lite topics of a LITE topic after the one that is named, by name, up to `max`. A call looks at a bounded number
    /// of them.
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

    /// How far a group has got, in one topic or in all from which it has received.
    ///
    /// # Errors
    /// `GroupNotFound`, `TopicNotFound`, `Unsupported`, `Timeout`, `Unavailable`.
    async fn group_stats(&self, _group: &str, _topic: Option<&str>) -> Result<GroupStats, ServiceError> {
        Err(unsupported("group statistics"))
    }

    /// Reads a part of a queue, without a group. A call looks at a bounded number of messages.
    ///
    /// # Errors
    /// `TopicNotFound`, `Rejected` (no such queue), `Unsupported`, `Timeout`, `Unavailable`.
    async fn read(&self, _: ReadQueue) -> Result<ReadPage, ServiceError> {
        Err(unsupported("reading of stored messages"))
    }

    /// Moves a group to another position in a topic, in all queues at once where the backend can. What was delivered is not settled
    /// by its old coordinates any more: what is before the new position is consumed, and what is not comes again.
    ///
    /// # Errors
    /// `GroupNotFound`, `TopicNotFound`, `Rejected` (no such queue or offset), `Unsupported`, `Timeout`, `Unavailable`.
    async fn reset(&self, _: ResetGroup) -> Result<Vec<QueueReset>, ServiceError> {
        Err(unsupported("resets of groups"))
    }

    /// The users of the brokers, and their policies.
    ///
    /// # Errors
    /// `Forbidden` (to the proxy), `Unsupported`, `Timeout`, `Unavailable`.
    async fn rights(&self) -> Result<BrokerRights, ServiceError> {
        let text = "the embedded broker has no users of its own";
        Err(ServiceError::new(ServiceErrorKind::Unsupported, text))
    }

    /// The users that access control keeps with the broker, by name.
    ///
    /// # Errors
    /// `Unsupported`, `Unavailable`.
    async fn stored_users(&self) -> Result<Vec<StoredUser>, ServiceError> {
        Err(unsupported("users in the catalog"))
    }

    /// Keeps a user, in place of the one of this name if there is one. It is on the disk when this returns.
    ///
    /// # Errors
    /// `Unsupported`, `Unavailable`.
    async fn put_user(&self, _: StoredUser) -> Result<(), ServiceError> {
        Err(unsupported("users in the catalog"))
    }

    /// Removes a user, if there is one of this name.
    ///
    /// # Errors
    /// `Unsupported`, `Unavailable`.
    async fn remove_user(&self, _name: &str) -> Result<(), ServiceError> {
        Err(unsupported("users in the catalog"))
    }

    /// What the store takes on the disk.
    ///
    /// # Errors
    /// `Unsupported`, `Unavailable`.
    async fn store_stats(&self) -> Result<StoreStats, ServiceError> {
        Err(unsupported("store statistics"))
    }

    /// The part of it that does not look at topics.
    ///
    /// # Errors
    /// As [`Administration::store_stats`].
    async fn disk_stats(&self) -> Result<DiskStats, ServiceError> {
        Err(unsupported("store statistics"))
    }
}

/// What access control keeps of a user. The broker does not look into it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredUser {
    /// The user's name.
    pub name: String,
    /// The rest.
    pub record: Vec<u8>,
}

impl fmt::Debug for StoredUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredUser").field("name", &self.name).finish_non_exhaustive()
    }
}

fn unsupported(what: &str) -> ServiceError {
    let text = format!(
        "{what} are not available in front of Apache's brokers; the merged mode of this proxy has them"
    );
    ServiceError::new(ServiceErrorKind::Unsupported, text)
}

/// What a topic holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicStats {
    /// Its queues.
    pub queues: Vec<QueueStats>,
    /// Bytes of its messages, if the backend reports them.
    pub bytes: Option<StoredBytes>,
    /// Messages that were stored per second, over the last minute.
    pub rate_in: Option<f64>,
    /// How many lite topics a LITE topic has, if the backend tells it.
    pub lite_topics: Option<u64>,
}

/// Some of the lite topics of a LITE topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiteTopicPage {
    /// By name.
    pub lite_topics: Vec<LiteTopicStats>,
    /// Whether there are no others after these.
    pub finished: bool,
}

/// A lite topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiteTopicStats {
    /// Its name.
    pub name: String,
    /// The offset of the first message that is stored.
    pub first: i64,
    /// The offset after the last message.
    pub next: i64,
    /// When the first message was stored.
    pub oldest: Option<SystemTime>,
    /// When the last message was stored.
    pub newest: Option<SystemTime>,
    /// Whether a client is subscribed to it.
    pub subscribed: bool,
}

/// Bytes of stored messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredBytes {
    /// How many.
    pub count: u64,
    /// Whether only a part of the messages was measured.
    pub estimated: bool,
}

/// A queue of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStats {
    /// The broker that holds it.
    pub broker: String,
    /// Its id there.
    pub id: i32,
    /// The offset of the first message that is stored.
    pub first: i64,
    /// The offset after the last message.
    pub next: i64,
    /// When the first message was stored.
    pub oldest: Option<SystemTime>,
    /// When the last message was stored.
    pub newest: Option<SystemTime>,
}

/// How far a group has got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupStats {
    /// By topic.
    pub topics: Vec<GroupTopicStats>,
    /// Whether topics, or lite topics, were left out because there are too many.
    pub truncated: bool,
}

/// How far a group has got in a topic. That of a LITE topic has one queue for all its lite topics together, with sums: of
/// those that the group has received from, and those that a client of it is subscribed to now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupTopicStats {
    /// The topic.
    pub topic: String,
    /// By queue.
    pub queues: Vec<GroupQueueStats>,
    /// Messages that were delivered per second, over the last minute.
    pub rate_delivered: Option<f64>,
    /// Messages that were settled per second, over the last minute.
    pub rate_settled: Option<f64>,
}

/// How far a group has got in a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupQueueStats {
    /// The broker that holds the queue.
    pub broker: String,
    /// Its id there.
    pub id: i32,
    /// Every message before this offset is settled.
    pub settled: i64,
    /// The first message that was never delivered to the group.
    pub next: i64,
    /// The offset after the last message.
    pub end: i64,
    /// Messages that are not settled.
    pub lag: i64,
    /// Deliveries under a lease, if the backend reports them.
    pub in_flight: Option<i64>,
    /// Messages whose lease is over and that the next receive gets again.
    pub retry: Option<i64>,
    /// Messages that wait behind unsettled ones of their message group.
    pub blocked: Option<i64>,
    /// When the oldest unsettled message was stored.
    pub oldest: Option<SystemTime>,
}

/// A part of a queue to read.
#[derive(Clone, Debug)]
pub struct ReadQueue {
    /// The topic.
    pub topic: String,
    /// The lite topic, in a LITE topic.
    pub lite_topic: Option<String>,
    /// The broker that holds the queue.
    pub broker: String,
    /// The queue's id there.
    pub queue_id: i32,
    /// Where to begin: at the next message that is stored, if this one is not.
    pub offset: i64,
    /// The maximum number of messages.
    pub max: usize,
    /// How many bytes of each body are kept.
    pub max_body: usize,
    /// Only messages that were stored at this time or later.
    pub from: Option<SystemTime>,
    /// Only messages that were stored at this time or earlier.
    pub to: Option<SystemTime>,
    /// Which of them.
    pub wanted: WantedMessage,
}

/// Which messages a search is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WantedMessage {
    /// Any.
    #[default]
    Any,
    /// The one with this id. Ids need not be unique.
    Id(String),
    /// Those with this key.
    Key(String),
}

impl WantedMessage {
    /// Whether this message is meant.
    #[must_use]
    pub fn matches(&self, id: &str, keys: &[String]) -> bool {
        match self {
            Self::Any => true,
            Self::Id(wanted) => wanted == id,
            Self::Key(wanted) => keys.contains(wanted),
        }
    }
}

/// What a read has found.
#[derive(Clone, Debug, Default)]
pub struct ReadPage {
    /// The messages, in order.
    pub messages: Vec<ReadMessage>,
    /// The offset to go on from.
    pub next_offset: i64,
    /// How many messages were looked at.
    pub looked_at: u64,
    /// Whether there is nothing more to find now.
    pub finished: bool,
}

/// A message that was read.
#[derive(Clone, Debug)]
pub struct ReadMessage {
    /// The message, without a lease. Its body may be cut.
    pub delivery: Delivery,
    /// The broker that holds it.
    pub broker: String,
    /// How long the whole body is.
    pub body_bytes: usize,
}

/// A reset of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetGroup {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// Where to go on.
    pub target: ResetTarget,
}

/// Where a group is to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetTarget {
    /// At the first message of each queue.
    Earliest,
    /// Behind the last message of each queue.
    Latest,
    /// At the first message of each queue that was stored at this time or later.
    Time(SystemTime),
    /// At an offset of one queue. The others stay as they are.
    Offset {
        /// The broker that holds the queue; may be left out where only one has it.
        broker: Option<String>,
        /// The queue's id there.
        queue: i32,
        /// The offset of the next message.
        offset: i64,
    },
}

/// Where a group goes on in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueReset {
    /// The broker that holds the queue.
    pub broker: String,
    /// Its id there.
    pub queue: i32,
    /// Up to where all was settled before; `None` if the group had not begun.
    pub before: Option<i64>,
    /// The offset of the next message.
    pub offset: i64,
}

/// What the store takes on the disk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreStats {
    /// The data directory.
    pub directory: String,
    /// The disk.
    pub disk: DiskStats,
    /// The topics with messages, the biggest first.
    pub topics: Vec<TopicUsage>,
    /// Whether topics were left out because there are too many.
    pub truncated: bool,
}

/// The disk of the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskStats {
    /// Bytes on the disk by kind.
    pub usage: Vec<(String, u64)>,
    /// What the file system has left for this process.
    pub free_bytes: u64,
    /// The size of the file system.
    pub total_bytes: u64,
    /// Why nothing can be stored now, if so.
    pub failure: Option<String>,
    /// How long writes of messages took, syncs included.
    pub writes: HistogramCounts,
}

/// What a topic takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicUsage {
    /// The topic.
    pub name: String,
    /// Its messages.
    pub messages: i64,
    /// Their bytes.
    pub bytes: StoredBytes,
}
