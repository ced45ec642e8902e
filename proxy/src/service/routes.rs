//! Finding brokers, and the queues of a topic.

use async_trait::async_trait;

use super::topic_config::{Permission, TopicKind};
use super::{ServiceError, ServiceErrorKind};

/// Finds brokers, and the queues of a topic.
#[async_trait]
pub trait Routes: Send + Sync {
    /// The queues of a topic on each broker. In merged mode there is one broker.
    ///
    /// # Errors
    /// `TopicNotFound`, `Timeout`, `Unavailable`.
    async fn route(&self, topic: &str) -> Result<Route, ServiceError>;

    /// All brokers.
    ///
    /// # Errors
    /// `Unsupported`, `Timeout`, `Unavailable`.
    async fn brokers(&self) -> Result<Vec<BrokerInfo>, ServiceError> {
        Err(ServiceError::new(ServiceErrorKind::Unsupported, "this server does not list its brokers"))
    }

    /// Checks that requests can be served now.
    ///
    /// # Errors
    /// `Unavailable`. The text says what is missing.
    async fn ready(&self) -> Result<(), ServiceError> {
        Ok(())
    }
}

/// The names of a broker and its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerInfo {
    /// The broker's name.
    pub name: String,
    /// The cluster's name.
    pub cluster: String,
}

/// A topic's queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The type of messages that the topic accepts; `Unspecified` if its configuration can't be read.
    pub kind: TopicKind,
    /// One entry per broker that holds queues of the topic.
    pub queues: Vec<QueueRange>,
}

/// The queues of one topic on one broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRange {
    /// The broker's name.
    pub broker: String,
    /// The name of the broker's cluster.
    pub cluster: String,
    /// The ids of the broker's replicas. 0 is the master.
    pub replicas: Vec<i32>,
    /// The number of readable queues. Their ids begin at 0.
    pub read_queues: i32,
    /// The number of writable queues. Their ids begin at 0.
    pub write_queues: i32,
    /// Whether the broker allows receiving and sending.
    pub permission: Permission,
}
