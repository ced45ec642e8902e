//! Ending transactions: any proxy of a fleet can, as the id carries all that is needed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Processor, validate};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::service::{EndTransaction, Resolution, ServiceErrorKind};

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
    /// Decides about a half message. Decided once, it stays so: saying it again, or otherwise, is agreed to
    /// without effect, as long as this proxy remembers.
    ///
    /// # Errors
    /// `IllegalTopic`, `InvalidTransactionId` (blank, not ours, or of another topic), then the backend's failures.
    /// After a `Timeout` the broker may have heard the decision; if not, it asks.
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
        let services = &self.placement.named(&cluster)?.services;
        let decision = name(&cluster, &coordinates);
        if !self.recent.decide(&decision) {
            return Ok(());
        }
        let end = EndTransaction {
            topic: command.topic.clone(),
            message_id: command.message_id,
            coordinates,
            resolution,
            asked: command.asked,
            deadline: context.deadline_within(self.limits.call),
        };
        services.transactions.end(end).await.map_err(|error| {
            // After a time-out it may be decided: to say it again could deliver the message twice.
            if error.kind != ServiceErrorKind::Timeout {
                self.recent.undecide(&decision);
            }
            Error::on_topic(error, &command.topic)
        })
    }
}

/// What this proxy happens to remember of transactions. Soft state: nothing fails without it, as long as producers
/// name transactions as they were told to.
#[derive(Default)]
pub(super) struct Recent {
    /// Brokers deliver a message once for every commit they hear, and a producer that is asked while it decides on
    /// its own says it twice.
    decided: Mutex<Kept<()>>,
    /// Cluster and coordinates by topic and message id.
    half_messages: Mutex<Kept<(String, String)>>,
    /// The same where a broker has asked: the place it asked about last.
    asked_about: Mutex<Kept<(String, String)>>,
}

/// As long as a broker waits before it asks, and somewhat longer.
const KEPT: Duration = Duration::from_secs(60);
/// How many entries call for a look at their age.
const MANY: usize = 10_000;

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

    /// Whether it was undecided; it counts as decided from now on.
    fn decide(&self, id: &str) -> bool {
        self.decided.lock().put(id.to_owned(), ())
    }

    fn undecide(&self, id: &str) {
        self.decided.lock().entries.remove(id);
    }
}

fn name(outer: &str, inner: &str) -> String {
    format!("{outer}\0{inner}")
}

/// Entries that count for a while.
struct Kept<V> {
    entries: HashMap<String, (Instant, V)>,
}

impl<V> Default for Kept<V> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

impl<V> Kept<V> {
    fn get(&self, key: &str) -> Option<&V> {
        self.entries.get(key).filter(|(since, _)| since.elapsed() < KEPT).map(|(_, value)| value)
    }

    /// Whether there was none.
    fn put(&mut self, key: String, value: V) -> bool {
        if self.entries.len() >= MANY {
            self.entries.retain(|_, (since, _)| since.elapsed() < KEPT);
        }
        let before = self.entries.insert(key, (Instant::now(), value));
        before.is_none_or(|(since, _)| since.elapsed() >= KEPT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_taken_once_unless_it_failed() {
        let recent = Recent::default();
        assert!(recent.decide("a") && !recent.decide("a") && recent.decide("b"));
        recent.undecide("a");
        assert!(recent.decide("a"));
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
}
