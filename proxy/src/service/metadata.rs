//! The configuration of topics and groups.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::{Change, Permission, ServiceError};

/// The configuration of topics and groups.
///
/// `topic` and `group` are called for clients. They create a missing topic or group if the operator's configuration allows
/// it (`auto_create_topics`, `auto_create_groups`). The `create_*` methods are called for administrators.
#[async_trait]
pub trait Metadata: Send + Sync {
    /// The optional features of this backend.
    fn capabilities(&self) -> Capabilities;

    /// A topic's configuration.
    ///
    /// # Errors
    /// `TopicNotFound` only if the topic certainly does not exist; `Timeout` or `Unavailable` if the broker did not answer.
    async fn topic(&self, name: &str) -> Result<TopicConfig, ServiceError>;

    /// As [`Metadata::topic`], but never creates the topic. For requests of administrators and of the proxy itself.
    async fn existing_topic(&self, name: &str) -> Result<TopicConfig, ServiceError>;

    /// A group's configuration.
    ///
    /// # Errors
    /// `GroupNotFound` only if the group certainly does not exist; `Timeout` or `Unavailable` if the broker did not answer.
    async fn group(&self, name: &str) -> Result<GroupConfig, ServiceError>;

    /// All topics, sorted by name.
    async fn topics(&self) -> Result<Vec<TopicConfig>, ServiceError>;

    /// All groups, sorted by name.
    async fn groups(&self) -> Result<Vec<GroupConfig>, ServiceError>;

    /// Creates a topic. With `replace`, replaces the configuration of an existing one.
    ///
    /// # Errors
    /// `AlreadyExists`, `Rejected`, `Unavailable`.
    async fn create_topic(&self, config: TopicConfig, replace: bool) -> Result<(), ServiceError>;

    /// Creates a group. With `replace`, replaces the configuration of an existing one.
    ///
    /// # Errors
    /// `AlreadyExists`, `Rejected`, `Unavailable`.
    async fn create_group(&self, config: GroupConfig, replace: bool) -> Result<(), ServiceError>;

    /// Changes a topic: `change` gets the current configuration, and returns the new one. A proxy makes one change at a time,
    /// so that no change overwrites another one.
    ///
    /// # Errors
    /// `TopicNotFound`, any error of `change`, `Rejected`, `Unavailable`.
    async fn change_topic(&self, name: &str, change: Change<TopicConfig>) -> Result<(), ServiceError>;

    /// Changes a group, as [`Metadata::change_topic`] changes a topic.
    ///
    /// # Errors
    /// `GroupNotFound`, any error of `change`, `Rejected`, `Unavailable`.
    async fn change_group(&self, name: &str, change: Change<GroupConfig>) -> Result<(), ServiceError>;

    /// Deletes a topic and its messages.
    ///
    /// # Errors
    /// `TopicNotFound`, `Unavailable`.
    async fn delete_topic(&self, name: &str) -> Result<(), ServiceError>;

    /// Deletes a group and its progress.
    ///
    /// # Errors
    /// `GroupNotFound`, `Unavailable`.
    async fn delete_group(&self, name: &str) -> Result<(), ServiceError>;
}

/// The features of a backend beyond normal messages. Requests for features that it lacks return `Unsupported`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// FIFO messages and groups.
    pub fifo: bool,
    /// DELAY messages.
    pub delay: bool,
    /// TRANSACTION messages.
    pub transaction: bool,
    /// PRIORITY messages.
    pub priority: bool,
    /// LITE messages.
    pub lite: bool,
    /// SQL92 filters.
    pub sql_filter: bool,
    /// Recalling DELAY messages.
    pub recall: bool,
    /// Reading by offset.
    pub offsets: bool,
    /// Deciding a transaction is idempotent: the first decision counts, and a repeated one gets the same answer.
    pub repeatable_decisions: bool,
}

/// The type of messages that a topic accepts, as in RocketMQ's `message.type` attribute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TopicKind {
    /// The type is unknown. The topic accepts no messages.
    Unspecified,
    /// No type is declared. The topic accepts normal messages, and messages of any type from clients whose protocol has no
    /// types.
    Undeclared,
    /// Normal messages.
    #[default]
    Normal,
    /// FIFO messages.
    Fifo,
    /// DELAY messages.
    Delay,
    /// TRANSACTION messages.
    Transaction,
    /// Normal, FIFO, DELAY and TRANSACTION messages.
    Mixed,
    /// PRIORITY messages.
    Priority,
    /// LITE messages.
    Lite,
}

