use std::future::pending;

use async_trait::async_trait;

use super::Delivery;

/// Which clients the broker can reach through this proxy. Soft state: a broker that loses it asks elsewhere, or
/// later.
#[async_trait]
pub trait BrokerRequests: Send + Sync {
    /// Tells the broker that producers of these topics, and of no others, can be asked here about their
    /// transactions. Must be repeated: brokers forget who is silent for two minutes.
    async fn announce_producers(&self, _topics: &[String]) {}

    /// The broker's next word to a client. One caller at a time hears each of them.
    async fn next(&self) -> BrokerRequest {
        pending().await
    }
}

/// A broker's word to a client.
#[derive(Clone, Debug)]
pub enum BrokerRequest {
    /// What became of this half message? Its coordinates are those of the transaction.
    Check(Box<Delivery>),
    /// Another client took over a lite topic of an exclusive group.
    LiteUnsubscribed {
        /// Whom it concerns.
        client_id: String,
        /// The lite topic.
        lite_topic: String,
    },
}
