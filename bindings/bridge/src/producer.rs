//! The operations of a producer.

use std::time::Duration;

use rocketmq_thin::{Error, Message};

use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::process_bound::{OrphanChecks, ProcessBound, Producer, Transaction};

impl Producer {
    /// Sends one message. The outcome is [`Outcome::Receipt`].
    pub fn send(&self, message: Message) -> Operation {
        self.operation("send", |producer| async move { producer.send(message).await.map(Outcome::Receipt) })
    }

    /// Sends several messages. The outcome is [`Outcome::Receipts`], in the order of the messages.
    pub fn send_all(&self, messages: Vec<Message>) -> Operation {
        self.operation(
            "send",
            |producer| async move { Ok(Outcome::Receipts(producer.send_all(messages).await)) },
        )
    }

    /// Recalls a delayed message before it is delivered. The outcome is [`Outcome::Text`] with the message id.
    pub fn recall(&self, topic: String, handle: String) -> Operation {
        self.operation("recall", |producer| async move {
            producer.recall_by_handle(&topic, &handle).await.map(Outcome::Text)
        })
    }

    /// Begins a transaction.
    ///
    /// # Errors
    ///
    /// `Closed` if the producer is closed, and in a forked child.
    pub fn begin(&self) -> Result<Transaction, Error> {
        let transaction = self.call("begin", rocketmq_thin::Producer::begin)??;
        Ok(ProcessBound::new(transaction, self.process()))
    }

    /// Returns a stream of the orphan checks that arrive after this call.
    ///
    /// # Errors
    ///
    /// `Closed` in a forked child.
    pub fn orphan_checks(&self) -> Result<OrphanChecks, Error> {
        let checks = self.call("orphan_checks", rocketmq_thin::Producer::orphan_checks)?;
        Ok(ProcessBound::new(checks, self.process()))
    }

    /// Closes the producer within the deadline. The outcome is [`Outcome::Closed`].
    pub fn close(&self, deadline: Duration) -> Operation {
        self.operation("close", |producer| async move { Ok(Outcome::Closed(producer.close(deadline).await)) })
    }
}
