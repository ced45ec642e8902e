//! The operations of transactions and orphan checks.

use rocketmq_thin::{Decision, Message};

use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::process_bound::{OrphanCheck, OrphanChecks, ProcessBound, Transaction};

impl Transaction {
    /// Sends a message of the transaction. The outcome is [`Outcome::Receipt`].
    pub fn send(&self, message: Message) -> Operation {
        self.operation(
            "send",
            |transaction| async move { transaction.send(message).await.map(Outcome::Receipt) },
        )
    }

    /// Commits the transaction, so that its messages are delivered. The outcome is [`Outcome::Done`].
    pub fn commit(&self) -> Operation {
        self.operation(
            "commit",
            |transaction| async move { transaction.commit().await.map(|()| Outcome::Done) },
        )
    }

    /// Rolls the transaction back, so that its messages are dropped. The outcome is [`Outcome::Done`].
    pub fn rollback(&self) -> Operation {
        self.operation("rollback", |transaction| async move {
            transaction.rollback().await.map(|()| Outcome::Done)
        })
    }
}

impl OrphanChecks {
    /// Waits for the next orphan check: [`Outcome::OrphanCheck`]; [`Outcome::End`] once the producer is
    /// closed.
    pub fn next(&self) -> Operation {
        let process = self.process();
        self.operation("orphan_checks", |checks| async move {
            let check = checks.next().await;
            Ok(check.map_or(Outcome::End, |check| {
                Outcome::OrphanCheck(Box::new(ProcessBound::new(check, process)))
            }))
        })
    }
}

impl OrphanCheck {
    /// Sends the decision to the server. The outcome is [`Outcome::Done`].
    pub fn decide(&self, decision: Decision) -> Operation {
        self.operation("decide", |check| async move { check.decide(decision).await.map(|()| Outcome::Done) })
    }
}
