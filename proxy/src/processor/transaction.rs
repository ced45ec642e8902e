//! Ending transactions: any proxy of a fleet can, as the id carries all that is needed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use super::{Processor, validate};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::service::{EndTransaction, Resolution, ServiceError, ServiceErrorKind};

/// A producer's word about a half message.
#[derive(Clone, Debug)]
pub struct EndCommand {
    /// The half message's topic.
    pub topic: String,
    /// The half message's id.
    pub message_id: String,
    /// What the send or the server's question named.
    pub transaction_id: String,
    /// What becomes of the message. None: the producer doesn't know yet, and is asked again.
    pub resolution: Option<Resolution>,
    /// Whether the producer answers a question of the server.
    pub asked: bool,
}

impl Processor {
    /// Decides about a half message. Decided once, it stays so: whoever says it again, or otherwise, has no effect
    /// and hears what came of the first decision, as long as this proxy remembers.
    ///
    /// # Errors
    /// `IllegalTopic`, `InvalidTransactionId` (blank, not ours, or of another topic), then the backend's failures.
    /// Without a broker's answer it may have heard the decision; if not, it asks.
    pub async fn end_transaction(&self, context: &Context, command: EndCommand) -> Result<(), Error> {
        validate::topic(&command.topic)?;
        let refuse = |message: &str| Err(Error::new(ErrorKind::InvalidTransactionId, message));
        if validate::is_blank(&command.transaction_id) {
            return refuse("transaction id cannot be empty");
        }
        let sealed = self.handles.open_transaction(&command.topic, &command.transaction_id);
        // With Apache's proxy the id is the message's, and there are programs that count on it.
        let by_message = || self.recent.half_message(&command.topic, &command.transaction_id);
        let Some((cluster, coordinates)) = sealed.or_else(by_message) else {
            return refuse("transaction id is not from this server, or of another topic");
        };
        let Some(resolution) = command.resolution else { return Ok(()) };
        // A broker that has asked keeps the half message elsewhere from then on, and takes a decision about the old
        // place for one about another message.
        let moved = self.recent.asked_about(&command.topic, &command.message_id);
        let (cluster, coordinates) = moved
            .filter(|(asking, _)| !command.asked && *asking == cluster)
            .unwrap_or((cluster, coordinates));
        let transactions = self.clusters.get(&cluster)?.services.transactions.clone();
        let decision = name(&cluster, &coordinates);
        let end = EndTransaction {
            topic: command.topic.clone(),
            message_id: command.message_id,
            coordinates,
            resolution,
            asked: command.asked,
            // Not the client's: whether it was decided matters to its next attempt, too.
            deadline: context.received + self.limits.call,
        };
        let outcome = self.recent.decide(decision, async move { transactions.end(end).await });
        outcome.await.map_err(|error| Error::on_topic(error, &command.topic))
    }
}

/// What comes of a decision, for everyone who asks.
type Outcome = Shared<BoxFuture<'static, Result<(), ServiceError>>>;

/// What this proxy happens to remember of transactions. Soft state: nothing fails without it, as long as producers
/// name transactions as they were told to.
#[derive(Default)]
pub(super) struct Recent {
    /// Brokers deliver a message once for every commit they hear, and a producer that is asked while it decides on
    /// its own says it twice. So does one that has not heard the answer.
    decided: Mutex<Kept<Outcome>>,
    /// Cluster and coordinates by topic and message id.
    half_messages: Mutex<Kept<(String, String)>>,
    /// The same where a broker has asked: the place it asked about last.
    asked_about: Mutex<Kept<(String, String)>>,
}

/// As long as a broker waits before it asks, and somewhat longer.
const KEPT: Duration = Duration::from_secs(60);
/// How few entries are not worth a look at their age.
const FEW: usize = 10_000;

impl Recent {
    /// Notes a half message that was just stored.
    pub(super) fn stored(&self, (topic, message_id): (&str, &str), (cluster, coordinates): (&str, &str)) {
        let place = (cluster.to_owned(), coordinates.to_owned());
        self.half_messages.lock().put(name(topic, message_id), place);
    }

    /// Notes a half message that a broker asks about.
    pub(super) fn asked(&self, (topic, message_id): (&str, &str), (cluster, coordinates): (&str, &str)) {
        let place = (cluster.to_owned(), coordinates.to_owned());
        self.asked_about.lock().put(name(topic, message_id), place);
    }

    fn asked_about(&self, topic: &str, message_id: &str) -> Option<(String, String)> {
        self.asked_about.lock().get(&name(topic, message_id)).cloned()
    }

    fn half_message(&self, topic: &str, message_id: &str) -> Option<(String, String)> {
        self.half_messages.lock().get(&name(topic, message_id)).cloned()
    }

