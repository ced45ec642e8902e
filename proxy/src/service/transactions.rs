use std::time::Instant;

use async_trait::async_trait;

use super::{ServiceError, ServiceErrorKind};

/// Committing half messages, and rolling them back.
///
/// Any proxy of a fleet may be asked to end any transaction: its coordinates ([`super::Sent::transaction`], or
/// those of a [`super::BrokerRequest::Check`]) carry all that is needed.
#[async_trait]
pub trait Transactions: Send + Sync {
    /// Delivers a half message, or drops it. The first decision counts: a later one is answered as if it were the first, and
    /// has no effect.
    ///
    /// Not idempotent on Apache's brokers, which deliver a message once for every commit. A caller that gets
    /// no answer must not repeat the call: the broker will check.
    ///
    /// # Errors
    /// `InvalidHandle` (not this backend's coordinates), `Rejected` (the broker has no such half message),
    /// `TopicNotFound`, `Unsupported`, `Timeout`, `Unavailable`.
    async fn end(&self, _: EndTransaction) -> Result<(), ServiceError> {
        Err(ServiceError::new(ServiceErrorKind::Unsupported, "transactions are not supported by this server"))
    }
}

/// A decision.
#[derive(Clone, Debug)]
pub struct EndTransaction {
    /// The half message's topic.
    pub topic: String,
    /// The half message's id.
    pub message_id: String,
    /// [`super::Sent::transaction`], verbatim.
    pub coordinates: String,
    /// What to do with the message.
    pub resolution: Resolution,
    /// Whether this answers a check of the broker.
    pub asked: bool,
    /// When the caller stops waiting for the answer.
    pub deadline: Instant,
}

/// What to do with a half message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It is delivered.
    Commit,
    /// It is dropped.
    Rollback,
}