/// The configuration of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// The topic's name, including its namespace.
    pub name: String,
    /// The type of its messages.
    pub kind: TopicKind,
    /// The number of queues for reading.
    pub read_queues: i32,
    /// The number of queues for writing.
    pub write_queues: i32,
    /// Whether clients may receive from the topic and send to it.
    pub permission: Permission,
    /// How long a lite topic is kept after its last use, in a LITE topic (`lite.topic.expiration`); `None` for ever.
    pub lite_expiration: Option<Duration>,
    /// How long messages are kept; `None` for the default in the broker's configuration.
    pub retention: Option<Duration>,
    /// The most bytes of messages that are kept, 0 for no limit; `None` for the default in the broker's configuration.
    pub retention_bytes: Option<u64>,
}

impl TopicConfig {
    /// A topic with this number of queues, which clients may read and write. All other settings have their defaults.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: TopicKind, queues: i32) -> Self {
        Self {
            name: name.into(),
            kind,
            read_queues: queues,
            write_queues: queues,
            permission: Permission { read: true, write: true },
            lite_expiration: None,
            retention: None,
            retention_bytes: None,
        }
    }
}

/// The configuration of a consumer group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupConfig {
    /// The group's name, including its namespace.
    pub name: String,
    /// Whether the group consumes in order.
    pub fifo: bool,
    /// Whether the group may consume at all.
    pub consume: bool,
    /// The most deliveries of a message after the first one. If they all fail, the message becomes a dead letter.
    pub max_retries: i32,
    /// The pauses between the deliveries of a message.
    pub retry: RetryPolicy,
    /// The LITE topic to which a lite group is bound (`lite.bind.topic`); `None` for other groups.
    pub lite_bind_topic: Option<String>,
    /// The number of lite topics to which a client may subscribe (`lite.sub.client.quota`). Negative for no limit.
    pub lite_quota: i32,
    /// Whether a lite topic has one subscriber at a time. A later subscriber takes it over (`lite.sub.model`).
    pub lite_exclusive: bool,
    /// Where the group starts in a topic from which it has not received yet. The clients of a lite group choose their own
    /// start.
    pub start: GroupStart,
}

/// Where a group starts in a topic from which it has not received yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupStart {
    /// As in RocketMQ: at the first message of a queue if no message was removed from it yet, else at the last one.
    #[default]
    Default,
    /// At the first stored message.
    Earliest,
    /// After the last message that is stored when the group first receives.
    Latest,
    /// At the first message that was stored at this time or later. The time has whole milliseconds.
    Time(SystemTime),
}

impl GroupConfig {
    /// RocketMQ's default for `max_retries`.
    pub const DEFAULT_MAX_RETRIES: i32 = 16;
    /// RocketMQ's default for `lite_quota`.
    pub const DEFAULT_LITE_QUOTA: i32 = 2000;

    /// A group with RocketMQ's defaults.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            fifo: false,
            consume: true,
            max_retries: Self::DEFAULT_MAX_RETRIES,
            retry: RetryPolicy::default(),
            lite_bind_topic: None,
            lite_quota: Self::DEFAULT_LITE_QUOTA,
            lite_exclusive: false,
            start: GroupStart::Default,
        }
    }

    /// The most deliveries of a message, including the first one. At least 1: with a negative number of retries, messages
    /// would otherwise become dead letters before their first delivery.
    #[must_use]
    pub fn max_attempts(&self) -> i32 {
        self.max_retries.saturating_add(1).max(1)
    }

    /// Whether a delivery with this attempt number exceeds the group's limit, so that the message becomes a dead letter.
    #[must_use]
    pub fn exceeds_attempts(&self, attempt: i32) -> bool {
        attempt > self.max_attempts()
    }
}

/// The pauses between the deliveries of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum RetryPolicy {
    /// A list of pauses. The last one repeats.
    Customized(Vec<Duration>),
    /// Pauses that grow exponentially.
    Exponential {
        /// The first pause.
        initial: Duration,
        /// The longest pause.
        max: Duration,
        /// The factor between a pause and the next one.
        multiplier: f32,
    },
}

impl Default for RetryPolicy {
    /// RocketMQ's default: 18 pauses from a second to two hours.
    fn default() -> Self {
        const MINUTE: u64 = 60;
        let pauses = [1, 5, 10, 30].into_iter();
        let pauses =
            pauses.chain([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 60, 120].map(|count| count * MINUTE));
        Self::Customized(pauses.map(Duration::from_secs).collect())
    }
}
