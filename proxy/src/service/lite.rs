//! Subscriptions of clients to lite topics.

use std::time::Instant;

use async_trait::async_trait;

use super::{ServiceError, ServiceErrorKind};

/// The lite topics from which each client receives. Brokers keep subscriptions in memory, and remove those of a client that
/// is silent for minutes.
#[async_trait]
pub trait LiteSubscriptions: Send + Sync {
    /// Changes a client's lite topics, on every broker of the topic.
    ///
    /// # Errors
    /// `TopicNotFound`, `LiteSubscriptionQuota`, `Rejected`, `Unsupported`, `Timeout`, `Unavailable`. After an error, some
    /// brokers may have applied the change. Clients send their whole set again every 30 s.
    async fn sync(&self, _: LiteChange) -> Result<(), ServiceError> {
        Err(ServiceError::new(ServiceErrorKind::Unsupported, "lite topics are not supported by this server"))
    }
}

/// A change of a client's lite topics.
#[derive(Clone, Debug)]
pub struct LiteChange {
    /// The client.
    pub client_id: String,
    /// The topic that the lite topics belong to.
    pub topic: String,
    /// The group, which is bound to the topic.
    pub group: String,
    /// What to do with the lite topics.
    pub action: LiteAction,
    /// The lite topics.
    pub lite_topics: Vec<String>,
    /// The maximum number of lite topics to which the client may subscribe.
    pub quota: usize,
    /// Where the group starts in added lite topics; `None` if the client does not say.
    pub start: Option<LiteStart>,
    /// When the caller stops waiting for the answer.
    pub deadline: Instant,
}

/// What to do with lite topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiteAction {
    /// Adds them to the subscription.
    Add,
    /// Removes them from the subscription.
    Remove,
    /// Replaces the subscription by these lite topics.
    Replace,
    /// Removes all lite topics from the subscription.
    Clear,
}

/// Where a group starts in a lite topic to which a client subscribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiteStart {
    /// At the first message that the group has not consumed.
    Last,
    /// At the first message.
    Min,
    /// After the last message.
    Max,
    /// At this offset.
    Offset(i64),
    /// This many messages before the first that the group has not consumed.
    Tail(i64),
    /// At the first message stored at this time or later, in milliseconds since the Unix epoch.
    Timestamp(i64),
}
