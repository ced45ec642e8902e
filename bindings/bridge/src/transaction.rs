use rocketmq_thin::{Decision, Message};

use crate::bound::{Bound, OrphanCheck, OrphanChecks, Transaction};
use crate::operation::Operation;
use crate::outcome::Outcome;

impl Transaction {
    /// Sends a message of the transaction: [`Outcome::Receipt`].
    pub fn send(&self, message: Message) -> Operation {
        self.operation(
            "send",
            |transaction| async move { transaction.send(message).await.map(Outcome::Receipt) },
        )
    }

    /// Commits, so that the messages are delivered: [`Outcome::Done`].
    pub fn commit(&self) -> Operation {
        self.operation(
            "commit",
            |transaction| async move { transaction.commit().await.map(|()| Outcome::Done) },
        )
    }

    /// Rolls back, so that the messages are dropped: [`Outcome::Done`].
    pub fn rollback(&self) -> Operation {
        self.operation("rollback", |transaction| async move {
            transaction.rollback().await.map(|()| Outcome::Done)
        })
    }
}

impl OrphanChecks {
    /// Waits for the next check: [`Outcome::OrphanCheck`]; [`Outcome::End`] once the producer is closed.
    pub fn next(&self) -> Operation {
        let process = self.process();
        self.operation("orphan_checks", |checks| async move {
            let check = checks.next().await;
            Ok(check.map_or(Outcome::End, |check| Outcome::OrphanCheck(Box::new(Bound::new(check, process)))))
        })
    }
}

impl OrphanCheck {
    /// Tells the server the decision: [`Outcome::Done`].
    pub fn decide(&self, decision: Decision) -> Operation {
        self.operation("decide", |check| async move { check.decide(decision).await.map(|()| Outcome::Done) })
    }
}
