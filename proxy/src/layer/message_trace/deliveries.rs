//! Maps receipt handles to their messages, because handles do not contain the message id. This is soft state: without it, a
//! trace record has the id that the client sends, which may be wrong.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use xxhash_rust::xxh3::xxh3_128;

/// The maximum number of deliveries in the map. The oldest are removed first.
const MAX_DELIVERIES: usize = 100_000;
/// The maximum number of bytes of their ids and keys.
const MAX_BYTES: usize = 16 << 20;

/// The traced deliveries that are not settled, by their receipt handles.
#[derive(Default)]
pub(super) struct Deliveries {
    known: HashMap<u128, TracedDelivery>,
    /// The keys in the order of insertion. May contain keys of deliveries that were removed.
    order: VecDeque<u128>,
    bytes: usize,
}

/// A traced delivery.
#[derive(Clone)]
pub(super) struct TracedDelivery {
    /// Identifies the delivery in all of its trace records.
    pub(super) delivery_id: String,
    pub(super) message_id: String,
    pub(super) keys: String,
    pub(super) at: Instant,
}

/// The key of a receipt handle.
pub(super) fn hash(handle: &str) -> u128 {
    xxh3_128(handle.as_bytes())
}

impl Deliveries {
    pub(super) fn insert(&mut self, handle: &str, known: TracedDelivery) {
        let key = hash(handle);
        self.remove_key(key);
        self.bytes += known.size();
        self.known.insert(key, known);
        self.order.push_back(key);
        while self.known.len() > MAX_DELIVERIES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.order.pop_front() else { break };
            self.remove_key(oldest);
        }
        // Removed deliveries stay in the order until they are the larger part of it.
        if self.order.len() > 2 * MAX_DELIVERIES {
            self.order.retain(|key| self.known.contains_key(key));
        }
    }

    pub(super) fn get(&self, handle: &str) -> Option<&TracedDelivery> {
        self.known.get(&hash(handle))
    }

    /// Removes a delivery when it is settled.
    pub(super) fn remove(&mut self, handle: &str) {
        self.remove_key(hash(handle));
    }

    fn remove_key(&mut self, key: u128) {
        if let Some(known) = self.known.remove(&key) {
            self.bytes -= known.size();
        }
    }
}

impl TracedDelivery {
    fn size(&self) -> usize {
        self.message_id.len() + self.keys.len() + self.delivery_id.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_and_size_of_deliveries_are_bounded() {
        let mut deliveries = Deliveries::default();
        let known = |length| TracedDelivery {
            delivery_id: String::new(),
            message_id: "m".repeat(length),
            keys: String::new(),
            at: Instant::now(),
        };
        for number in 0..=MAX_DELIVERIES {
            deliveries.insert(&number.to_string(), known(1));
        }
        assert!(deliveries.get("0").is_none() && deliveries.get("1").is_some());
        deliveries.remove("1");
        assert!(deliveries.get("1").is_none());
        deliveries.insert("long", known(MAX_BYTES));
        assert_eq!((deliveries.known.len(), deliveries.bytes), (1, MAX_BYTES));
        deliveries.insert("next", known(1));
        assert_eq!((deliveries.known.len(), deliveries.bytes), (1, 1));
        for number in 0..3 * MAX_DELIVERIES {
            let number = number.to_string();
            deliveries.insert(&number, known(1));
            deliveries.remove(&number);
        }
        assert!(deliveries.get("next").is_some(), "settled deliveries do not push out others");
        assert!(deliveries.order.len() <= 2 * MAX_DELIVERIES);
    }
}
