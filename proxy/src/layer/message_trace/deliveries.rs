//! Which message a receipt handle stands for. Handles do not tell it. Soft state: without it, a record has the id that the client
//! tells, which may be wrong.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use xxhash_rust::xxh3::xxh3_128;

/// Deliveries that are remembered. The oldest are forgotten first.
const MAX_DELIVERIES: usize = 100_000;
/// Bytes of their ids and keys.
const MAX_BYTES: usize = 16 << 20;

#[derive(Default)]
pub(super) struct Deliveries {
    known: HashMap<u128, Known>,
    /// Oldest first. Those that were settled since are not known any more.
    order: VecDeque<u128>,
    bytes: usize,
}

/// A message that was delivered.
#[derive(Clone)]
pub(super) struct Known {
    /// The same for all that happens to this delivery.
    pub(super) delivery_id: String,
    pub(super) message_id: String,
    pub(super) keys: String,
    pub(super) at: Instant,
}

/// What stands for a handle.
pub(super) fn hash(handle: &str) -> u128 {
    xxh3_128(handle.as_bytes())
}

impl Deliveries {
    pub(super) fn insert(&mut self, handle: &str, known: Known) {
        let key = hash(handle);
        self.remove(key);
        self.bytes += known.size();
        self.known.insert(key, known);
        self.order.push_back(key);
        while self.known.len() > MAX_DELIVERIES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.order.pop_front() else { break };
            self.remove(oldest);
        }
        // Settled ones are only in the order. Once they are the larger part, it is made anew.
        if self.order.len() > 2 * MAX_DELIVERIES {
            self.order.retain(|key| self.known.contains_key(key));
        }
    }

    pub(super) fn get(&self, handle: &str) -> Option<&Known> {
        self.known.get(&hash(handle))
    }

    /// Forgets a delivery that is settled.
    pub(super) fn settled(&mut self, handle: &str) {
        self.remove(hash(handle));
    }

    fn remove(&mut self, key: u128) {
        if let Some(known) = self.known.remove(&key) {
            self.bytes -= known.size();
        }
    }
}

impl Known {
    fn size(&self) -> usize {
        self.message_id.len() + self.keys.len() + self.delivery_id.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut deliveries = Deliveries::default();
        let known = |length| Known {
            delivery_id: String::new(),
            message_id: "m".repeat(length),
            keys: String::new(),
            at: Instant::now(),
        };
        for number in 0..=MAX_DELIVERIES {
            deliveries.insert(&number.to_string(), known(1));
        }
        assert!(deliveries.get("0").is_none() && deliveries.get("1").is_some());
        deliveries.settled("1");
        assert!(deliveries.get("1").is_none());
        deliveries.insert("long", known(MAX_BYTES));
        assert_eq!((deliveries.known.len(), deliveries.bytes), (1, MAX_BYTES));
        deliveries.insert("next", known(1));
        assert_eq!((deliveries.known.len(), deliveries.bytes), (1, 1));
        for number in 0..3 * MAX_DELIVERIES {
            let number = number.to_string();
            deliveries.insert(&number, known(1));
            deliveries.settled(&number);
        }
        assert!(deliveries.get("next").is_some(), "what is settled makes nobody forgotten");
        assert!(deliveries.order.len() <= 2 * MAX_DELIVERIES);
    }
}
