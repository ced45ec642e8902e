//! Ending transactions. Any proxy of a fleet can do it, as the id carries all that is needed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use super::command::Command;
use super::environment::Environment;
use super::handle::TransactionPlace;
use super::validate;
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::layer::{Names, OperationKind, Size, TraceStep, Traced};
use crate::service::{EndTransaction, Resolution, ServiceError, ServiceErrorKind};

/// Commits a half message, or rolls it back. The first decision counts: repeating or contradicting it has no effect,
/// and returns the outcome of the first one, as long as this proxy remembers it.
///
/// # Errors
/// `IllegalTopic`, `InvalidTransactionId` (blank, not ours, or of another topic), then the backend's failures.
/// If the broker did not answer, it may have taken the decision; otherwise it will ask.
#[derive(Clone, Debug)]
pub struct EndTransactionCommand {
    /// The half message's topic.
    pub topic: String,
    /// The half message's id.
    pub message_id: String,
    /// The id that the send returned, or that the server's check named.
    pub transaction_id: String,
    /// What to do with the message. `None` if the producer doesn't know yet: it is asked again.
    pub resolution: Option<Resolution>,
    /// Whether the producer answers a check of the server.
    pub checked: bool,
}

impl Command for EndTransactionCommand {
    type Answer = ();
    const KIND: OperationKind = OperationKind::EndTransaction;

    fn topics(&self) -> &dyn Names {
        &self.topic
    }

    fn size(&self) -> Size {
        Size::of_messages(1)
    }

    fn trace(&self, traced: &mut Traced<'_>) {
        let step = match self.resolution {
            Some(Resolution::Commit) => TraceStep::Committed,
            Some(Resolution::Rollback) => TraceStep::RolledBack,
            None => TraceStep::Undecided,
        };
        traced.decides(step, &self.message_id);
    }

    fn trace_end(result: Result<&(), &Error>, traced: &mut Traced<'_>) {
        traced.all_ended(result.copied());
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<(), Error> {
        let Self { topic, message_id, transaction_id, resolution, checked } = self;
        let recent = &environment.transactions;
        validate::topic(&topic)?;
        let refuse = |message: &str| Err(Error::new(ErrorKind::InvalidTransactionId, message));
        if validate::is_blank(&transaction_id) {
            return refuse("transaction id cannot be empty");
        }
        let sealed = environment.handles.open_transaction(&topic, &transaction_id);
        // With Apache's proxy the id is the message's, and there are programs that rely on it.
        let Some(place) = sealed.or_else(|| recent.half_message(&topic, &transaction_id)) else {
            return refuse("transaction id is not from this server, or of another topic");
        };
        let Some(resolution) = resolution else { return Ok(()) };
        // Once a broker has checked, it keeps the half message elsewhere, and would apply a decision about the old
        // place to another message.
        let moved = recent.checked_place(&topic, &message_id);
        let place = moved.filter(|moved| !checked && moved.cluster == place.cluster).unwrap_or(place);
        let services = &environment.clusters.get(&place.cluster)?.services;
        let repeatable = services.metadata.capabilities().repeatable_decisions;
        let transactions = services.transactions.clone();
        let decision = key(&place.cluster, &place.coordinates);
        let end = EndTransaction {
            topic: topic.clone(),
            message_id,
            coordinates: place.coordinates,
            resolution,
            asked: checked,
            // Not the client's deadline: the outcome matters to its next attempt, too.
            deadline: context.received + environment.limits.call,
        };
        let outcome = recent.decide(decision, repeatable, async move { transactions.end(end).await });
        outcome.await.map_err(|error| Error::on_topic(error, &topic))
    }
}

/// The outcome of a decision, for everyone who waits for it.
type Outcome = Shared<BoxFuture<'static, Result<(), ServiceError>>>;

/// What this proxy remembers of recent transactions. Soft state: nothing fails without it, as long as producers use the
/// transaction ids that they were given.
#[derive(Default)]
pub(super) struct RecentTransactions {
    /// Brokers deliver a message once for every commit they get, and a producer that is checked while it decides by
    /// itself commits twice. So does one that did not get the answer.
    decided: Mutex<RecentMap<Outcome>>,
    /// Places by topic and message id.
    half_messages: Mutex<RecentMap<TransactionPlace>>,
    /// The place that a broker checked last, by topic and message id.
    checked: Mutex<RecentMap<TransactionPlace>>,
}

/// How long entries are kept: somewhat longer than a broker waits before it checks.
const KEPT: Duration = Duration::from_secs(60);
/// Entries of each kind that are kept at most. Beyond, the oldest are forgotten.
const MAX_ENTRIES: usize = 100_000;

impl RecentTransactions {
    /// Notes a half message that was just stored.
    pub(super) fn stored(&self, topic: &str, message_id: &str, place: TransactionPlace) {
        self.half_messages.lock().insert(key(topic, message_id), place);
    }

    /// Notes a half message that a broker checks.
    pub(super) fn checked(&self, topic: &str, message_id: &str, place: TransactionPlace) {
        self.checked.lock().insert(key(topic, message_id), place);
    }

    fn checked_place(&self, topic: &str, message_id: &str) -> Option<TransactionPlace> {
        self.checked.lock().get(&key(topic, message_id)).cloned()
    }

    fn half_message(&self, topic: &str, message_id: &str) -> Option<TransactionPlace> {
        self.half_messages.lock().get(&key(topic, message_id)).cloned()
    }

