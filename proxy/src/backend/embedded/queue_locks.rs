//! The locks by which a client of a group consumes a queue exclusively. They are in memory only: after a restart, clients
//! lock their queues again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::counts;
use crate::host_share::exceeds_share;
use crate::service::{LOCK_TIME, ServiceError, ServiceErrorKind, TopicQueue};

/// The maximum number of locks of all groups together. Each host has a share of them ([`exceeds_share`]).
const MAX_LOCKS: usize = 100_000;
/// When there are too many locks, expired ones are searched for this often at most.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The locks of all groups.
#[derive(Default)]
pub(super) struct QueueLocks {
    locks: Mutex<Locks>,
}

#[derive(Default)]
struct Locks {
    by_queue: HashMap<GroupQueue, LockOwner>,
    /// The number of locks of each host, including expired ones.
    of_host: HashMap<Arc<str>, usize>,
    last_sweep: Option<Instant>,
}

/// The client that asks for a lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct LockClient<'a> {
    pub(super) id: &'a str,
    pub(super) host: &'a Arc<str>,
}

/// A queue as consumed by one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupQueue {
    pub(super) group: String,
    pub(super) queue: TopicQueue,
}

struct LockOwner {
    client_id: String,
    host: Arc<str>,
    since: Instant,
}

impl LockOwner {
    fn is_held(&self, now: Instant) -> bool {
        now.duration_since(self.since) < LOCK_TIME
    }
}

impl Locks {
    fn has_room(&self, host: &str) -> bool {
        let (total, of_host) =
            (self.by_queue.len() + 1, self.of_host.get(host).copied().unwrap_or_default() + 1);
        total <= MAX_LOCKS && !exceeds_share(total, of_host, MAX_LOCKS)
    }

    /// Removes expired locks, unless that was done just before.
    fn sweep(&mut self, now: Instant) {
        if self.last_sweep.is_some_and(|last| now.saturating_duration_since(last) < SWEEP_INTERVAL) {
            return;
        }
        self.last_sweep = Some(now);
        let Self { by_queue, of_host, .. } = self;
        for (_, owner) in by_queue.extract_if(|_, owner| !owner.is_held(now)) {
            counts::subtract(of_host, &owner.host, 1);
        }
    }

    fn insert(&mut self, key: GroupQueue, owner: LockOwner) {
        *self.of_host.entry(owner.host.clone()).or_default() += 1;
        if let Some(replaced) = self.by_queue.insert(key, owner) {
            counts::subtract(&mut self.of_host, &replaced.host, 1);
        }
    }

    fn remove(&mut self, key: &GroupQueue) {
        if let Some(removed) = self.by_queue.remove(key) {
            counts::subtract(&mut self.of_host, &removed.host, 1);
        }
    }
}

impl QueueLocks {
    /// Locks a queue, or extends the lock. Returns whether this client holds the lock.
    ///
    /// # Errors
    /// `Busy` if there are too many locks.
    pub(super) fn lock(
        &self,
        key: GroupQueue,
        client: LockClient<'_>,
        now: Instant,
    ) -> Result<bool, ServiceError> {
        let mut locks = self.locks.lock();
        let owner = locks.by_queue.get(&key);
        if owner.is_some_and(|owner| owner.client_id != client.id && owner.is_held(now)) {
            return Ok(false);
        }
        let is_extended = owner.is_some_and(|owner| owner.host == *client.host);
        if !is_extended && !locks.has_room(client.host) {
            locks.sweep(now);
            if !locks.has_room(client.host) {
                return Err(ServiceError::new(ServiceErrorKind::Busy, "too many locked queues"));
            }
        }
        let owner = LockOwner { client_id: client.id.to_owned(), host: client.host.clone(), since: now };
        locks.insert(key, owner);
        Ok(true)
    }

    /// Whether any client of the group holds a lock.
    pub(super) fn has_any(&self, group: &str, now: Instant) -> bool {
        self.locks.lock().by_queue.iter().any(|(key, owner)| key.group == group && owner.is_held(now))
    }

    /// Releases the lock if this client holds it.
    pub(super) fn unlock(&self, key: &GroupQueue, client_id: &str) {
        let mut locks = self.locks.lock();
        if locks.by_queue.get(key).is_some_and(|owner| owner.client_id == client_id) {
            locks.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_holds_a_queue_until_it_unlocks_it_or_the_lock_expires() {
        let locks = QueueLocks::default();
        let now = Instant::now();
        let queue = |group: &str| GroupQueue {
            group: group.to_owned(),
            queue: TopicQueue { topic: "t".to_owned(), id: 0 },
        };
        let has = |group: &str, client: &str, now| {
            locks.lock(queue(group), LockClient { id: client, host: &"h".into() }, now).expect("room")
        };
        assert!(has("g", "a", now) && has("g", "a", now));
        assert!(!has("g", "b", now) && has("h", "b", now));
        assert!(
            locks.has_any("g", now) && !locks.has_any("other", now) && !locks.has_any("g", now + LOCK_TIME)
        );
        locks.unlock(&queue("g"), "b");
        assert!(!has("g", "b", now));
        locks.unlock(&queue("g"), "a");
        assert!(has("g", "b", now));
        assert!(!has("g", "a", now + LOCK_TIME / 2));
        assert!(has("g", "a", now + LOCK_TIME));
    }

    #[test]
    fn the_clients_of_one_host_have_a_share_of_the_locks() {
        let locks = QueueLocks::default();
        let now = Instant::now();
        let lock = |host: &str, id: usize, now| {
            let topic = format!("{host} {id}");
            let key = GroupQueue { group: "g".to_owned(), queue: TopicQueue { topic, id: 0 } };
            locks.lock(key, LockClient { id: &id.to_string(), host: &host.into() }, now).is_ok()
        };
        let full = (0..).find(|id| !lock("greedy", *id, now)).expect("an end");
        assert!(full < MAX_LOCKS && lock("greedy", 0, now) && lock("other", 0, now));
        let later = now + LOCK_TIME;
        assert!(lock("greedy", full, later), "expired locks are removed");
        let state = locks.locks.lock();
        assert_eq!((state.by_queue.len(), state.of_host.len()), (1, 1));
    }
}
