//! What the rules need from a broker, wherever it is: traits in domain terms.
//!
//! `backend/embedded` stores the messages in this process; `backend/remote` calls brokers over TCP, which
//! may be slow, fail, or be several. The processor knows only these traits. One test suite
//! (`proxy/tests/contract`) defines what every backend must do. This module imports no other of the proxy's layers.

mod administration;
mod broker_requests;
mod broker_rights;
pub mod delay_level;
mod error;
pub mod group_json;
mod known_properties;
mod lite;
mod message;
mod messages;
mod metadata;
pub mod names;
mod offsets;
mod routes;
mod time;
mod transactions;
mod updates;

use std::sync::Arc;

pub use administration::{
    Administration, DiskStats, GroupQueueStats, GroupStats, GroupTopicStats, LiteTopicPage, LiteTopicStats,
    QueueReset, QueueStats, ReadMessage, ReadPage, ReadQueue, ResetGroup, ResetTarget, StoreStats,
    StoredBytes, StoredUser, TopicStats, TopicUsage, WantedMessage,
};
pub use broker_requests::{BrokerRequest, BrokerRequests, CheckOutcome, Reply};
pub use broker_rights::{BrokerPolicy, BrokerRights, BrokerUser};
pub use error::{ServiceError, ServiceErrorKind};
pub use known_properties::KnownProperties;
pub use lite::{LiteAction, LiteChange, LiteStart, LiteSubscriptions};
pub use message::{Body, BodyEncoding, ChosenQueue, Delay, Delivery, Message, Origin, SentBack};
pub use messages::{
    AckOutcome, Acknowledge, ChangeInvisible, DeadLetter, Delivered, Filter, Forward, InvisibleOutcome,
    Messages, NextAttempt, Persistence, Receive, Sent, Settle,
};
pub use metadata::{Capabilities, GroupConfig, GroupStart, Metadata, RetryPolicy, TopicConfig, TopicKind};
pub use offsets::{
    Found, LOCK_TIME, Offsets, Pull, Pulled, QueueLock, QueueOf, SendBack, TopicQueue, Whence,
};
pub use routes::{BrokerOf, Permission, QueueRange, Route, Routes};
pub use time::{millis, time};
pub use transactions::{EndTransaction, Resolution, Transactions};
pub use updates::{Change, GroupField, GroupUpdate, TopicField, TopicUpdate};

/// The services of one backend, as `app` hands them to the processor.
#[derive(Clone)]
pub struct Services {
    /// Sending, receiving and settling.
    pub messages: Arc<dyn Messages>,
    /// Where a topic's queues are.
    pub routes: Arc<dyn Routes>,
    /// The configuration of topics and groups.
    pub metadata: Arc<dyn Metadata>,
    /// Committing half messages, and rolling them back.
    pub transactions: Arc<dyn Transactions>,
    /// Requests of the broker to clients.
    pub broker_requests: Arc<dyn BrokerRequests>,
    /// Which lite topics a client receives from.
    pub lite: Arc<dyn LiteSubscriptions>,
    /// Reading by offset.
    pub offsets: Arc<dyn Offsets>,
    /// What an administrator asks besides the configuration.
    pub administration: Arc<dyn Administration>,
}

impl Services {
    /// The services of a backend that implements all of them by one value. A service that it does not offer
    /// keeps its default methods, which return `Unsupported`, and its flag in [`Capabilities`] is off.
    pub fn of<B>(backend: Arc<B>) -> Self
    where
        B: Messages
            + Routes
            + Metadata
            + Transactions
            + BrokerRequests
            + LiteSubscriptions
            + Offsets
            + Administration
            + 'static,
    {
        Self {
            messages: backend.clone(),
            routes: backend.clone(),
            metadata: backend.clone(),
            transactions: backend.clone(),
            broker_requests: backend.clone(),
            lite: backend.clone(),
            offsets: backend.clone(),
            administration: backend,
        }
    }
}