    /// The outcome of the decision with this key. `end` carries it out, unless it is under way or done already.
    ///
    /// It is carried out even if nobody waits for it. It is repeated only if it surely was not carried out before, or if the
    /// broker takes it as the same one.
    fn decide(
        self: &Arc<Self>,
        key: Arc<str>,
        repeatable: bool,
        end: impl Future<Output = Result<(), ServiceError>> + Send + 'static,
    ) -> Outcome {
        // Locked until the outcome is inserted: the task may fail, and remove it, at once.
        let mut decided = self.decided.lock();
        if let Some(outcome) = decided.get(&key) {
            return outcome.clone();
        }
        let task = tokio::spawn({
            let (recent, key) = (self.clone(), key.clone());
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
}

fn key(outer: &str, inner: &str) -> Arc<str> {
    format!("{outer}\0{inner}").into()
}

/// A map whose entries expire, and of which the oldest go when there are too many.
struct RecentMap<V> {
    entries: HashMap<Arc<str>, Recent<V>>,
    /// Insertions, oldest first. One that was replaced or removed since has no entry of its time.
    insertions: VecDeque<(Instant, Arc<str>)>,
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
    fn get(&self, key: &str) -> Option<&V> {
        self.entries.get(key).filter(|entry| entry.since.elapsed() < KEPT).map(|entry| &entry.value)
    }

    fn insert(&mut self, key: Arc<str>, value: V) {
        self.insert_at(Instant::now(), key, value);
    }

    fn insert_at(&mut self, now: Instant, key: Arc<str>, value: V) {
        while let Some((since, oldest)) = self.insertions.front()
            && (self.insertions.len() >= MAX_ENTRIES || now.saturating_duration_since(*since) >= KEPT)
        {
            if self.entries.get(oldest).is_some_and(|entry| entry.since == *since) {
                self.entries.remove(oldest);
            }
            self.insertions.pop_front();
        }
        self.insertions.push_back((now, key.clone()));
        self.entries.insert(key, Recent { since: now, value });
    }

    fn remove(&mut self, key: &str) {
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
            ("late", failed(ServiceErrorKind::Timeout), failed(ServiceErrorKind::Timeout)),
            ("lost", failed(ServiceErrorKind::Unanswered), failed(ServiceErrorKind::Unanswered)),
            ("away", failed(ServiceErrorKind::Unavailable), failed(ServiceErrorKind::Busy)),
        ] {
            assert_eq!(recent.decide(name.into(), false, ready(first.clone())).await, first, "{name}");
            let again = recent.decide(name.into(), false, ready(failed(ServiceErrorKind::Busy)));
            assert_eq!(again.await, second, "{name}");
        }
    }

    #[tokio::test]
    async fn a_decision_that_may_be_repeated_is_asked_again_if_its_outcome_is_not_known() {
        let recent = Arc::new(RecentTransactions::default());
        let late = failed(ServiceErrorKind::Timeout);
        assert_eq!(recent.decide("a".into(), true, ready(late.clone())).await, late);
        assert_eq!(recent.decide("a".into(), true, ready(Ok(()))).await, Ok(()));
        assert_eq!(recent.decide("a".into(), true, ready(late)).await, Ok(()), "the outcome is known");
    }

    #[tokio::test]
    async fn a_decision_is_carried_out_even_if_nobody_waits() {
        let recent = Arc::new(RecentTransactions::default());
        let (answer, answered) = tokio::sync::oneshot::channel();
        let first = recent.decide("a".into(), false, async { answered.await.expect("an answer") });
        drop(first);
        let again = recent.decide("a".into(), false, ready(failed(ServiceErrorKind::Busy)));
        assert!(again.clone().now_or_never().is_none());
        answer.send(Ok(())).expect("the decision is under way");
        assert_eq!(again.await, Ok(()));
    }

    fn place(cluster: &str, coordinates: &str) -> TransactionPlace {
        TransactionPlace { cluster: cluster.to_owned(), coordinates: coordinates.to_owned() }
    }

    #[test]
    fn a_half_message_is_found_under_its_own_topic() {
        let recent = RecentTransactions::default();
        recent.stored("t", "id", place("east", "broker-a 1 2"));
        assert_eq!(recent.half_message("t", "id"), Some(place("east", "broker-a 1 2")));
        assert_eq!(recent.half_message("u", "id"), None);
        assert_eq!(recent.checked_place("t", "id"), None);
        recent.checked("t", "id", place("east", "broker-a 3 4"));
        recent.checked("t", "id", place("east", "broker-a 5 6"));
        assert_eq!(recent.checked_place("t", "id"), Some(place("east", "broker-a 5 6")));
    }

    #[test]
    fn old_entries_go_and_so_do_the_oldest_of_too_many() {
        let mut map = RecentMap::default();
        let start = Instant::now();
        map.insert_at(start, "old".into(), ());
        map.insert_at(start + KEPT / 2, "old".into(), ());
        map.insert_at(start + KEPT / 2, "other".into(), ());
        map.insert_at(start + KEPT, "new".into(), ());
        assert_eq!((map.entries.len(), map.insertions.len()), (3, 3));
        map.insert_at(start + KEPT * 2, "newest".into(), ());
        assert_eq!((map.entries.len(), map.insertions.len()), (1, 1));
        for number in 0..MAX_ENTRIES + 10 {
            map.insert_at(start + KEPT * 2, number.to_string().as_str().into(), ());
        }
        assert_eq!((map.entries.len(), map.insertions.len()), (MAX_ENTRIES, MAX_ENTRIES));
        assert!(map.get("newest").is_none() && map.get("5").is_none() && map.get("10").is_some());
    }
}
