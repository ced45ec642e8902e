//! The locks by which a client of a group consumes a queue exclusively. They are in memory only: after a restart, clients
//! lock their queues again.

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::Mutex;

use crate::service::{LOCK_TIME, ServiceError, ServiceErrorKind, TopicQueue};

/// The most locks of all groups together.
const MAX_LOCKS: usize = 100_000;

/// The locks of all groups.
#[derive(Default)]
pub(super) struct QueueLocks {
    by_queue: Mutex<HashMap<GroupQueue, LockOwner>>,
}

/// A queue as consumed by one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupQueue {
    pub(super) group: String,
    pub(super) queue: TopicQueue,
}

struct LockOwner {
    client_id: String,
    since: Instant,
}

impl LockOwner {
    fn is_held(&self, now: Instant) -> bool {
        now.duration_since(self.since) < LOCK_TIME
    }
}

impl QueueLocks {
    /// Locks a queue, or extends the lock. Returns whether this client holds the lock.
    ///
    /// # Errors
    /// `Busy` if there are too many locks.
    pub(super) fn lock(&self, key: GroupQueue, client_id: &str, now: Instant) -> Result<bool, ServiceError> {
        let mut locks = self.by_queue.lock();
        if let Some(owner) = locks.get(&key)
            && owner.client_id != client_id
            && owner.is_held(now)
        {
            return Ok(false);
        }
        if locks.len() >= MAX_LOCKS && !locks.contains_key(&key) {
            locks.retain(|_, owner| owner.is_held(now));
            if locks.len() >= MAX_LOCKS {
                return Err(ServiceError::new(ServiceErrorKind::Busy, "too many locked queues"));
            }
        }
        locks.insert(key, LockOwner { client_id: client_id.to_owned(), since: now });
        Ok(true)
    }

    /// Whether any client of the group holds a lock.
    pub(super) fn has_any(&self, group: &str, now: Instant) -> bool {
        self.by_queue.lock().iter().any(|(key, owner)| key.group == group && owner.is_held(now))
    }

    /// Releases the lock if this client holds it.
    pub(super) fn unlock(&self, key: &GroupQueue, client_id: &str) {
        let mut locks = self.by_queue.lock();
        if locks.get(key).is_some_and(|owner| owner.client_id == client_id) {
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
        let has = |group: &str, client: &str, now| locks.lock(queue(group), client, now).expect("room");
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
}
