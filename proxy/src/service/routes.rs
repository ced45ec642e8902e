use async_trait::async_trait;

use super::{ServiceError, ServiceErrorKind, TopicKind};

/// Where a topic's queues are.
#[async_trait]
pub trait Routes: Send + Sync {
    /// The queues of a topic, by broker. In merged mode there is one broker.
    ///
    /// # Errors
    /// `TopicNotFound`, `Timeout`, `Unavailable`.
    async fn route(&self, topic: &str) -> Result<Route, ServiceError>;

    /// Every broker.
    ///
    /// # Errors
    /// `Unsupported`, `Timeout`, `Unavailable`.
    async fn brokers(&self) -> Result<Vec<BrokerOf>, ServiceError> {
        Err(ServiceError::new(ServiceErrorKind::Unsupported, "this server does not list its brokers"))
    }

    /// Whether requests can be served now.
    ///
    /// # Errors
    /// `Unavailable`, with what is missing.
    async fn ready(&self) -> Result<(), ServiceError> {
        Ok(())
    }
}

/// A broker, and the cluster that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerOf {
    /// The broker's name.
    pub name: String,
    /// The cluster's name.
    pub cluster: String,
}

/// A topic's queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The type of messages that the topic takes; `Unspecified` if its configuration can't be read.
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
    /// The ids of its replicas; 0 is the master.
    pub replicas: Vec<i32>,
    /// How many queues can be read. Their ids begin at 0.
    pub read_queues: i32,
    /// How many queues can be written. Their ids begin at 0.
    pub write_queues: i32,
    /// What the broker allows.
    pub permission: Permission,
}

/// What may be done with a topic's queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permission {
    /// Consumers may receive.
    pub read: bool,
    /// Producers may send.
    pub write: bool,
}
