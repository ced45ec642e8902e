use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::RwLock;
use rocketmq_thin_bridge::{Delivery, Producer, SimpleConsumer};

/// The producers that C functions may name.
pub(crate) static PRODUCERS: Registry<Producer> = Registry::new();
/// The consumers that C functions may name.
pub(crate) static CONSUMERS: Registry<SimpleConsumer> = Registry::new();
/// The deliveries that C functions may name.
pub(crate) static DELIVERIES: Registry<Delivery> = Registry::new();

/// What C functions name by a number instead of an address, so that a stale number is a miss and not a crash.
pub(crate) struct Registry<T> {
    last_key: AtomicI64,
    entries: LazyLock<RwLock<HashMap<i64, T>>>,
}

impl<T: Clone> Registry<T> {
    const fn new() -> Self {
        Self { last_key: AtomicI64::new(0), entries: LazyLock::new(RwLock::default) }
    }

    pub(crate) fn insert(&self, value: T) -> i64 {
        let key = self.last_key.fetch_add(1, Ordering::Relaxed) + 1;
        self.entries.write().insert(key, value);
        key
    }

    pub(crate) fn get(&self, key: i64) -> Option<T> {
        self.entries.read().get(&key).cloned()
    }

    pub(crate) fn remove(&self, key: i64) {
        // Dropped after the lock is released: the last clone of a producer has things to do.
        let _removed = self.entries.write().remove(&key);
    }
}
