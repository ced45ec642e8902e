//! The configuration of topics and groups.

use async_trait::async_trait;

use super::group_config::GroupConfig;
use super::topic_config::TopicConfig;
use super::{Change, ServiceError};

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
