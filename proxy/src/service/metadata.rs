use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::{Change, Permission, ServiceError};

/// The configuration of topics and groups.
///
/// `topic` and `group` are called for clients, and create what is missing if the operator's configuration allows it
/// (`auto_create_topics`, `auto_create_groups`). The `create_*` methods are called for administrators.
#[async_trait]
pub trait Metadata: Send + Sync {
    /// What this backend can do.
    fn capabilities(&self) -> Capabilities;

    /// A topic's configuration.
    ///
    /// # Errors
    /// `TopicNotFound` only if it certainly does not exist; `Timeout` or `Unavailable` if the broker could not be asked.
    async fn topic(&self, name: &str) -> Result<TopicConfig, ServiceError>;

    /// As [`Metadata::topic`], but never creates the topic. For what the proxy asks periodically by itself.
    async fn existing_topic(&self, name: &str) -> Result<TopicConfig, ServiceError>;

    /// A group's configuration.
    ///
    /// # Errors
    /// `GroupNotFound` only if it certainly does not exist; `Timeout` or `Unavailable` if the broker could not be asked.
    async fn group(&self, name: &str) -> Result<GroupConfig, ServiceError>;

    /// All topics, by name.
    async fn topics(&self) -> Result<Vec<TopicConfig>, ServiceError>;

    /// All groups, by name.
    async fn groups(&self) -> Result<Vec<GroupConfig>, ServiceError>;

    /// Creates a topic, or changes it if `replace`.
    ///
    /// # Errors
    /// `AlreadyExists`, `Rejected`, `Unavailable`.
    async fn create_topic(&self, config: TopicConfig, replace: bool) -> Result<(), ServiceError>;

    /// Creates a group, or changes it if `replace`.
    ///
    /// # Errors
    /// `AlreadyExists`, `Rejected`, `Unavailable`.
    async fn create_group(&self, config: GroupConfig, replace: bool) -> Result<(), ServiceError>;

    /// Changes a topic: `change` gets its present configuration, and returns the new one. Changes by one proxy follow each
    /// other, so that none overwrites what another one has changed.
    ///
    /// # Errors
    /// `TopicNotFound`, what `change` returns, `Rejected`, `Unavailable`.
    async fn change_topic(&self, name: &str, change: Change<TopicConfig>) -> Result<(), ServiceError>;

    /// Changes a group, as [`Metadata::change_topic`] does a topic.
    ///
    /// # Errors
    /// `GroupNotFound`, what `change` returns, `Rejected`, `Unavailable`.
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

/// What a backend can do beyond normal messages. Anything else returns `Unsupported`.
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
    /// A decision about a half message may be repeated: the first one counts, and is answered again.
    pub repeatable_decisions: bool,
}

/// The type of messages that a topic takes, as in RocketMQ's `message.type` attribute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TopicKind {
    /// Unknown: the topic accepts nothing.
    Unspecified,
    /// No type is declared. Such topics take normal messages, and messages of any type from clients whose protocol knows no
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

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// Its name, namespace included.
    pub name: String,
    /// The type of its messages.
    pub kind: TopicKind,
    /// The number of queues for reading.
    pub read_queues: i32,
    /// The number of queues for writing.
    pub write_queues: i32,
    /// Its permission.
    pub permission: Permission,
    /// How long a lite topic of this LITE topic is kept after its last use (`lite.topic.expiration`). `None` means for
    /// ever.
    pub lite_expiration: Option<Duration>,
    /// How long its messages are kept. `None` means as long as the broker's configuration says.
    pub retention: Option<Duration>,
    /// The most bytes of messages that it keeps; 0 means no limit. `None` means as the broker's configuration says.
    pub retention_bytes: Option<u64>,
}

impl TopicConfig {
    /// A topic with so many queues, which clients may read and write. The rest is as the broker's configuration says.
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

/// A consumer group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupConfig {
    /// Its name, namespace included.
    pub name: String,
    /// Whether it consumes in order.
    pub fifo: bool,
    /// Whether it may consume at all.
    pub consume: bool,
    /// Deliveries after the first. If they fail, too, the message becomes a dead letter.
    pub max_retries: i32,
    /// The pauses between the deliveries of a message.
    pub retry: RetryPolicy,
    /// The LITE topic this group is bound to (`lite.bind.topic`), for a lite group.
    pub lite_bind_topic: Option<String>,
    /// How many lite topics a client may subscribe to (`lite.sub.client.quota`).
    pub lite_quota: i32,
    /// Whether a lite topic has one subscriber at a time, and a later one takes it over (`lite.sub.model`).
    pub lite_exclusive: bool,
    /// Where it begins in a topic that it has not received from. Lite groups begin where their clients say.
    pub start: GroupStart,
}

/// Where a group begins in a topic that it has not received from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupStart {
    /// Like RocketMQ: at the first message of a queue that still has all its messages, else at the last one.
    #[default]
    Default,
    /// At the first message that is stored.
    Earliest,
    /// Behind the last message that is stored when it first receives.
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

    /// Deliveries that a message may have, the first included. At least one: a negative number of retries would otherwise
    /// make every message a dead letter before it was delivered once.
    #[must_use]
    pub fn max_attempts(&self) -> i32 {
        self.max_retries.saturating_add(1).max(1)
    }
}

/// The pauses between the deliveries of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum RetryPolicy {
    /// A list of pauses, of which the last one repeats.
    Customized(Vec<Duration>),
    /// Growing pauses.
    Exponential {
        /// The first.
        initial: Duration,
        /// The longest.
        max: Duration,
        /// The factor from one to the next.
        multiplier: f32,
    },
}

impl Default for RetryPolicy {
    /// Growing pauses from a second to two hours.
    fn default() -> Self {
        const MINUTE: u64 = 60;
        let pauses = [1, 5, 10, 30].into_iter();
        let pauses =
            pauses.chain([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 60, 120].map(|count| count * MINUTE));
        Self::Customized(pauses.map(Duration::from_secs).collect())
    }
}
