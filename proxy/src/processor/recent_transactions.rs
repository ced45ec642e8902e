//! Recent transactions: the outcomes of decisions, and half messages.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::handle::TransactionRef;
use crate::service::{ServiceError, ServiceErrorKind};

/// The outcome of a decision, shared by all callers that wait for it.
pub(super) type DecisionOutcome = Shared<BoxFuture<'static, Result<(), ServiceError>>>;

/// The recent transactions. This is soft state: as long as producers use the transaction ids that they were given, nothing
/// fails without it.
#[derive(Default)]
pub(super) struct RecentTransactions {
    /// The outcomes of decisions. Without them, a message could be delivered twice: brokers deliver it once for each commit,
    /// and a producer commits twice if it is checked while it decides by itself, or does not get the answer.
    decided: Mutex<RecentMap<DecisionOutcome>>,
    /// The half messages that were sent through this proxy, by topic and message id.
    half_messages: Mutex<RecentMap<TransactionRef>>,
    /// The half messages as of their last check, by topic and message id.
    checked: Mutex<RecentMap<TransactionRef>>,
}

/// How long entries are kept: somewhat longer than a broker waits before it checks a transaction.
const ENTRY_LIFETIME: Duration = Duration::from_secs(60);
/// The maximum number of entries of each map. When it is reached, the oldest entries are removed.
const MAX_ENTRIES: usize = 100_000;

impl RecentTransactions {
    /// Records a half message that was just stored.
    pub(super) fn record_half_message(&self, topic: &str, message_id: &str, transaction: TransactionRef) {
        self.half_messages.lock().insert(key(topic, message_id), transaction);
    }

    /// Records a half message that a broker checks.
    pub(super) fn record_check(&self, topic: &str, message_id: &str, transaction: TransactionRef) {
        self.checked.lock().insert(key(topic, message_id), transaction);
    }

    /// The half message as of its last check.
    pub(super) fn last_check(&self, topic: &str, message_id: &str) -> Option<TransactionRef> {
        self.checked.lock().get(&key(topic, message_id)).cloned()
    }

    /// A half message that was sent through this proxy.
    pub(super) fn half_message(&self, topic: &str, message_id: &str) -> Option<TransactionRef> {
        self.half_messages.lock().get(&key(topic, message_id)).cloned()
    }

    /// Returns the outcome of the decision with this key. Runs `end` to carry out the decision, unless that was done already
    /// or is under way.
    ///
    /// `end` completes even if the caller is cancelled. It is run again only if the decision certainly was not carried out
    /// before, or if the broker's decisions are `repeatable`.
    pub(super) fn decide(
        self: &Arc<Self>,
        key: TransactionKey,
        repeatable: bool,
        end: impl Future<Output = Result<(), ServiceError>> + Send + 'static,
    ) -> DecisionOutcome {
        // The lock is held until the outcome is inserted, because the task may fail at once and remove it.
        let mut decided = self.decided.lock();
        if let Some(outcome) = decided.get(&key) {
            return outcome.clone();
        }
        let task = tokio::spawn({
            let recent = self.clone();
            async move {
                let ended = end.await;
                if ended.as_ref().is_err_and(|error| repeatable || !error.kind.maybe_done()) {
                    recent.decided.lock().remove(&key);
                }
                ended
            }
        });
        let aborted = |_| Err(ServiceError::new(ServiceErrorKind::Internal, "the decision was aborted"));
        let outcome = task.map(move |ended| ended.unwrap_or_else(aborted)).boxed().shared();
        decided.insert(key, outcome.clone());
        outcome
    }

    /// Removes the entries that have expired.
    pub(super) fn remove_expired(&self) {
        let now = Instant::now();
        self.decided.lock().remove_expired(now);
        self.half_messages.lock().remove_expired(now);
        self.checked.lock().remove_expired(now);
    }
}

/// The key of an entry: a hash, because message ids may be long. Clients choose them, so the hash must have no collisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TransactionKey([u8; 16]);

/// The key of an entry.
pub(super) fn key(outer: &str, inner: &str) -> TransactionKey {
    let digest = Sha256::new().chain_update(outer).chain_update([0]).chain_update(inner).finalize();
    TransactionKey(*digest.first_chunk().expect("SHA-256 has 32 bytes"))
}

/// A map whose entries expire. The oldest entries are removed when there are too many.
struct RecentMap<V> {
    entries: HashMap<TransactionKey, Recent<V>>,
    /// All insertions, the oldest first. If an entry was replaced or removed, its time differs from that of the insertion.
    insertions: VecDeque<(Instant, TransactionKey)>,
}

struct Recent<V> {
    since: Instant,
    value: V,
}

impl<V> Default for RecentMap<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), insertions: VecDeque::new() }
    }
}

impl<V> RecentMap<V> {
    fn get(&self, key: &TransactionKey) -> Option<&V> {
        let entry = self.entries.get(key).filter(|entry| entry.since.elapsed() < ENTRY_LIFETIME);
        entry.map(|entry| &entry.value)
    }

    fn insert(&mut self, key: TransactionKey, value: V) {
        self.insert_at(Instant::now(), key, value);
    }

