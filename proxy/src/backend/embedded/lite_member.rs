//! A client of a group that is bound to a LITE topic: its lite topics, and those that may have messages for it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

/// How many receives of a client can be repeated by their attempt ids.
const MAX_ATTEMPTS: usize = 4;
/// About how many unsubscribed lite topics may still be ready.
const MAX_STALE: usize = 64;

/// A client in a group.
pub(super) struct Member {
    /// What it is subscribed to.
    pub(super) lite_topics: HashSet<Arc<str>>,
    /// When it last changed or repeated that.
    pub(super) repeated_at: Instant,
    /// Notified when a lite topic is ready. Each receive has a reference.
    pub(super) more: Arc<Notify>,
    ready: Ready,
    attempts: VecDeque<Attempt>,
}

/// Lite topics that may have messages, each once, in the order in which they are looked at.
#[derive(Default)]
struct Ready {
    order: VecDeque<Arc<str>>,
    known: HashSet<Arc<str>>,
}

/// The lite topics that a receive got messages from.
struct Attempt {
    id: Box<str>,
    lite_topics: Vec<Arc<str>>,
}

impl Default for Member {
    fn default() -> Self {
        Self {
            lite_topics: HashSet::new(),
            repeated_at: Instant::now(),
            more: Arc::default(),
            ready: Ready::default(),
            attempts: VecDeque::new(),
        }
    }
}

impl Member {
    /// Whether it has no subscriptions and does not receive.
    pub(super) fn is_idle(&self) -> bool {
        self.lite_topics.is_empty() && Arc::strong_count(&self.more) == 1
    }

    /// Ends a subscription. Returns false if there was none.
    pub(super) fn unsubscribe(&mut self, name: &str) -> bool {
        let was_subscribed = self.lite_topics.remove(name);
        // A client that does not receive could subscribe and unsubscribe for ever.
        if self.ready.order.len() > 2 * self.lite_topics.len() + MAX_STALE {
            let Self { lite_topics, ready: Ready { order, known }, .. } = self;
            order.retain(|name| lite_topics.contains(name));
            known.retain(|name| lite_topics.contains(name));
        }
        was_subscribed
    }

    /// Says that a lite topic may have messages.
    pub(super) fn set_ready(&mut self, name: &Arc<str>) {
        if self.ready.known.insert(name.clone()) {
            self.ready.order.push_back(name.clone());
        }
    }

    /// The same, and it is the next to be looked at, if it is not ready already.
    pub(super) fn set_ready_first(&mut self, name: &Arc<str>) {
        if self.ready.known.insert(name.clone()) {
            self.ready.order.push_front(name.clone());
        }
    }

    /// Whether any lite topic is ready.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.order.is_empty()
    }

    /// The next lite topic to look at. It is not ready any more.
    pub(super) fn next_ready(&mut self) -> Option<Arc<str>> {
        loop {
            let name = self.ready.order.pop_front()?;
            self.ready.known.remove(&name);
            // It may have been unsubscribed since.
            if self.lite_topics.contains(&name) {
                return Some(name);
            }
        }
    }

    /// Puts the lite topics from which a receive with this attempt id got messages first.
    pub(super) fn begin_attempt(&mut self, id: &str) {
        let Some(same) = self.attempts.iter().position(|attempt| *attempt.id == *id) else { return };
        let attempt = self.attempts.remove(same).expect("it was found");
        attempt.lite_topics.iter().rev().for_each(|name| self.set_ready_first(name));
    }

    /// Notes which lite topics a receive with this attempt id got messages from.
    pub(super) fn end_attempt(&mut self, id: &str, lite_topics: Vec<Arc<str>>) {
        if self.attempts.len() == MAX_ATTEMPTS {
            self.attempts.pop_front();
        }
        self.attempts.push_back(Attempt { id: id.into(), lite_topics });
    }

    /// Forgets the receives of before.
    pub(super) fn forget_attempts(&mut self) {
        self.attempts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lite_topics_of_an_attempt_are_looked_at_first_when_it_is_repeated() {
        let mut member = Member::default();
        let [a, b, c] = ["a", "b", "c"].map(Arc::<str>::from);
        member.lite_topics.extend([a.clone(), b.clone(), c.clone()]);
        for number in 0..=MAX_ATTEMPTS {
            member.end_attempt(&number.to_string(), vec![b.clone(), a.clone()]);
        }
        member.set_ready(&c);
        member.begin_attempt("0");
        assert_eq!(member.next_ready(), Some(c.clone()), "it was given up");
        member.set_ready(&c);
        member.begin_attempt("1");
        assert_eq!(std::iter::from_fn(|| member.next_ready()).collect::<Vec<_>>(), [b, a, c]);
    }

    #[test]
    fn what_could_not_be_looked_at_comes_first_or_last() {
        let mut member = Member::default();
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
    fn what_is_unsubscribed_leaves_nothing_behind() {
        let mut member = Member::default();
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
