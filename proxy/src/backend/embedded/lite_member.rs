//! A client of a group that is bound to a LITE topic: its subscriptions to lite topics, and the lite topics that may have
//! messages for it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

/// The number of latest receives of a client that can be repeated by their attempt ids.
const MAX_ATTEMPTS: usize = 4;
/// About how many lite topics may remain in the ready queue after they were unsubscribed.
const MAX_STALE: usize = 64;

/// A client in a group.
pub(super) struct LiteMember {
    /// Its subscriptions.
    pub(super) lite_topics: HashSet<Arc<str>>,
    /// When the client last changed or repeated its subscriptions.
    pub(super) repeated_at: Instant,
    /// Notified when a lite topic is ready. Each receive holds a reference.
    pub(super) available: Arc<Notify>,
    ready: ReadyQueue,
    attempts: VecDeque<ReceiveAttempt>,
}

/// Lite topics that may have messages, each at most once, in the order in which they are scanned.
#[derive(Default)]
struct ReadyQueue {
    order: VecDeque<Arc<str>>,
    known: HashSet<Arc<str>>,
}

/// The lite topics from which a receive got messages.
struct ReceiveAttempt {
    id: Box<str>,
    lite_topics: Vec<Arc<str>>,
}

impl Default for LiteMember {
    fn default() -> Self {
        Self {
            lite_topics: HashSet::new(),
            repeated_at: Instant::now(),
            available: Arc::default(),
            ready: ReadyQueue::default(),
            attempts: VecDeque::new(),
        }
    }
}

impl LiteMember {
    /// Whether the client has no subscriptions and does not receive.
    pub(super) fn is_idle(&self) -> bool {
        self.lite_topics.is_empty() && Arc::strong_count(&self.available) == 1
    }

    /// Ends a subscription. Returns false if there was none.
    pub(super) fn unsubscribe(&mut self, name: &str) -> bool {
        let was_subscribed = self.lite_topics.remove(name);
        // Bounds the ready queue of a client that subscribes and unsubscribes again and again, but does not receive.
        if self.ready.order.len() > 2 * self.lite_topics.len() + MAX_STALE {
            let Self { lite_topics, ready: ReadyQueue { order, known }, .. } = self;
            order.retain(|name| lite_topics.contains(name));
            known.retain(|name| lite_topics.contains(name));
        }
        was_subscribed
    }

    /// Appends a lite topic to the ready queue, unless it is in the queue.
    pub(super) fn set_ready(&mut self, name: &Arc<str>) {
        if self.ready.known.insert(name.clone()) {
            self.ready.order.push_back(name.clone());
        }
    }

    /// Puts a lite topic at the front of the ready queue, unless it is in the queue.
    pub(super) fn set_ready_first(&mut self, name: &Arc<str>) {
        if self.ready.known.insert(name.clone()) {
            self.ready.order.push_front(name.clone());
        }
    }

    /// Whether any lite topic is ready.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.order.is_empty()
    }

    /// Removes the next lite topic from the ready queue.
    pub(super) fn next_ready(&mut self) -> Option<Arc<str>> {
        loop {
            let name = self.ready.order.pop_front()?;
            self.ready.known.remove(&name);
            // The client may have unsubscribed in the meantime.
            if self.lite_topics.contains(&name) {
                return Some(name);
            }
        }
    }

    /// Moves the lite topics from which a receive with this attempt id got messages to the front of the ready queue.
    pub(super) fn begin_attempt(&mut self, id: &str) {
        let Some(same) = self.attempts.iter().position(|attempt| *attempt.id == *id) else { return };
        let attempt = self.attempts.remove(same).expect("it was found");
        attempt.lite_topics.iter().rev().for_each(|name| self.set_ready_first(name));
    }

    /// Remembers the lite topics from which a receive with this attempt id got messages.
    pub(super) fn end_attempt(&mut self, id: &str, lite_topics: Vec<Arc<str>>) {
        if self.attempts.len() == MAX_ATTEMPTS {
            self.attempts.pop_front();
        }
        self.attempts.push_back(ReceiveAttempt { id: id.into(), lite_topics });
    }

    /// Forgets earlier receives.
    pub(super) fn forget_attempts(&mut self) {
        self.attempts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lite_topics_of_a_repeated_attempt_are_scanned_first() {
        let mut member = LiteMember::default();
        let [a, b, c] = ["a", "b", "c"].map(Arc::<str>::from);
        member.lite_topics.extend([a.clone(), b.clone(), c.clone()]);
        for number in 0..=MAX_ATTEMPTS {
            member.end_attempt(&number.to_string(), vec![b.clone(), a.clone()]);
        }
        member.set_ready(&c);
        member.begin_attempt("0");
        assert_eq!(member.next_ready(), Some(c.clone()), "it was returned to the queue");
        member.set_ready(&c);
        member.begin_attempt("1");
        assert_eq!(std::iter::from_fn(|| member.next_ready()).collect::<Vec<_>>(), [b, a, c]);
    }

    #[test]
    fn lite_topics_that_were_not_scanned_return_to_the_queue() {
        let mut member = LiteMember::default();
        let [a, b, c] = ["a", "b", "c"].map(Arc::<str>::from);
        member.lite_topics.extend([a.clone(), b.clone(), c.clone()]);
        member.set_ready(&a);
        member.set_ready(&b);
        assert_eq!(member.next_ready(), Some(a.clone()));
        member.set_ready_first(&a);
        member.set_ready_first(&b);
        member.set_ready(&c);
        member.lite_topics.remove(&b);
        assert_eq!(std::iter::from_fn(|| member.next_ready()).collect::<Vec<_>>(), [a, c]);
        assert!(!member.has_ready());
    }

    #[test]
    fn unsubscribed_lite_topics_leave_the_ready_queue() {
        let mut member = LiteMember::default();
        member.lite_topics.insert("kept".into());
        member.set_ready(&"kept".into());
        for number in 0..1000 {
            let name: Arc<str> = number.to_string().into();
            member.lite_topics.insert(name.clone());
            member.set_ready(&name);
            assert!(member.unsubscribe(&name) && !member.unsubscribe(&name));
            assert!(member.ready.order.len() <= MAX_STALE + 4, "{number}");
            assert_eq!(member.ready.order.len(), member.ready.known.len());
        }
        assert_eq!(member.next_ready().as_deref(), Some("kept"));
    }
}
