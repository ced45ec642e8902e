use std::time::Instant;

use async_trait::async_trait;

use super::{ServiceError, ServiceErrorKind};

/// Which lite topics a client receives from. Brokers keep it in memory, and forget a client that is silent for minutes.
#[async_trait]
pub trait LiteSubscriptions: Send + Sync {
    /// Changes a client's lite topics, on every broker of the topic.
    ///
    /// # Errors
    /// `TopicNotFound`, `LiteSubscriptionQuota`, `Rejected`, `Unsupported`, `Timeout`, `Unavailable`. After an error,
    /// some brokers may have applied the change: clients repeat their whole set every 30 s.
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
    /// The most lite topics that the client may have.
    pub quota: usize,
    /// Where to begin in what is added.
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
    /// Subscribes to them alone.
    Replace,
    /// Ends the subscription.
    Clear,
}

/// Where a group begins in a lite topic that a client subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiteStart {
    /// At the first message that the group has not consumed.
    Last,
    /// At the first message.
    Min,
    /// Behind the last message.
    Max,
    /// At this offset.
    Offset(i64),
    /// This many messages before the first that the group has not consumed.
    Tail(i64),
    /// At this time, in milliseconds since 1970.
    Timestamp(i64),
}
