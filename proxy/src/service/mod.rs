//! What the rules need from a broker, wherever it is: traits in domain terms.
//!
//! `backend/embedded` keeps the messages in this process; `backend/remote` asks real brokers over TCP, which
//! may be slow, fail, or be several. The processor knows only these traits, and one contract suite
//! (`proxy/tests/contract`) says what every backend must do. This module imports nobody.

mod error;
mod message;
mod messages;
mod metadata;
mod routes;

use std::sync::Arc;

pub use error::{ServiceError, ServiceErrorKind};
pub use message::{Body, BodyEncoding, Delivery, Message, MessageKind, is_reserved_property};
pub use messages::{
    AckOutcome, Acknowledge, ChangeInvisible, Delivered, Filter, Forward, InvisibleOutcome, Messages,
    Persistence, Receive, Sent, Settle,
};
pub use metadata::{Capabilities, GroupConfig, Metadata, RetryPolicy, TopicConfig, TopicKind};
pub use routes::{Permission, QueueRange, Route, Routes};

/// The services of one backend, as `app.rs` hands them to the processor.
#[derive(Clone)]
pub struct Services {
    /// Sending, receiving and settling.
    pub messages: Arc<dyn Messages>,
    /// Where a topic's queues are.
    pub routes: Arc<dyn Routes>,
    /// The configuration of topics and groups.
    pub metadata: Arc<dyn Metadata>,
}
