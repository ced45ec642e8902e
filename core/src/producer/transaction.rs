//! Transactions: their half messages are delivered together, or not at all.

use std::{fmt, sync::Arc};

use super::{
    Producer,
    half_messages::{HalfMessages, operation},
};
use crate::{
    error::Result,
    message::{Message, Receipt},
};

/// The decision about a half message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// The message is delivered.
    Commit,
    /// The message is dropped.
    Rollback,
    /// The outcome is not known yet. The server asks again later.
    Unknown,
}

/// A transaction: its messages are delivered if it is committed, and dropped if it is rolled back. Created by
/// [`Producer::begin`]. Cheap to clone; clones are the same transaction.
///
/// ```no_run
/// # use rocketmq_thin::{Message, Producer, Result};
/// # async fn store_order() -> bool { true }
/// # async fn run(producer: Producer) -> Result<()> {
/// let transaction = producer.begin()?;
/// transaction.send(Message::new("orders", "order 42")).await?;
/// if store_order().await {
///     transaction.commit().await?;
/// } else {
///     transaction.rollback().await?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Transactions without a decision
///
/// The server hides the messages of a transaction until it is committed. There may be no decision, because the
/// transaction was dropped, the process died, or the commit did not arrive. Then the server asks a connected producer of
/// the topic, possibly of another process, until it gets a decision: see [`Producer::check_orphans`]. Apache's servers ask
/// for the first time after 6 seconds, then about every 30 seconds, and drop the message after 15 checks.
///
/// A program that sends transactions should therefore always check orphans, and decide from durable state. Its producer
/// should name the topics in its options, so that the servers know it as soon as it has started.
///
/// Dropping the last clone of a transaction that has messages but no decision logs a warning.
#[derive(Clone)]
pub struct Transaction {
    producer: Producer,
    half_messages: Arc<HalfMessages>,
}

impl Producer {
    /// Begins a transaction. Sends no request.
    ///
    /// # Errors
    ///
    /// `Closed` if the producer is closed.
    pub fn begin(&self) -> Result<Transaction> {
        drop(self.0.base.begin("begin")?);
        Ok(Transaction { producer: self.clone(), half_messages: Arc::default() })
    }
}

impl Transaction {
    /// Sends a message that is delivered once the transaction is committed. A transaction may have several messages,
    /// also of several topics.
    ///
    /// Cancelling the future stops waiting. If the message is stored all the same, it is part of the transaction.
    ///
    /// # Errors
    ///
    /// As for [`Producer::send`]. `InvalidArgument` also if the message has fields of another type, or the transaction
    /// is decided. A message whose send failed is not part of the transaction. If it
    /// [may have been stored](crate::Error::maybe_delivered), the server asks about it later.
    pub async fn send(&self, message: Message) -> Result<Receipt> {
        let slot = self.half_messages.begin_send()?;
        self.producer.submit(message, Some(slot)).await?.wait().await
    }

    /// Commits: the messages are delivered. Waits first for sends of the transaction that are in flight.
    ///
    /// Cancelling the future stops waiting, but does not cancel the commit.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if there is a decision already. Otherwise the failure of one of the messages, if not all were
    /// committed within [`operation_timeout`](crate::ClientOptions::operation_timeout). If the commit
    /// [may have been carried out](crate::Error::maybe_delivered), some or all of the messages may be delivered. After a
    /// failed commit only another commit is possible, which covers the remaining messages. The server also asks about
    /// them.
    pub async fn commit(&self) -> Result<()> {
        self.decide(true).await
    }

    /// Rolls back: the messages are dropped. Otherwise like [`commit`](Self::commit).
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    pub async fn rollback(&self) -> Result<()> {
        self.decide(false).await
    }

    async fn decide(&self, commit: bool) -> Result<()> {
        let base = &self.producer.0.base;
        let (half_messages, session) = (self.half_messages.clone(), base.session().clone());
        base.run(operation(commit), async move { half_messages.decide(&session, commit).await }).await
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("state", &*self.half_messages.state.lock())
            .finish_non_exhaustive()
    }
}
