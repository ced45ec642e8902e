//! Handles expired leases: wakes waiting receives of the group, and finds messages whose attempts are exhausted, so
//! that they become dead letters. [`super::take`] delivers the other messages again.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::clock;
use super::exhausted_messages::ExhaustedMessages;
use super::progress::{Progress, ProgressState};

/// The scheduled wake-ups: at most one for each group and topic.
#[derive(Default)]
pub(super) struct LeaseExpiry {
    wakeups: Mutex<Wakeups>,
    /// Notified when a wake-up was scheduled before all others.
    earlier: Notify,
    /// Messages whose attempts are exhausted.
    pub(super) exhausted: ExhaustedMessages,
}

#[derive(Default)]
struct Wakeups {
    by_time: BTreeSet<(u64, ProgressKey)>,
    by_key: HashMap<ProgressKey, Wakeup>,
}

/// A group in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ProgressKey {
    group: u32,
    topic: u32,
}

struct Wakeup {
    /// In ms of [`clock::monotonic`].
    at: u64,
    progress: Weak<Progress>,
}

impl LeaseExpiry {
    /// Schedules a wake-up for the expiry of a lease. Called with the progress's state locked.
    pub(super) fn schedule(&self, progress: &Arc<Progress>, state: &mut ProgressState, at: u64) {
        if state.scheduled.is_some_and(|scheduled| scheduled <= at) {
            return;
        }
        state.scheduled = Some(at);
        let first = self.wakeups.lock().insert(progress, at);
        if first {
            self.earlier.notify_one();
        }
    }

    /// Handles expired leases until the future is dropped.
    pub(super) async fn run(&self) {
        loop {
            let next = self.wakeups.lock().by_time.first().map(|(at, _)| *at);
            match next {
                None => self.earlier.notified().await,
                Some(at) => match at.saturating_sub(clock::monotonic()) {
                    0 => {
                        self.wake_next();
                        // Thousands of wake-ups may be due together.
                        tokio::task::yield_now().await;
                    }
                    ahead => {
                        let sleep = tokio::time::sleep(Duration::from_millis(ahead));
                        tokio::select! { () = sleep => {}, () = self.earlier.notified() => {} }
                    }
                },
            }
        }
    }

    /// Wakes receives for all leases that have expired.
    #[cfg(test)]
    pub(super) fn wake_due(&self) {
        let is_due =
            |wakeups: &Wakeups| wakeups.by_time.first().is_some_and(|(at, _)| *at <= clock::monotonic());
        while is_due(&self.wakeups.lock()) {
            self.wake_next();
        }
    }

    fn wake_next(&self) {
        let next = self.wakeups.lock().pop();
        if let Some(progress) = next.and_then(|wakeup| wakeup.progress.upgrade()) {
            self.handle_expired(&progress);
        }
    }

    /// Wakes receives for the expired leases of a group in a topic, and schedules the next wake-up.
    pub(super) fn handle_expired(&self, progress: &Arc<Progress>) {
        let now = clock::monotonic();
        let Some(mut state) = progress.lock() else { return };
        state.scheduled = None;
        let in_order = state.in_order;
        let deliverable = state.queues().iter().map(|queue| match in_order {
            true => queue.count_unblocked(now, MAX_COUNTED),
            false => queue.leases().count_expired(now, MAX_COUNTED),
        });
        let deliverable: usize = deliverable.sum();
        self.exhausted.queue_exhausted(progress, &mut state, now);
        let next = state.queues().iter().filter_map(|queue| queue.leases().next_expiry_after(now)).min();
        if let Some(next) = next {
            self.schedule(progress, &mut state, next);
        }
        drop(state);
        progress.wake(deliverable);
    }
}

/// The maximum number of leases or message groups of a queue that are counted, as fewer receives are woken at once.
const MAX_COUNTED: usize = 64;

impl Wakeups {
    /// Sets the wake-up for a group in a topic. Returns whether it is the earliest of all.
    fn insert(&mut self, progress: &Arc<Progress>, at: u64) -> bool {
        let key = ProgressKey { group: progress.group(), topic: progress.topic() };
        let wakeup = Wakeup { at, progress: Arc::downgrade(progress) };
        if let Some(old) = self.by_key.insert(key, wakeup) {
            self.by_time.remove(&(old.at, key));
        }
        self.by_time.insert((at, key));
        self.by_time.first() == Some(&(at, key))
    }

    fn pop(&mut self) -> Option<Wakeup> {
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_progress_has_at_most_one_wake_up() {
        let progress = Arc::new(Progress::new(1, 2));
        let mut wakeups = Wakeups::default();
        assert!(wakeups.insert(&progress, 100_000));
        for at in (1..30_000).rev() {
            assert!(wakeups.insert(&progress, at));
        }
        assert_eq!((wakeups.by_time.len(), wakeups.by_key.len()), (1, 1));
        assert!(!wakeups.insert(&Arc::new(Progress::new(1, 3)), 5));
        assert_eq!(wakeups.pop().map(|wakeup| wakeup.at), Some(1));
        assert_eq!(wakeups.pop().map(|wakeup| wakeup.at), Some(5));
        assert!(wakeups.pop().is_none());
    }
}