    fn insert_at(&mut self, now: Instant, key: TransactionKey, value: V) {
        self.remove_expired(now);
        if self.insertions.len() >= MAX_ENTRIES {
            self.remove_oldest();
        }
        self.insertions.push_back((now, key));
        self.entries.insert(key, Recent { since: now, value });
    }

    /// Removes the entries that have expired, and the memory that they took.
    fn remove_expired(&mut self, now: Instant) {
        while let Some((since, _)) = self.insertions.front()
            && now.saturating_duration_since(*since) >= ENTRY_LIFETIME
        {
            self.remove_oldest();
        }
        if self.insertions.is_empty() && self.insertions.capacity() > 0 {
            *self = Self::default();
        }
    }

    fn remove_oldest(&mut self) {
        let Some((since, oldest)) = self.insertions.pop_front() else { return };
        if self.entries.get(&oldest).is_some_and(|entry| entry.since == since) {
            self.entries.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &TransactionKey) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    fn failed(kind: ServiceErrorKind) -> Result<(), ServiceError> {
        Err(ServiceError::new(kind, "x"))
    }

    #[tokio::test]
    async fn a_decision_is_carried_out_once_unless_it_surely_failed() {
        let recent = Arc::new(RecentTransactions::default());
        for (name, first, second) in [
            ("done", Ok(()), Ok(())),
            ("timeout", failed(ServiceErrorKind::Timeout), failed(ServiceErrorKind::Timeout)),
            ("unanswered", failed(ServiceErrorKind::Unanswered), failed(ServiceErrorKind::Unanswered)),
            ("unavailable", failed(ServiceErrorKind::Unavailable), failed(ServiceErrorKind::Busy)),
        ] {
            assert_eq!(recent.decide(key(name, ""), false, ready(first.clone())).await, first, "{name}");
            let again = recent.decide(key(name, ""), false, ready(failed(ServiceErrorKind::Busy)));
            assert_eq!(again.await, second, "{name}");
        }
    }

    #[tokio::test]
    async fn a_repeatable_decision_is_carried_out_again_if_its_outcome_is_unknown() {
        let recent = Arc::new(RecentTransactions::default());
        let late = failed(ServiceErrorKind::Timeout);
        assert_eq!(recent.decide(key("a", ""), true, ready(late.clone())).await, late);
        assert_eq!(recent.decide(key("a", ""), true, ready(Ok(()))).await, Ok(()));
        assert_eq!(recent.decide(key("a", ""), true, ready(late)).await, Ok(()), "the outcome is known");
    }

    #[tokio::test]
    async fn a_decision_is_carried_out_even_if_the_caller_is_cancelled() {
        let recent = Arc::new(RecentTransactions::default());
        let (answer, answered) = tokio::sync::oneshot::channel();
        let first = recent.decide(key("a", ""), false, async { answered.await.expect("an answer") });
        drop(first);
        let again = recent.decide(key("a", ""), false, ready(failed(ServiceErrorKind::Busy)));
        assert!(again.clone().now_or_never().is_none());
        answer.send(Ok(())).expect("the decision is under way");
        assert_eq!(again.await, Ok(()));
    }

    fn transaction(cluster: &str, coordinates: &str) -> TransactionRef {
        TransactionRef { cluster: cluster.to_owned(), coordinates: coordinates.to_owned() }
    }

    #[test]
    fn a_half_message_is_found_under_its_own_topic() {
        let recent = RecentTransactions::default();
        recent.record_half_message("t", "id", transaction("east", "broker-a 1 2"));
        assert_eq!(recent.half_message("t", "id"), Some(transaction("east", "broker-a 1 2")));
        assert_eq!(recent.half_message("u", "id"), None);
        assert_eq!(recent.last_check("t", "id"), None);
        recent.record_check("t", "id", transaction("east", "broker-a 3 4"));
        recent.record_check("t", "id", transaction("east", "broker-a 5 6"));
        assert_eq!(recent.last_check("t", "id"), Some(transaction("east", "broker-a 5 6")));
    }

    #[test]
    fn expired_entries_and_the_oldest_of_too_many_are_removed() {
        let mut map = RecentMap::default();
        let start = Instant::now();
        map.insert_at(start, key("old", ""), ());
        map.insert_at(start + ENTRY_LIFETIME / 2, key("old", ""), ());
        map.insert_at(start + ENTRY_LIFETIME / 2, key("other", ""), ());
        map.insert_at(start + ENTRY_LIFETIME, key("new", ""), ());
        assert_eq!((map.entries.len(), map.insertions.len()), (3, 3));
        map.insert_at(start + ENTRY_LIFETIME * 2, key("newest", ""), ());
        assert_eq!((map.entries.len(), map.insertions.len()), (1, 1));
        for number in 0..MAX_ENTRIES + 10 {
            map.insert_at(start + ENTRY_LIFETIME * 2, key(&number.to_string(), ""), ());
        }
        assert_eq!((map.entries.len(), map.insertions.len()), (MAX_ENTRIES, MAX_ENTRIES));
        let has = |name: &str| map.get(&key(name, "")).is_some();
        assert!(!has("newest") && !has("5") && has("10"));
        map.remove_expired(start + ENTRY_LIFETIME * 3);
        assert_eq!((map.entries.capacity(), map.insertions.capacity()), (0, 0));
    }
}
