//! Ends transactions: commits half messages or rolls them back.

use std::time::Instant;

use async_trait::async_trait;

use super::ServiceError;

/// Ends transactions.
///
/// Any proxy of a fleet can end any transaction: its coordinates ([`super::StoreReceipt::transaction`], or those of a
/// [`super::BrokerRequest::Check`]) contain everything that is needed.
#[async_trait]
pub trait Transactions: Send + Sync {
    /// Delivers a half message, or drops it.
    ///
    /// On the embedded broker the first decision counts: a later one has no effect, and gets the answer of the first one.
    /// Apache's brokers deliver a message once for each commit. So a caller that gets no answer must not repeat the call,
    /// unless [`super::Capabilities::repeatable_decisions`] is set; the broker will check the transaction.
    ///
    /// # Errors
    /// `InvalidHandle` (this backend did not create the coordinates), `Rejected` (the broker has no such half message),
    /// `TopicNotFound`, `Unsupported`, `Timeout`, `Unavailable`.
    async fn end(&self, end: EndTransaction) -> Result<(), ServiceError>;
}

/// A decision about a half message.
#[derive(Clone, Debug)]
pub struct EndTransaction {
    /// The half message's topic.
    pub topic: String,
    /// The half message's id.
    pub message_id: String,
    /// [`super::StoreReceipt::transaction`], verbatim.
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
