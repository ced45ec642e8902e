//! The interface between the processor and the backends: traits in domain terms.
//!
//! `backend/embedded` stores messages in this process. `backend/remote` calls one or more brokers over TCP, which may be
//! slow or fail. The processor knows only these traits. One test suite (`proxy/tests/contract`) defines what every backend
//! must do. This module imports no other layer of the proxy.

mod administration;
mod broker_acl;
mod broker_requests;
pub mod delay_level;
mod error;
mod group_config;
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
mod topic_config;
mod transactions;
mod updates;

use std::sync::Arc;

pub use administration::{
    Administration, DiskStats, EventCounts, GroupQueueStats, GroupStats, GroupTopicStats, LiteTopicPage,
    LiteTopicStats, QueueReset, QueueStats, ReadMessage, ReadPage, ReadQueue, ResetGroup, ResetTarget,
    StoreStats, StoredBytes, StoredUser, TopicStats, TopicUsage, WantedMessage,
};
pub use broker_acl::{BrokerAcl, BrokerPolicy, BrokerUser};
pub use broker_requests::{BrokerRequest, BrokerRequests, CheckOutcome, Reply};
pub use error::{ServiceError, ServiceErrorKind};
pub use group_config::{GroupConfig, GroupStart, RetryPolicy};
pub use known_properties::KnownProperties;
pub use lite::{LiteAction, LiteChange, LiteStart, LiteSubscriptions};
pub use message::{Body, BodyEncoding, ChosenQueue, DeadLetterOrigin, Delay, Delivery, Message, SentBack};
pub use messages::{
    AckOutcome, Acknowledge, ChangeInvisible, DeadLetter, Delivered, Filter, Forward, InvisibleOutcome,
    Messages, NextAttempt, Persistence, Receive, Settle, StoreReceipt,
};
pub use metadata::{Capabilities, Metadata};
pub use offsets::{
    LOCK_TIME, Offsets, Pull, PullOutcome, Pulled, QueueLock, QueueRef, SendBack, TopicQueue, Whence,
};
pub use routes::{BrokerInfo, QueueRange, Route, Routes};
pub use time::{millis, time};
pub use topic_config::{Permission, TopicConfig, TopicKind};
pub use transactions::{EndTransaction, Resolution, Transactions};
pub use updates::{Change, GroupField, GroupUpdate, TopicField, TopicUpdate};

/// The services of one backend, as `app` passes them to the processor.
#[derive(Clone)]
pub struct Services {
    /// Sending, receiving and settling messages.
    pub messages: Arc<dyn Messages>,
    /// Finding the queues of a topic.
    pub routes: Arc<dyn Routes>,
    /// The configuration of topics and groups.
    pub metadata: Arc<dyn Metadata>,
    /// Ends transactions: commits half messages or rolls them back.
    pub transactions: Arc<dyn Transactions>,
    /// Requests of the broker to clients.
    pub broker_requests: Arc<dyn BrokerRequests>,
    /// Subscriptions of clients to lite topics.
    pub lite: Arc<dyn LiteSubscriptions>,
    /// Reading by offset, and the offsets of groups.
    pub offsets: Arc<dyn Offsets>,
    /// Statistics, stored messages, resets of groups, and users.
    pub administration: Arc<dyn Administration>,
}

impl Services {
    /// The services of a backend that implements all traits on one type. For an unsupported service, the backend keeps the
    /// default methods if there are any, returns `Unsupported`, and leaves its flag in [`Capabilities`] off.
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
