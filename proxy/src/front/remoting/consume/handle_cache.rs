//! Stores the sealed handles that pop clients can't return themselves, until their leases have expired or are settled.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::ledger::GroupTopic;
use crate::front::port::{Charge, ConnectionBudget};

/// The maximum number of handles of one connection.
const MAX_HANDLES: usize = 16_384;
/// The approximate memory of a handle without its strings, in bytes.
const HANDLE_OVERHEAD: usize = 256;

/// Identifies a lease by what clients know of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LeaseKey {
    pub(super) at: GroupTopic,
    pub(super) queue_id: i32,
    pub(super) offset: i64,
    pub(super) popped_at: i64,
}

/// The handles of one connection. They are charged to the budget of the connection. The oldest are evicted if they are
/// too many, or the budget is exhausted.
pub(super) struct HandleCache {
    handles: HashMap<LeaseKey, CachedHandle>,
    /// The keys, oldest first. Some may have been removed from `handles`.
    by_age: VecDeque<LeaseKey>,
    bytes: usize,
    budget: Arc<ConnectionBudget>,
    charge: Option<Charge>,
}

/// The sealed handle of a lease.
pub(super) struct CachedHandle {
    pub(super) handle: String,
    /// When the lease expires, in milliseconds since 1970.
    pub(super) expires_at: i64,
}

impl HandleCache {
    pub(super) fn new(budget: Arc<ConnectionBudget>) -> Self {
        Self { handles: HashMap::new(), by_age: VecDeque::new(), bytes: 0, budget, charge: None }
    }

    /// Stores a handle until its lease expires. `now` is in milliseconds since 1970.
    pub(super) fn insert(&mut self, key: LeaseKey, cached: CachedHandle, now: i64) {
        self.remove(&key);
        while let Some(oldest) = self.by_age.front()
            && self.handles.get(oldest).is_none_or(|cached| cached.expires_at <= now)
        {
            self.evict_oldest();
        }
        if self.by_age.len() >= MAX_HANDLES {
            self.evict_oldest();
        }
        self.bytes += bytes(&key, &cached.handle);
        self.by_age.push_back(key.clone());
        self.handles.insert(key, cached);
        while !self.try_charge() && self.evict_oldest() {}
    }

    pub(super) fn get(&self, key: &LeaseKey) -> Option<&str> {
        self.handles.get(key).map(|cached| cached.handle.as_str())
    }

    /// Removes the handle of a settled lease.
    pub(super) fn remove(&mut self, key: &LeaseKey) {
        if let Some(cached) = self.handles.remove(key) {
            self.bytes -= bytes(key, &cached.handle);
        }
    }

    /// Evicts the oldest handle. Returns whether there was one.
    fn evict_oldest(&mut self) -> bool {
        let oldest = self.by_age.pop_front();
        oldest.inspect(|oldest| self.remove(oldest)).is_some()
    }

    /// Charges the handles to the budget. Returns whether the budget allows it.
    fn try_charge(&mut self) -> bool {
        if self.charge.is_none() {
            self.charge = Charge::new(&self.budget).ok();
        }
        self.charge.as_mut().is_some_and(|charge| charge.set(self.bytes).is_ok())
    }
}

fn bytes(key: &LeaseKey, handle: &str) -> usize {
    HANDLE_OVERHEAD + handle.len() + 2 * (key.at.group.len() + key.at.topic.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::port::{MemoryBudget, TransportConfig};

    fn cache(bytes_per_connection: usize) -> HandleCache {
        let config = TransportConfig { bytes_per_connection, ..TransportConfig::default() };
        HandleCache::new(MemoryBudget::new(&config).connection(([10, 0, 0, 1], 1).into()))
    }

    fn key(offset: i64) -> LeaseKey {
        let at = GroupTopic { group: "g".to_owned(), topic: "t".to_owned() };
        LeaseKey { at, queue_id: 0, offset, popped_at: 1 }
    }

    fn handle(handle: impl ToString, expires_at: i64) -> CachedHandle {
        CachedHandle { handle: handle.to_string(), expires_at }
    }

    #[test]
    fn the_newest_handles_are_stored() {
        let mut cache = cache(128 << 20);
        for offset in 0..=MAX_HANDLES as i64 {
            cache.insert(key(offset), handle(offset, 9), 0);
        }
        assert_eq!((cache.get(&key(0)), cache.get(&key(1))), (None, Some("1")));
        cache.insert(key(2), handle("again", 9), 0);
        assert_eq!(cache.get(&key(2)), Some("again"));
    }

    #[test]
    fn settled_and_expired_handles_are_removed() {
        let mut cache = cache(128 << 20);
        cache.insert(key(0), handle("h", 5), 0);
        cache.insert(key(1), handle("h", 9), 0);
        cache.remove(&key(1));
        cache.insert(key(2), handle("h", 9), 5);
        assert_eq!((cache.handles.len(), cache.by_age.len(), cache.bytes), (1, 1, bytes(&key(2), "h")));
    }

    #[test]
    fn handles_are_charged_to_the_budget_of_the_connection() {
        let mut cache = cache(3 * bytes(&key(0), "h"));
        for offset in 0..5 {
            cache.insert(key(offset), handle("h", 9), 0);
        }
        let found = (0..5).map(|offset| cache.get(&key(offset)).is_some());
        assert_eq!(found.collect::<Vec<_>>(), [false, false, true, true, true]);
        let budget = cache.budget.clone();
        let mut request = Charge::new(&budget).expect("a call");
        assert!(request.set(1).is_err());
        drop(cache);
        assert!(request.set(1).is_ok());
    }
}
