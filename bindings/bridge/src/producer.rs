use std::time::Duration;

use rocketmq_thin::{Error, Message};

use crate::bound::{Bound, OrphanChecks, Producer, Transaction};
use crate::operation::Operation;
use crate::outcome::Outcome;

impl Producer {
    /// Sends one message: [`Outcome::Receipt`].
    pub fn send(&self, message: Message) -> Operation {
        self.operation("send", |producer| async move { producer.send(message).await.map(Outcome::Receipt) })
    }

    /// Sends many: [`Outcome::Receipts`], in the order given.
    pub fn send_all(&self, messages: Vec<Message>) -> Operation {
        self.operation(
            "send",
            |producer| async move { Ok(Outcome::Receipts(producer.send_all(messages).await)) },
        )
    }

    /// Takes back a delayed message: [`Outcome::Text`] with its id.
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
        Ok(Bound::new(transaction, self.process()))
    }

    /// The orphan checks from now on.
    ///
    /// # Errors
    ///
    /// `Closed` in a forked child.
    pub fn orphan_checks(&self) -> Result<OrphanChecks, Error> {
        let checks = self.call("orphan_checks", rocketmq_thin::Producer::orphan_checks)?;
        Ok(Bound::new(checks, self.process()))
    }

    /// Closes it within the deadline: [`Outcome::Closed`].
    pub fn close(&self, deadline: Duration) -> Operation {
        self.operation("close", |producer| async move { Ok(Outcome::Closed(producer.close(deadline).await)) })
    }
}
