//! Transactions and orphan checks.

use std::sync::Arc;
use std::time::Duration;

use rocketmq_thin_bridge as core;

use crate::completions::submit;
use crate::message::OutgoingMessage;
use crate::outcome::Outcome;
use crate::registry::{PRODUCERS, Registry, RegistryGuard};

static TRANSACTIONS: Registry<core::Transaction> = Registry::new();
static ORPHAN_CHECKS: Registry<core::OrphanChecks> = Registry::new();
static PENDING_CHECKS: Registry<core::OrphanCheck> = Registry::new();

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

/// A request of the server for the decision on an orphaned transaction.
#[derive(uniffi::Record)]
pub(crate) struct OrphanCheckRecord {
    /// The check's key in the registry, and the guard that keeps it there.
    key: i64,
    guard: Arc<RegistryGuard>,
    message: OutgoingMessage,
    message_id: String,
    transaction_id: String,
    /// How long the server waits for the decision.
    timeout: Duration,
}

impl OrphanCheckRecord {
    /// Registers the check. Returns `None` only in a forked child, and a JVM does not fork.
    pub(crate) fn register(check: core::OrphanCheck) -> Option<Self> {
        let pending = check.get()?;
        let (message, message_id) = (pending.message.clone().into(), pending.message_id.clone());
        let transaction_id = pending.transaction_id.clone();
        let key = PENDING_CHECKS.insert(check);
        let guard = RegistryGuard::new(vec![key], |key| PENDING_CHECKS.remove(key));
        Some(Self { key, guard, message, message_id, transaction_id, timeout: core::ORPHAN_CHECK_TIMEOUT })
    }
}

/// Begins a transaction.
#[uniffi::export]
pub(crate) fn begin_transaction(producer: i64) -> Outcome {
    let begin = || Some(PRODUCERS.get(producer)?.begin());
    Outcome::from_result(begin(), |transaction| {
        Outcome::registered(TRANSACTIONS.insert(transaction), |key| TRANSACTIONS.remove(key))
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

/// Returns a stream of a producer's orphan checks from now on.
#[uniffi::export]
pub(crate) fn producer_orphan_checks(producer: i64) -> Outcome {
    let checks = || Some(PRODUCERS.get(producer)?.orphan_checks());
    Outcome::from_result(checks(), |checks| {
        Outcome::registered(ORPHAN_CHECKS.insert(checks), |key| ORPHAN_CHECKS.remove(key))
    })
}

/// Waits for the next orphan check.
#[uniffi::export]
pub(crate) fn next_orphan_check(checks: i64) -> i64 {
    submit(|| Some(ORPHAN_CHECKS.get(checks)?.next()))
}

/// Sends the decision of an orphan check to the server.
#[uniffi::export]
pub(crate) fn decide_orphan(check: i64, decision: Decision) -> i64 {
    submit(|| Some(PENDING_CHECKS.get(check)?.decide(decision.into())))
}
