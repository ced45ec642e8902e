//! Committing half messages and rolling them back.

use std::time::Instant;

use async_trait::async_trait;

use super::{ServiceError, ServiceErrorKind};

/// Committing half messages and rolling them back.
///
/// Any proxy of a fleet can end any transaction: its coordinates ([`super::Sent::transaction`], or those of a
/// [`super::BrokerRequest::Check`]) contain everything that is needed.
#[async_trait]
pub trait Transactions: Send + Sync {
    /// Delivers a half message, or drops it. The first decision counts. A later decision gets the answer of the first one,
    /// and has no effect.
    ///
    /// This is not idempotent on Apache's brokers, which deliver a message once for each commit. A caller that gets no
    /// answer must not repeat the call. The broker will check the transaction.
    ///
    /// # Errors
    /// `InvalidHandle` (this backend did not create the coordinates), `Rejected` (the broker has no such half message),
    /// `TopicNotFound`, `Unsupported`, `Timeout`, `Unavailable`.
    async fn end(&self, _: EndTransaction) -> Result<(), ServiceError> {
        Err(ServiceError::new(ServiceErrorKind::Unsupported, "transactions are not supported by this server"))
    }
}

/// A decision about a half message.
#[derive(Clone, Debug)]
pub struct EndTransaction {
    /// The half message's topic.
    pub topic: String,
    /// The half message's id.
    pub message_id: String,
    /// [`super::Sent::transaction`], verbatim.
    pub coordinates: String,
    /// What to do with the half message.
    pub resolution: Resolution,
    /// Whether the decision answers a check of the broker.
    pub answers_check: bool,
    /// When the caller stops waiting for the answer.
    pub deadline: Instant,
}

/// What to do with a half message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Deliver it.
    Commit,
    /// Drop it.
    Rollback,
}
