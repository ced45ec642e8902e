//! Which client of a group has a queue for itself. In memory: after a restart, clients lock their queues again.

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::Mutex;

use crate::service::{LOCK_TIME, ServiceError, ServiceErrorKind, TopicQueue};

/// Locks that are kept at most.
const MAX_LOCKS: usize = 100_000;

/// The locks of all groups.
#[derive(Default)]
pub(super) struct QueueLocks {
    by_queue: Mutex<HashMap<GroupQueue, Owner>>,
}

/// A queue, for the clients of one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupQueue {
    pub(super) group: String,
    pub(super) queue: TopicQueue,
}

struct Owner {
    client_id: String,
    since: Instant,
}

impl Owner {
    fn has_it(&self, now: Instant) -> bool {
        now.duration_since(self.since) < LOCK_TIME
    }
}

impl QueueLocks {
    /// Locks a queue, or keeps it locked. Returns whether this client has it.
    ///
    /// # Errors
    /// `Busy` if there are too many locks.
    pub(super) fn lock(&self, key: GroupQueue, client_id: &str, now: Instant) -> Result<bool, ServiceError> {
        let mut locks = self.by_queue.lock();
        if let Some(owner) = locks.get(&key)
            && owner.client_id != client_id
            && owner.has_it(now)
        {
            return Ok(false);
        }
        if locks.len() >= MAX_LOCKS && !locks.contains_key(&key) {
            locks.retain(|_, owner| owner.has_it(now));
            if locks.len() >= MAX_LOCKS {
                return Err(ServiceError::new(ServiceErrorKind::Busy, "too many locked queues"));
            }
        }
        locks.insert(key, Owner { client_id: client_id.to_owned(), since: now });
        Ok(true)
    }

    /// Whether a client of the group has a queue.
    pub(super) fn has_any(&self, group: &str, now: Instant) -> bool {
        self.by_queue.lock().iter().any(|(key, owner)| key.group == group && owner.has_it(now))
    }

    /// Ends the lock, if this client has it.
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
    fn one_client_of_a_group_has_a_queue_until_it_unlocks_it_or_is_silent() {
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
