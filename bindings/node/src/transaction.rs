//! Transactions and orphan checks.

use std::sync::Arc;

use napi::bindgen_prelude::{Env, Result};
use napi_derive::napi;
use rocketmq_thin_bridge::{self as bridge, Queue};

use crate::input::{Message, decision};
use crate::outcome::operation_id;
use crate::output::OrphanedMessage;

#[napi]
pub struct Transaction {
    pub(crate) transaction: bridge::Transaction,
    pub(crate) queue: Arc<Queue>,
}

#[napi]
impl Transaction {
    #[napi]
    pub fn send(&self, message: Message<'_>) -> Result<i64> {
        operation_id(self.queue.submit(self.transaction.send(message.try_into()?)))
    }

    #[napi]
    pub fn commit(&self) -> Result<i64> {
        operation_id(self.queue.submit(self.transaction.commit()))
    }

    #[napi]
    pub fn rollback(&self) -> Result<i64> {
        operation_id(self.queue.submit(self.transaction.rollback()))
    }
}

#[napi]
pub struct OrphanChecks {
    pub(crate) checks: bridge::OrphanChecks,
    pub(crate) queue: Arc<Queue>,
}

#[napi]
impl OrphanChecks {
    #[napi]
    pub fn next(&self) -> Result<i64> {
        operation_id(self.queue.submit(self.checks.next()))
    }
}

/// A request of the server for the decision on an orphaned transaction.
#[napi]
pub struct OrphanCheck {
    pub(crate) check: bridge::OrphanCheck,
    pub(crate) queue: Arc<Queue>,
}

#[napi]
impl OrphanCheck {
    /// Returns the message, or `null` in a forked child.
    #[napi]
    pub fn message<'env>(&self, env: &'env Env) -> Result<Option<OrphanedMessage<'env>>> {
        let check = self.check.get();
        check
            .map(|check| OrphanedMessage::new(env, &check.message, &check.message_id, &check.transaction_id))
            .transpose()
    }

    #[napi]
    pub fn decide(&self, decision_name: String) -> Result<i64> {
        operation_id(self.queue.submit(self.check.decide(decision(&decision_name)?)))
    }
}
