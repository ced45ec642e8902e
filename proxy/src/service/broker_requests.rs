//! Requests that a broker sends to clients through this proxy.

use std::future::pending;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Delivery, ServiceError, ServiceErrorKind};

/// Requests of the broker to clients that are connected to this proxy. The broker learns of these clients by announcements,
/// which are soft state: if it lacks one, it sends the request to another proxy, or later.
#[async_trait]
pub trait BrokerRequests: Send + Sync {
    /// Announces the topics whose producers are connected to this proxy, so that the broker sends it their transaction
    /// checks. Replaces the previous announcement. Must be repeated, because brokers forget it after two minutes.
    async fn announce_producers(&self, _topics: &[String]) {}

    /// Announces the clients that wait for replies at this proxy. Replaces the previous announcement. Must be repeated, too.
    async fn announce_requesters(&self, _clients: &[String]) {}

    /// Announces this proxy as a member of a fleet, and returns the number of members that the broker knows, this one
    /// included. Must be repeated, too.
    ///
    /// # Errors
    /// `Unsupported` if the broker has only one proxy; `Unavailable` and so on if the number is unknown.
    async fn join_fleet(&self, _fleet: &str) -> Result<u32, ServiceError> {
        Err(ServiceError::new(ServiceErrorKind::Unsupported, "the broker does not know its proxies"))
    }

    /// Passes a reply to a client that is connected to another proxy. Retries until the deadline, because that proxy may not
    /// have announced the client yet.
    ///
    /// # Errors
    /// `Rejected` if no broker knows the client, or the client did not accept the reply; `Timeout`, `Unavailable`.
    async fn reply(&self, reply: Reply, _deadline: Instant) -> Result<(), ServiceError> {
        let text = format!("client {} is not connected to this server", reply.to);
        Err(ServiceError::new(ServiceErrorKind::Rejected, text))
    }

    /// Waits for the broker's next request to a client. Each request is returned to one caller.
    async fn next(&self) -> BrokerRequest {
        pending().await
    }

    /// Reports the outcome of the check with these coordinates to the broker, so that it counts only checks that reached a
    /// producer.
    async fn checked(&self, _coordinates: &str, _outcome: CheckOutcome) {}
}

/// The outcome of a transaction check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// The check was sent to a producer.
    Sent,
    /// No producer is connected, or all of them read too slowly.
    NotSent,
}

/// A reply to a request of a client of the remoting protocol. Replies are not stored, and are passed on as their sender
/// has encoded them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The id of the client that waits for the reply.
    pub to: String,
    /// The sender's producer group.
    pub producer_group: String,
    /// The cluster's topic for replies.
    pub topic: String,
    /// The queue that the sender has chosen.
    pub queue_id: i32,
    /// How the body is compressed (Apache's `MessageSysFlag`).
    pub system_flags: i32,
    /// A number whose meaning the sender defines.
    pub flag: i32,
    /// When the sender created the reply, in milliseconds since the Unix epoch.
    pub born_at: i64,
    /// The sender's address.
    pub born_host: String,
    /// The properties, encoded.
    pub properties: String,
    /// The body.
    pub body: Bytes,
}

/// A request of the broker to a client.
#[derive(Debug)]
pub enum BrokerRequest {
    /// Asks a producer whether to commit this half message. The delivery's coordinates are those of the transaction.
    Check(Box<Delivery>),
    /// Tells a client that another client took over a lite topic of an exclusive group.
    LiteUnsubscribed {
        /// The client that lost the lite topic.
        client_id: String,
        /// The lite topic.
        lite_topic: String,
    },
    /// Passes a reply to a client.
    Reply {
        /// The reply.
        reply: Box<Reply>,
        /// Reports whether the reply was queued for the client.
        accepted: oneshot::Sender<bool>,
    },
}
