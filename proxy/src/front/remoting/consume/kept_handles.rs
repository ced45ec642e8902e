//! The sealed handles that pop clients can't return themselves, until the leases are over or settled.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::front::port::{Charge, ConnectionBudget};

/// Handles of one connection that are kept.
const MAX_HANDLES: usize = 16_384;
/// What a handle takes besides its texts, about.
const HANDLE_BYTES: usize = 256;

/// Names a lease without its sealed handle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LeaseName {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) queue_id: i32,
    pub(super) offset: i64,
    pub(super) popped_at: i64,
}

/// The handles of one connection. Without room for all, the oldest are forgotten. They count among the memory of the
/// connection's requests.
pub(super) struct KeptHandles {
    handles: HashMap<LeaseName, Kept>,
    /// Some of them may be forgotten by now.
    by_age: VecDeque<LeaseName>,
    bytes: usize,
    budget: Arc<ConnectionBudget>,
    charge: Option<Charge>,
}

struct Kept {
    handle: String,
    /// When the lease is over, in milliseconds since 1970.
    until: i64,
}

impl KeptHandles {
    pub(super) fn new(budget: Arc<ConnectionBudget>) -> Self {
        Self { handles: HashMap::new(), by_age: VecDeque::new(), bytes: 0, budget, charge: None }
    }

    /// Keeps a handle until this time, if there is room. All times are in milliseconds since 1970.
    pub(super) fn keep(&mut self, name: LeaseName, handle: String, (now, until): (i64, i64)) {
        self.forget(&name);
        while let Some(oldest) = self.by_age.front()
            && self.handles.get(oldest).is_none_or(|kept| kept.until <= now)
        {
            self.forget_oldest();
        }
        if self.by_age.len() >= MAX_HANDLES {
            self.forget_oldest();
        }
        self.bytes += bytes(&name, &handle);
        self.by_age.push_back(name.clone());
        self.handles.insert(name, Kept { handle, until });
        while !self.is_charged() && self.forget_oldest() {}
    }

    pub(super) fn find(&self, name: &LeaseName) -> Option<&str> {
        self.handles.get(name).map(|kept| kept.handle.as_str())
    }

    /// A lease is settled.
    pub(super) fn forget(&mut self, name: &LeaseName) {
        if let Some(kept) = self.handles.remove(name) {
            self.bytes -= bytes(name, &kept.handle);
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let oldest = self.by_age.pop_front();
        oldest.inspect(|oldest| self.forget(oldest)).is_some()
    }

    /// Counts what is kept. Returns whether there is room for it.
    fn is_charged(&mut self) -> bool {
        if self.charge.is_none() {
            self.charge = Charge::new(&self.budget).ok();
        }
        self.charge.as_mut().is_some_and(|charge| charge.set(self.bytes).is_ok())
    }
}

fn bytes(name: &LeaseName, handle: &str) -> usize {
    HANDLE_BYTES + handle.len() + 2 * (name.group.len() + name.topic.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::port::{Budget, TransportConfig};

    fn kept(bytes_per_connection: usize) -> KeptHandles {
        let config = TransportConfig { bytes_per_connection, ..TransportConfig::default() };
        KeptHandles::new(Budget::new(&config).connection())
    }

    fn name(offset: i64) -> LeaseName {
        let (group, topic) = ("g".to_owned(), "t".to_owned());
        LeaseName { group, topic, queue_id: 0, offset, popped_at: 1 }
    }

    #[test]
    fn the_newest_handles_are_kept() {
        let mut kept = kept(128 << 20);
        for offset in 0..=MAX_HANDLES as i64 {
            kept.keep(name(offset), offset.to_string(), (0, 9));
        }
        assert_eq!((kept.find(&name(0)), kept.find(&name(1))), (None, Some("1")));
        kept.keep(name(2), "again".to_owned(), (0, 9));
        assert_eq!(kept.find(&name(2)), Some("again"));
    }

    #[test]
    fn what_is_settled_or_over_makes_room() {
        let mut kept = kept(128 << 20);
        kept.keep(name(0), "h".to_owned(), (0, 5));
        kept.keep(name(1), "h".to_owned(), (0, 9));
        kept.forget(&name(1));
        kept.keep(name(2), "h".to_owned(), (5, 9));
        assert_eq!((kept.handles.len(), kept.by_age.len(), kept.bytes), (1, 1, bytes(&name(2), "h")));
    }

    #[test]
    fn they_count_among_the_memory_of_the_connection() {
        let mut kept = kept(3 * bytes(&name(0), "h"));
        for offset in 0..5 {
            kept.keep(name(offset), "h".to_owned(), (0, 9));
        }
        let found = (0..5).map(|offset| kept.find(&name(offset)).is_some());
        assert_eq!(found.collect::<Vec<_>>(), [false, false, true, true, true]);
        let budget = kept.budget.clone();
        let mut request = Charge::new(&budget).expect("a call");
        assert!(request.set(1).is_err());
        drop(kept);
        assert!(request.set(1).is_ok());
    }
}
