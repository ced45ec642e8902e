use std::future::pending;

use async_trait::async_trait;

use super::Delivery;

/// Requests of the broker to clients that are connected to this proxy. Which clients are here is soft state: a broker that
/// does not know it asks another proxy, or later.
#[async_trait]
pub trait BrokerRequests: Send + Sync {
    /// Tells the broker that producers of these topics, and of no others, can be asked about their
    /// transactions through this proxy. Must be repeated: brokers forget it after two minutes.
    async fn announce_producers(&self, _topics: &[String]) {}

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

/// A request of the broker to a client.
#[derive(Clone, Debug)]
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
}
