use std::future::pending;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Delivery, ServiceError, ServiceErrorKind};

/// Requests of the broker to clients that are connected to this proxy. Which clients are here is soft state: a broker that
/// does not know it asks another proxy, or later.
#[async_trait]
pub trait BrokerRequests: Send + Sync {
    /// Tells the broker that producers of these topics, and of no others, can be asked about their
    /// transactions through this proxy. Must be repeated: brokers forget it after two minutes.
    async fn announce_producers(&self, _topics: &[String]) {}

    /// Tells the broker that these clients, and no others, get replies through this proxy. Must be repeated, too.
    async fn announce_requesters(&self, _clients: &[String]) {}

    /// Passes a reply on to a client that is not connected to this proxy. A broker that does not know the client yet may learn
    /// of it until the deadline.
    ///
    /// # Errors
    /// `Rejected` if nobody knows the client, or it did not take the reply; `Timeout`, `Unavailable`.
    async fn reply(&self, reply: Reply, _deadline: Instant) -> Result<(), ServiceError> {
        let text = format!("the client {} is not connected here", reply.to);
        Err(ServiceError::new(ServiceErrorKind::Rejected, text))
    }

    /// The broker's next request to a client. Each request is returned to one caller.
    async fn next(&self) -> BrokerRequest {
        pending().await
    }

    /// Tells the broker what became of a check with these coordinates, so that it counts only checks that somebody was
    /// asked.
    async fn checked(&self, _coordinates: &str, _outcome: CheckOutcome) {}
}

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// A producer was asked.
    Asked,
    /// No producer is here, or all read too slowly.
    NobodyAsked,
}

/// A reply to a client of the remoting protocol that has sent a request. It is not stored, and passed on as its sender has
/// encoded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The id of the client that waits for it.
    pub to: String,
    /// The producer group of its sender.
    pub producer_group: String,
    /// The cluster's topic for replies.
    pub topic: String,
    /// The queue that its sender has chosen.
    pub queue_id: i32,
    /// How the body is compressed (Apache's `MessageSysFlag`).
    pub system_flags: i32,
    /// The number of the sender's own.
    pub flag: i32,
    /// When it was made, in milliseconds since 1970.
    pub born_at: i64,
    /// The address of its sender.
    pub born_host: String,
    /// The properties, encoded.
    pub properties: String,
    /// The body.
    pub body: Bytes,
}

/// A request of the broker to a client.
#[derive(Debug)]
pub enum BrokerRequest {
    /// Asks whether to commit this half message. Its coordinates are those of the transaction.
    Check(Box<Delivery>),
    /// Announces that another client took over a lite topic of an exclusive group.
    LiteUnsubscribed {
        /// The client that lost it.
        client_id: String,
        /// The lite topic.
        lite_topic: String,
    },
    /// Passes on a reply.
    Reply {
        /// The reply.
        reply: Box<Reply>,
        /// Takes whether it is on its way to the client.
        taken: oneshot::Sender<bool>,
    },
}
