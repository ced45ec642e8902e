//! Transactions, and the servers' questions about those that were not decided.

use std::sync::Arc;
use std::time::Duration;

use rocketmq_thin_bridge as core;

use crate::completions::submit;
use crate::message::OutgoingMessage;
use crate::outcome::Outcome;
use crate::registry::{Hold, PRODUCERS, Registry};

static TRANSACTIONS: Registry<core::Transaction> = Registry::new();
static RECEIVERS: Registry<core::OrphanChecks> = Registry::new();
static CHECKS: Registry<core::OrphanCheck> = Registry::new();

/// What happens to the messages of a transaction.
#[derive(uniffi::Enum)]
pub(crate) enum Decision {
    Commit,
    Rollback,
    Unknown,
}

impl From<Decision> for core::Decision {
    fn from(given: Decision) -> Self {
        match given {
            Decision::Commit => Self::Commit,
            Decision::Rollback => Self::Rollback,
            Decision::Unknown => Self::Unknown,
        }
    }
}

/// A server's question about a half message.
#[derive(uniffi::Record)]
pub(crate) struct Question {
    /// The check's key in the registry, and what keeps it there.
    key: i64,
    hold: Arc<Hold>,
    message: OutgoingMessage,
    message_id: String,
    transaction_id: String,
    /// How long the answer may take.
    timeout: Duration,
}

impl Question {
    /// Registers the check. `None` in a forked child, which a JVM does not have.
    pub(crate) fn register(check: core::OrphanCheck) -> Option<Self> {
        let asked = check.get()?;
        let (message, message_id) = (asked.message.clone().into(), asked.message_id.clone());
        let transaction_id = asked.transaction_id.clone();
        let key = CHECKS.insert(check);
        let hold = Hold::new(vec![key], |key| CHECKS.remove(key));
        Some(Self { key, hold, message, message_id, transaction_id, timeout: core::ORPHAN_CHECK_TIMEOUT })
    }
}

/// Begins a transaction.
#[uniffi::export]
pub(crate) fn begin_transaction(producer: i64) -> Outcome {
    let begin = || Some(PRODUCERS.get(producer)?.begin());
    Outcome::answer(begin(), |transaction| {
        Outcome::made(TRANSACTIONS.insert(transaction), |key| TRANSACTIONS.remove(key))
    })
}

/// Sends a message of a transaction.
#[uniffi::export]
pub(crate) fn send_half(transaction: i64, message: OutgoingMessage) -> i64 {
    submit(|| Some(TRANSACTIONS.get(transaction)?.send(message.into())))
}

/// Commits a transaction.
#[uniffi::export]
pub(crate) fn commit_transaction(transaction: i64) -> i64 {
    submit(|| Some(TRANSACTIONS.get(transaction)?.commit()))
}

/// Rolls a transaction back.
#[uniffi::export]
pub(crate) fn rollback_transaction(transaction: i64) -> i64 {
    submit(|| Some(TRANSACTIONS.get(transaction)?.rollback()))
}

/// The orphan checks of a producer from now on.
#[uniffi::export]
pub(crate) fn producer_orphan_checks(producer: i64) -> Outcome {
    let checks = || Some(PRODUCERS.get(producer)?.orphan_checks());
    Outcome::answer(checks(), |checks| Outcome::made(RECEIVERS.insert(checks), |key| RECEIVERS.remove(key)))
}

/// Waits for the next orphan check.
#[uniffi::export]
pub(crate) fn next_orphan_check(checks: i64) -> i64 {
    submit(|| Some(RECEIVERS.get(checks)?.next()))
}

/// Answers an orphan check.
#[uniffi::export]
pub(crate) fn decide_orphan(check: i64, decision: Decision) -> i64 {
    submit(|| Some(CHECKS.get(check)?.decide(decision.into())))
}