    /// What comes of the decision of this name, which `end` brings about unless it is under way or done already.
    ///
    /// It comes to its end even if nobody waits. It may be taken once more only if it surely was not carried out.
    fn decide(
        self: &Arc<Self>,
        name: String,
        end: impl Future<Output = Result<(), ServiceError>> + Send + 'static,
    ) -> Outcome {
        // Held over the start of the task, which may fail and forget at once.
        let mut decided = self.decided.lock();
        if let Some(outcome) = decided.get(&name) {
            return outcome.clone();
        }
        let task = tokio::spawn({
            let (recent, name) = (self.clone(), name.clone());
            async move {
                let ended = end.await;
                if ended.as_ref().is_err_and(|error| !error.kind.maybe_done()) {
                    recent.decided.lock().entries.remove(&name);
                }
                ended
            }
        });
        let broken = |_| Err(ServiceError::new(ServiceErrorKind::Internal, "the decision was abandoned"));
        let outcome = task.map(move |ended| ended.unwrap_or_else(broken)).boxed().shared();
        decided.put(name, outcome.clone());
        outcome
    }
}

fn name(outer: &str, inner: &str) -> String {
    format!("{outer}\0{inner}")
}

/// Entries that count for a while.
struct Kept<V> {
    entries: HashMap<String, (Instant, V)>,
    /// How many entries call for a look at their age: twice what the last look left, so that looking costs each entry
    /// no more however many there are.
    next_sweep: usize,
}

impl<V> Default for Kept<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), next_sweep: FEW }
    }
}

impl<V> Kept<V> {
    fn get(&self, key: &str) -> Option<&V> {
        self.entries.get(key).filter(|(since, _)| since.elapsed() < KEPT).map(|(_, value)| value)
    }

    fn put(&mut self, key: String, value: V) {
        if self.entries.len() >= self.next_sweep {
            self.entries.retain(|_, (since, _)| since.elapsed() < KEPT);
            self.next_sweep = FEW.max(self.entries.len() * 2);
        }
        self.entries.insert(key, (Instant::now(), value));
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
    async fn a_decision_is_taken_once_unless_it_surely_failed() {
        let recent = Arc::new(Recent::default());
        for (name, first, second) in [
            ("done", Ok(()), Ok(())),
            ("late", failed(ServiceErrorKind::Timeout), failed(ServiceErrorKind::Timeout)),
            ("lost", failed(ServiceErrorKind::Unanswered), failed(ServiceErrorKind::Unanswered)),
            ("away", failed(ServiceErrorKind::Unavailable), failed(ServiceErrorKind::Busy)),
        ] {
            assert_eq!(recent.decide(name.to_owned(), ready(first.clone())).await, first, "{name}");
            let again = recent.decide(name.to_owned(), ready(failed(ServiceErrorKind::Busy)));
            assert_eq!(again.await, second, "{name}");
        }
    }

    #[tokio::test]
    async fn a_decision_comes_to_its_end_whoever_waits() {
        let recent = Arc::new(Recent::default());
        let (answer, answered) = tokio::sync::oneshot::channel();
        let first = recent.decide("a".to_owned(), async { answered.await.expect("an answer") });
        drop(first);
        let again = recent.decide("a".to_owned(), ready(failed(ServiceErrorKind::Busy)));
        assert!(again.clone().now_or_never().is_none());
        answer.send(Ok(())).expect("the decision is under way");
        assert_eq!(again.await, Ok(()));
    }

    #[test]
    fn a_half_message_is_found_under_its_own_topic() {
        let recent = Recent::default();
        recent.stored(("t", "id"), ("east", "broker-a 1 2"));
        assert_eq!(recent.half_message("t", "id"), Some(("east".to_owned(), "broker-a 1 2".to_owned())));
        assert_eq!(recent.half_message("u", "id"), None);
        assert_eq!(recent.asked_about("t", "id"), None);
        recent.asked(("t", "id"), ("east", "broker-a 3 4"));
        recent.asked(("t", "id"), ("east", "broker-a 5 6"));
        assert_eq!(recent.asked_about("t", "id"), Some(("east".to_owned(), "broker-a 5 6".to_owned())));
    }

    #[test]
    fn what_still_counts_is_looked_at_once_per_doubling() {
        let mut kept = Kept::default();
        for number in 0..=FEW {
            kept.put(number.to_string(), ());
        }
        assert_eq!((kept.entries.len(), kept.next_sweep), (FEW + 1, 2 * FEW));
        let old = Instant::now().checked_sub(KEPT).expect("a clock that has run for a while");
        kept.entries.values_mut().for_each(|(since, ())| *since = old);
        kept.next_sweep = 0;
        kept.put("new".to_owned(), ());
        assert_eq!((kept.entries.len(), kept.next_sweep), (1, FEW));
    }
}
